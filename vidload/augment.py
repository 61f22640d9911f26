"""Augmentations of whole clips and batches, as in the recipes of MViT, VideoMAE and similar models.

In: a clip (a dataset's clip_transform) or a batch (a loader's batch_transform), and a NumPy Generator. Out: the same, changed. All frames
of a clip, and all views of a sample, are changed alike. Every random number comes from that Generator, so that samples are the
same for any number of threads and on any device. RandAugment, ColorJitter, Grayscale and GaussianBlur need torchvision, which does their
arithmetic; the others need only torch. If all you want is a crop or a flip, vidload.transforms does that while decoding.

Clips are planar, [..., 3, T, H, W]: of a dataset with layout NCTHW or NVCTHW, dtype=torch.uint8 up to Normalize.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from numpy.random import Generator

from vidload.transforms import IMAGENET_MEAN, IMAGENET_STD

ClipFunction = Callable[..., torch.Tensor]


class Compose:
    """Applies these transforms in turn, all with the same Generator."""

    def __init__(self, *steps: ClipFunction) -> None:
        self.steps = steps

    def __call__(self, clip: torch.Tensor, rng: Generator) -> torch.Tensor:
        for step in self.steps:
            clip = step(clip, rng=rng)
        return clip

    def __repr__(self) -> str:
        return f"Compose({', '.join(map(repr, self.steps))})"


# --- color and shape, by torchvision


@dataclass(frozen=True)
class RandAugment:
    """RandAugment for uint8 clips, with timm's operations of increasing strength (the default is "rand-m7-n4-mstd0.5-inc1").

    num_ops: how many operations are applied in turn, each drawn from the 15 and applied with `probability`. magnitude: 0 to 10; each
    operation's own is drawn from a normal distribution around it with `magnitude_std`, clamped to [0, 10]. fill: value of pixels that come
    from outside the picture.
    """

    num_ops: int = 4
    magnitude: float = 7.0
    magnitude_std: float = 0.5
    probability: float = 0.5
    fill: tuple[float, float, float] = IMAGENET_MEAN

    def __call__(self, clip: torch.Tensor, rng: Generator) -> torch.Tensor:
        frames = _frames(clip)
        for _ in range(self.num_ops):
            u_op, u_skip, u_sign, u_size = rng.random(4).tolist()
            if u_skip >= self.probability:
                continue
            # Box-Muller, of the draw and its own sine and cosine: a normal number from uniforms alone
            normal = math.sqrt(-2 * math.log(1 - u_size)) * math.cos(2 * math.pi * rng.random())
            level = min(max(self.magnitude + self.magnitude_std * normal, 0.0), 10.0) / 10
            name = RAND_AUGMENT_OPS[int(u_op * len(RAND_AUGMENT_OPS))]
            frames = rand_augment_op(frames, name, level if u_sign < 0.5 else -level, self.fill)
        return _clip(frames)


RAND_AUGMENT_OPS = (
    *("AutoContrast", "Equalize", "Invert", "Rotate", "Posterize", "Solarize", "SolarizeAdd"),
    *("Color", "Contrast", "Brightness", "Sharpness", "ShearX", "ShearY", "TranslateX", "TranslateY"),
)


def rand_augment_op(
    frames: torch.Tensor, name: str, level: float, fill: Sequence[float] = IMAGENET_MEAN
) -> torch.Tensor:
    """One of RAND_AUGMENT_OPS on uint8 frames [..., 3, H, W]. level: in [-1, 1]; its sign is the direction, where there is one."""
    functional = _torchvision()
    size = abs(level)
    if name == "AutoContrast":
        done = functional.autocontrast(frames)
    elif name == "Equalize":
        done = functional.equalize(frames)
    elif name == "Invert":
        done = functional.invert(frames)
    elif name == "Posterize":
        done = functional.posterize(frames, 4 - int(size * 4))
    elif name == "Solarize":
        done = torch.where(frames >= 256 - int(size * 256), 255 - frames, frames)
    elif name == "SolarizeAdd":
        brighter = torch.clamp(frames.to(torch.int16) + int(size * 110), 0, 255).to(torch.uint8)
        done = torch.where(frames < 128, brighter, frames)
    elif name in _FACTORS:
        done = getattr(functional, _FACTORS[name])(frames, max(1 + 0.9 * level, 0.1))
    else:
        height, width = frames.shape[-2:]
        angle = 30 * level if name == "Rotate" else 0.0
        shear = math.degrees(math.atan(0.3 * level))
        done = functional.affine(
            frames,
            angle=angle,
            translate=[0.45 * level * width * (name == "TranslateX"), 0.45 * level * height * (name == "TranslateY")],
            scale=1.0,
            shear=[shear * (name == "ShearX"), shear * (name == "ShearY")],
            interpolation=functional.InterpolationMode.BILINEAR,
            fill=list(fill),
        )
    result: torch.Tensor = done
    return result


_FACTORS = {
    "Color": "adjust_saturation",
    "Contrast": "adjust_contrast",
    "Brightness": "adjust_brightness",
    "Sharpness": "adjust_sharpness",
}


@dataclass(frozen=True)
class ColorJitter:
    """torchvision's ColorJitter for uint8 clips: factors from [1 - x, 1 + x], a hue from [-hue, hue], in a random order, with `probability`."""

    brightness: float = 0.4
    contrast: float = 0.4
    saturation: float = 0.4
    hue: float = 0.1
    probability: float = 1.0

    def __call__(self, clip: torch.Tensor, rng: Generator) -> torch.Tensor:
        u_skip, *draws = rng.random(9).tolist()
        if u_skip >= self.probability:
            return clip
        frames, functional = _frames(clip), _torchvision()
        ranges = {
            "brightness": self.brightness,
            "contrast": self.contrast,
            "saturation": self.saturation,
            "hue": self.hue,
        }
        order = sorted(zip(draws[4:], draws[:4], ranges.items(), strict=True))  # by the last four draws
        for _, u, (name, reach) in order:
            if reach > 0:
                change = (2 * u - 1) * reach
                factor = change if name == "hue" else max(1 + change, 0.0)
                frames = getattr(functional, f"adjust_{name}")(frames, factor)
        return _clip(frames)


