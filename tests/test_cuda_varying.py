"""Clips that differ in shape, and several videos per sample, on the stub driver: the same pixels as on the CPU, each in its place."""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path

import pytest
import torch

import vidload
from vidload.sampling import FramesByTime
from vidload.transforms import center_crop, fit_pixels

sys.path.insert(0, str(Path(__file__).parent / "stub_driver"))
from loading import assert_nothing_left, assert_same
from stub import Stub, on_stub_gpu

CLIPS = ("h264", "h264_portrait", "h264_two_frames", "hevc")


TORCH_ZERO = torch.Tensor.zero_


def zero(tensor: torch.Tensor) -> torch.Tensor:
    """What torch's kernel does on a GPU: the stub's memory is out of the host's reach under its device address."""
    if tensor.numel() == 0:
        return tensor
    for device, host, size in Stub.allocations():
        if device <= tensor.data_ptr() < device + size:
            assert tensor.is_contiguous()
            ctypes.memset(host + tensor.data_ptr() - device, 0, tensor.numel() * tensor.element_size())
            return tensor
    return TORCH_ZERO(tensor)


def on_host(data, **options) -> list[torch.Tensor]:
    """The clips of one batch, copied to the host."""
    loader = vidload.VideoLoader(data, len(CLIPS), num_workers=2, **options)
    (batch,) = loader
    clips = batch[0] if isinstance(batch[0], list) else [batch[0]]
    return [Stub.read(clip.contiguous()) if "device" in options else clip.clone() for clip in clips]


@pytest.mark.parametrize(
    "batch_as, transform", [("list", fit_pixels(6 * 784)), ("packed", center_crop(24)), ("padded", center_crop(24))]
)
@pytest.mark.parametrize("decoder", ["cpu", "nvdec"])
@on_stub_gpu
def test_clips_that_differ_in_shape_are_decoded_into_their_places_on_the_gpu(video, batch_as, transform, decoder):
    paths = [video(name) for name in CLIPS]
    Stub.add_videos(paths)
    data = vidload.VideoDataset(
        [(path, 0) for path in paths], clip=FramesByTime(4), transform=transform, dtype=torch.uint8
    )
    expected = on_host(data, batch_as=batch_as)
    torch.Tensor.zero_ = zero  # of this child process
    assert_same(on_host(data, batch_as=batch_as, device="cuda", decoder=decoder), expected)
    assert_nothing_left()


@pytest.mark.parametrize("decoder", ["cpu", "nvdec"])
@on_stub_gpu
def test_several_videos_per_sample_are_decoded_into_their_views_on_the_gpu(video, decoder):
    cameras = {"front": video("h264"), "wrist": video("hevc")}
    Stub.add_videos(list(cameras.values()))
    data = vidload.MultiVideoDataset(
        [(cameras, 0, 0.4), (cameras, 0, 1.0)], delta_seconds=(-0.1, 0.0), transform=center_crop(24)
    )
    expected = on_host(data)
    assert_same(on_host(data, device="cuda", decoder=decoder), expected)
    assert_nothing_left()
