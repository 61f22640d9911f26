"""Labels: one per video, of the kinds that training uses, kept as flat arrays.

In: the labels of all videos. Out: a column of them, the label of one video, and a batch of the labels of several, which equals what
torch's default_collate makes of them.

| a video's label | a sample's | a batch's |
| --- | --- | --- |
| an integer | int | int64 [N] |
| a number | float | float64 [N] |
| text | str | tuple of N strings, within a dict a list |
| a list of integers: the classes of a video that has several | ClassList | list of N ClassLists |
| the same, with num_classes: multi-hot | float32 [num_classes] | float32 [N, num_classes] |
| a list of numbers: a soft label | float32 [C] | float32 [N, C] |
| an array or tensor | tensor of its shape and dtype | tensor [N, *shape] |
| a dict | dict of these | dict of these |
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch.utils.data._utils.collate import default_collate_fn_map
from torch.utils.dlpack import from_dlpack

from vidload import _core

# NDArray [N, ...], ListArray of int64 [N], StringArray [N], or a dict of columns.
Column = Any


class ClassList(list[int]):
    """The classes of one video. A list, but default_collate keeps those of a batch separate: a list of N lists, not one tensor for each
    position in them."""


default_collate_fn_map[ClassList] = lambda batch, *, collate_fn_map=None: list(batch)

_KINDS = {
    "class": "an integer",
    "number": "a number",
    "text": "text",
    "classes": "a list of integers",
    "vector": "a list of numbers",
    "array": "an array",
    "dict": "a dict",
}


def column_of(labels: Sequence[Any], where: str = "label", name_of: Callable[[int], str] = "item {}".format) -> Column:
    """A column of labels that are all of one kind; integers and other numbers may mix, as may lists of them.

    name_of: what an error calls the item of a number.

    Raises:
        ValueError: a label is of no known kind, or of another kind than those before it; the message names the first such item.
    """
    kinds = [_kind(label) for label in labels]
    if None in kinds:
        i = kinds.index(None)
        raise ValueError(
            f"{name_of(i)}: {where} {labels[i]!r} is not an integer, a number, text, a list of integers or numbers, an array or a dict"
        )
    found = set(kinds)
    if found == {"class", "number"}:
        found = {"number"}
    elif found == {"classes", "vector"}:
        found = {"vector"}
    elif found == {"classes", "array"}:
        return column_of(
            [label.tolist() if kind == "array" else label for label, kind in zip(labels, kinds, strict=True)],
            where,
            name_of,
        )
    if len(found) > 1:
        i = next(i for i, kind in enumerate(kinds) if kind != kinds[0])
        raise ValueError(
            f"{name_of(i)}: {where} must be {_KINDS[str(kinds[0])]}, as in the items before it, got {labels[i]!r}"
        )
    try:
        return _column(str(found.pop()), labels, where, name_of)
    except OverflowError:
        i = next(i for i, label in enumerate(labels) if not _fits(label))
        raise ValueError(f"{name_of(i)}: {where} {labels[i]!r} does not fit into 64 bits") from None


def label_at(column: Column, i: int, num_classes: int | None = None) -> Any:
    """The label of row i."""
    if isinstance(column, dict):
        return {name: label_at(part, i) for name, part in column.items()}
    if isinstance(column, np.ndarray):
        return column[i].item() if column.ndim == 1 else torch.from_numpy(column[i].copy())
    value = column[int(i)].as_py()
    if isinstance(value, str):
        return value
    return ClassList(value) if num_classes is None else _multi_hot([value], num_classes)[0]


def labels_at(column: Column, rows: Sequence[int], num_classes: int | None = None) -> Any:
    """What default_collate gives of a tuple of the labels of these rows."""
    if isinstance(column, np.ndarray):
        if column.ndim == 1 and column.dtype in (np.int64, np.float64) and column.flags.c_contiguous:
            return from_dlpack(_core.rows_of(column, rows))
        values = column[rows]
        if values.ndim == 1 and values.dtype not in (np.int64, np.bool_):
            values = values.astype(np.float64 if values.dtype.kind == "f" else np.int64)  # as of Python's own numbers
        return torch.from_numpy(values)
    if isinstance(column, dict):
        columns = {name: labels_at(part, rows) for name, part in column.items()}
        return {name: list(part) if isinstance(part, tuple) else part for name, part in columns.items()}
    found = column.take(pa.array(rows, pa.int64())).to_pylist()
    if pa.types.is_string(column.type):
        return tuple(found)
    return [ClassList(classes) for classes in found] if num_classes is None else _multi_hot(found, num_classes)


def check_classes(column: Column, num_classes: int) -> None:
    """Raises ValueError for a class that is not in [0, num_classes); a lone -1 stands for no class."""
    if isinstance(column, pa.ListArray):
        values = column.flatten().to_numpy(zero_copy_only=False)
        least = 0
    elif isinstance(column, np.ndarray) and column.ndim == 1 and column.dtype.kind in "iu":
        values = column
        least = -1
    else:
        raise ValueError("num_classes goes with labels that are integers or lists of integers, and these are not")
    if len(values) > 0 and not least <= values.min() <= values.max() < num_classes:
        bad = int(values.min()) if values.min() < least else int(values.max())
        raise ValueError(f"num_classes is {num_classes}, and class {bad} is not in [0, {num_classes})")


def _kind(label: Any) -> str | None:
    if isinstance(label, str):
        return "text"
    if isinstance(label, Mapping):
        return "dict" if label else None
    if getattr(label, "ndim", 0) > 0:
        return "array"
    if _is_integer(label):
        return "class"
    if isinstance(label, float | np.floating):
        return "number"
    if not isinstance(label, Sequence) or isinstance(label, bytes):
        return None
    if all(map(_is_integer, label)):
        return "classes"
    return "vector" if all(_is_integer(value) or isinstance(value, float | np.floating) for value in label) else None


def _is_integer(value: Any) -> bool:
    try:
        operator.index(value)
    except TypeError:
        return False
    return True


def _fits(label: Any) -> bool:
    values = label if isinstance(label, Sequence) else [label]
    return all(-(2**63) <= operator.index(value) < 2**63 for value in values if _is_integer(value))


def _column(kind: str, labels: Sequence[Any], where: str, name_of: Callable[[int], str]) -> Column:
    if kind == "class":
        return np.array([operator.index(label) for label in labels], np.int64)
    if kind == "number":
        return np.array(labels, np.float64)
    if kind == "text":
        return pa.array(labels, pa.string())
    if kind == "classes":
        lists = [[operator.index(value) for value in label] for label in labels]
        return pa.array(lists, pa.list_(pa.int64()))
    if kind == "dict":
        return _dict_of_columns(labels, where, name_of)
    arrays = [np.asarray(label, np.float32 if kind == "vector" else None) for label in labels]
    for i, array in enumerate(arrays):
        if array.shape != arrays[0].shape or array.dtype != arrays[0].dtype or array.dtype.kind not in "biuf":
            raise ValueError(
                f"{name_of(i)}: {where} is {array.dtype} {list(array.shape)}, must be numbers of one shape in all items; "
                f"{name_of(0)} has {arrays[0].dtype} {list(arrays[0].shape)}"
            )
    return np.stack(arrays)


def _dict_of_columns(labels: Sequence[Any], where: str, name_of: Callable[[int], str]) -> dict[str, Column]:
    names = list(labels[0])
    for i, label in enumerate(labels):
        if list(label) != names and set(label) != set(names):
            raise ValueError(f"{name_of(i)}: {where} has the keys {list(label)}, {name_of(0)} has {names}")
    return {name: column_of([label[name] for label in labels], f"{where}[{name!r}]", name_of) for name in names}


def _multi_hot(lists: Sequence[Sequence[int]], num_classes: int) -> torch.Tensor:
    hot: NDArray[np.float32] = np.zeros((len(lists), num_classes), np.float32)
    for row, classes in zip(hot, lists, strict=True):
        row[list(classes)] = 1
    return torch.from_numpy(hot)
