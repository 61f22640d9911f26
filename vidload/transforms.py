"""Spatial policies: which part of the picture a model sees, at what size, flipped or not. No pixel is touched
here.

In: output size and the policy's parameters. Out: a SpatialTransform, whose `boxes(height, width, rng)` gives
one row (top, left, height, width, flip) per crop in source luma pixels of the upright picture. "Resize the
short side to 256, then crop 224" composes into one such box, so the picture is resampled once. vidload.crops
draws the boxes; the core reads pixels and normalizes. The rules are MMAction2's, so that published recipes
carry over.

All policies except fit_pixels take: size, the output's side in pixels or (height, width). All take: flip, the probability that a sample
is flipped left to right; mean and std of R, G, B on the 0-255 scale, None for both = values stay 0-255;
antialias and square_pixels, see vidload.crops.SpatialTransform. They raise ValueError for arguments that make
no sense.
"""

from __future__ import annotations

from collections.abc import Sequence

from vidload.crops import (
    Boxes,
    CenterCrop,
    FitPixels,
    MultiScaleCrop,
    RandomCrop,
    RandomResizedCrop,
    SpatialTransform,
    TenCrop,
    ThreeCrop,
)

__all__ = [
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "Boxes",
    "CenterCrop",
    "FitPixels",
    "MultiScaleCrop",
    "RandomCrop",
    "RandomResizedCrop",
    "Size",
    "SpatialTransform",
    "TenCrop",
    "ThreeCrop",
    "center_crop",
    "fit_pixels",
    "multi_scale_crop",
    "random_crop",
    "random_resized_crop",
    "ten_crop",
    "three_crop",
]

Size = int | tuple[int, int]

IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)


def random_resized_crop(
    size: Size,
    area: tuple[float, float] = (0.08, 1.0),
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
    *,
    flip: float = 0.5,
    mean: Sequence[float] | None = IMAGENET_MEAN,
    std: Sequence[float] | None = IMAGENET_STD,
    antialias: bool = True,
    square_pixels: bool = False,
) -> SpatialTransform:
    """A crop of random area and shape, resized to `size` (Inception; MMAction2's RandomResizedCrop).

    The crop covers `area` of the picture (range of a uniform draw), with width / height from `ratio` (uniform
    in the logarithm), sides rounded to whole source pixels, anywhere inside. After 10 tries that do not fit:
    the centered square of the short side. Draws: flip, then for each try area, ratio, top, left.
    """
    _check_range("random_resized_crop", "area", area)
    _check_range("random_resized_crop", "ratio", ratio)
    if area[1] > 1:
        raise ValueError(f"random_resized_crop: area is {area}, a crop cannot cover more than the picture (1.0)")
    return RandomResizedCrop(
        *_common("random_resized_crop", size, flip, mean, std, antialias, square_pixels),
        area=(float(area[0]), float(area[1])),
        ratio=(float(ratio[0]), float(ratio[1])),
    )


def multi_scale_crop(
    size: Size,
    scales: Sequence[float] = (1.0, 0.875, 0.75, 0.66),
    positions: int = 5,
    *,
    max_wh_scale_gap: int = 1,
    short_side: int = 256,
    flip: float = 0.5,
    mean: Sequence[float] | None = IMAGENET_MEAN,
    std: Sequence[float] | None = IMAGENET_STD,
    antialias: bool = True,
    square_pixels: bool = False,
) -> SpatialTransform:
    """A crop of one of a few sizes at one of a few places, resized to `size` (TSN; MMAction2's
    MultiScaleCrop).

    On the picture resized to `short_side`: height and width are each floor(short_side * scale), for scales at
    most `max_wh_scale_gap` apart in the list; a side within 2 pixels of the output's becomes equal to it.
    `positions`: 5 (corners and center) or 13, in quarters of the room left. Draws: flip, size pair
    (height-major in order of `scales`), position.
    """
    if not scales or not all(0 < scale <= 1 for scale in scales):
        raise ValueError(f"multi_scale_crop: scales is {scales!r}, must be numbers above 0 and at most 1")
    if positions not in (5, 13):
        raise ValueError(f"multi_scale_crop: positions is {positions!r}, must be 5 or 13")
    if max_wh_scale_gap < 0:
        raise ValueError(f"multi_scale_crop: max_wh_scale_gap is {max_wh_scale_gap}, must be at least 0")
    return MultiScaleCrop(
        *_common("multi_scale_crop", size, flip, mean, std, antialias, square_pixels),
        scales=tuple(float(scale) for scale in scales),
        positions=positions,
        max_wh_scale_gap=max_wh_scale_gap,
        short_side=_checked_short_side("multi_scale_crop", short_side, 1),
    )


