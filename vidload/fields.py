"""Fields: what a sample contains besides its clip and its label.

In: what was drawn from a video and what is known about it. Out: a dict of the fields that the dataset was asked for, for one sample or for a
batch; a batch's are what default_collate makes of its samples'.

| field | a sample's | a batch's |
| --- | --- | --- |
| index | int, in its own VideoDataset | int64 [N] |
| path | str | list of N strings |
| frame_indices | int64 [T], with views [V, T] | int64 [N, T] or [N, V, T] |
| pts_seconds | float64, shaped as frame_indices: when they are shown, as in VideoReader.pts_seconds | float64, shaped as frame_indices |
| clip_start_seconds | float, with views float64 [V]: when a clip's first frame is shown, from the video's first | float64 [N] or [N, V] |
| fps | float, the video's average | float64 [N] |

Where clips differ in length, frame_indices and pts_seconds of a batch are lists, padded or packed like the clips (vidload.joining). For
several videos per sample, see vidload.multi_video.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import default_collate

from vidload import _core

FIELDS = ("index", "path", "frame_indices", "pts_seconds", "clip_start_seconds", "fps")
FRAME_FIELDS = frozenset(("frame_indices", "pts_seconds", "clip_start_seconds"))

# The fields of a sample before they are tensors: numbers, text and arrays.
FieldRow = dict[str, Any]


def checked_fields(fields: Sequence[str], known: Sequence[str]) -> tuple[str, ...]:
    """Raises ValueError for a name that is none of those known."""
    names = (fields,) if isinstance(fields, str) else tuple(fields)
    for name in names:
        if name not in known:
            raise ValueError(f"field {name!r} is not one of {', '.join(known)}")
    return names


def field_row(
    names: Sequence[str], index: int, path: str, frames: NDArray[np.int64] | None, info: _core.SampleInfo
) -> FieldRow:
    """frames: [T] or [V, T]; None if no field of FRAME_FIELDS is wanted. info: of the video, with what the dataset itself knows better."""
    average_fps, packet_index = info.average_fps, info.index
    row: FieldRow = {}
    seconds: Any = None
    first_seconds = 0.0
    if frames is not None and ("pts_seconds" in names or "clip_start_seconds" in names):
        if packet_index is None:
            seconds = frames / average_fps
        else:
            num, den = packet_index.time_base
            pts = packet_index.frame_pts
            seconds = np.multiply(pts[frames], num / den, dtype=np.float64)
            first_seconds = float(pts[0]) * (num / den)
    for name in names:
        if name == "index":
            row[name] = index
        elif name == "path":
            row[name] = path
        elif name == "frame_indices":
            row[name] = frames
        elif name == "pts_seconds":
            row[name] = seconds
        elif name == "clip_start_seconds":
            starts = seconds[..., 0] - first_seconds
            row[name] = float(starts) if starts.ndim == 0 else starts
        else:
            row[name] = float(average_fps)
    return row


def sample_fields(row: FieldRow) -> dict[str, Any]:
    """Of one sample."""
    return {name: torch.tensor(value) if isinstance(value, np.ndarray) else value for name, value in row.items()}


def batch_fields(rows: Sequence[FieldRow]) -> dict[str, Any]:
    """Of a batch."""
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    return {
        name: default_collate(values) if name == "path" else torch.from_numpy(np.array(values))
        for name, values in columns.items()
    }
