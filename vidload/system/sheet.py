"""Contact sheets: batches that a person can look at, one row per sample, with file names and frame numbers.

In: clips as the loader gives them, the transform's mean and std. Out: a PNG with the very pixels that the
model sees, brought back to 0-255. Needs matplotlib for the text.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidload.crops import SpatialTransform
from vidload.system.files import written_aside

_GAP = 4  # pixels between images
_TEXT = 16  # pixels for a line of text


def write_contact_sheet(
    path: str | os.PathLike[str],
    samples: Sequence[NDArray[np.uint8]],
    titles: Sequence[str],
    captions: Sequence[Sequence[str]],
) -> None:
    """Writes a PNG with one row per sample.

    samples: uint8 [num_images, H, W, 3] each. titles: a line above each row. captions: a short text under
    each image. Raises ModuleNotFoundError without matplotlib.
    """
    Figure = figure_class()
    height, width = samples[0].shape[1:3]
    columns = max(len(images) for images in samples)
    row_height = height + 2 * _TEXT + _GAP
    sheet_width = max(columns * (width + _GAP) + _GAP, 240)
    sheet_height = len(samples) * row_height + _GAP
    sheet = np.full((sheet_height, sheet_width, 3), 255, dtype=np.uint8)
    dpi = 100
    figure = Figure(figsize=(sheet_width / dpi, sheet_height / dpi), dpi=dpi)
    for row, (images, title, texts) in enumerate(zip(samples, titles, captions, strict=True)):
        top = _GAP + row * row_height + _TEXT
        most = max(sheet_width // 7, 8)  # characters of this font that fit; the end of a path says most
        title = title if len(title) <= most else "…" + title[1 - most :]
        text = {"fontsize": 8, "family": "DejaVu Sans Mono", "va": "center", "parse_math": False}
        figure.text(_GAP / sheet_width, 1 - (top - _TEXT / 2) / sheet_height, title, weight="bold", **text)
        for column, (image, caption) in enumerate(zip(images, texts, strict=True)):
            left = _GAP + column * (width + _GAP)
            sheet[top : top + height, left : left + width] = image
            y = 1 - (top + height + _TEXT / 2) / sheet_height
            figure.text((left + width / 2) / sheet_width, y, caption, ha="center", **text)
    figure.figimage(sheet)
    with written_aside(Path(path)) as part:
        figure.savefig(part, dpi=dpi, format="png")


def pixels(clip: Any, transform: SpatialTransform, layout: str) -> NDArray[np.uint8]:
    """One sample as images: uint8 [views * T, H, W, 3], view by view, normalization undone.

    clip: tensor or array with the axes that `layout` names without N, such as "CTHW", "VCTHW" or "THWC"; ValueError for any others.
    """
    axes = layout.replace("N", "")
    array = np.asarray(clip.float().cpu() if hasattr(clip, "cpu") else clip, dtype=np.float32)
    if sorted(axes.replace("V", "")) != sorted("CTHW") or array.ndim != len(axes):
        raise ValueError(f"contact sheet: clip of shape {list(array.shape)} does not have the axes {axes!r}")
    if "V" not in axes:
        array, axes = array[None], "V" + axes
    array = array.transpose([axes.index(axis) for axis in "VTHWC"])
    if transform.mean is not None and transform.std is not None:
        array = array * np.asarray(transform.std, np.float32) + np.asarray(transform.mean, np.float32)
    images: NDArray[np.uint8] = np.clip(np.rint(array), 0, 255).astype(np.uint8)
    return images.reshape(-1, *images.shape[2:])


def evenly(num_images: int, most: int) -> NDArray[np.int64]:
    """Which of `num_images` to show if there is room for `most`: first, last and evenly spread between, int64."""
    return np.unique(np.linspace(0, num_images - 1, min(num_images, most)).round().astype(np.int64))


def figure_class() -> Any:
    """matplotlib's Figure, which draws without a display. Raises ModuleNotFoundError that says what to install."""
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError:
        raise ModuleNotFoundError("drawing needs matplotlib; install it: pip install matplotlib") from None
    return Figure
