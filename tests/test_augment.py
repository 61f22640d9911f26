"""Augmentations: the same for all frames of a clip, by the given Generator alone, and right by a slow look at each."""

from __future__ import annotations

import math
import sys

import numpy as np
import pytest
import torch

from vidload import augment
from vidload.system.random import batch_rng, sample_rng, transform_rng
from vidload.transforms import IMAGENET_MEAN, IMAGENET_STD

COLOR = (
    augment.RandAugment(probability=1.0),
    augment.ColorJitter(),
    augment.Grayscale(1.0),
    augment.GaussianBlur(probability=1.0),
)


@pytest.fixture
def clip() -> torch.Tensor:
    """uint8 [3, 4, 20, 28]; all frames alike."""
    frame = torch.randint(0, 256, (3, 1, 20, 28), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return frame.repeat(1, 4, 1, 1)


def rng(number: int = 0) -> np.random.Generator:
    return sample_rng(0, 0, number)


# --- by torchvision


@pytest.fixture
def torchvision():
    return pytest.importorskip("torchvision")


@pytest.mark.parametrize("step", COLOR, ids=lambda step: type(step).__name__)
def test_all_frames_are_changed_alike_and_by_the_generator_alone(step, clip, torchvision) -> None:
    before = torch.get_rng_state()
    done = [step(clip, rng=rng(i)) for i in range(8)]
    assert all(one.shape == clip.shape and one.dtype == torch.uint8 for one in done)
    for one, i in zip(done, range(8), strict=True):
        assert torch.equal(one, step(clip, rng=rng(i)))
        assert torch.equal(one, one[:, :1].expand_as(one))
    assert not all(torch.equal(one, clip) for one in done)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("name", augment.RAND_AUGMENT_OPS)
def test_each_operation_of_rand_augment_leaves_shape_and_dtype(name: str, clip, torchvision) -> None:
    frames = clip.movedim(0, 1)
    for level in (-1.0, -0.3, 0.0, 0.7, 1.0):
        done = augment.rand_augment_op(frames, name, level)
        assert (done.shape, done.dtype) == (frames.shape, torch.uint8)


def test_operations_of_rand_augment_by_their_definition(clip, torchvision) -> None:
    frames = clip.movedim(0, 1)
    values = frames.to(torch.int64)
    op = augment.rand_augment_op
    assert torch.equal(op(frames, "Invert", 0.7), 255 - frames)
    assert torch.equal(op(frames, "Posterize", 0.5), (values // 64 * 64).to(torch.uint8))  # 2 bits are left
    assert torch.equal(op(frames, "Solarize", 0.5), torch.where(values >= 128, 255 - values, values).to(torch.uint8))
    added = torch.where(values < 128, (values + 55).clamp(max=255), values).to(torch.uint8)
    assert torch.equal(op(frames, "SolarizeAdd", 0.5), added)
    assert torch.equal(op(frames, "Brightness", 0.0), frames)
    moved = op(frames, "TranslateX", 4 / 28 / 0.45)
    assert torch.equal(moved[..., 4:], frames[..., :-4])
    assert moved[0, :, 0, 0].tolist() == [round(value) for value in IMAGENET_MEAN]
    assert torch.equal(op(frames, "Rotate", 0.0), frames)


def test_grayscale_is_the_luma(clip, torchvision) -> None:
    gray = augment.Grayscale(1.0)(clip, rng=rng())
    luma = 0.299 * clip[0].double() + 0.587 * clip[1].double() + 0.114 * clip[2].double()
    assert (gray.double() - luma).abs().max() < 1.1  # truncated, and by 0.2989
    assert torch.equal(augment.Grayscale(0.0)(clip, rng=rng()), clip)


def test_views_and_videos_go_through_alike(clip, torchvision) -> None:
    views = torch.stack([clip, clip.flip(-1)])
    step = augment.ColorJitter(hue=0)
    assert torch.equal(step(views, rng=rng())[0], step(clip, rng=rng()))


def test_without_torchvision_the_error_says_what_to_install(clip, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "torchvision", None)
    monkeypatch.setitem(sys.modules, "torchvision.transforms.v2", None)
    with pytest.raises(ImportError, match="pip install torchvision"):
        augment.Grayscale(1.0)(clip, rng=rng())


# --- by torch alone


def test_normalize_is_what_the_loader_s_own_normalization_is(clip) -> None:
    done = augment.Normalize()(clip)
    for channel in range(3):
        expected = (clip[channel].double() - IMAGENET_MEAN[channel]) / IMAGENET_STD[channel]
        assert (done[channel].double() - expected).abs().max() < 1e-6


def test_erasing_fills_one_box_of_all_frames_with_noise(clip) -> None:
    normal = augment.Normalize()(clip)
    kept = normal.clone()
    erased = augment.RandomErasing(1.0)(normal, rng=rng(1))
    assert torch.equal(normal, kept)  # it is not the caller's clip that is changed
    is_noise = (erased != normal).any(0)
    rows, columns = is_noise[0].any(1).nonzero().flatten(), is_noise[0].any(0).nonzero().flatten()
    box = torch.zeros(20, 28, dtype=torch.bool)
    box[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] = True
    assert torch.equal(is_noise, box.expand_as(is_noise))
    assert 0.01 < box.double().mean() < 0.36
    assert torch.equal(erased, augment.RandomErasing(1.0)(normal, rng=rng(1)))
    assert torch.equal(augment.RandomErasing(0.0)(normal, rng=rng(1)), normal)


def test_steps_follow_each_other_with_one_generator(clip) -> None:
    both = augment.Compose(augment.Normalize(), augment.RandomErasing(1.0))
    assert torch.equal(both(clip, rng=rng(3)), augment.RandomErasing(1.0)(augment.Normalize()(clip), rng=rng(3)))
    assert repr(both).startswith("Compose(Normalize(mean=")


@pytest.mark.parametrize(
    "step, bad, message",
    [
        (augment.Normalize(), torch.zeros(4, 20, 28, 3), r"planar, \[\.\.\., 3, T, H, W\].*got \[4, 20, 28, 3\]"),
        (augment.Grayscale(1.0), torch.zeros(3, 4, 20, 28), "colors need uint8 clips, got torch.float32"),
        (augment.RandomErasing(), torch.zeros(3, 4, 20, 28, dtype=torch.uint8), "put Normalize before it"),
    ],
)
def test_clips_of_another_kind_are_refused(step, bad: torch.Tensor, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        step(bad, rng=rng())


# --- batches


def test_soft_labels_are_smoothed_over_all_classes() -> None:
    soft = augment.soft_labels(torch.tensor([1, 0]), 4, 0.2)
    assert soft.tolist() == [pytest.approx([0.05, 0.85, 0.05, 0.05]), pytest.approx([0.85, 0.05, 0.05, 0.05])]
    assert torch.equal(augment.soft_labels(soft, 4), soft)


def batch() -> list[torch.Tensor]:
    clips = torch.arange(4.0).view(4, 1, 1, 1, 1).expand(4, 3, 2, 16, 24).clone()  # clip i holds the number i
    return [clips, torch.tensor([0, 1, 2, 3])]


@pytest.mark.parametrize("number", range(6))
def test_mixup_blends_clips_and_labels_alike(number: int) -> None:
    mix = augment.MixUpCutMix(4, cutmix_alpha=0.0, smoothing=0.0)
    clips, labels = mix(batch(), rng=rng(number))
    share = labels[0, 0].item()
    assert 0 <= share <= 1 and labels[0, 3].item() == pytest.approx(1 - share)
    for i in range(4):
        assert torch.allclose(clips[i], torch.tensor(share * i + (1 - share) * (3 - i)))
    assert torch.equal(clips, mix(batch(), rng=rng(number))[0])


@pytest.mark.parametrize("number", range(6))
def test_cutmix_labels_by_the_share_of_the_picture(number: int) -> None:
    clips, labels = augment.MixUpCutMix(4, mixup_alpha=0.0, smoothing=0.0)(batch(), rng=rng(number))
    assert set(clips[0].unique().tolist()) <= {0.0, 3.0} and torch.equal(clips[0, :, :1].expand_as(clips[0]), clips[0])
    assert labels[0, 0].item() == pytest.approx((clips[0] == 0).double().mean().item())
    assert labels.sum(1).tolist() == pytest.approx([1.0] * 4)


def test_a_batch_is_left_alone_with_probability_0_and_keeps_its_fields() -> None:
    clips, labels, fields = augment.MixUpCutMix(4, probability=0.0)([*batch(), {"index": 1}], rng=rng())
    assert torch.equal(clips, batch()[0]) and labels.shape == (4, 4) and fields == {"index": 1}


def test_shares_are_of_the_beta_distribution() -> None:
    mix = augment.MixUpCutMix(4, mixup_alpha=0.8, cutmix_alpha=0.0, smoothing=0.0)
    small = [part[:, :, :1, :1, :1] if part.ndim == 5 else part for part in batch()]
    shares = np.array([mix(small, rng=rng(i))[1][0, 0].item() for i in range(2000)])
    deviation = 0.5 / math.sqrt(2 * 0.8 + 1)  # of Beta(a, a)
    assert abs(shares.mean() - 0.5) < 5 * deviation / math.sqrt(2000)
    assert shares.std() == pytest.approx(deviation, rel=0.06)


def test_streams_of_samples_transforms_and_batches_never_meet() -> None:
    draws = [maker(1, 2, 3).random(1000) for maker in (sample_rng, transform_rng, batch_rng)]
    assert len(np.unique(np.concatenate(draws))) == 3000
