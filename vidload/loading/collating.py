"""Collating: what a loader yields of a batch's clips, labels and fields.

In: the clips as one tensor, or what a clip_transform made of each. Out: what a plain DataLoader over the same dataset would yield.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.utils.data import default_collate

from vidload.combined import Clips
from vidload.fields import FieldRow, batch_fields, sample_fields
from vidload.loading.trainers import Collate


def collated(
    dataset: Clips,
    clips: Any,
    indices: list[int],
    rows: list[FieldRow],
    collate: Callable[[list[Any]], Any],
    is_batch: bool,
) -> Any:
    """clips: a tensor or a list; rows: the samples' fields, empty where the dataset has none; is_batch: False for batch_size=None."""
    is_default = isinstance(collate, Collate) and collate.is_default
    if is_default and is_batch:
        batch = [clips if isinstance(clips, torch.Tensor) else default_collate(clips), dataset.labels_of(indices)]
        return [*batch, batch_fields(rows)] if rows else batch
    function = collate.function if isinstance(collate, Collate) else collate
    columns: list[Any] = [clips, [dataset.label(index) for index in indices]]
    if rows:
        columns.append([sample_fields(row) for row in rows])
    samples: list[Any] = list(zip(*columns, strict=True))
    if is_batch:
        return function(samples)
    return samples[0] if is_default else function(samples[0])
