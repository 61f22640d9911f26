"""Random access gives the very frames that a sequential decode gives, bit for bit, whatever the stream."""

from __future__ import annotations

from pathlib import Path

import corpus_check
import numpy as np
import pytest
import torch
import videos
from hypothesis import given, settings
from hypothesis import strategies as st
from reference.decode import all_planes, all_rgb

import vidload

# Streams that lack data: what a decoder makes up for it depends on what it saw before. tests/test_errors.py has them.
INCOMPLETE = {"h264_lost_packets", "h264_truncated_ts", "h264_damaged"} | {
    name for name in videos.VIDEOS if name.endswith("no_keyframe_at_start") and name != "h264_no_keyframe_at_start"
}
INTACT = [name for name in videos.VIDEOS if name not in INCOMPLETE and name not in videos.CONVERTED]


def assert_frames_equal(path: str, reader: vidload.VideoReader, indices: list[int]) -> None:
    expected = all_planes(path)
    for index, planes in zip(indices, reader.get_planes_at(indices), strict=True):
        assert len(planes) == len(expected[index])
        for number, (plane, wanted) in enumerate(zip(planes, expected[index], strict=True)):
            assert np.array_equal(plane, wanted), f"frame {index}, plane {number}, wanted {indices}"


@pytest.mark.parametrize("name", INTACT)
def test_every_frame_equals_a_sequential_decode(name: str, video) -> None:
    reader = vidload.VideoReader(video(name))
    assert reader.num_frames == len(all_planes(video(name)))
    assert_frames_equal(video(name), reader, list(range(reader.num_frames)))


@pytest.mark.parametrize("name", videos.CONVERTED)
def test_palettes_and_packed_colors_are_what_libswscale_makes_of_them(name: str, video) -> None:
    expected = all_rgb(video(name))
    reader = vidload.VideoReader(video(name))
    assert reader.num_frames == len(expected)
    order = [*range(reader.num_frames), 7, 3]
    for index, frame in zip(order, reader.get_frames_at(order), strict=True):
        # 16 bits are rounded to 8 by libswscale, and by ours, each in its own way
        assert np.abs(frame.astype(int) - expected[index]).max() <= (1 if "16" in name or "48" in name else 0)


# name: codec, frames per second, seconds, and the frames that decoding can start at
FACTS = {
    "h264_no_ctts": (25, 1.92, [0, 24]),
    "hevc_no_ctts": (25, 1.92, [0, 24]),
    "mpeg4_no_ctts": (25, 1.92, [0, 24, 47]),
    "h264_decode_order_mkv": (25, 1.92, [0, 24]),
    "h264_equal_times_flv": (25, 1.92, [0, 24]),
    "vp9_falling_times": (25, 1.92, [0, 24]),
    "h264_spliced_ts": (25, 3.84, [0, 24, 48, 72]),
    "mpeg2_spliced_ps": (25, 3.84, [0, 12, 24, 36, 47, 48, 60, 72, 84, 95]),
    "h264_no_vui_avi": (25, 1.92, [0, 24]),
    "h264_no_vui_raw": (25, 1.92, [0, 24]),
    "h264_no_stss": (25, 1.92, [0, 24]),
    "mpeg2_no_stss": (25, 1.92, [0, 12, 24, 36, 47]),
    "mpeg4_no_stss": (25, 1.92, [0, 24, 47]),
    "av1_no_stss": (25, 1.32, [0, 16, 32]),
    "h263_no_stss": (25, 1.0, [0, 8, 16, 24]),
    "h263_all_flagged_avi": (25, 1.0, [0, 8, 16, 24]),
    "msmpeg4_all_flagged_avi": (25, 1.0, [0, 8, 16, 24]),
    "wmv2_all_flagged_avi": (25, 1.0, [0, 8, 16, 24]),
    "svq1_no_stss": (25, 1.0, [0, 8, 16, 24]),
}


@pytest.mark.parametrize("name", FACTS)
def test_order_keyframes_and_times_are_the_codecs_where_the_container_says_otherwise(name: str, video) -> None:
    fps, seconds, keyframes = FACTS[name]
    reader = vidload.VideoReader(video(name))
    assert reader.average_fps == pytest.approx(fps, rel=0.01)
    assert reader.duration_seconds == pytest.approx(seconds, abs=0.05)
    assert reader.keyframe_indices.tolist() == keyframes
    assert (np.diff(reader.pts_seconds) > 0).all()