@dataclass(frozen=True)
class Grayscale:
    """All three channels become the luma, with `probability`."""

    probability: float = 0.2

    def __call__(self, clip: torch.Tensor, rng: Generator) -> torch.Tensor:
        if rng.random() >= self.probability:
            return clip
        frames = _frames(clip)
        return _clip(_torchvision().rgb_to_grayscale(frames, num_output_channels=3))


@dataclass(frozen=True)
class GaussianBlur:
    """A Gaussian blur, with `probability`; its sigma, in pixels, is uniform in the range `sigma`."""

    sigma: tuple[float, float] = (0.1, 2.0)
    probability: float = 0.5

    def __call__(self, clip: torch.Tensor, rng: Generator) -> torch.Tensor:
        u_skip, u_sigma = rng.random(2).tolist()
        if u_skip >= self.probability:
            return clip
        sigma = self.sigma[0] + u_sigma * (self.sigma[1] - self.sigma[0])
        kernel = 2 * math.ceil(3 * sigma) + 1
        frames = _frames(clip)
        return _clip(_torchvision().gaussian_blur(frames, [kernel, kernel], [sigma, sigma]))


# --- by torch alone


@dataclass(frozen=True)
class Normalize:
    """(clip - mean) / std as float32. mean, std: of R, G, B on the 0-255 scale."""

    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD

    def __call__(self, clip: torch.Tensor, rng: Generator | None = None) -> torch.Tensor:
        _check(clip)
        shape = (3, 1, 1, 1)
        mean = torch.tensor(self.mean, device=clip.device).view(shape)
        std = torch.tensor(self.std, device=clip.device).view(shape)
        return clip.to(torch.float32).sub_(mean).div_(std)


@dataclass(frozen=True)
class RandomErasing:
    """Fills a box with normal noise, the same box in all frames, with `probability`; for clips after Normalize.

    area: range of the box's area, as a share of the picture. ratio: range of its height / width, uniform in the logarithm. After 10 tries
    that do not fit, the clip stays as it is.
    """

    probability: float = 0.25
    area: tuple[float, float] = (0.02, 1 / 3)
    ratio: tuple[float, float] = (0.3, 1 / 0.3)

    def __call__(self, clip: torch.Tensor, rng: Generator) -> torch.Tensor:
        _check(clip)
        if not clip.is_floating_point():
            raise TypeError(f"RandomErasing: noise needs a normalized clip, got {clip.dtype}; put Normalize before it")
        if rng.random() >= self.probability:
            return clip
        height, width = clip.shape[-2:]
        for _ in range(10):
            u_area, u_ratio, u_top, u_left = rng.random(4).tolist()
            area = (self.area[0] + u_area * (self.area[1] - self.area[0])) * height * width
            ratio = self.ratio[0] * (self.ratio[1] / self.ratio[0]) ** u_ratio
            rows, columns = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if 0 < rows < height and 0 < columns < width:
                top, left = int(u_top * (height - rows + 1)), int(u_left * (width - columns + 1))
                box = clip.clone()
                part = box[..., top : top + rows, left : left + columns]
                generator = torch.Generator().manual_seed(int(rng.random() * 2**53))
                part.copy_(torch.randn(part.shape, generator=generator))
                return box
        return clip


