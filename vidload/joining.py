"""Joining: how the clips of a batch lie in memory where they differ in length: in a list, padded, or packed.

In: shapes, or clips. Out: memory with a slot for each clip, so that it can be decoded into its place; or the same by copying.

| batch_as | clips, of samples of T_i frames | where each clip is, in the batch's fields |
| --- | --- | --- |
| "list" | list of N tensors [T_i, ...], one after the other in one block of memory | |
| "padded" | [N, max T_i, ...], zeros after the end of each | mask: bool [N, max T_i], True where there is a frame |
| "packed" | [sum T_i, ...] | offsets: int64 [N + 1], clip i is clips[offsets[i] : offsets[i + 1]] |

T is the axis that the dataset's layout names; a layout that begins with another, such as NCTHW, is packed along its T axis.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any

import torch
from torch.utils.data import default_collate

from vidload.fields import FRAME_FIELDS

BATCH_KINDS = ("list", "padded", "packed")

Shape = tuple[int, ...]


def slots(
    batch_as: str, shapes: Sequence[Shape | None], time_axis: int, take: Callable[[Shape], torch.Tensor]
) -> tuple[torch.Tensor | None, list[torch.Tensor | None]]:
    """Memory for a batch, and each clip's place in it, None where there is no shape; the memory is the batch once all are written.

    take: gives a contiguous tensor of a shape and of any content. Without any shape there is no memory.
    """
    known = [shape for shape in shapes if shape is not None]
    if not known:
        return None, [None] * len(shapes)
    lengths = [0 if shape is None else shape[time_axis] for shape in shapes]
    if batch_as == "padded":
        whole = take((len(shapes), *_with_length(known[0], time_axis, max(lengths))))
        for row, length in zip(whole, lengths, strict=True):
            row.narrow(time_axis, length, max(lengths) - length).zero_()
        places = [row.narrow(time_axis, 0, length) for row, length in zip(whole, lengths, strict=True)]
    elif batch_as == "packed":
        whole = take(_with_length(known[0], time_axis, sum(lengths)))
        starts = accumulate(lengths, initial=0)
        places = [whole.narrow(time_axis, start, length) for start, length in zip(starts, lengths, strict=False)]
    else:
        sizes = [0 if shape is None else math.prod(shape) for shape in shapes]
        whole = take((sum(sizes),))
        places = [
            part if shape is None else part.view(shape) for part, shape in zip(whole.split(sizes), shapes, strict=True)
        ]
    return whole, [None if shape is None else place for place, shape in zip(places, shapes, strict=True)]


def joined(clips: Sequence[Any], batch_as: str, time_axis: int) -> Any:
    """The clips as a batch, by copying them (but for "list").

    Raises ValueError if they differ in more than their length.
    """
    if batch_as == "list":
        return list(clips)
    for clip in clips:
        if not isinstance(clip, torch.Tensor):
            raise ValueError(f"batch_as={batch_as!r} joins tensors, got {type(clip).__name__} from the clip_transform")
        if _with_length(clip.shape, time_axis, 0) != _with_length(clips[0].shape, time_axis, 0):
            raise ValueError(
                f"batch_as={batch_as!r} joins clips that differ in length alone, got {list(clips[0].shape)} and {list(clip.shape)}"
            )
    if batch_as == "packed":
        return torch.cat(list(clips), time_axis)
    longest = max(clip.shape[time_axis] for clip in clips)
    whole = clips[0].new_zeros((len(clips), *_with_length(clips[0].shape, time_axis, longest)))
    for row, clip in zip(whole, clips, strict=True):
        row.narrow(time_axis, 0, clip.shape[time_axis]).copy_(clip)
    return whole


def length_fields(clips: Sequence[Any], batch_as: str, time_axis: int) -> dict[str, torch.Tensor]:
    """The field of a batch that says where each clip is: mask or offsets; none for "list"."""
    if batch_as == "list":
        return {}
    lengths = torch.tensor([clip.shape[time_axis] for clip in clips])
    if batch_as == "packed":
        return {"offsets": torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)])}
    return {"mask": torch.arange(int(lengths.max())) < lengths[:, None]}


def joined_fields(fields: Sequence[dict[str, Any]], batch_as: str) -> dict[str, Any]:
    """The fields of samples (vidload.fields) as a batch: those of frames are joined like the clips, others by default_collate."""
    columns = {name: [row[name] for row in fields] for name in (fields[0] if fields else ())}
    return {
        name: joined(column, batch_as, 0)
        if name in FRAME_FIELDS and isinstance(column[0], torch.Tensor)
        else column
        if name == "path"
        else default_collate(column)
        for name, column in columns.items()
    }


def collate(samples: Sequence[Any], batch_as: str, time_axis: int) -> list[Any]:
    """[clips, labels], and fields where there are any, of samples (clip, label[, fields])."""
    check_batch_as(batch_as)
    clips = [sample[0] for sample in samples]
    labels = default_collate([sample[1] for sample in samples])
    batch = [joined(clips, batch_as, time_axis), labels]
    fields = joined_fields([sample[2] for sample in samples if len(sample) > 2], batch_as)
    fields |= length_fields(clips, batch_as, time_axis)
    return [*batch, fields] if fields else batch


def check_batch_as(batch_as: str) -> None:
    if batch_as not in BATCH_KINDS:
        raise ValueError(f"batch_as {batch_as!r} is not one of {', '.join(BATCH_KINDS)}")


def _with_length(shape: Sequence[int], time_axis: int, length: int) -> Shape:
    return (*shape[:time_axis], length, *shape[time_axis + 1 :])