@pytest.mark.parametrize("name", INTACT)
def test_any_frames_in_any_order_equal_a_sequential_decode(name: str, video) -> None:
    path = video(name)
    reader = vidload.VideoReader(path)

    @settings(max_examples=12)
    @given(st.lists(st.integers(0, reader.num_frames - 1), min_size=1, max_size=6))
    def check(indices: list[int]) -> None:
        assert_frames_equal(path, reader, indices)

    check()


def test_real_clips_equal_a_sequential_decode(real_clips) -> None:
    checked = 0
    for path in real_clips:
        if path.suffix == ".md" or "damaged" in path.name:
            continue
        reader = vidload.VideoReader(path)
        assert reader.num_frames == len(all_planes(str(path))), path
        rng = np.random.default_rng(0)
        for count in (1, 2, 5):
            assert_frames_equal(str(path), reader, rng.integers(0, reader.num_frames, count).tolist())
        assert_frames_equal(str(path), reader, list(range(0, reader.num_frames, 7)))
        checked += 1
    if not checked:
        pytest.skip("VIDLOAD_TEST_CLIPS names no folder of real clips")


@pytest.mark.parametrize(
    ("name", "most"),
    [
        ("h264_star", 4),  # its I, its P, itself
        ("h264_all_intra", 1),
        ("h264_16_b_frames", 6),
        ("hevc_temporal_layers", 18),  # of 48
    ],
)
def test_one_frame_costs_few_packets(name: str, most: int, video) -> None:
    reader = vidload.VideoReader(video(name))
    cost = max(reader.plan([i]).num_packets_decoded for i in range(reader.num_frames))
    assert cost <= most


@pytest.mark.parametrize(
    "name", ["h264", "h264_16_b_frames", "h264_open_gop_pyramid", "hevc", "hevc_temporal_layers", "mpeg2_ts"]
)
def test_non_reference_packets_are_left_out(name: str, video) -> None:
    reader = vidload.VideoReader(video(name))
    assert max(reader.plan([i]).num_packets_dropped for i in range(reader.num_frames)) > 0


def test_frames_from_bytes_equal_frames_from_the_path(video) -> None:
    path = video("hevc")
    with open(path, "rb") as file:
        data = file.read()
    for source in (data, bytearray(data), memoryview(data), np.frombuffer(data, np.uint8)):
        from_bytes = vidload.VideoReader(source).get_frames_at([3, 40])
        assert np.array_equal(from_bytes, vidload.VideoReader(path).get_frames_at([3, 40]))


@pytest.mark.parametrize(("name", "turns"), [("h264_rotated_90", 1), ("h264_rotated_180", 2), ("h264_rotated_270", 3)])
def test_rotated_videos_come_out_upright(name: str, turns: int, video) -> None:
    reader = vidload.VideoReader(video(name))
    assert reader.rotation == 90 * turns
    (luma, *_), *_ = reader.get_planes_at([10])
    upright = np.rot90(luma, -turns)  # rot90 turns counterclockwise
    frame = reader.get_frames_at([10])[0]
    assert frame.shape == (*upright.shape, 3)
    gray = frame.astype(float) @ (0.299, 0.587, 0.114)
    assert np.corrcoef(gray.ravel(), upright.ravel())[0, 1] > 0.99


def test_frames_of_another_size_are_scaled_to_the_first_ones(video) -> None:
    reader = vidload.VideoReader(video("h264_resolution_change"))
    frames = reader.get_frames_at([0, reader.num_frames - 1])
    assert frames.shape == (2, reader.height, reader.width, 3)


def test_rgb_is_what_pyav_converts_within_its_rounding(video) -> None:
    import av

    path = video("h264_444")  # no chroma to interpolate
    with av.open(path) as container:
        wanted = next(container.decode(video=0)).to_ndarray(format="rgb24")
    ours = vidload.VideoReader(path).get_frames_at([0])[0]
    assert np.abs(ours.astype(int) - wanted).max() <= 2


