"""Loading on the stub driver, as its tests do it.

In: paths of videos, and options of dataset and loader. Out: the clips of an epoch on the host; asserts about clips and about the stub.
"""

from __future__ import annotations

from typing import Any

import torch
from stub import Stub

import vidload


def dataset(paths: list[str], **options: Any) -> vidload.VideoDataset:
    defaults: dict[str, Any] = {
        "clip": "4x3x1",
        "transform": vidload.transforms.random_resized_crop(40),
        "seed": 5,
    }
    return vidload.VideoDataset([(path, i) for i, path in enumerate(paths)], **(defaults | options))


def batches(data: vidload.VideoDataset, **options: Any) -> tuple[list[torch.Tensor], vidload.VideoLoader]:
    """All clips of epoch 0, on the host, and the loader."""
    data.set_epoch(0)
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


def assert_nothing_left() -> None:
    """No surface mapped, no context current, nothing launched without one, nothing called that the stub lacks."""
    assert Stub.context_depth() == 0
    assert Stub.counter("pushed_contexts") == 0
    assert Stub.counter("mapped_surfaces") == 0
    assert Stub.counter("launches_without_context") == 0
    assert Stub.counter("missing_calls") == 0  # such as cuvidReconfigureDecoder
