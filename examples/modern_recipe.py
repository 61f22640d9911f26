"""A recipe like those of video transformers (MViT, VideoMAE): what `train_i3d.py --recipe modern` uses instead of the model's own.

Per clip, in the loader's threads: RandAugment, the same for all frames, then normalization, and a box of noise in every fourth clip. Per
batch, on the device: MixUp or CutMix with smoothed labels. AdamW, a linear warm-up and a cosine. Everything random about a sample depends
only on seed, epoch and index, so a run that was stopped resumes exactly. Needs torchvision. Copy it and make it yours.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import torch
from numpy.random import Generator

from vidload.augment import Compose, MixUpCutMix, Normalize, RandAugment, RandomErasing
from vidload.models.recipe import Training
from vidload.transforms import SpatialTransform

LR = 1.6e-3  # for 512 videos in a step, as MViT; scaled to the number there are
VIDEOS_IN_STEP = 512
WEIGHT_DECAY = 0.05
WARMUP_SHARE = 0.15  # of all epochs
MAX_GRAD_NORM = 1.0


def check() -> None:
    """Ends the program where torchvision is missing, before any work is done."""
    try:
        import torchvision.transforms.v2  # noqa: F401
    except ImportError:
        raise SystemExit("--recipe modern needs torchvision, which does RandAugment: pip install torchvision") from None


def dataset_options(transform: SpatialTransform) -> dict[str, Any]:
    """For the training split. transform: the model recipe's crop, whose mean and std serve here too."""
    assert transform.mean is not None and transform.std is not None
    steps = RandAugment(fill=transform.mean), Normalize(transform.mean, transform.std), RandomErasing(0.25)
    return {"dtype": torch.uint8, "clip_transform": Compose(*steps)}


def batch_transform(num_classes: int, device: torch.device) -> Callable[..., list[Any]]:
    """For the training loader: clips float32 and soft labels [N, num_classes], on `device`."""
    mix = MixUpCutMix(num_classes, mixup_alpha=0.8, cutmix_alpha=1.0, smoothing=0.1)

    def run(batch: list[torch.Tensor], rng: Generator) -> list[Any]:
        return mix([part.to(device, non_blocking=True) for part in batch], rng)

    return run


def schedule(training: Training) -> Training:
    """The model's training with this recipe's learning rate, warm-up and cosine, over as many epochs."""
    return dataclasses.replace(
        training,
        lr=LR,
        batch_size=VIDEOS_IN_STEP,
        num_gpus=1,
        milestones=(),
        cosine_start=0,
        warmup_epochs=WARMUP_SHARE * training.epochs,
        weight_decay=WEIGHT_DECAY,
        max_grad_norm=MAX_GRAD_NORM,
    )


def optimizer(groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    return torch.optim.AdamW(groups, betas=(0.9, 0.999))