def random_crop(
    size: Size,
    short_side: int | tuple[int, int] = (256, 320),
    *,
    flip: float = 0.5,
    mean: Sequence[float] | None = IMAGENET_MEAN,
    std: Sequence[float] | None = IMAGENET_STD,
    antialias: bool = True,
    square_pixels: bool = False,
) -> SpatialTransform:
    """A crop of `size` anywhere in the picture resized to `short_side`, a number of pixels or an inclusive
    range (SlowFast's jitter).

    Draws: flip, short side (min + choice among max - min + 1), top, left; the short side is drawn even if it
    is fixed.
    """
    low, high = (short_side, short_side) if isinstance(short_side, int) else short_side
    common = _common("random_crop", size, flip, mean, std, antialias, square_pixels)
    _checked_short_side("random_crop", low, min(common[0]))
    if high < low:
        raise ValueError(f"random_crop: short_side is {short_side}, must be (smallest, largest)")
    return RandomCrop(*common, short_side=(int(low), int(high)))


def center_crop(
    size: Size,
    short_side: int = 256,
    *,
    flip: float = 0.0,
    mean: Sequence[float] | None = IMAGENET_MEAN,
    std: Sequence[float] | None = IMAGENET_STD,
    antialias: bool = True,
    square_pixels: bool = False,
) -> SpatialTransform:
    """The central crop of `size` of the picture resized to `short_side`. Draws: flip, if it is neither 0 nor 1."""
    common = _common("center_crop", size, flip, mean, std, antialias, square_pixels)
    return CenterCrop(*common, short_side=_checked_short_side("center_crop", short_side, min(common[0])))


def three_crop(
    size: Size,
    short_side: int = 256,
    *,
    order: str = "mmaction2",
    flip: float = 0.0,
    mean: Sequence[float] | None = IMAGENET_MEAN,
    std: Sequence[float] | None = IMAGENET_STD,
    antialias: bool = True,
    square_pixels: bool = False,
) -> SpatialTransform:
    """Three crops of `size` along the long side of the picture resized to `short_side`: left, right, middle,
    or top, bottom, middle (MMAction2's order); centered across the short side. order: "pyslowfast" gives left,
    middle, right, or top, middle, bottom, where PySlowFast crops: at 0, ceil(r / 2) and r of the r pixels left
    over. Draws: flip, if it is neither 0 nor 1."""
    if order not in ("mmaction2", "pyslowfast"):
        raise ValueError(f"three_crop: order is {order!r}, must be 'mmaction2' or 'pyslowfast'")
    common = _common("three_crop", size, flip, mean, std, antialias, square_pixels)
    return ThreeCrop(*common, short_side=_checked_short_side("three_crop", short_side, min(common[0])), order=order)


def ten_crop(
    size: Size,
    short_side: int = 256,
    *,
    flip: float = 0.0,
    mean: Sequence[float] | None = IMAGENET_MEAN,
    std: Sequence[float] | None = IMAGENET_STD,
    antialias: bool = True,
    square_pixels: bool = False,
) -> SpatialTransform:
    """Top left, top right, bottom left, bottom right and middle crop of `size` from the picture resized to
    `short_side`, each followed by its flipped twin. A `flip` flips all ten (so it only exchanges the two of a
    pair)."""
    common = _common("ten_crop", size, flip, mean, std, antialias, square_pixels)
    return TenCrop(*common, short_side=_checked_short_side("ten_crop", short_side, min(common[0])))


_Triple = tuple[float, float, float]


