"""VideoReader: facts and times of a file."""

from __future__ import annotations

import threading
from fractions import Fraction

import av
import numpy as np
import pytest
import videos

import vidload
from vidload import FrameIndexError


def frame_times(path: str) -> list[float]:
    """As PyAV's sequential decode gives them."""
    with av.open(path) as container:
        return [float(frame.pts * frame.time_base) for frame in container.decode(video=0)]


TIMED = [
    name
    for name, entry in videos.VIDEOS.items()
    if entry.container in ("mp4", "mov", "mkv", "webm", "flv") and "damaged" not in name
]


@pytest.mark.parametrize("name", TIMED)
def test_pts_are_those_of_a_sequential_decode(name: str, video) -> None:
    reader = vidload.VideoReader(video(name))
    assert reader.pts == pytest.approx(frame_times(video(name)), abs=1e-6)


@pytest.mark.parametrize("name", ["h264", "h264_ts", "h264_avi", "h264_raw", "mpeg4_b_frames_avi", "mjpeg_avi"])
def test_pts_rise_and_the_frame_rate_is_right_in_every_container(name: str, video) -> None:
    reader = vidload.VideoReader(video(name))
    assert (np.diff(reader.pts) > 0).all()
    assert reader.average_fps == pytest.approx(25, rel=1e-3)
    assert reader.duration == pytest.approx(reader.num_frames / 25, rel=1e-3)


def test_ntsc_rate_is_exact(video) -> None:
    assert vidload.VideoReader(video("h264_ntsc")).average_fps == pytest.approx(float(Fraction(30000, 1001)), rel=1e-9)


@pytest.mark.parametrize(
    ("name", "facts"),
    [
        ("h264", dict(codec="h264", width=128, height=96, num_frames=48, pixel_format="yuv420p", rotation=0)),
        ("h264_422_10bit", dict(pixel_format="yuv422p10le")),
        ("h264_portrait", dict(width=videos.VIDEOS["h264_portrait"].width)),
        ("h264_rotated_90", dict(width=96, height=128, rotation=90)),
        ("h264_bt709", dict(color_matrix="bt709")),
        ("h264_full_range", dict(color_range="full")),
        ("h264_one_frame", dict(num_frames=1)),
        ("vp9_odd", dict(width=videos.VIDEOS["vp9_odd"].width, height=videos.VIDEOS["vp9_odd"].height)),
        ("hevc_mkv", dict(codec="hevc")),
        ("av1", dict(codec="av1")),
    ],
)
def test_facts_are_those_of_the_stream(name: str, facts: dict, video) -> None:
    reader = vidload.VideoReader(video(name))
    assert {fact: getattr(reader, fact) for fact in facts} == facts


def test_frames_by_time_are_those_on_screen_then(video) -> None:
    reader = vidload.VideoReader(video("h264_vfr"))
    pts = reader.pts
    middle = (pts[:-1] + pts[1:]) / 2
    assert list(reader.frames_played_at(pts)) == list(range(len(pts)))
    assert list(reader.frames_played_at(middle)) == list(range(len(pts) - 1))
    assert np.array_equal(reader.get_frames_played_at(middle[:3]), reader.get_frames_at([0, 1, 2]))


@pytest.mark.parametrize("seconds", [-0.1, 1e9, float("nan")])
def test_a_time_when_nothing_plays_is_an_error_that_names_the_range(seconds: float, video) -> None:
    with pytest.raises(FrameIndexError, match=r"the video plays over \[0, "):
        vidload.VideoReader(video("h264")).get_frames_played_at([seconds])


def test_reader_is_a_sequence_and_a_context_manager(video) -> None:
    with vidload.VideoReader(video("h264")) as reader:
        assert len(reader) == 48
        assert reader[2:8:3].shape == (2, 96, 128, 3)
        assert len(list(reader)) == 48
    assert reader.num_frames == 48
    with pytest.raises(ValueError, match="closed"):
        reader.get_frames_at([0])


def test_no_frames_are_an_empty_array(video) -> None:
    assert vidload.VideoReader(video("h264")).get_frames_at([]).shape == (0, 96, 128, 3)


def test_threads_may_share_a_reader(video) -> None:
    reader = vidload.VideoReader(video("h264_b_pyramid_normal"))
    expected = reader.get_frames_at(range(48))
    wrong: list[int] = []

    def read(start: int) -> None:
        for index in range(start, 48, 4):
            if not np.array_equal(reader.get_frames_at([index])[0], expected[index]):
                wrong.append(index)

    threads = [threading.Thread(target=read, args=(start,)) for start in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