# Codecs of every kind, and files that lack data: a decoder fills in what is missing, and must not do it from another file.
AFTER_OTHERS = [
    *(
        "h264",
        "h264_open_gop",
        "h264_cut_at_open_gop",
        "h264_lost_packets",
        "h264_no_keyframe_at_start",
        "h264_intra_refresh",
    ),
    *("hevc", "hevc_cut_at_cra", "hevc_no_keyframe_at_start", "vp8", "vp9", "av1", "mpeg4", "mpeg4_packed_avi"),
    *(
        "mpeg4_no_keyframe_at_start",
        "mpeg2_ts",
        "mpeg2_cut_at_open_gop",
        "mjpeg_avi",
        "flv1",
        "flv1_no_keyframe_at_start",
    ),
    *(
        "h263_no_stss",
        "msmpeg4_all_flagged_avi",
        "svq1_no_stss",
        "cinepak_all_flagged_avi",
        "theora",
        "smc_pal8",
        "gif",
        "prores",
    ),
]


def clips_after(path: str, before: str) -> list[torch.Tensor | str]:
    """Frames of `path` as a loader gives them right after it has decoded `before` in the same thread; errors as text."""
    crop = vidload.transforms.center_crop(96, 96, mean=None, std=None)
    dataset = vidload.VideoDataset(
        [(before, 0), (path, 1), (before, 0), (path, 2)],
        clip="8x1x1",
        transform=crop,
        dtype=torch.uint8,
        sampling=lambda n, fps, spec, rng: np.linspace(0, n - 1, 8).astype(np.int64)[None],
    )
    loader = vidload.VideoLoader(dataset, batch_size=1, num_workers=0, on_error="skip")
    clips: list[torch.Tensor | str] = ["raised"] * 3
    for clip, label in loader:
        clips[int(label)] = clip.clone()
    return clips[1:]


