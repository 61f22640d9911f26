"""Crops: where in a picture the pieces lie that a model sees; what the policies of vidload.transforms return.

In: height and width of a picture, uniform random numbers. Out: one row (top, left, height, width, flip) per crop
in source luma pixels of the upright picture. Every random number is one float64 uniform u in [0, 1); a choice
among k is floor(u * k). The order of draws is part of the contract. vidload.transforms has checked the
arguments.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import lru_cache

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

Boxes = NDArray[np.float64]

_NUM_TRIES = 10  # of random_resized_crop
# Positions (x, y) of a fixed crop, in quarters of the room left. The first five are also ten_crop's.
_POSITIONS = (
    *((0, 0), (4, 0), (0, 4), (4, 4), (2, 2)),
    *((0, 2), (4, 2), (2, 4), (2, 0), (1, 1), (3, 1), (1, 3), (3, 3)),
)


@dataclass(frozen=True, repr=False)
class SpatialTransform:
    """What the policies return: output size, normalization, and where the crops lie. Immutable.

    size: output (height, width); (0, 0) where each video has its own (`output_size`).
    flip: probability that a sample is flipped left to right.
    mean, std: of R, G, B on the 0-255 scale; both None = values stay 0-255.
    antialias: triangle filter scaled by the ratio when shrinking, as Pillow and torch; False: plain bilinear,
    as OpenCV.
    square_pixels: crops are chosen on the picture in the shape it is shown in, stretched in width where its
    pixels are not square (anamorphic DV, 3gp); False: as coded, which is what OpenCV and decord see.
    """

    size: tuple[int, int]
    flip: float
    mean: tuple[float, float, float] | None
    std: tuple[float, float, float] | None
    antialias: bool
    square_pixels: bool

    @property
    def num_crops(self) -> int:
        """Crops taken from each clip: 1, 3 or 10."""
        return 1

    @property
    def is_random(self) -> bool:
        """Whether `boxes` draws from its rng."""
        return 0 < self.flip < 1

    def output_size(self, height: int, width: int, sample_aspect_ratio: float = 1.0) -> tuple[int, int]:
        """(height, width) of what is made of an upright picture of this height and width, with pixels of this shape (see `boxes`)."""
        return self.size

    def boxes(
        self,
        height: int,
        width: int,
        rng: Generator | None = None,
        sample_aspect_ratio: float = 1.0,
    ) -> Boxes:
        """Returns float64 [num_crops, 5]: top, left, height, width, flip, in pixels of the upright picture.

        One call serves all clips of a sample: its views share crop and flip. If `is_random`, the first draw
        decides the flip and the policy's own draws follow. `sample_aspect_ratio`, a pixel's width to its
        height, only matters with `square_pixels`. Raises ValueError if the picture cannot hold the crop, or
        a random policy gets no rng.
        """
        if self.square_pixels and sample_aspect_ratio != 1:
            shown_width = max(1, round(width * sample_aspect_ratio))
            boxes = self._checked_boxes(height, shown_width, rng)
            return boxes * (1, width / shown_width, 1, width / shown_width, 1)
        return self._checked_boxes(height, width, rng)

    def _checked_boxes(self, height: int, width: int, rng: Generator | None) -> Boxes:
        if height < 1 or width < 1:
            raise ValueError(f"{self._name}: cannot crop a picture of {height}x{width} (height x width)")
        if not self.is_random:
            return self._boxes(height, width, float(self.flip), rng)
        if rng is None:
            raise ValueError(
                f"{self._name}: a random policy needs an rng; for evaluation use center_crop or three_crop"
            )
        return self._boxes(height, width, float(rng.random() < self.flip), rng)

    def _boxes(self, height: int, width: int, flip: float, rng: Generator | None) -> Boxes:
        raise NotImplementedError

    @property
    def _name(self) -> str:
        """The function that makes this policy: RandomCrop -> random_crop."""
        return "".join("_" + c.lower() if c.isupper() else c for c in type(self).__name__).lstrip("_")

    def __repr__(self) -> str:
        return f"{self._name}({', '.join(f'{f.name}={getattr(self, f.name)!r}' for f in fields(self))})"


@dataclass(frozen=True, repr=False)
class RandomResizedCrop(SpatialTransform):
    """See vidload.transforms.random_resized_crop."""

    area: tuple[float, float]
    ratio: tuple[float, float]

    @property
    def is_random(self) -> bool:
        return True

    def _boxes(self, height: int, width: int, flip: float, rng: Generator | None) -> Boxes:
        assert rng is not None
        min_area, max_area = self.area
        log_min, log_max = math.log(self.ratio[0]), math.log(self.ratio[1])
        for _ in range(_NUM_TRIES):
            u_area, u_ratio, u_top, u_left = rng.random(4).tolist()
            area = (min_area + u_area * (max_area - min_area)) * height * width
            ratio = math.exp(log_min + u_ratio * (log_max - log_min))
            crop_width, crop_height = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if 0 < crop_height <= height and 0 < crop_width <= width:
                top, left = int(u_top * (height - crop_height + 1)), int(u_left * (width - crop_width + 1))
                return np.array([[top, left, crop_height, crop_width, flip]], dtype=np.float64)
        side = min(height, width)
        return np.array([[(height - side) // 2, (width - side) // 2, side, side, flip]], dtype=np.float64)


@dataclass(frozen=True, repr=False)
class MultiScaleCrop(SpatialTransform):
    """See vidload.transforms.multi_scale_crop."""

    scales: tuple[float, ...]
    positions: int
    max_wh_scale_gap: int
    short_side: int

    @property
    def is_random(self) -> bool:
        return True

    @property
    def crop_sizes(self) -> tuple[tuple[int, int], ...]:
        """(height, width) of the crops to choose from, on the resized picture."""
        return _multi_scale_sizes(self.short_side, self.scales, self.max_wh_scale_gap, self.size)

    def _boxes(self, height: int, width: int, flip: float, rng: Generator | None) -> Boxes:
        assert rng is not None
        u_size, u_position = rng.random(2).tolist()
        resized = _resized(height, width, self.short_side)
        crop = self.crop_sizes[int(u_size * len(self.crop_sizes))]
        x, y = _POSITIONS[int(u_position * self.positions)]
        top, left = y * ((resized[0] - crop[0]) // 4), x * ((resized[1] - crop[1]) // 4)
        return _in_source([(top, left, flip)], crop, resized, height, width)


@dataclass(frozen=True, repr=False)
class RandomCrop(SpatialTransform):
    """See vidload.transforms.random_crop."""

    short_side: tuple[int, int]

    @property
    def is_random(self) -> bool:
        return True

    def _boxes(self, height: int, width: int, flip: float, rng: Generator | None) -> Boxes:
        assert rng is not None
        u_side, u_top, u_left = rng.random(3).tolist()
        low, high = self.short_side
        resized = _resized(height, width, low + int(u_side * (high - low + 1)))
        room = _room(self, resized, height, width)
        crop = (int(u_top * (room[0] + 1)), int(u_left * (room[1] + 1)), flip)
        return _in_source([crop], self.size, resized, height, width)


@dataclass(frozen=True, repr=False)
class CenterCrop(SpatialTransform):
    """See vidload.transforms.center_crop."""

    short_side: int

    def _boxes(self, height: int, width: int, flip: float, rng: Generator | None) -> Boxes:
        resized = _resized(height, width, self.short_side)
        room = _room(self, resized, height, width)
        return _in_source([(room[0] // 2, room[1] // 2, flip)], self.size, resized, height, width)


@dataclass(frozen=True, repr=False)
class ThreeCrop(SpatialTransform):
    """See vidload.transforms.three_crop."""

    short_side: int
    order: str = "mmaction2"

    @property
    def num_crops(self) -> int:
        return 3

    def _boxes(self, height: int, width: int, flip: float, rng: Generator | None) -> Boxes:
        resized = _resized(height, width, self.short_side)
        room = _room(self, resized, height, width)
        if self.order == "pyslowfast":
            top, left = (room[0] + 1) // 2, (room[1] + 1) // 2
            if width >= height:
                crops = [(top, 0, flip), (top, left, flip), (top, room[1], flip)]
            else:
                crops = [(0, left, flip), (top, left, flip), (room[0], left, flip)]
            return _in_source(crops, self.size, resized, height, width)
        top, left = room[0] // 2, room[1] // 2
        if width >= height:
            crops = [(top, 0, flip), (top, 2 * left, flip), (top, left, flip)]
        else:
            crops = [(0, left, flip), (2 * top, left, flip), (top, left, flip)]
        return _in_source(crops, self.size, resized, height, width)


@dataclass(frozen=True, repr=False)
class TenCrop(SpatialTransform):
    """See vidload.transforms.ten_crop."""

    short_side: int

    @property
    def num_crops(self) -> int:
        return 10

    def _boxes(self, height: int, width: int, flip: float, rng: Generator | None) -> Boxes:
        resized = _resized(height, width, self.short_side)
        room = _room(self, resized, height, width)
        step_y, step_x = room[0] // 4, room[1] // 4
        crops = [(y * step_y, x * step_x, f) for x, y in _POSITIONS[:5] for f in (flip, 1 - flip)]
        return _in_source(crops, self.size, resized, height, width)


@dataclass(frozen=True, repr=False)
class FitPixels(SpatialTransform):
    """See vidload.transforms.fit_pixels."""

    max_pixels: int
    min_pixels: int
    multiple: int

    def output_size(self, height: int, width: int, sample_aspect_ratio: float = 1.0) -> tuple[int, int]:
        if self.square_pixels:
            width = max(1, round(width * sample_aspect_ratio))
        unit = self.multiple
        most = self.max_pixels // (unit * unit)
        rows, columns = max(round(height / unit), 1), max(round(width / unit), 1)
        if rows * columns * unit * unit < self.min_pixels:
            grow = math.sqrt(self.min_pixels / (height * width))
            rows, columns = math.ceil(height * grow / unit), math.ceil(width * grow / unit)
        if rows * columns > most:
            shrink = math.sqrt(height * width / self.max_pixels)
            rows, columns = int(height / shrink / unit), int(width / shrink / unit)
            rows, columns = min(max(rows, 1), most), min(max(columns, 1), most)
        return rows * unit, columns * unit

    def _boxes(self, height: int, width: int, flip: float, rng: Generator | None) -> Boxes:
        return np.array([[0.0, 0.0, height, width, flip]])


def _resized(height: int, width: int, short_side: int) -> tuple[int, int]:
    """Height and width after the short side is resized to `short_side`, aspect kept."""
    scale = short_side / min(height, width)
    return int(height * scale + 0.5), int(width * scale + 0.5)


def _room(transform: SpatialTransform, resized: tuple[int, int], height: int, width: int) -> tuple[int, int]:
    """Pixels by which the crop can move down and right in the resized picture."""
    down, right = resized[0] - transform.size[0], resized[1] - transform.size[1]
    if down < 0 or right < 0:
        raise ValueError(
            f"{transform._name}: a crop of {transform.size[0]}x{transform.size[1]} does not fit into a "
            f"picture of {height}x{width} resized to {resized[0]}x{resized[1]} (height x width); "
            "use a larger short_side or a smaller size"
        )
    return down, right


def _in_source(
    crops: Sequence[tuple[int, int, float]],
    size: tuple[int, int],
    resized: tuple[int, int],
    height: int,
    width: int,
) -> Boxes:
    """Crops (top, left, flip) of `size` in the resized picture -> boxes in the source picture."""
    scale_y, scale_x = height / resized[0], width / resized[1]
    box_height, box_width = size[0] * scale_y, size[1] * scale_x
    return np.array([(top * scale_y, left * scale_x, box_height, box_width, flip) for top, left, flip in crops])


@lru_cache(maxsize=64)
def _multi_scale_sizes(
    short_side: int, scales: tuple[float, ...], max_gap: int, size: tuple[int, int]
) -> tuple[tuple[int, int], ...]:
    """The allowed (height, width) of a multi-scale crop."""

    def snapped(side: int, output_side: int) -> int:
        return output_side if abs(side - output_side) <= 2 and output_side <= short_side else side

    sides = [max(int(short_side * scale), 1) for scale in scales]
    return tuple(
        (snapped(crop_height, size[0]), snapped(crop_width, size[1]))
        for i, crop_height in enumerate(sides)
        for j, crop_width in enumerate(sides)
        if abs(i - j) <= max_gap
    )
