"""Random access gives the very frames that a sequential decode gives, bit for bit, whatever the stream."""

from __future__ import annotations

import numpy as np
import pytest
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
    assert reader.duration == pytest.approx(seconds, abs=0.05)
    assert reader.keyframes.tolist() == keyframes
    assert (np.diff(reader.pts) > 0).all()


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
        ("h264_16_b_frames", 20),
        ("hevc_temporal_layers", 48),
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
