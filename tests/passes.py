"""Passes over a small dataset, and everyone who can set their epoch."""

from __future__ import annotations

from collections.abc import Callable

from vidload import VideoDataset, VideoLoader
from vidload.transforms import random_resized_crop

Batches = list[tuple[list[int], bytes]]


def passed(loader) -> Batches:
    """Labels and pixels of each batch of a pass."""
    return [(labels.tolist(), clips.numpy().tobytes()) for clips, labels in loader]


def order(batches: Batches) -> list[int]:
    return [label for labels, _ in batches for label in labels]


def epoch_of(dataset: VideoDataset, epoch: int, **options) -> Batches:
    """As a loader gives it that was told the epoch itself."""
    loader = VideoLoader(dataset, 2, num_workers=0, **options)
    loader.set_epoch(epoch)
    return passed(loader)


def eight_videos(video: Callable[[str], str]) -> VideoDataset:
    """video: the fixture of that name."""
    names = ("h264", "vp9", "mpeg4", "hevc", "h264_star", "h264_no_b_frames", "mjpeg_avi", "h264_b_pyramid_normal")
    items = [(video(name), label) for label, name in enumerate(names)]
    return VideoDataset(items, clip="2x1x1", transform=random_resized_crop(16), seed=3)


def told_by_the_loader(loader: VideoLoader, epoch: int) -> None:
    loader.set_epoch(epoch)


def told_by_the_sampler(loader: VideoLoader, epoch: int) -> None:
    loader.sampler.set_epoch(epoch)


def told_by_the_batch_sampler(loader: VideoLoader, epoch: int) -> None:
    loader.batch_sampler.set_epoch(epoch)


def told_by_the_dataset(loader: VideoLoader, epoch: int) -> None:
    loader.dataset.set_epoch(epoch)


TELLERS = [told_by_the_loader, told_by_the_sampler, told_by_the_batch_sampler, told_by_the_dataset]
