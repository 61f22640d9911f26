"""Pictures for the tests of the transform: every pixel format, with awkward samples and strides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from reference.transform import Format

MPEG_SITING = (1.0, 0.5)  # 4:2:0 with chroma left: midway between two rows, on the first column

FORMATS: dict[str, Format] = {
    "gray": Format(num_planes=1),
    "gray12": Format(num_planes=1, bit_depth=12),
    "yuv420p": Format(chroma_scale=(2, 2), chroma_offset=MPEG_SITING),
    "yuvj420p": Format(chroma_scale=(2, 2), chroma_offset=(1.0, 1.0), color_range="full"),
    "yuv422p": Format(chroma_scale=(1, 2), color_matrix="bt709"),
    "yuv411p": Format(chroma_scale=(1, 4)),
    "yuv444p": Format(color_matrix="bt709", color_range="full"),
    "gbrp": Format(color_matrix="rgb", color_range="full"),
    "gbrp12": Format(color_matrix="rgb", color_range="limited", bit_depth=12),
    "yuv420p10": Format(chroma_scale=(2, 2), chroma_offset=(0.5, 0.5), bit_depth=10, color_matrix="bt2020"),
    "yuv422p12": Format(chroma_scale=(1, 2), bit_depth=12, color_matrix="smpte240m"),
    "yuv444p16": Format(bit_depth=16, color_matrix="fcc"),
    "nv12": Format(chroma_scale=(2, 2), chroma_offset=MPEG_SITING, color_matrix="bt709"),
    "nv16": Format(chroma_scale=(1, 2)),
    "p010": Format(chroma_scale=(2, 2), chroma_offset=MPEG_SITING, bit_depth=10, shift=6, color_matrix="bt2020"),
    "p016": Format(chroma_scale=(2, 2), chroma_offset=MPEG_SITING, bit_depth=16),
}

INTERLEAVED = {"nv12", "nv16", "p010", "p016"}  # the second plane holds U and V in turn

FILLS = ("random", "zeros", "ones", "limits")


@dataclass(frozen=True)
class Picture:
    """One picture: arrays for `_testing.transform_planes` ([1, h, w] or [1, h, w, 2]) and their meaning."""

    name: str
    form: Format
    arrays: list[np.ndarray]

    @property
    def planes(self) -> list[np.ndarray]:
        """Y, U, V (or G, B, R, or gray), each [h, w], for the reference."""
        split = [array[0] for array in self.arrays]
        return split if split[-1].ndim == 2 else [split[0], split[1][..., 0], split[1][..., 1]]

    @property
    def arguments(self) -> dict[str, object]:
        """The keyword arguments of `_testing.transform_planes` that describe the format."""
        form = self.form
        return {
            "color_matrix": form.color_matrix,
            "color_range": form.color_range,
            "bit_depth": form.bit_depth,
            "shift": form.shift,
            "chroma_scale": form.chroma_scale,
            "chroma_offset": form.chroma_offset,
        }

    def stored_as(self, **changes: object) -> Picture:
        return replace(self, form=replace(self.form, **changes))  # type: ignore[arg-type]


def _samples(shape: Sequence[int], form: Format, fill: str, rng: np.random.Generator) -> np.ndarray:
    """Stored samples in memory with a few bytes more than a row needs, so that rows are not neighbors."""
    dtype = np.uint8 if form.bit_depth == 8 else np.uint16
    padded = np.empty((*shape[:2], shape[2] + 3, *shape[3:]), dtype)
    top = 2**form.bit_depth - 1
    if fill == "random":
        values = rng.integers(0, top, padded.shape, endpoint=True)
    elif fill == "limits":  # of limited range, and the extremes
        step = 2 ** (form.bit_depth - 8)
        values = rng.choice([0, 16 * step, 128 * step, 235 * step, 240 * step, top], padded.shape)
    else:
        values = np.full(padded.shape, 0 if fill == "zeros" else top)
    padded[...] = values << form.shift
    return padded[:, :, : shape[2]]


def make_picture(name: str, height: int, width: int, fill: str = "random", seed: int = 0) -> Picture:
    """A picture of format `name`; odd sizes round the chroma planes up, as decoders do."""
    form = FORMATS[name]
    rng = np.random.default_rng(seed)
    arrays = [_samples((1, height, width), form, fill, rng)]
    if form.num_planes == 3:
        chroma = (1, -(-height // form.chroma_scale[0]), -(-width // form.chroma_scale[1]))
        if name in INTERLEAVED:
            arrays.append(_samples((*chroma, 2), form, fill, rng))
        else:
            arrays += [_samples(chroma, form, fill, rng) for _ in range(2)]
    return Picture(name, form, arrays)
