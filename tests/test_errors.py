"""Bad input: an error that says which file, which frame, why and what to do; the rest is unharmed and nothing hangs."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
import torch

import vidload
from vidload import (
    DamagedVideoError,
    UnreadableVideoError,
    UnsupportedVideoError,
    VideoDataset,
    VideoError,
    VideoLoader,
    VideoNotFoundError,
)
from vidload.transforms import center_crop


@pytest.mark.parametrize(
    ("make", "kind", "message"),
    [
        (lambda path: None, VideoNotFoundError, "No such file"),
        (lambda path: path.touch(), UnreadableVideoError, "the file is empty"),
        (lambda path: path.mkdir(), UnreadableVideoError, "not a regular file"),
        (lambda path: os.mkfifo(path), UnreadableVideoError, "not a regular file"),
        (lambda path: path.write_bytes(b"\0" * 5000), UnreadableVideoError, "not a video container"),
        (lambda path: path.write_text("#EXTM3U\nhttp://x/a.ts\n"), UnreadableVideoError, "not a video container|hold"),
    ],
)
def test_files_that_are_no_videos_say_why(make, kind: type, message: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.mp4"
    make(path)
    with pytest.raises(kind, match=rf"bad\.mp4: .*({message})"):
        vidload.VideoReader(path)


def test_errors_are_also_pythons_own(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        vidload.VideoReader(tmp_path / "none.mp4")
    error = caught.value
    assert isinstance(error, VideoError)
    assert (error.path, error.frame, error.av_error) == (str(tmp_path / "none.mp4"), None, None)


def test_an_audio_file_holds_no_video(tmp_path: Path) -> None:
    import av
    import numpy as np

    path = tmp_path / "tone.mka"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("flac", rate=48000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 4608), np.int16), format="s16", layout="mono")
        frame.sample_rate = 48000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with pytest.raises(UnsupportedVideoError, match="has no video stream"):
        vidload.VideoReader(path)


def damage(path: str, target: Path, reader: vidload.VideoReader, packet: int) -> Path:
    """A copy of the file with the payload of one packet (by decode order) turned to ones."""
    data = bytearray(Path(path).read_bytes())
    sizes = reader._index.packet_sizes
    payload = 5
    start = data.find(b"mdat") + 4 + int(sizes[:packet].sum())
    data[start + payload : start + int(sizes[packet])] = b"\xff" * (int(sizes[packet]) - payload)
    target.write_bytes(data)
    return target


@pytest.fixture
def damaged(video, tmp_path: Path) -> Path:
    """24 frames of P pictures a GOP; packet 30 is damaged, so frames 0 to 29 are intact."""
    path = video("h264_no_b_frames")
    return damage(path, tmp_path / "damaged.mp4", vidload.VideoReader(path), 30)


def test_a_damaged_frame_is_an_error_that_names_file_frame_and_remedy(damaged: Path) -> None:
    with pytest.raises(
        DamagedVideoError, match=r"damaged\.mp4: frame 30: cannot be decoded.*leave the file out"
    ) as caught:
        vidload.VideoReader(damaged).get_frames_at([30])
    assert caught.value.frame == 30 and caught.value.av_error is not None


def test_frames_that_depend_on_damage_are_errors_and_all_others_are_intact(damaged: Path, video) -> None:
    reader, intact = vidload.VideoReader(damaged), vidload.VideoReader(video("h264_no_b_frames"))
    assert reader.num_frames == 47  # as a decode of the whole file gives: none comes of packet 30
    for frames in ([0, 23], [24, 29], [5, 28]):
        assert (reader.get_frames_at(frames) == intact.get_frames_at(frames)).all()
    for frames in ([30], [46], [0, 40]):
        with pytest.raises(DamagedVideoError):
            reader.get_frames_at(frames)
    assert (reader.get_frames_at([24]) == intact.get_frames_at([24])).all()  # the reader still works


@pytest.mark.parametrize("name, num_wrong", [("ffv1_checksums", 4), ("png_rgb48", 1)])
def test_damage_that_fails_a_checksum_of_the_codec_raises(name: str, num_wrong: int, video, tmp_path: Path) -> None:
    intact = vidload.VideoReader(video(name))
    all_frames = intact.get_frames_at(range(len(intact)))
    data = bytearray(Path(video(name)).read_bytes())
    offsets, sizes = intact._index.packet_offsets, intact._index.packet_sizes
    data[int(offsets[4] + sizes[4] - 14)] ^= 0x10  # near the end: without the checksum a whole picture comes out
    path = tmp_path / Path(video(name)).name
    path.write_bytes(data)
    reader = vidload.VideoReader(path)
    for frame in range(len(intact)):
        if 4 <= frame < 4 + num_wrong:
            with pytest.raises(DamagedVideoError):
                reader.get_frames_at([frame])
        else:
            assert (reader.get_frames_at([frame])[0] == all_frames[frame]).all()


@pytest.mark.parametrize("first_damaged", [0, 24])
def test_damage_that_no_decoder_notices_is_noticed_by_the_checksum_of_a_matroska_cluster(
    first_damaged: int, video, tmp_path: Path
) -> None:
    intact = vidload.VideoReader(video("vp9_mkv"))
    all_frames = intact.get_frames_at(range(48))
    data = bytearray(Path(video("vp9_mkv")).read_bytes())
    offsets, sizes = intact._index.packet_offsets, intact._index.packet_sizes
    data[int(offsets[first_damaged + 20] + sizes[first_damaged + 20] - 3)] ^= 0x10
    path = tmp_path / "damaged.mkv"
    path.write_bytes(data)
    reader = vidload.VideoReader(path)
    for frame in range(48):
        if first_damaged <= frame < first_damaged + 24:
            with pytest.raises(DamagedVideoError):
                reader.get_frames_at([frame])
        else:
            assert (reader.get_frames_at([frame])[0] == all_frames[frame]).all()
    assert "clusters that fail their checksum: 1" in reader.note
    shown = vidload.VideoReader(path, allow_damaged=True).get_frames_at(range(48))
    assert (shown != all_frames).any((1, 2, 3)).sum() > 0  # the decoder itself says nothing


def test_a_file_cut_short_after_indexing_is_noticed(video, tmp_path: Path) -> None:
    path = tmp_path / "cut.mkv"
    shutil.copy(video("h264_mkv"), path)
    reader = vidload.VideoReader(path)
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(UnreadableVideoError, match="changed while it was read"):
        reader.get_frames_at([47])


def test_a_truncated_video_has_the_frames_that_are_there(video) -> None:
    reader = vidload.VideoReader(video("h264_truncated_mkv"))
    assert 0 < reader.num_frames < 48 and "cut short" in reader.note
    assert len(reader.get_frames_at([0, reader.num_frames - 1])) == 2


@pytest.mark.parametrize("name", ["h264_damaged", "h264_lost_packets", "h264_truncated_ts"])
def test_incomplete_streams_end_in_frames_or_errors_never_in_a_hang(name: str, video) -> None:
    reader = vidload.VideoReader(video(name))
    assert reader.num_frames > 20
    num_good = 0
    for index in range(reader.num_frames):
        try:
            assert reader.get_frames_at([index]).shape == (1, 96, 128, 3)
            num_good += 1
        except DamagedVideoError as error:
            assert error.frame == index
    assert num_good > 0


@pytest.mark.parametrize("seed", range(6))
def test_random_damage_ends_in_frames_or_errors(seed: int, video, tmp_path: Path) -> None:
    import numpy as np

    rng = np.random.default_rng(seed)
    for name in ("h264", "hevc", "vp9", "av1", "mpeg4_packed_avi", "h264_ts", "mjpeg_avi"):
        data = bytearray(Path(video(name)).read_bytes())
        for place in rng.integers(0, len(data), 20):
            data[place] = rng.integers(256)
        path = tmp_path / f"{seed}_{Path(video(name)).name}"
        path.write_bytes(data)
        try:
            reader = vidload.VideoReader(path)
            reader.get_frames_at(rng.integers(0, reader.num_frames, 4))
        except VideoError as error:
            assert error.path == str(path)


# --- in a batch


@pytest.fixture
def mixed(video, damaged: Path, tmp_path: Path) -> VideoDataset:
    items = [
        (video("h264"), 0),
        (str(damaged), 1),
        (video("vp9"), 2),
        (str(tmp_path / "missing.mp4"), 3),
        (video("hevc"), 4),
    ]
    return VideoDataset(items, clip="4x12x1", transform=center_crop(32))


def intact_clip(path: str) -> torch.Tensor:
    return VideoDataset([(path, 0)], clip="4x12x1", transform=center_crop(32))[0][0]


def test_raise_names_the_file_and_the_frame_when_its_batch_is_due(mixed) -> None:
    loader = VideoLoader(mixed, batch_size=1, num_workers=2)
    iterator = iter(loader)
    assert int(next(iterator)[1]) == 0
    with pytest.raises(DamagedVideoError, match=r"damaged\.mp4: frame"):
        next(iterator)


def test_skip_leaves_out_the_bad_ones_and_harms_no_other(mixed, video) -> None:
    loader = VideoLoader(mixed, batch_size=5, num_workers=2, on_error="skip")
    ((clips, labels),) = loader
    assert labels.tolist() == [0, 2, 4]
    for clip, name in zip(clips, ("h264", "vp9", "hevc"), strict=True):
        assert torch.equal(clip, intact_clip(video(name)))
    stats = loader.stats()
    assert stats["num_failed"] == 2
    assert [
        (failure.sample, Path(failure.path).name, failure.frame, failure.kind) for failure in stats["failures"]
    ] == [
        (1, "damaged.mp4", 41, "damaged"),
        (3, "missing.mp4", None, "not_found"),
    ]


def test_a_batch_of_bad_ones_alone_is_left_out_by_skip(mixed) -> None:
    assert [labels.tolist() for _, labels in VideoLoader(mixed, batch_sampler=[[1], [3, 0]], on_error="skip")] == [[0]]


def test_substitute_keeps_batches_whole_and_is_the_same_for_any_threads(mixed) -> None:
    runs = []
    for num_workers in (0, 1, 3):
        mixed.set_epoch(0)
        loader = VideoLoader(mixed, batch_size=2, num_workers=num_workers, on_error="substitute")
        runs.append([(clips.clone(), labels.tolist()) for clips, labels in loader])
        assert {failure.sample for failure in loader.stats()["failures"]} >= {1, 3}
    assert [len(clips) for clips, _ in runs[0]] == [2, 2, 1]
    assert all(label in (0, 2, 4) for _, labels in runs[0] for label in labels)
    for run in runs[1:]:
        assert [labels for _, labels in run] == [labels for _, labels in runs[0]]
        assert all(torch.equal(one, other) for (one, _), (other, _) in zip(run, runs[0], strict=True))


def test_substitute_gives_up_where_nothing_can_be_decoded(tmp_path: Path) -> None:
    dataset = VideoDataset([(str(tmp_path / f"{i}.mp4"), i) for i in range(3)], clip="1x1x1", transform=center_crop(16))
    with pytest.raises(VideoError, match="substitutes failed too"):
        next(iter(VideoLoader(dataset, on_error="substitute")))
