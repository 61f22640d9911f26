"""Epochs: which one a loader's next pass is, and the samplers that follow it.

In: a loader's dataset and samplers, and the epochs that anybody sets on them. Out: `Epochs.begin()`, the epoch of a pass that starts now.
The one set last counts, whether on the loader, the dataset, a sampler or a batch sampler, at any time before the first sample is drawn. If
nobody has set one, each pass is the epoch after the last one over this dataset, by this loader or by an earlier one.
"""

from __future__ import annotations

import contextlib
import weakref
from array import array
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch.utils.data import (
    BatchSampler,
    Dataset,
    DistributedSampler,
    RandomSampler,
    SequentialSampler,
    SubsetRandomSampler,
)

from vidload.clip_dataset import IndexBatch
from vidload.combined import base_dataset
from vidload.system.random import sample_rng

# For each dataset that a loader has passed over: the number of the last set_epoch call by then, and the epoch after the last pass.
_passes: weakref.WeakKeyDictionary[Any, tuple[int, int]] = weakref.WeakKeyDictionary()


class _Epoch(int):
    """An epoch's number as a loader sets it; the type distinguishes it from an equal number that somebody else has set."""


class Epochs:
    """Finds and sets the epoch of one loader.

    Args:
        dataset: as VideoLoader takes it.
        samplers: those that decide the order; `set_epoch` is called on each that has one.
    """

    def __init__(self, dataset: Dataset[Any], samplers: Iterable[Any]) -> None:
        self._dataset = dataset
        self._base, _ = base_dataset(dataset)
        self._samplers = [sampler for sampler in samplers if callable(getattr(sampler, "set_epoch", None))]
        self._next: int | None = None  # None: this loader has made no pass, and its epoch has not been set
        self._num_told = self._base._told_epoch[0]

    def peek(self) -> int:
        """The epoch that `begin` would return."""
        num_told, told = self._base._told_epoch
        if num_told != self._num_told:
            return told
        for sampler in self._samplers:
            heard = _heard(sampler)
            if heard is not None:
                return heard
        if self._next is not None:
            return self._next
        num_told_then, after = _passes.get(self._dataset, (-1, 0))
        return after if num_told_then == num_told else told

    def begin(self) -> int:
        """Starts a pass and returns its epoch. Samplers whose epoch nobody has set get this one, the others keep theirs."""
        epoch = self.peek()
        for sampler in self._samplers:
            heard = _heard(sampler)
            _tell(sampler, epoch if heard is None else heard)
        self._base._follow_epoch(epoch)
        self._num_told = self._base._told_epoch[0]
        self._next = epoch + 1
        _passes[self._dataset] = (self._num_told, epoch + 1)
        return epoch

    def set(self, epoch: int) -> None:
        """Makes this the epoch of the next pass; samplers and dataset get it at once."""
        for sampler in self._samplers:
            _tell(sampler, epoch)
        self._base._follow_epoch(epoch)
        self._num_told = self._base._told_epoch[0]
        self._next = int(epoch)


def _stored(sampler: Any) -> int | None:
    """The epoch that a sampler holds, under one of the usual names or where it put what it was given; None if none is to be seen."""
    for name in ("epoch", "_epoch", getattr(sampler, "_vidload_name", "epoch")):
        value = getattr(sampler, name, None)
        if isinstance(value, int) and not isinstance(value, bool):
            return value
    return None


def _heard(sampler: Any) -> int | None:
    """The epoch that anybody but a loader has set since a loader did; None if nobody has."""
    value = _stored(sampler)
    if value is None or isinstance(value, _Epoch):
        return None
    # A sampler that makes a plain int of what it is given still holds that very object; and 0 is what samplers begin with.
    if value is getattr(sampler, "_vidload_epoch", 0):
        return None
    return value


def _tell(sampler: Any, epoch: int) -> None:
    number = _Epoch(epoch)
    sampler.set_epoch(number)
    with contextlib.suppress(AttributeError, TypeError):  # it has __slots__
        sampler._vidload_name = next((name for name, value in vars(sampler).items() if value is number), "epoch")
        sampler._vidload_epoch = _stored(sampler)


def samplers_of(*roots: Any) -> list[Any]:
    """The samplers and those inside them, each once, outer ones first."""
    found: list[Any] = []
    waiting = list(roots)
    while waiting:
        sampler = waiting.pop(0)
        if sampler is None or any(sampler is other for other in found):
            continue
        found.append(sampler)
        waiting += [getattr(sampler, name, None) for name in ("sampler", "batch_sampler", "_sampler")]
    return [sampler for sampler in found if not isinstance(sampler, EpochBatchSampler)]


class EpochSampler(RandomSampler):
    """A random order without replacement that depends only on the dataset's seed and the epoch."""

    def __init__(self, dataset: Dataset[Any]) -> None:
        super().__init__(dataset)  # type: ignore[arg-type]
        self.epoch: int = _Epoch(0)

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        base, _ = base_dataset(self.data_source)  # type: ignore[arg-type]
        # A stream of its own: samples have indices from 0 on, so -1 is never theirs.
        rng = sample_rng(base.seed, self.epoch, -1)
        yield from rng.permutation(len(self.data_source)).tolist()


class EpochBatchSampler(BatchSampler):
    """The batch sampler of a VideoLoader. The loader itself uses its sampler; this is for trainers that reach for `batch_sampler`: its
    `set_epoch` is the loader's, and iterating over it (as Accelerate's skip_first_batches does) makes a pass and yields IndexBatches, from
    which the dataset makes the same samples as the loader."""

    epochs: Epochs | None = None

    def set_epoch(self, epoch: int) -> None:
        if self.epochs is not None:
            self.epochs.set(epoch)

    def __iter__(self) -> Iterator[list[int]]:
        if self.epochs is None:
            yield from super().__iter__()
            return
        epoch = self.epochs.begin()
        counter = DrawCounter(self.epochs._dataset, self.sampler)
        for indices in super().__iter__():
            batch = IndexBatch(indices)
            batch.epoch, (_, batch.draws) = epoch, counter.draws(indices)
            yield batch


class DrawCounter:
    """How often each video has been drawn in an epoch, so that one drawn again gives a new clip.

    Each rank counts for itself. With a sampler that may draw a video on several ranks (any but torch's own that split one order among
    them), each rank has its own numbers; otherwise all would make the same clip of it.
    """

    def __init__(self, dataset: Dataset[Any], sampler: Any) -> None:
        base, self._base_index = base_dataset(dataset)
        self._counts = array("i", bytes(4 * len(base)))
        self._rank, self._num_ranks = _rank_of_draws(sampler)

    def draws(self, indices: Iterable[int]) -> tuple[list[int], list[int]]:
        """Places among the clips of vidload.combined, and the numbers of the draws."""
        places = list(map(self._base_index, indices))
        numbers: list[int] = []
        counts = self._counts
        for place in places:
            try:
                count = counts[place]
            except IndexError:
                raise IndexError(f"the sampler drew {place}, which is out of range [0, {len(counts)})") from None
            counts[place] = count + 1
            numbers.append(count * self._num_ranks + self._rank)
        return places, numbers


def _rank_of_draws(sampler: Any) -> tuple[int, int]:
    kind = type(sampler)
    if kind in (DistributedSampler, SequentialSampler, SubsetRandomSampler, EpochSampler):
        return 0, 1
    if kind is RandomSampler and not sampler.replacement:
        return 0, 1
    rank, num_ranks = getattr(sampler, "rank", None), getattr(sampler, "num_replicas", None)
    if isinstance(rank, int) and isinstance(num_ranks, int):
        return rank, num_ranks
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return 0, 1