def fit_pixels(
    max_pixels: int,
    *,
    min_pixels: int = 0,
    multiple: int = 28,
    flip: float = 0.0,
    mean: Sequence[float] | None = IMAGENET_MEAN,
    std: Sequence[float] | None = IMAGENET_STD,
    antialias: bool = True,
    square_pixels: bool = False,
) -> SpatialTransform:
    """The whole picture, its aspect ratio kept, at a size of its own for each video: height and width are multiples of `multiple` and a
    frame has at most `max_pixels` pixels (Qwen2-VL's smart_resize with factor=multiple; 14, 28 and 32 are common).

    Height and width are rounded to multiples, half to even, but not to 0. Fewer pixels than `min_pixels`: both sides are multiplied by
    sqrt(min_pixels / (height * width)) and rounded up. More than `max_pixels`: both are divided by sqrt(height * width / max_pixels) and
    rounded down, but not to 0. So far this is smart_resize. Unlike there, the budget always holds: the long side of a very long picture is
    cut to it, a picture that outgrows it on the way to `min_pixels` is rounded down, and no aspect ratio is refused.

    Samples then differ in height and width: batches are lists (see vidload.VideoLoader). Draws: flip, if it is neither 0 nor 1.
    """
    if isinstance(multiple, bool) or not isinstance(multiple, int) or multiple < 1:
        raise ValueError(f"fit_pixels: multiple is {multiple!r}, must be an integer of at least 1")
    if max_pixels < multiple * multiple:
        raise ValueError(
            f"fit_pixels: max_pixels is {max_pixels}, which has no room for one tile of {multiple}x{multiple} = {multiple**2} pixels"
        )
    if not 0 <= min_pixels <= max_pixels:
        raise ValueError(f"fit_pixels: min_pixels is {min_pixels}, must be within [0, max_pixels = {max_pixels}]")
    common = _common("fit_pixels", multiple, flip, mean, std, antialias, square_pixels)
    return FitPixels((0, 0), *common[1:], max_pixels=int(max_pixels), min_pixels=int(min_pixels), multiple=multiple)


def _common(
    policy: str,
    size: Size,
    flip: float,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
    antialias: bool,
    square_pixels: bool,
) -> tuple[tuple[int, int], float, _Triple | None, _Triple | None, bool, bool]:
    """Checks what all policies share, in the order of SpatialTransform's fields."""
    height, width = (size, size) if isinstance(size, int) else size
    if height < 1 or width < 1:
        raise ValueError(f"{policy}: size is {size}, must be a number or (height, width) of at least 1")
    if not 0 <= flip <= 1:
        raise ValueError(f"{policy}: flip is {flip}, must be a probability in [0, 1]")
    if (mean is None) != (std is None):
        raise ValueError(f"{policy}: give both mean and std, or None for both to keep values in 0-255")
    if mean is None or std is None:
        return (int(height), int(width)), float(flip), None, None, bool(antialias), bool(square_pixels)
    if len(mean) != 3 or len(std) != 3 or not all(value > 0 for value in std):
        raise ValueError(
            f"{policy}: mean {tuple(mean)} and std {tuple(std)} must be 3 numbers each (R, G, B), std above 0"
        )
    if max(mean) < 1 and max(std) < 1 and max(mean) > 0:
        raise ValueError(
            f"{policy}: mean {tuple(mean)} and std {tuple(std)} are on the 0-1 scale; multiply both by 255"
        )
    mean3, std3 = (
        (float(mean[0]), float(mean[1]), float(mean[2])),
        (float(std[0]), float(std[1]), float(std[2])),
    )
    return (int(height), int(width)), float(flip), mean3, std3, bool(antialias), bool(square_pixels)


def _checked_short_side(policy: str, short_side: int, smallest: int) -> int:
    if short_side < smallest:
        raise ValueError(f"{policy}: short_side is {short_side}, must be at least {smallest} to hold the crop")
    return int(short_side)


def _check_range(policy: str, name: str, value: tuple[float, float]) -> None:
    if len(value) != 2 or not 0 < value[0] <= value[1]:
        raise ValueError(f"{policy}: {name} is {value!r}, must be (smallest, largest), both above 0")
