"""VideoReader: facts and times of a file."""

from __future__ import annotations

import io
import shutil
import subprocess
import threading
import warnings
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
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
    if entry.retime
    is None  # those have times that no player could follow; tests/test_decode.py says what becomes of them
]


@pytest.mark.parametrize("name", TIMED)
def test_pts_are_those_of_a_sequential_decode(name: str, video) -> None:
    reader = vidload.VideoReader(video(name))
    assert reader.pts_seconds == pytest.approx(frame_times(video(name)), abs=1e-6)


@pytest.mark.parametrize("name", ["h264", "h264_ts", "h264_avi", "h264_raw", "mpeg4_b_frames_avi", "mjpeg_avi"])
def test_pts_rise_and_the_frame_rate_is_right_in_every_container(name: str, video) -> None:
    reader = vidload.VideoReader(video(name))
    assert (np.diff(reader.pts_seconds) > 0).all()
    assert reader.average_fps == pytest.approx(25, rel=1e-3)
    assert reader.duration_seconds == pytest.approx(reader.num_frames / 25, rel=1e-3)


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
    pts = reader.pts_seconds
    middle = (pts[:-1] + pts[1:]) / 2
    assert list(reader.frame_indices_played_at(pts)) == list(range(len(pts)))
    assert list(reader.frame_indices_played_at(middle)) == list(range(len(pts) - 1))
    assert np.array_equal(reader.get_frames_played_at(middle[:3]), reader.get_frames_at([0, 1, 2]))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("pts", "pts_seconds"),
        ("duration", "duration_seconds"),
        ("keyframes", "keyframe_indices"),
        ("is_mirrored", "is_flipped"),
    ],
)
def test_a_fact_under_its_old_name_is_the_same_and_warns_at_the_caller(old: str, new: str, video) -> None:
    reader = vidload.VideoReader(video("h264_rotated_90"))
    with pytest.warns(DeprecationWarning, match=rf"VideoReader\.{old} is now called {new}") as caught:
        assert np.array_equal(getattr(reader, old), getattr(reader, new))
    assert [warning.filename for warning in caught] == [__file__]


def test_frames_played_at_is_the_old_name_of_a_method(video) -> None:
    with pytest.warns(DeprecationWarning, match="frame_indices_played_at"):
        assert list(vidload.VideoReader(video("h264")).frames_played_at([0.0, 0.05])) == [0, 1]


def test_the_names_of_today_do_not_warn(video) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        reader = vidload.VideoReader(video("h264"))
        assert reader.frame_indices_played_at(reader.pts_seconds[:3]).tolist() == [0, 1, 2]


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


def test_anamorphic_frames_come_as_coded_and_stretched_when_asked(video) -> None:
    path = video("h264_anamorphic")  # 128x96, pixels 4:3
    as_coded, square = vidload.VideoReader(path), vidload.VideoReader(path, square_pixels=True)
    assert as_coded.sample_aspect_ratio == square.sample_aspect_ratio == Fraction(4, 3)
    assert (as_coded.width, square.width, square.height) == (128, 171, 96)
    wide = square[5]
    assert wide.shape == (96, 171, 3)
    # the same picture: each output pixel's center, where it lies in the coded row
    at = np.clip((np.arange(171) + 0.5) * 128 / 171 - 0.5, 0, 127)
    left, part = np.floor(at).astype(int), (at - np.floor(at))[None, :, None]
    coded = as_coded[5].astype(float)
    expected = coded[:, left] * (1 - part) + coded[:, np.minimum(left + 1, 127)] * part
    assert np.abs(wide - expected)[:, 2:-2].mean() < 3  # chroma is interpolated on its own grid
    assert vidload.VideoReader(video("h264")).sample_aspect_ratio == 1
    assert vidload.VideoReader(video("mpeg4_anamorphic_avi")).sample_aspect_ratio == Fraction(12, 11)


def test_a_rotated_anamorphic_video_has_its_ratio_turned_with_it(video, tmp_path: Path) -> None:
    path = tmp_path / "turned.mp4"
    shutil.copy(video("h264_anamorphic"), path)
    videos.set_display_matrix(0, 1, -1, 0)(path)
    assert vidload.VideoReader(path).sample_aspect_ratio == Fraction(3, 4)


def test_square_pixels_crop_what_is_shown() -> None:
    crop = vidload.transforms.center_crop(96, 96, square_pixels=True)
    # shown 192x96: the middle half, which is half of the coded width too
    assert crop.boxes(96, 96, sample_aspect_ratio=2.0).tolist() == [[0, 24, 96, 48, 0]]
    assert crop.boxes(96, 96).tolist() == [[0, 0, 96, 96, 0]]
    as_coded = vidload.transforms.center_crop(96, 96)
    assert as_coded.boxes(96, 96, sample_aspect_ratio=2.0).tolist() == [[0, 0, 96, 96, 0]]


def test_a_dataset_crops_square_pixels(video) -> None:
    items = [(video("h264_anamorphic"), 0)]
    crop = vidload.transforms.center_crop((96, 171), 96, square_pixels=True)
    dataset = vidload.VideoDataset(items, clip="1x1x1", transform=crop, dtype=torch.uint8, layout="NTHWC")
    clip, _ = dataset[0]
    frame = vidload.VideoReader(items[0][0], square_pixels=True)[24]
    difference = np.abs(clip[0].numpy().astype(int) - frame)
    assert difference.max() <= 40 and difference.mean() < 1  # the crop is 170.67 of 171 wide


