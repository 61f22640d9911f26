"""H.264 and HEVC files that lack packets: what depends on one raises, and no frame is made from what a decoder puts in its place."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Container
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

import vidload
from vidload import VideoDataset, VideoLoader, VideoReader
from vidload.transforms import center_crop

NAMES = ("h264", "h264_no_b_frames", "h264_open_gop", "hevc", "hevc_open_gop")


@pytest.fixture
def without(video, tmp_path: Path) -> Callable[..., str]:
    """The path of a copy of a video that lacks the packets of these numbers."""

    def make(name: str, lost: Container[int], suffix: str = ".mkv") -> str:
        path = tmp_path / f"{name}{suffix}"
        with av.open(video(name)) as source, av.open(str(path), "w") as output:
            stream = output.add_stream_from_template(source.streams.video[0])
            packets = [packet for packet in source.demux(source.streams.video[0]) if packet.size > 0]
            for number, packet in enumerate(packets):
                if number not in lost:
                    packet.stream = stream
                    output.mux(packet)
        return str(path)

    return make


def frames_of(path: str, **options: Any) -> dict[float, np.ndarray | None]:
    """By their time: from the file's first, which a transport stream does not begin with 0. None: it raises, when it is read alone."""
    reader = VideoReader(path, **options)
    frames: dict[float, np.ndarray | None] = {}
    times = np.round(reader.pts_seconds - reader.pts_seconds[0], 2).tolist()
    for i, time in enumerate(times):
        try:
            frames[time] = np.asarray(reader[i])
        except (vidload.DamagedVideoError, vidload.FrameIndexError):
            frames[time] = None
    # Decoding may show that libavcodec gives up the rest of a GOP. Then the file has been listed anew.
    return frames if reader.num_frames == len(times) else frames_of(path, **options)


def raises(frames: dict[float, np.ndarray | None]) -> bool:
    return any(frame is None for frame in frames.values())


def droppable(path: str) -> set[int]:
    flags = vidload._core.index_file(path).packet_flags
    return set(np.flatnonzero(flags & vidload._core.PACKET_DROPPABLE).tolist())


def references(path: str) -> list[int]:
    """Packets that others need, but keyframes (what lacks one of these is another recording) and the first few."""
    flags = vidload._core.index_file(path).packet_flags
    needed = flags & (vidload._core.PACKET_DROPPABLE | vidload._core.PACKET_KEYFRAME) == 0
    return [number for number in np.flatnonzero(needed).tolist() if number >= 4]


@pytest.mark.parametrize("name", NAMES)
def test_what_depends_on_a_lost_packet_raises_and_all_else_is_right(name: str, video, without) -> None:
    whole = frames_of(video(name))
    for number in references(video(name))[::4]:
        frames = frames_of(without(name, {number}))
        assert raises(frames) or len(frames) < len(whole) - 1 or number == max(references(video(name))), number
        for time, frame in frames.items():
            assert frame is None or np.array_equal(frame, whole[time]), (number, time)


@pytest.mark.parametrize("suffix", [".mp4", ".ts"])
def test_it_raises_in_every_container(suffix: str, without) -> None:
    assert raises(frames_of(without("h264_no_b_frames", {5}, suffix)))


@pytest.mark.parametrize("name", NAMES)
def test_pictures_that_none_refers_to_may_be_left_out(name: str, video, without) -> None:
    whole = frames_of(video(name))
    for time, frame in frames_of(without(name, droppable(video(name)))).items():
        assert frame is not None and np.array_equal(frame, whole[time])


@pytest.mark.parametrize("name", ["h264", "hevc"])
def test_the_error_does_not_depend_on_what_was_read_before(name: str, video, without) -> None:
    path = without(name, {references(video(name))[0]})
    alone = frames_of(path)
    reader = VideoReader(path)
    VideoReader(video("hevc_open_gop")).get_frames_at(range(20))
    for i, frame in reversed(list(enumerate(alone.values()))):
        if frame is None:
            with pytest.raises(vidload.DamagedVideoError, match="packet"):
                reader.get_frames_at([i])
        else:
            assert np.array_equal(np.asarray(reader[i]), frame)


@pytest.mark.parametrize("name", ["h264", "hevc"])
def test_a_loader_leaves_the_file_out_and_a_reader_may_be_told_to_take_it(name: str, video, without) -> None:
    path = without(name, {references(video(name))[0]})
    data = VideoDataset([(path, 0), (video(name), 1)], clip="8x2x1", transform=center_crop(16))
    labels = [label for _, batch in VideoLoader(data, batch_size=1, on_error="skip") for label in batch.tolist()]
    assert labels == [1]
    assert not raises(frames_of(path, allow_damaged=True))


def test_it_raises_while_ffmpeg_prints_its_log(video, without) -> None:
    code = "import sys, vidload; vidload.VideoReader(sys.argv[1]).get_frames_at(range(20))"
    done = subprocess.run(
        [sys.executable, "-c", code, without("hevc", {references(video("hevc"))[0]})],
        capture_output=True,
        text=True,
        env={"VIDLOAD_FFMPEG_LOG": "1", "PYTHONPATH": ":".join(filter(None, sys.path))},
    )
    assert "DamagedVideoError" in done.stderr and "Could not find ref" in done.stderr


def test_streams_that_allow_gaps_may_have_them(without) -> None:
    path = without("h264_no_b_frames", {5}, ".mp4")
    data = bytearray(Path(path).read_bytes())
    sps = data.index(b"avcC") + 4 + 8 + 4  # behind the head of the avcC, the unit's first byte and the profile's three
    set_gaps_allowed(data, sps)
    Path(path).write_bytes(data)
    assert not raises(frames_of(path))


def set_gaps_allowed(data: bytearray, sps: int) -> None:
    """Sets gaps_in_frame_num_value_allowed_flag (H.264 7.3.2.1.1) of a sequence in High profile, whose fields begin at `sps`."""
    at = 8 * sps

    def bit() -> int:
        nonlocal at
        at += 1
        return data[(at - 1) >> 3] >> (7 - ((at - 1) & 7)) & 1

    def number() -> int:
        zeros = 0
        while not bit():
            zeros += 1
        value = 1
        for _ in range(zeros):
            value = value << 1 | bit()
        return value - 1

    number(), number(), number(), number()  # id, chroma format, bit depths
    assert bit() == bit() == 0  # no lossless mode, no scaling lists
    number()  # bits of frame_num
    count_type = number()
    assert count_type in (0, 2)
    if count_type == 0:
        number()  # bits of the order count
    number()  # references
    assert data[at >> 3] >> (7 - (at & 7)) & 1 == 0
    data[at >> 3] |= 0x80 >> (at & 7)
