"""Recipes: what a model expects from the loader, and how its authors train it (by MMAction2 1.2.0).

In: nothing; these are tables. Out: keyword arguments for VideoDataset, a learning rate for every moment
of training. The tables themselves are in the model files. The caller chooses the device, the data, and
how many epochs to train.
"""

import math
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch

from vidload.sampling import ClipSpec
from vidload.transforms import (
    SpatialTransform,
    center_crop,
    multi_scale_crop,
    random_resized_crop,
    ten_crop,
    three_crop,
)


@dataclass(frozen=True)
class Training:
    """SGD without Nesterov momentum on Kinetics-400. `lr` belongs to a batch of `batch_size` on each of
    `num_gpus`.

    Schedule, by `lr_factor`: a linear warm-up from 0.1 over `warmup_epochs`, and either x0.1 at each of
    `milestones` or, where there are none, a cosine to 0. The cosine runs from epoch `cosine_start` to the
    last.
    """

    lr: float
    batch_size: int
    num_gpus: int = 8
    epochs: int = 100
    milestones: tuple[float, ...] = ()
    warmup_epochs: float = 0
    cosine_start: float = 0
    max_grad_norm: float = 40.0
    momentum: float = 0.9
    weight_decay: float = 1e-4
    pretrained: Literal["imagenet"] | None = None

    def stretched(self, epochs: int) -> "Training":
        """The same schedule, stretched or squeezed to `epochs`."""
        scale = epochs / self.epochs
        return replace(
            self,
            epochs=epochs,
            milestones=tuple(milestone * scale for milestone in self.milestones),
            warmup_epochs=self.warmup_epochs * scale,
            cosine_start=self.cosine_start * scale,
        )

    def lr_factor(self, epoch: float) -> float:
        """The factor of `lr` at `epoch`, which need not be a whole number."""
        factor = 1.0
        if epoch < self.warmup_epochs:
            factor = 0.1 + 0.9 * epoch / self.warmup_epochs
        if self.milestones:
            return factor * 0.1 ** sum(epoch >= milestone for milestone in self.milestones)
        if epoch <= self.cosine_start:
            return factor
        progress = min((epoch - self.cosine_start) / (self.epochs - self.cosine_start), 1.0)
        return factor * (1 + math.cos(math.pi * progress)) / 2


@dataclass(frozen=True)
class Recipe:
    """`clip` and `layout` are a training sample's. `test_clip` with `test_transform` gives the views of
    the published accuracy. `batch_size` is that of one GPU in the published benchmark of training speed.
    `channels_last_on`: the kinds of device on which training was measured to be faster with channels-last memory.
    """

    clip: ClipSpec
    layout: str
    train_transform: SpatialTransform
    val_transform: SpatialTransform
    test_clip: ClipSpec
    test_transform: SpatialTransform
    training: Training
    batch_size: int = 8
    channels_last_on: tuple[str, ...] = ()

    @property
    def channels_last(self) -> torch.memory_format:
        """The channels-last format for this model's convolutions: of pictures, or of clips."""
        return torch.channels_last if self.layout == "NVCTHW" else torch.channels_last_3d

    def memory_format(self, device_type: str) -> torch.memory_format:
        """What to give `model.to(memory_format=...)` on such a device ("cpu", "cuda"): channels-last where it was measured to be
        faster, else contiguous."""
        return self.channels_last if device_type in self.channels_last_on else torch.contiguous_format

    @property
    def input_size(self) -> tuple[int, int]:
        """Height and width in training."""
        return self.train_transform.size

    @property
    def mean(self) -> tuple[float, float, float]:
        """R, G, B on the 0-255 scale."""
        assert self.train_transform.mean is not None
        return self.train_transform.mean

    @property
    def std(self) -> tuple[float, float, float]:
        """R, G, B on the 0-255 scale."""
        assert self.train_transform.std is not None
        return self.train_transform.std

    def dataset_options(
        self, split: str, size: int | None = None, clip: str | ClipSpec | None = None
    ) -> dict[str, Any]:
        """Keyword arguments for VideoDataset: `clip`, `transform`, `layout`, `training`.

        split: "train"; "val", one clip and the center crop; "test", every view. size: a training input other
        than `input_size`; all sizes of the split scale with it. clip: instead of the recipe's; the test
        split takes its clip_len and frame_interval. Raises ValueError for another split or clip.
        """
        spec = self.clip if clip is None else ClipSpec.parse(clip)
        test_spec = self.test_clip
        if clip is not None:
            test_spec = replace(test_spec, clip_len=spec.clip_len, frame_interval=spec.frame_interval)
        choices = {
            "train": (spec, self.train_transform, self.layout),
            "val": (spec, self.val_transform, self.layout),
            "test": (test_spec, self.test_transform, "NVCTHW"),
        }
        if split not in choices:
            raise ValueError(f'recipe: split is {split!r}, must be "train", "val" or "test"')
        chosen, transform, layout = choices[split]
        if size is not None:
            transform = _scaled(transform, size / self.input_size[0])
        return {"clip": chosen, "transform": transform, "layout": layout, "training": split == "train"}

    def sample_shape(self, batch_size: int, size: int | None = None) -> tuple[int, ...]:
        """Shape of a training batch of `batch_size` samples."""
        side = self.input_size if size is None else (size, size)
        shape = (3, self.clip.clip_len, *side)
        return (batch_size, *shape) if self.layout == "NCTHW" else (batch_size, self.clip.num_clips, *shape)


def clip_recipe(clip: str, training: Training, train_transform: SpatialTransform | None = None) -> Recipe:
    """The recipe of a 3D model: one clip; random resized crop unless `train_transform` is given; tested on
    10 clips x 3 crops of 256 x 256.
    """
    spec = ClipSpec.parse(clip)
    return Recipe(
        clip=spec,
        layout="NCTHW",
        train_transform=train_transform or random_resized_crop(224),
        val_transform=center_crop(224),
        test_clip=replace(spec, num_clips=10),
        test_transform=three_crop(256),
        training=training,
    )


def frame_recipe(
    clip: str,
    training: Training,
    *,
    positions: int,
    test_clip: str,
    batch_size: int,
    channels_last_on: tuple[str, ...] = (),
) -> Recipe:
    """The recipe of a 2D model: single frames; multi-scale crop; tested on ten crops of 224 x 224."""
    return Recipe(
        clip=ClipSpec.parse(clip),
        layout="NVCTHW",
        train_transform=multi_scale_crop(224, (1, 0.875, 0.75, 0.66), positions, max_wh_scale_gap=1),
        val_transform=center_crop(224),
        test_clip=ClipSpec.parse(test_clip),
        test_transform=ten_crop(224),
        training=training,
        batch_size=batch_size,
        channels_last_on=channels_last_on,
    )


def _scaled(transform: SpatialTransform, scale: float) -> SpatialTransform:
    height, width = (max(round(side * scale), 1) for side in transform.size)
    changes: dict[str, Any] = {"size": (height, width)}
    if hasattr(transform, "short_side"):
        changes["short_side"] = max(round(transform.short_side * scale), height, width)
    return replace(transform, **changes)
