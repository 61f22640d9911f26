"""VideoLoader(device="cuda") on the stub driver: batches equal the CPU loader's bit for bit, and nothing is left behind.

Each test runs in a forked child (see stub_driver/stub.py), where a stub stands in for the driver and for NVDEC; FFmpeg and vidload are the
real ones. It shows logic, order and arithmetic; speed, drivers and silicon it does not.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import vidload

sys.path.insert(0, str(Path(__file__).parent / "stub_driver"))
from stub import Stub, on_stub_gpu


def dataset(paths: list[str], **options: Any) -> vidload.VideoDataset:
    defaults: dict[str, Any] = {
        "clip": "4x3x1",
        "transform": vidload.transforms.random_resized_crop(40),
        "seed": 5,
    }
    return vidload.VideoDataset([(path, i) for i, path in enumerate(paths)], **(defaults | options))


def batches(data: vidload.VideoDataset, **options: Any) -> tuple[list[torch.Tensor], vidload.VideoLoader]:
    """All clips of an epoch, on the host, and the loader."""
    defaults: dict[str, Any] = {"batch_size": 3, "num_workers": 2}
    loader = vidload.VideoLoader(data, **(defaults | options))
    on_gpu = loader.device.type == "cuda"
    clips = []
    for batch, _ in loader:
        clips.append(Stub.read(batch) if on_gpu else batch.clone())
        del batch
    return clips, loader


def assert_same(one: list[torch.Tensor], other: list[torch.Tensor]) -> None:
    assert len(one) == len(other)
    for a, b in zip(one, other, strict=True):
        assert a.dtype == b.dtype and a.shape == b.shape
        assert torch.equal(a.view(torch.uint8), b.view(torch.uint8))


@pytest.fixture
def h264_files(video) -> list[str]:
    return [video(name) for name in ("h264", "h264_no_b_frames", "h264_b_pyramid_normal", "h264_star")]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.uint8])
@pytest.mark.parametrize("layout", ["NCTHW", "NTHWC"])
@on_stub_gpu
def test_cpu_decoded_clips_on_the_gpu_equal_the_cpu_loaders(h264_files, dtype, layout):
    data = dataset(h264_files, dtype=dtype, layout=layout)
    expected, _ = batches(data)
    Stub.set_lazy()
    made, loader = batches(data, device="cuda", decoder="cpu")
    assert_same(made, expected)
    assert loader.stats()["num_samples"] == 4


def assert_nothing_left(loader: vidload.VideoLoader) -> None:
    """No surface mapped, no context current, nothing launched without one."""
    assert Stub.context_depth() == 0
    assert Stub.counter("pushed_contexts") == 0
    assert Stub.counter("mapped_surfaces") == 0
    assert Stub.counter("launches_without_context") == 0


NVDEC_VIDEOS = [
    "h264",
    "h264_no_b_frames",
    "h264_16_b_frames",
    "h264_b_pyramid_normal",
    "h264_star",
]


@pytest.mark.parametrize("name", NVDEC_VIDEOS)
@on_stub_gpu
def test_nvdec_clips_equal_the_cpu_loaders(video, name):
    data = dataset([video(name)] * 4, clip="3x5x2", layout="NVCTHW")
    expected, _ = batches(data)
    Stub.add_videos([video(name)])
    Stub.set_lazy()
    made, loader = batches(data, device="cuda", decoder="nvdec")
    stats = loader.stats()
    assert stats["fallbacks"] == {}
    assert stats["num_nvdec_samples"] == 4
    assert Stub.counter("unknown_pictures") == 0
    assert_same(made, expected)
    assert_nothing_left(loader)
