"""Comparing what loaders yield: nested lists and dicts of tensors, numbers and text."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils.data import DataLoader

from vidload import VideoLoader


def is_same(one: Any, other: Any) -> bool:
    """Types of tensors, keys and lengths included."""
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(is_same(value, other[key]) for key, value in one.items())
    if isinstance(one, list | tuple):
        return type(one) is type(other) and len(one) == len(other) and all(map(is_same, one, other))
    return type(one) is type(other) and one == other


def both(dataset: Any, batch_size: int = 3, **options: Any) -> list[Any]:
    """The batches of an epoch, after making sure that VideoLoader with and without threads yields what a plain DataLoader does."""
    plain = list(DataLoader(dataset, batch_size))
    for num_workers in (0, 2):
        loader = VideoLoader(dataset, batch_size, num_workers=num_workers, **options)
        loader.set_epoch(0)
        ours = list(loader)
        assert is_same(ours, plain), (ours, plain)
    return plain