@pytest.mark.parametrize("damaged", [False, True], ids=["intact", "damaged"])
@pytest.mark.parametrize("name", AFTER_OTHERS)
def test_a_clip_is_the_same_whatever_was_decoded_before(
    name: str, damaged: bool, video, video_cache, tmp_path: Path
) -> None:
    path = Path(video(name))
    if damaged:
        index = vidload.VideoReader(path)._index
        if not index.is_byte_addressable:
            pytest.skip("its packets are not in one piece")
        data = bytearray(path.read_bytes())
        for packet in (0, 7, index.num_packets // 2):
            start, size = int(index.packet_offsets[packet]), int(index.packet_sizes[packet])
            data[start + size // 2 : start + size // 2 + 12] = bytes(range(200, 212))
        path = tmp_path / path.name
        path.write_bytes(data)
    others = [str(videos.make_video(name, video_cache, content)) for content in ("white", "black", "noise")]
    after_white, *after_others = [clips_after(str(path), other) for other in others]
    is_whole = (
        not damaged and name not in INCOMPLETE and all(vidload.VideoReader(path).is_trusted)
    )  # other frames may raise
    assert not is_whole or all(isinstance(one, torch.Tensor) for one in after_white)
    for clips in after_others:
        for one, other in zip(after_white, clips, strict=True):
            assert torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other


def zeroed(path: str, packet: int, tmp_path: Path) -> Path:
    """A copy of the file with the middle third of a packet zeroed, as holes of an incomplete download are."""
    index = vidload.VideoReader(path)._index
    data = bytearray(Path(path).read_bytes())
    start, size = int(index.packet_offsets[packet]), int(index.packet_sizes[packet])
    data[start + size // 3 : start + 2 * size // 3] = bytes(2 * size // 3 - size // 3)
    target = tmp_path / Path(path).name
    target.write_bytes(data)
    return target


@pytest.mark.parametrize(
    "name", ["h264", "h264_chain_16", "h264_flv", "hevc", "hevc_mkv", "mjpeg_avi", "mpeg4", "mpeg2_closed_gop"]
)
def test_a_hole_in_a_picture_is_noticed(name: str, video, tmp_path: Path) -> None:
    reader = vidload.VideoReader(zeroed(video(name), 0, tmp_path))
    with pytest.raises(vidload.DamagedVideoError, match="frame 0"):
        reader.get_frames_at([0])


@pytest.mark.parametrize("name", ["h264_open_gop", "hevc_open_gop"])
def test_a_damaged_keyframe_with_leading_pictures_is_noticed(name: str, video, tmp_path: Path) -> None:
    intact = vidload.VideoReader(video(name))
    second = int(np.flatnonzero(intact._index.packet_flags & vidload._core.PACKET_KEYFRAME)[1])
    reader = vidload.VideoReader(zeroed(video(name), second, tmp_path))
    keyframe = int(intact.keyframe_indices[1])
    for frame in range(keyframe, int(intact.keyframe_indices[2]) - 3):
        with pytest.raises(vidload.DamagedVideoError):
            reader.get_frames_at([frame])
    assert np.array_equal(reader.get_frames_at([0, 3]), intact.get_frames_at([0, 3]))


def test_a_wrong_hash_in_the_stream_is_noticed(video, tmp_path: Path) -> None:
    path = tmp_path / "hash.mp4"
    data = bytearray(Path(video("hevc_md5")).read_bytes())
    index = vidload.VideoReader(data)._index
    start = int(index.packet_offsets[30])
    at = data.index(b"\x84\x31\x00", start)  # SEI payload 132, 3 hashes of 16 bytes and their kind
    data[at + 5] ^= 1
    path.write_bytes(data)
    reader = vidload.VideoReader(path)
    frame = int(np.flatnonzero(index.frame_packet == 30)[0])
    with pytest.raises(vidload.DamagedVideoError):
        reader.get_frames_at([frame])
    assert vidload.VideoReader(path, allow_damaged=True)[frame].shape == (96, 128, 3)


def test_a_file_that_decodes_to_other_frames_than_its_headers_say_is_indexed_anew(video, tmp_path: Path) -> None:
    """The last packet gives no frame, though its header is in order: the file has a frame less, and samples are drawn from those."""
    index = vidload.VideoReader(video("av1_low_delay"))._index
    data = bytearray(Path(video("av1_low_delay")).read_bytes())
    start, size = int(index.packet_offsets[47]), int(index.packet_sizes[47])
    data[start + 2 : start + size] = b"\xff" * (size - 2)
    path = tmp_path / "av1.mp4"
    path.write_bytes(data)
    reference = corpus_check.build_reference(tmp_path)
    if reference is None:
        pytest.skip("needs a C compiler, pkg-config and the headers of vidload's FFmpeg")
    assert corpus_check.sequential_sums(reference, path) == [
        corpus_check.sum_of(planes) for planes in all_planes(video("av1_low_delay"))[:47]
    ]

    reader = vidload.VideoReader(path)
    assert reader.num_frames == 48
    with pytest.raises(vidload.FrameIndexError, match=r"frame_index 47 is out of range \[0, 47\)"):
        reader.get_planes_at([47])
    assert reader.num_frames == 47

    crop = vidload.transforms.center_crop(96, 96)
    last = {"clip": "1x1x1", "transform": crop, "sampling": lambda n, fps, spec, rng: np.array([[n - 1]])}
    intact = vidload.VideoDataset([(video("av1_low_delay"), 0)], **(last | {"sampling": lambda *_: np.array([[46]])}))[
        0
    ][0]
    for num_workers in (0, 2):
        vidload._core.clear_index_cache()
        loader = vidload.VideoLoader(vidload.VideoDataset([(str(path), 0)] * 3, **last), num_workers=num_workers)
        for clip, _ in loader:
            assert torch.equal(clip[0], intact)
        assert loader.stats()["num_files_decoded"] >= 1 and loader.stats()["num_failed"] == 0
    vidload._core.clear_index_cache()
    assert torch.equal(vidload.VideoDataset([(str(path), 0)], **last)[0][0], intact)


@pytest.mark.parametrize(
    "name", ["h264_lost_packets", "h264_no_keyframe_at_start", "h264_truncated_ts", "hevc_no_keyframe_at_start"]
)
def test_what_a_decoder_makes_of_missing_packets_is_what_a_sequential_decode_makes_of_them(
    name: str, video, tmp_path: Path
) -> None:
    reference = corpus_check.build_reference(tmp_path)
    if reference is None:
        pytest.skip("needs a C compiler, pkg-config and the headers of vidload's FFmpeg")
    assert corpus_check.check(reference, Path(video(name)))["verdict"] in ("right", "damaged")
