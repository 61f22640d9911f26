"""Describing: what is in a dataset or a loader, as rows of (what, value), for its repr and for a notebook.

In: a ClipDataset or a VideoLoader. Out: text or HTML. Nothing is opened or decoded for it.
"""

from __future__ import annotations

import html
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

Row = tuple[str, str]


def as_text(title: str, rows: list[Row]) -> str:
    width = max(len(name) for name, _ in rows)
    return "\n".join([title, *(f"    {name:{width}}  {value}" for name, value in rows)])


def as_html(title: str, rows: list[Row]) -> str:
    lines = "".join(
        f'<tr><th style="text-align:left">{html.escape(name)}</th><td style="text-align:left">{html.escape(value)}</td></tr>'
        for name, value in rows
    )
    return f"<table><caption>{html.escape(title)}</caption>{lines}</table>"


def dataset_title(dataset: Any) -> str:
    num_files = pc.count_distinct(dataset.annotations.paths).as_py()
    files = "" if num_files == len(dataset) else f" of {_count(num_files, 'file')}"
    return f"{type(dataset).__name__}: {_count(len(dataset), 'sample')}{files}, {_classes(dataset)}"


def dataset_rows(dataset: Any) -> list[Row]:
    rows = [
        ("files", f"{dataset.annotations.path(0)}{', ...' if len(dataset) > 1 else ''}"),
        ("clip", f"{_clip(dataset)}; {_count(dataset.num_views, 'view')}"),
        ("transform", repr(dataset.transform)),
        (
            "sample",
            f"{_tensor(dataset.dtype, dataset.sample_shape)} {dataset.layout[1:]}{_each(dataset, 1)}",
        ),
        ("seed", f"{dataset.seed}, epoch {dataset.epoch}"),
    ]
    if dataset.clip_transform is not None:
        rows.append(("clip_transform", _name(dataset.clip_transform)))
    if dataset.fields:
        rows.append(("fields", ", ".join(dataset.fields)))
    index = getattr(dataset, "index", None)
    if index is not None:
        rows.append(("index", str(index.path)))
    rows.append(("memory", f"{_size(_annotation_bytes(dataset))} of paths and labels"))
    return rows


def loader_rows(loader: Any, clips: Any) -> list[Row]:
    """clips: those behind loader.dataset, as vidload.combined has them."""
    size = loader.batch_size or 1
    order = (
        "shuffled" if loader.shuffle else type(loader.sampler).__name__ if loader.batch_size else "by a batch sampler"
    )
    parts = getattr(clips, "parts", (clips,))
    rows = [("dataset", dataset_title(part)) for part in parts]
    if len(loader.dataset) != len(clips):
        rows.append(("part", f"{len(loader.dataset)} of the {len(clips)} samples"))
    batch = f"{loader.batch_as or 'list'} of {size} " if clips.is_varying else ""
    batch += _tensor(clips.dtype, clips.sample_shape if clips.is_varying else (size, *clips.sample_shape))
    stats = loader.stats()
    return [
        *rows,
        ("order", f"{order}, drop_last={loader.drop_last}"),
        ("batch", f"{batch} on {loader.device}{_each(clips, size)}"),
        ("threads", f"{loader.num_workers}, decoder {loader.decoder!r}"),
        ("on_error", f"{loader.on_error!r}, {_count(stats['num_failed'], 'failure')} so far"),
        ("memory", f"{_size(stats['memory_bytes'])} of batches"),
        ("done", f"{_count(stats['num_batches'], 'batch', 'batches')}; {_size(stats['bytes_read'])} read"),
    ]


def _classes(dataset: Any) -> str:
    rows = dataset.annotations
    if rows.classes is not None:
        return _count(len(rows.classes), "class", "classes")
    if dataset.num_classes is not None:
        return _count(dataset.num_classes, "class", "classes")
    labels = getattr(dataset, "labels", rows.labels)
    if isinstance(labels, np.ndarray) and labels.ndim == 1 and labels.dtype.kind in "iu":
        found = np.unique(labels[labels >= 0])
        return "no labels" if len(found) == 0 else _count(len(found), "class", "classes")
    if isinstance(labels, pa.ListArray):
        return f"lists of {_count(pc.count_distinct(labels.flatten()).as_py(), 'class', 'classes')}"
    if isinstance(labels, dict):
        return f"labels {', '.join(labels)}"
    if isinstance(labels, np.ndarray):
        return f"labels {labels.dtype} {list(labels.shape[1:])}" if labels.ndim > 1 else "labels that are numbers"
    return "labels that are text"


def _annotation_bytes(dataset: Any) -> int:
    rows = dataset.annotations
    columns = [
        rows.paths,
        rows.start_seconds,
        rows.end_seconds,
        rows.num_frames,
        rows.offsets,
        rows.streams,
        rows.parts,
    ]
    labels = rows.labels.values() if isinstance(rows.labels, dict) else [rows.labels]
    return sum(getattr(column, "nbytes", 0) for column in (*columns, *labels))


def _clip(dataset: Any) -> str:
    moments = getattr(dataset, "delta_seconds", None)
    if moments is not None:
        if isinstance(moments, dict):
            each = ", ".join(f"{list(deltas)} of {camera}" for camera, deltas in moments.items())
            return f"frames {each}, in seconds from a moment"
        return f"frames {list(moments)} seconds from a moment, of {', '.join(dataset.cameras)}"
    kind = "random" if dataset.training else "fixed"
    if dataset.sample_shape[dataset.time_axis] is None:
        return f"{dataset.clip}, {kind}"
    sampling = dataset.sampling if isinstance(dataset.sampling, str) else _name(dataset.sampling)
    return f"{dataset.clip}, sampling {sampling}, {kind}"


def _each(clips: Any, count: int) -> str:
    """How much memory so many samples take."""
    return ", as each video has it" if clips.is_varying else f", {_size(count * clips.sample_bytes)}"


def _name(function: Any) -> str:
    return str(getattr(function, "__name__", None) or repr(function))


def _tensor(dtype: torch.dtype, shape: tuple[int | None, ...]) -> str:
    sizes = ", ".join("*" if size is None else str(size) for size in shape)
    return f"{str(dtype).removeprefix('torch.')} [{sizes}]"


def _count(number: int, what: str, many: str = "") -> str:
    return f"{number:,} {what if number == 1 else many or what + 's'}"


def _size(num_bytes: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if num_bytes < 1024:
            return f"{num_bytes:.3g} {unit}"
        num_bytes /= 1024
    return f"{num_bytes:.3g} GiB"
