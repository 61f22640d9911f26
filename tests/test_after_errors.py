"""What an iterator gives after it has raised: as a plain DataLoader's, the batches after the failed one; never a silent end."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, default_collate

from vidload import ClipTransformError, VideoDataset, VideoError, VideoLoader
from vidload.transforms import center_crop

BAD = 4  # the sample that fails; of batches of 2 it is in the third


class NoLabel(VideoDataset):
    def label(self, index: int) -> Any:
        if index == BAD:
            raise ValueError("no label")
        return super().label(index)


def refused_by_collate(samples: list[Any]) -> Any:
    if any(label == BAD for _, label in samples):
        raise KeyError("refused")
    return default_collate(samples)


@pytest.fixture
def make(video, tmp_path) -> Callable[[str], tuple[VideoDataset, dict[str, Any], type[Exception]]]:
    """By what fails: a dataset, what else a loader takes, and what is raised."""

    def make(what: str) -> tuple[VideoDataset, dict[str, Any], type[Exception]]:
        items = [(video("h264"), label) for label in range(10)]
        kind, options = VideoDataset, {}
        kwargs: dict[str, Any] = {}
        error: type[Exception] = ValueError
        num_drawn = -1 if what == "sampling" else 0  # it is asked once when the dataset is made

        def sampling(num_frames: int, fps: float, clip: Any, rng: Any) -> Any:
            nonlocal num_drawn
            num_drawn += 1
            return np.zeros((1, 3 if num_drawn == BAD + 1 else 2), np.int64)

        def clip_transform(clip: torch.Tensor) -> torch.Tensor:
            nonlocal num_drawn
            num_drawn += 1
            if num_drawn == BAD + 1:
                raise ValueError("refused")
            return clip

        if what == "file":
            (tmp_path / "bad.mp4").write_bytes(b"no video")
            items[BAD], error = (str(tmp_path / "bad.mp4"), BAD), VideoError
        elif what == "label":
            kind = NoLabel
        elif what == "collate_fn":
            options, error = {"collate_fn": refused_by_collate}, KeyError
        elif what == "clip_transform":
            kwargs, error = {"clip_transform": clip_transform}, ClipTransformError
        else:
            kwargs = {"sampling": sampling}
        return kind(items, clip="2x1x1", transform=center_crop(16), **kwargs), options, error

    return make


def all_that_comes(loader: Any, error: type[Exception]) -> list[Any]:
    """Labels of batches, and "raised"."""
    iterator, came = iter(loader), []
    while True:
        try:
            came.append(next(iterator)[1].tolist())
        except StopIteration:
            return came
        except error:
            came.append("raised")


EXPECTED = [[0, 1], [2, 3], "raised", [6, 7], [8, 9]]


@pytest.mark.parametrize("num_workers", [0, 1])
@pytest.mark.parametrize("what", ["file", "label", "collate_fn", "clip_transform", "sampling"])
def test_after_a_failed_batch_the_next_ones_come_as_from_a_data_loader(what: str, num_workers: int, make) -> None:
    dataset, options, error = make(what)
    assert all_that_comes(VideoLoader(dataset, 2, num_workers=num_workers, **options), error) == EXPECTED
    dataset, options, error = make(what)
    assert all_that_comes(DataLoader(dataset, 2, **options), error) == EXPECTED


def test_a_state_taken_after_a_failed_batch_goes_on_with_the_next(make) -> None:
    dataset, _, error = make("file")
    loader = VideoLoader(dataset, 2, num_workers=1)
    iterator = iter(loader)
    next(iterator), next(iterator)
    with pytest.raises(error):
        next(iterator)
    other = VideoLoader(dataset, 2, num_workers=1)
    other.load_state_dict(loader.state_dict())
    assert all_that_comes(other, error) == EXPECTED[3:]


def test_a_pass_that_was_interrupted_says_so_and_can_be_resumed(make) -> None:
    """It ended in silence, as if the epoch were over."""
    dataset, _, _ = make("collate_fn")
    is_interrupted = True

    def collate(samples: list[Any]) -> Any:
        if is_interrupted and samples[0][1] == 2:
            raise KeyboardInterrupt
        return default_collate(samples)

    loader = VideoLoader(dataset, 2, num_workers=1, collate_fn=collate)
    iterator = iter(loader)
    next(iterator)
    with pytest.raises(KeyboardInterrupt):
        next(iterator)
    for _ in range(2):
        with pytest.raises(RuntimeError, match=r"ended by KeyboardInterrupt.*load_state_dict"):
            next(iterator)
    is_interrupted = False
    loader.load_state_dict(loader.state_dict())
    assert [labels.tolist() for _, labels in loader] == [[2, 3], [4, 5], [6, 7], [8, 9]]


def test_a_batch_that_timed_out_comes_when_it_is_ready(video) -> None:
    dataset = VideoDataset([(video("h264"), label) for label in range(4)], clip="8x1x1", transform=center_crop(16))
    iterator = iter(VideoLoader(dataset, 2, num_workers=1, timeout=1e-6))
    came, num_timeouts = [], 0
    while len(came) < 2:
        try:
            came.append(next(iterator)[1].tolist())
        except RuntimeError as error:
            assert "timed out" in str(error)
            num_timeouts += 1
            time.sleep(0.001)
    assert came == [[0, 1], [2, 3]] and num_timeouts > 0
    assert next(iterator, None) is None


class Broken(torch.utils.data.Sampler[int]):
    def __iter__(self) -> Iterator[int]:
        yield from range(4)
        raise OSError("the list of samples is gone")


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_sampler_s_error_comes_after_the_batches_before_it_and_is_not_forgotten(num_workers: int, make) -> None:
    dataset, _, _ = make("collate_fn")
    iterator = iter(VideoLoader(dataset, 2, sampler=Broken(), num_workers=num_workers))
    assert [next(iterator)[1].tolist() for _ in range(2)] == [[0, 1], [2, 3]]
    with pytest.raises(OSError, match="is gone"):
        next(iterator)
    with pytest.raises(RuntimeError, match="ended by OSError"):
        next(iterator)
