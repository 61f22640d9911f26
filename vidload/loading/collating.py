"""Collating: what a loader yields of a batch's clips, labels and fields.

In: the clips as one tensor, or what a clip_transform made of each. Out: what a plain DataLoader over the same dataset would yield.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.utils.data import default_collate

from vidload import joining
from vidload.combined import Clips
from vidload.fields import FieldRow, batch_fields, sample_fields
from vidload.joining import joined, joined_fields, length_fields
from vidload.loading.trainers import Collate


def check_batch_as(dataset: Clips, batch_as: str | None, is_default: bool) -> None:
    """is_default: whether the loader makes batches, and no function of the user's own does. Raises ValueError if they cannot be made so."""
    if batch_as is None:
        return
    joining.check_batch_as(batch_as)
    if not dataset.is_varying:
        raise ValueError(
            f"batch_as={batch_as!r}: all samples have the shape {list(dataset.sample_shape)}, so batches are one tensor"
        )
    if not is_default:
        raise ValueError(
            f"batch_as={batch_as!r} cannot be used with a collate_fn, or without batches (batch_size=None)"
        )
    if batch_as != "list" and [axis for axis, size in enumerate(dataset.sample_shape) if size is None] != [
        dataset.time_axis
    ]:
        raise ValueError(
            f"batch_as={batch_as!r} joins clips that differ in length alone; with transform fit_pixels they differ in height and width: "
            "use batch_as='list'"
        )


def joins_labels(collate: Callable[[list[Any]], Any], is_batch: bool) -> bool:
    """Whether batches have the labels that `labels_of` gives; is_batch: False for batch_size=None."""
    return is_batch and isinstance(collate, Collate) and collate.is_default


def collated(
    dataset: Clips,
    clips: Any,
    indices: list[int],
    rows: list[FieldRow],
    collate: Callable[[list[Any]], Any],
    is_batch: bool,
    batch_as: str,
    whole: torch.Tensor | None,
    labels: Any = None,
) -> Any:
    """clips: a tensor or a list; rows: the samples' fields, empty where the dataset has none; is_batch: False for batch_size=None;
    batch_as: of vidload.joining; whole: the memory of clips that vary in shape, where each is in its place; labels: what `labels_of` gives,
    where it is known already."""
    is_default = isinstance(collate, Collate) and collate.is_default
    if labels is None and joins_labels(collate, is_batch):
        labels = dataset.labels_of(indices)
    if is_default and is_batch and dataset.is_varying:
        axis = dataset.time_axis
        joined_clips = joined(clips, batch_as, axis) if whole is None or batch_as == "list" else whole
        fields = joined_fields([sample_fields(row) for row in rows], batch_as) | length_fields(clips, batch_as, axis)
        batch = [joined_clips, labels]
        return [*batch, fields] if fields else batch
    if is_default and is_batch:
        batch = [clips if isinstance(clips, torch.Tensor) else default_collate(clips), labels]
        return [*batch, batch_fields(rows)] if rows else batch
    function = collate.function if isinstance(collate, Collate) else collate
    columns: list[Any] = [clips, [dataset.label(index) for index in indices]]
    if rows:
        columns.append([sample_fields(row) for row in rows])
    samples: list[Any] = list(zip(*columns, strict=True))
    if is_batch:
        return function(samples)
    return samples[0] if is_default else function(samples[0])
