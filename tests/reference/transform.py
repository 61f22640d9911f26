"""The spatial transform from its formulae in float64 NumPy: slow, obvious, independent of the C++ code.

In: planes as decoded. Out: R, G, B on the 0-255 scale (or normalized). Each axis is a dense matrix of
weights, color the inverse of the forward matrix of Rec. ITU-T H.273. The caller rounds to the output's dtype.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# Kr and Kb, Rec. ITU-T H.273 table 4.
LUMA_WEIGHTS = {
    "bt601": (0.299, 0.114),
    "bt709": (0.2126, 0.0722),
    "bt2020": (0.2627, 0.0593),
    "fcc": (0.30, 0.11),
    "smpte240m": (0.212, 0.087),
}


@dataclass(frozen=True)
class Format:
    """How planes store a picture. Pairs are (vertical, horizontal)."""

    bit_depth: int = 8
    shift: int = 0
    num_planes: int = 3
    chroma_scale: tuple[int, int] = (1, 1)
    chroma_offset: tuple[float, float] = (0.5, 0.5)
    color_matrix: str = "bt601"
    color_range: str = "limited"


def axis_weights(
    source_size: int,
    start: float,
    length: float,
    num_outputs: int,
    scale: float,
    offset: float,
    antialias: bool,
) -> np.ndarray:
    """Weights [num_outputs, source_size] of one axis; start and length are in luma pixels."""
    ratio = length / num_outputs
    center = start + (np.arange(num_outputs) + 0.5) * ratio  # luma pixels
    center = (center - offset) / scale + 0.5  # plane samples; sample k spans [k, k + 1]
    sample = np.arange(source_size) + 0.5
    if not antialias:
        center = np.clip(center, 0.5, source_size - 0.5)
    radius = max(1.0, ratio / scale) if antialias else 1.0
    weights = np.maximum(0.0, 1.0 - np.abs(sample[None, :] - center[:, None]) / radius)
    for i in range(num_outputs):
        if weights[i].sum() == 0:  # far outside the picture
            weights[i, 0 if center[i] < source_size / 2 else -1] = 1.0
    return weights / weights.sum(axis=1, keepdims=True)


def to_rgb(planes: list[np.ndarray], form: Format) -> np.ndarray:
    """R, G, B [3, height, width] on the 0-255 scale, clipped, from stored values in planes of equal size."""
    top = 2.0**form.bit_depth - 1
    step = 2.0 ** (form.bit_depth - 8)

    def luma(values: np.ndarray) -> np.ndarray:
        return values / top if form.color_range == "full" else (values / step - 16) / 219

    def chroma(values: np.ndarray) -> np.ndarray:
        return (values - 128 * step) / top if form.color_range == "full" else (values / step - 128) / 224

    if len(planes) == 1:
        rgb = np.stack([luma(planes[0])] * 3)
    elif form.color_matrix == "rgb":
        green, blue, red = (luma(plane) for plane in planes)
        rgb = np.stack([red, green, blue])
    else:
        kr, kb = LUMA_WEIGHTS[form.color_matrix]
        y = np.array([kr, 1 - kr - kb, kb])
        pb = (np.array([0, 0, 1]) - y) / (2 * (1 - kb))
        pr = (np.array([1, 0, 0]) - y) / (2 * (1 - kr))
        ypbpr = np.stack([luma(planes[0]), chroma(planes[1]), chroma(planes[2])])
        rgb = np.einsum("cp,phw->chw", np.linalg.inv(np.stack([y, pb, pr])), ypbpr)
    return np.clip(rgb * 255, 0, 255)


def transform(
    planes: list[np.ndarray],
    form: Format,
    box: tuple[float, float, float, float],
    size: tuple[int, int],
    flip: bool = False,
    antialias: bool = True,
    mean: tuple[float, float, float] | None = None,
    std: tuple[float, float, float] | None = None,
) -> np.ndarray:
    """Crops (top, left, height, width) and resizes to (height, width): float64 [3, height, width].

    planes: [h, w] arrays of stored samples, U and V apart, upright. Normalized if mean is given.
    """
    top, left, height, width = box
    resampled = []
    for index, plane in enumerate(planes):
        is_luma = index == 0
        scale = (1, 1) if is_luma else form.chroma_scale
        offset = (0.5, 0.5) if is_luma else form.chroma_offset
        rows = axis_weights(plane.shape[0], top, height, size[0], scale[0], offset[0], antialias)
        columns = axis_weights(plane.shape[1], left, width, size[1], scale[1], offset[1], antialias)
        values = (plane.astype(np.int64) >> form.shift).astype(np.float64)
        resampled.append(rows @ values @ columns.T)
    rgb = to_rgb(resampled, form)
    if flip:
        rgb = rgb[:, :, ::-1]
    if mean is not None and std is not None:
        rgb = (rgb - np.reshape(mean, (3, 1, 1))) / np.reshape(std, (3, 1, 1))
    return rgb
