"""Epochs: which one a loader's next pass is, and the samplers that follow it.

In: a loader's dataset and samplers, and the epochs that anybody sets on them. Out: `Epochs.begin()`, the epoch of a pass that starts now.
The one set last counts, whether on the loader, the dataset, a sampler or a batch sampler, at any time before the first sample is drawn. If
nobody has set one, each pass is the epoch after the last one over this dataset, by this loader or by an earlier one.

Samplers keep their epoch in different ways, so it is the calls of `set_epoch` that are noted, by the sampler's class: an instance that
notes the time of the call and its epoch can be copied and pickled like any other.
"""

from __future__ import annotations

import functools
import weakref
from array import array
from collections.abc import Callable, Iterable, Iterator
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
from vidload.system.clock import now
from vidload.system.random import sample_rng

# For each dataset that a loader has passed over: when the last pass began, and the epoch after it.
_passes: weakref.WeakKeyDictionary[Any, tuple[int, int]] = weakref.WeakKeyDictionary()


class Epochs:
    """Finds and sets the epoch of one loader.

    Args:
        dataset: as VideoLoader takes it.
        samplers: those that decide the order; `set_epoch` is called on each that has one.
    """

    def __init__(self, dataset: Dataset[Any], samplers: Iterable[Any]) -> None:
        self._dataset = dataset
        self._base, _ = base_dataset(dataset)
        self._samplers: list[Any] = [
            _noting(sampler) for sampler in samplers if callable(getattr(sampler, "set_epoch", None))
        ]
        self._next: int | None = None  # None: this loader has made no pass, and its epoch has not been set
        self._since = now()  # an epoch told later than this counts instead

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        for sampler in self._samplers:
            _noting(sampler)  # its class is another process's

    def peek(self) -> int:
        """The epoch that `begin` would return."""
        tellings: list[tuple[int, int]] = [sampler._vidload_told for sampler in self._samplers]
        when, told = max([self._base._told_epoch, *tellings])
        if when > self._since:
            return told
        if self._next is not None:
            return self._next
        since, following = _passes.get(self._dataset, (-1, 0))
        return told if when > since else following

    def begin(self) -> int:
        """Starts a pass and returns its epoch, which dataset and samplers get."""
        epoch = self.peek()
        self.set(epoch)
        self._next = epoch + 1
        _passes[self._dataset] = (self._since, epoch + 1)
        return epoch

    def set(self, epoch: int) -> None:
        """Makes this the epoch of the next pass; samplers and dataset get it at once."""
        told = [sampler._vidload_told for sampler in self._samplers]
        for sampler in reversed(self._samplers):  # an outer one may tell an inner one another epoch
            sampler.set_epoch(epoch)
        for sampler, before in zip(self._samplers, told, strict=True):
            sampler._vidload_told = before
        self._base._follow_epoch(epoch)
        self._since = now()
        self._next = int(epoch)


def _noting(sampler: Any) -> Any:
    """The object whose `set_epoch` the sampler's is; from now on it notes in `_vidload_told` when it was called, and with which epoch.

    Raises:
        TypeError: calls cannot be noted.
    """
    owner = getattr(sampler.set_epoch, "__self__", sampler)  # another one, where a wrapper hands attributes on
    kind = type(owner)
    try:
        if not hasattr(kind.set_epoch, "_vidload_notes"):
            kind.set_epoch = _noting_method(kind.set_epoch)
        if not hasattr(owner, "_vidload_told"):
            held = (getattr(owner, name, 0) for name in ("epoch", "_epoch"))
            told_before = next((epoch for epoch in held if isinstance(epoch, int) and epoch != 0), None)
            owner._vidload_told = (0, 0) if told_before is None else (now(), told_before)
    except (AttributeError, TypeError) as error:
        raise TypeError(
            f"{kind.__name__}: calls of its set_epoch cannot be noted ({error}); make set_epoch a method of its class, and derive the class "
            "from torch.utils.data.Sampler, without __slots__"
        ) from None
    return owner


def _noting_method(set_epoch: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(set_epoch)
    def noting(self: Any, *args: Any, **kwargs: Any) -> Any:
        result = set_epoch(self, *args, **kwargs)
        self._vidload_told = (now(), int((*args, *kwargs.values())[0]))
        return result

    noting._vidload_notes = True  # type: ignore[attr-defined]
    return noting


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
        self.epoch = 0

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
