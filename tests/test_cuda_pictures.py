"""Pictures that are not a frame a packet, and pictures that come late or not at all, from NVDEC on the stub driver.

Each test runs in a forked child; see stub_driver/stub.py. Every frame must be the CPU's, or the clip must fail.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import vidload
from vidload import _core

sys.path.insert(0, str(Path(__file__).parent / "stub_driver"))
from loading import assert_nothing_left, assert_same, batches, dataset
from stub import Stub, on_stub_gpu

CODECS = {"vp8": 9, "av1": 11}  # those that the stub decodes only where it is told to; cudaVideoCodec's numbers


def prepare(path: str, name: str) -> None:
    codec = name.split("_")[0]
    if codec not in _core.ffmpeg_nvdec_codecs():
        pytest.skip("this FFmpeg was built without NVDEC for it")
    if codec in CODECS:
        Stub.nvcuvid.stub_decode_codec(CODECS[codec])
    Stub.add_videos([path])


UNUSUAL = [
    "h264_fields",  # two decoded pictures a frame
    "h264_mbaff",
    "h264_held_back",  # frames come 16 packets late
    "vp8",
    "vp8_alt_ref",  # hidden pictures, in packets of their own
    "vp9_alt_ref",  # in the packets of others
    "vp9_resolution_change",
    "av1",  # shown by a later packet
    "av1_10bit",
    "av1_low_delay",
    "av1_libaom",
    "av1_film_grain",
]


@pytest.mark.parametrize("name", UNUSUAL)
@on_stub_gpu
def test_clips_of_unusual_pictures_equal_the_cpus(video, name):
    path = video(name)
    prepare(path, name)
    data = dataset([path] * 3, clip="3x3x2", layout="NVCTHW")
    expected, _ = batches(data)
    Stub.set_lazy()
    made, loader = batches(data, device="cuda", decoder="nvdec", strict=True)
    assert loader.stats()["num_nvdec_samples"] == 3
    assert Stub.counter("unknown_pictures") == 0
    assert_same(made, expected)
    assert_nothing_left()


@pytest.mark.parametrize("name", UNUSUAL)
@pytest.mark.needs_cuda
def test_unusual_pictures_on_this_gpu_are_the_cpus(video, name):
    expected = vidload.VideoReader(video(name))
    found = vidload.VideoReader(video(name), device="cuda", decoder="nvdec", strict=True)
    try:
        for frames in (list(range(len(expected))), [len(expected) - 1, 7, 20]):
            assert torch.equal(found.get_frames_at(frames).cpu(), torch.from_numpy(expected.get_frames_at(frames)))
    except vidload.UnsupportedVideoError as error:
        if "this GPU does not decode" not in error.reason:
            raise
        pytest.skip(error.reason)


@pytest.mark.parametrize("name", ["h264_fields", "h264_held_back", "vp8_alt_ref", "vp9_alt_ref", "av1", "av1_libaom"])
@on_stub_gpu
def test_each_frame_alone_is_the_right_one(video, name):
    """Whatever is still inside the decoder from the frame before."""
    path = video(name)
    prepare(path, name)
    on_cpu = vidload.VideoReader(path)
    expected = torch.from_numpy(on_cpu.get_frames_at(range(len(on_cpu))))
    on_gpu = vidload.VideoReader(path, device="cuda", decoder="nvdec", strict=True)
    for frame in [*range(0, len(on_cpu), 3), *range(len(on_cpu) - 1, 0, -3)]:
        assert torch.equal(Stub.read(on_gpu[frame]), expected[frame]), frame
    assert_nothing_left()


@on_stub_gpu
def test_fields_are_decoded_as_fields(video):
    path = video("h264_fields")
    prepare(path, "h264")
    data = dataset([path], clip="8x1x1")
    batches(data, device="cuda", decoder="nvdec", strict=True, num_workers=1)
    assert Stub.counter("fields_decoded") >= 8
    assert Stub.counter("maps") == 8


@on_stub_gpu
def test_frames_that_come_late_take_no_second_decoder(video):
    path = video("h264_held_back")
    prepare(path, "h264")
    data = dataset([path] * 6)
    _, loader = batches(data, device="cuda", decoder="nvdec", strict=True, num_workers=1)
    assert loader.stats()["num_nvdec_creations"] == Stub.counter("decoders_created") == 1


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("h264_fields_ts", "irregular"),
        ("vp8_odd", "odd_size"),
        ("av1_odd", "odd_size"),
    ],
)
@on_stub_gpu
def test_pictures_that_nvdec_is_not_given_are_decoded_by_the_cpu(video, name, reason):
    path = video(name)
    prepare(path, name)
    data = dataset([path] * 2)
    expected, _ = batches(data)
    made, loader = batches(data, device="cuda", decoder="nvdec")
    assert_same(made, expected)
    assert loader.stats()["fallbacks"] == {reason: 2}
    assert Stub.counter("pictures_decoded") == 0


# --- pictures that do not come


@pytest.mark.parametrize("function", ["cuvidDecodePicture", "cuvidMapVideoFrame64"])
@pytest.mark.parametrize(
    "name", ["h264", "h264_fields", "h264_16_b_frames", "hevc", "hevc_open_gop", "vp8", "vp9_alt_ref", "av1"]
)
@on_stub_gpu
def test_a_picture_that_fails_shifts_and_repeats_no_other(video, name, function):
    """Whichever it is: the clip is the CPU's, decoded again."""
    path = video(name)
    prepare(path, name)
    data = dataset([path], clip="5x4x1")
    expected, _ = batches(data)
    made, _ = batches(data, device="cuda", decoder="nvdec", strict=True, num_workers=1)
    assert_same(made, expected)
    num_calls = Stub.counter(function)
    assert num_calls >= 5
    for nth in range(1, num_calls + 1):
        Stub.fail(function, nth)
        made, loader = batches(data, device="cuda", decoder="nvdec", num_workers=1)
        assert_same(made, expected)
        stats = loader.stats()
        assert stats["num_nvdec_creations"] + sum(stats["fallbacks"].values()) > 0  # decoded twice
        Stub.succeed()
    assert_nothing_left()


@pytest.mark.parametrize(
    ("function", "nth", "missing"),
    [("cuvidMapVideoFrame64", 3, 8), ("cuvidMapVideoFrame64", 1, 0), ("cuvidDecodePicture", 12, 12)],
)
@on_stub_gpu
def test_where_only_nvdec_may_decode_a_picture_that_fails_is_an_error_with_file_and_frame(
    video, function, nth, missing
):
    path = video("h264_no_b_frames")
    prepare(path, "h264")
    data = dataset([path], clip="6x4x1", sampling=lambda *_: np.arange(0, 24, 4)[None])
    Stub.fail(function, nth)
    with pytest.raises(vidload.UnsupportedVideoError, match="the driver failed on a picture") as caught:
        batches(data, device="cuda", decoder="nvdec", strict=True, num_workers=1)
    assert (caught.value.path, caught.value.frame) == (path, missing)
    assert_nothing_left()


@pytest.mark.xfail(strict=True, reason="libavcodec does not ask NVDEC whether it decoded a picture (docs/gpu.md)")
@on_stub_gpu
def test_a_picture_that_nvdec_loses_without_an_error_is_noticed(video):
    path = video("h264_no_b_frames")
    prepare(path, "h264")
    data = dataset([path], clip="48x1x1")
    expected, _ = batches(data)
    Stub.nvcuvid.stub_lose_picture(8)
    made, _ = batches(data, device="cuda", decoder="nvdec", num_workers=1)
    assert_same(made, expected)