def test_the_streams_of_a_file_are_listed_and_any_video_stream_can_be_read(video) -> None:
    path = video("h264_two_streams")
    assert [(s.number, s.kind, s.width, s.height) for s in vidload.streams(path)] == [
        (0, "video", 64, 48),
        (1, "video", 128, 96),
    ]
    chosen = [s.number for s in vidload.streams(path) if s.is_default]
    assert vidload.VideoReader(path).stream == chosen[0]
    for number, width in ((0, 64), (1, 128)):
        reader = vidload.VideoReader(path, stream=number)
        assert (reader.stream, reader.width, reader[3].shape[1]) == (number, width, width)
    assert [s.kind for s in vidload.streams(video("h264_audio_first"))] == ["audio", "video"]
    with pytest.raises(vidload.UnsupportedVideoError, match="stream 0 is not a video stream; its video streams are 1"):
        vidload.VideoReader(video("h264_audio_first"), stream=0)
    with pytest.raises(vidload.UnsupportedVideoError, match="stream 7 is not a video stream"):
        vidload.VideoReader(path, stream=7)


def test_items_of_a_dataset_may_name_a_stream(video) -> None:
    path = video("h264_two_streams")
    crop = vidload.transforms.center_crop(48, 48, mean=None, std=None)
    items = [(path, 0, None, None, 0), (path, 1, None, None, 1), (path, 2)]
    dataset = vidload.VideoDataset(items, clip="1x1x1", transform=crop, dtype=torch.uint8, layout="NTHWC")
    clips = {int(label): clip[0] for clip, label in vidload.VideoLoader(dataset, num_workers=1)}
    small = vidload.VideoReader(path, stream=0)
    assert np.array_equal(clips[0][0], small[small.num_frames // 2][:, 8:56])
    assert torch.equal(clips[1], dataset[1][0]) and not torch.equal(clips[0], clips[1])
    assert torch.equal(clips[2], clips[vidload.VideoReader(path).stream])
    with pytest.raises(ValueError, match="item 0: stream -1 is not the number of a stream"):
        vidload.VideoDataset([(path, 0, None, None, -1)], clip="1x1x1", transform=crop)


@pytest.mark.parametrize("name", ["h264", "hevc_ts", "mpeg4_packed_avi"])
def test_frames_from_a_file_object_equal_frames_from_the_path(name: str, video) -> None:
    with open(video(name), "rb") as file:
        reader = vidload.VideoReader(file)
        assert np.array_equal(reader.get_frames_at([3, 40]), vidload.VideoReader(video(name)).get_frames_at([3, 40]))
        closed = vidload.VideoReader(file)
    with pytest.raises(ValueError, match="closed file"):
        closed.get_frames_at([20])
    assert closed.num_frames == reader.num_frames


def test_file_objects_that_cannot_be_read_say_why(video, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no video at all")
    with open(tmp_path / "text") as file, pytest.raises(TypeError, match="binary mode"):
        vidload.VideoReader(file)
    with pytest.raises(vidload.UnreadableVideoError, match="empty"):
        vidload.VideoReader(io.BytesIO())

    class Pipe:
        def read(self, size: int) -> bytes:
            return b""

    with pytest.raises(TypeError, match="cannot seek"):
        vidload.VideoReader(Pipe())


def test_a_recording_that_begins_without_a_keyframe_shows_its_broken_frames_only_when_asked(video) -> None:
    path = video("flv1_no_keyframe_at_start")  # 6 packets are missing; the next keyframe is frame 6
    reader = vidload.VideoReader(path)
    assert reader.is_trusted.tolist() == [False] * 6 + [True] * 13
    with pytest.raises(vidload.DamagedVideoError, match=r"frame 2: .*before the first keyframe"):
        reader.get_frames_at([2, 8])
    assert np.array_equal(reader[8], vidload.VideoReader(path, allow_damaged=True).get_frames_at([2, 8])[1])
    with pytest.raises(vidload.DamagedVideoError):
        reader.get_frames_at([5])


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs the ffmpeg command")
def test_frames_keep_their_times_where_packets_that_give_none_have_none(video, tmp_path: Path) -> None:
    slower, path = tmp_path / "slower.mp4", tmp_path / "cut.mkv"
    with av.open(video("h264_open_gop")) as source, av.open(str(slower), "w") as output:
        stream = output.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(source.streams.video[0]):
            if packet.size > 0 and packet.pts is not None and packet.dts is not None:
                turn = round(1.2 / packet.time_base)  # from here on at half the speed
                packet.pts, packet.dts = (time + max(0, time - turn) for time in (packet.pts, packet.dts))
                packet.stream = stream
                output.mux(packet)
    cut = ["ffmpeg", "-nostdin", "-v", "error", "-ss", "0.7", "-i", str(slower), "-c", "copy", str(path)]
    subprocess.run(cut, check=True)
    with av.open(str(path)) as container:
        assert any(packet.pts is None for packet in container.demux(video=0) if packet.size > 0)
    with av.open(str(path)) as container:
        times = [frame.time for frame in container.decode(video=0)]
    np.testing.assert_allclose(vidload.VideoReader(path).pts_seconds, times, atol=1e-6)