# --- batches


def soft_labels(labels: torch.Tensor, num_classes: int, smoothing: float = 0.0) -> torch.Tensor:
    """float32 [N, num_classes]: 1 - smoothing at each label, and `smoothing` spread over all classes. Soft labels are smoothed likewise."""
    hot = F.one_hot(labels, num_classes).to(torch.float32) if labels.ndim == 1 else labels.to(torch.float32)
    return hot * (1 - smoothing) + smoothing / num_classes


@dataclass(frozen=True)
class MixUpCutMix:
    """A batch_transform: mixes each clip of a batch with another one, and their smoothed labels into soft labels, float32 [N, num_classes].

    Clip i is mixed with clip N - 1 - i. mixup_alpha, cutmix_alpha: parameters of the Beta distribution that the share is drawn from; 0 =
    never. switch_probability: of CutMix, if both are possible. probability: that the batch is mixed at all. MixUp turns clips that are not
    of a float dtype into float32.

    """

    num_classes: int
    mixup_alpha: float = 0.8
    cutmix_alpha: float = 1.0
    switch_probability: float = 0.5
    probability: float = 1.0
    smoothing: float = 0.1

    def __call__(self, batch: Sequence[Any], rng: Generator) -> list[Any]:
        clips, labels, *rest = batch
        targets = soft_labels(labels, self.num_classes, self.smoothing)
        u_mix, u_switch = rng.random(2).tolist()
        is_cut = self.cutmix_alpha > 0 and (self.mixup_alpha <= 0 or u_switch < self.switch_probability)
        alpha = self.cutmix_alpha if is_cut else self.mixup_alpha
        if u_mix >= self.probability or alpha <= 0:
            return [clips, targets, *rest]
        share = float(rng.beta(alpha, alpha))
        if is_cut:
            clips, share = _cut_mixed(clips, share, rng)
        else:
            clips = clips if clips.is_floating_point() else clips.to(torch.float32)
            clips = clips.lerp(clips.flip(0), 1 - share)
        return [clips, targets.lerp(targets.flip(0), 1 - share), *rest]


def _cut_mixed(clips: torch.Tensor, share: float, rng: Generator) -> tuple[torch.Tensor, float]:
    """With a box of 1 - share of the other clip's picture, cut at the edges; and the share that is left."""
    height, width = clips.shape[-2:]
    side = math.sqrt(1 - share)
    rows, columns = int(height * side), int(width * side)
    center_row, center_column = int(rng.random() * height), int(rng.random() * width)
    top, bottom = max(center_row - rows // 2, 0), min(center_row + rows // 2, height)
    left, right = max(center_column - columns // 2, 0), min(center_column + columns // 2, width)
    mixed = clips.clone()
    mixed[..., top:bottom, left:right] = clips.flip(0)[..., top:bottom, left:right]
    return mixed, 1 - (bottom - top) * (right - left) / (height * width)


# --- shared


def _torchvision() -> Any:
    try:
        from torchvision.transforms.v2 import functional
    except ImportError as error:
        raise ImportError(
            "this augmentation is done by torchvision, which is not installed: pip install torchvision"
        ) from error
    return functional


def _check(clip: torch.Tensor) -> None:
    if clip.ndim < 4 or clip.shape[-4] != 3:
        raise ValueError(
            f"vidload.augment: a clip must be planar, [..., 3, T, H, W] (layout NCTHW or NVCTHW), got {list(clip.shape)}"
        )


def _frames(clip: torch.Tensor) -> torch.Tensor:
    """[..., 3, T, H, W] -> [..., T, 3, H, W], as torchvision has videos."""
    _check(clip)
    if clip.dtype != torch.uint8:
        raise TypeError(
            f"vidload.augment: colors need uint8 clips, got {clip.dtype}; VideoDataset(..., dtype=torch.uint8)"
        )
    return clip.movedim(-4, -3)


def _clip(frames: torch.Tensor) -> torch.Tensor:
    return frames.movedim(-3, -4).contiguous()
