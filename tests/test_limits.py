"""VideoLimits: a file that asks for too much fails at once, with an error that names the limit, and without the memory or the time."""

from __future__ import annotations

import resource
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import vidload
from vidload import (
    FrameFolderDataset,
    VideoDataset,
    VideoLimitError,
    VideoLimits,
    VideoLoader,
    VideoReader,
)
from vidload.transforms import center_crop


@pytest.fixture
def limit() -> Iterator:
    before = vidload.get_limits()
    vidload._core.clear_index_cache()
    yield lambda **values: vidload.set_limits(VideoLimits(**values))
    vidload.set_limits(before)


def test_limits_are_those_that_were_set(limit) -> None:
    assert vidload.get_limits() == VideoLimits()
    limit(pixels=100, cpu_seconds=0.5)
    assert vidload.get_limits() == VideoLimits(pixels=100, cpu_seconds=0.5)


@pytest.mark.parametrize("value", [0, -1, 1.5, True, "x", None, 2**70])
def test_a_limit_without_sense_is_refused(value) -> None:
    with pytest.raises(ValueError, match="pixels is"):
        VideoLimits(pixels=value)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"pixels": 1000}, "pixels of a picture .*pixels=1000"),
        ({"packet_bytes": 100}, "bytes of a packet .*packet_bytes=100"),
        ({"packets": 47}, "48 packets .*packets=47"),
        ({"frames": 47}, "48 frames .*frames=47"),
    ],
)
def test_a_video_beyond_a_limit_fails_by_its_name(values: dict, message: str, limit, video) -> None:
    limit(**values)
    with pytest.raises(VideoLimitError, match=rf"h264\.mp4: .*{message}.*vidload\.set_limits") as caught:
        VideoReader(video("h264"))
    assert caught.value.kind == "limit"


def test_too_many_streams_and_edits_fail_by_their_names(limit, video) -> None:
    limit(streams=1)
    with pytest.raises(VideoLimitError, match=r"2 streams .*streams=1"):
        VideoReader(video("h264_audio_first"))
    limit(edits=1)
    data = bytearray(Path(video("h264_edit_list")).read_bytes())
    place = data.index(b"elst") + 8
    data[place : place + 4] = struct.pack(">I", 100_000_000)
    with pytest.raises(VideoLimitError, match=r"100000000 entries of edit lists .*edits=1"):
        VideoReader(bytes(data))


def test_limits_hold_for_what_is_in_the_index_file_and_the_cache_too(limit, video, tmp_path: Path) -> None:
    path = video("h264")
    vidload.build_index([path], tmp_path / "index")
    limit(frames=47)
    for _ in range(2):
        data = VideoDataset([(path, 0)], clip="1x1x1", transform=center_crop(16), index=tmp_path / "index")
        with pytest.raises(VideoLimitError, match="48 frames"):
            list(VideoLoader(data, num_workers=1))
        VideoDataset([(path, 0)], clip="1x1x1", transform=center_crop(16))
        vidload._core.clear_index_cache()


def test_a_video_that_grows_on_the_way_is_an_error(limit, video) -> None:
    path = video("h264_resolution_change")
    reader = VideoReader(path)
    limit(pixels=reader.width * reader.height)
    reader = VideoReader(path)
    with pytest.raises(vidload.VideoError):
        reader.get_frames_at(range(reader.num_frames))


def huge_jpeg(width: int, height: int) -> bytes:
    """The headers of a baseline JPEG of that size; no pixels."""
    tables = (
        b"\xff\xdb\0\x43\0"
        + bytes([1] * 64)
        + b"\xff\xc4\0\x14\0\1"
        + bytes(15)
        + b"\0"
        + b"\xff\xc4\0\x14\x10\1"
        + bytes(15)
        + b"\0"
    )
    frame = b"\xff\xc0\0\x11\x08" + struct.pack(">HH", height, width) + b"\3\1\x22\0\2\x11\0\3\x11\0"
    scan = b"\xff\xda\0\x0c\3\1\0\2\0\3\0\0\x3f\0" + b"\0" * 40
    return b"\xff\xd8" + tables + frame + scan + b"\xff\xd9"


def test_a_jpeg_that_claims_gigapixels_costs_no_memory(tmp_path: Path, limit) -> None:
    (tmp_path / "img_00001.jpg").write_bytes(huge_jpeg(65500, 65500))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    data = FrameFolderDataset([(str(tmp_path), 1, 0)], clip="1x1x1", transform=center_crop(16))
    with pytest.raises(VideoLimitError, match=r"4290250000 pixels of a JPEG file .*jpeg_pixels="):
        list(VideoLoader(data, num_workers=1))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 << 10  # KiB
    limit(jpeg_bytes=100)
    with pytest.raises(VideoLimitError, match=r"bytes of a JPEG file .*jpeg_bytes=100"):
        list(VideoLoader(data, num_workers=1))


def test_memory_of_a_large_jpeg_is_given_back(tmp_path: Path) -> None:
    import numpy as np

    from vidload.prepare.source_frames import JpegEncoder

    def write(folder: Path, width: int, height: int) -> str:
        folder.mkdir()
        import av

        frame = av.VideoFrame.from_ndarray(np.zeros((height * 3 // 2, width), np.uint8), format="yuvj420p")
        (folder / "img_00001.jpg").write_bytes(JpegEncoder(width, height)(frame))
        return str(folder)

    def held() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()

    small, large = write(tmp_path / "small", 64, 64), write(tmp_path / "large", 8000, 6000)
    data = FrameFolderDataset([(small, 1, 0), (large, 1, 1), (small, 1, 2)], clip="1x1x1", transform=center_crop(16))
    loader = VideoLoader(data, num_workers=1)
    iterator = iter(loader)
    next(iterator)
    before = held()
    list(iterator)
    assert held() - before < 40 << 20  # its planes are 72 MB


def test_a_sample_that_takes_too_long_is_given_up_and_told(limit, video, tmp_path: Path) -> None:
    limit(cpu_seconds=0.2)
    path = tmp_path / "long.ts"
    path.write_bytes(Path(video("h264_ts")).read_bytes() * 400)
    loader = VideoLoader(
        VideoDataset([(str(path), 0), (video("h264"), 1)], clip="1x1x1", transform=center_crop(16)),
        num_workers=1,
        on_error="skip",
    )
    start = time.process_time()
    assert [labels.tolist() for _, labels in loader] == [[1]]
    assert time.process_time() - start < 3
    failure = loader.stats()["failures"][0]
    assert failure.kind == "limit" and "cpu_seconds=0.2" in failure.reason
