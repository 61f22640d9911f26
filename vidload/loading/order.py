"""The order of an epoch's samples, and where in it a loader is.

In: a loader's samplers and generator. Out: the batches of an epoch as indices, from any place on; and the state that samplers and
generators had when the epoch began, as plain numbers. vidload.loading.epochs says which epoch it is.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import torch
from torch.utils.data import Dataset

from vidload.loading.epochs import DrawCounter, EpochBatchSampler, samplers_of

STATE_VERSION = 1


@dataclass
class Place:
    """Where a loader is, as its `state_dict` has it.

    resume: the state from which the next pass resumes, None if none was loaded.
    position: in the newest pass; empty if that is over, or if the epoch of the next one has been set since.
    """

    resume: dict[str, Any] | None = None
    position: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Order:
    """What decides which samples come, and in which batches; the attributes are the loader's own."""

    dataset: Dataset[Any]
    sampler: Any
    batch_sampler: Any
    batch_size: int | None
    drop_last: bool
    generator: torch.Generator | None

    @property
    def num_replicas(self) -> int:
        """Ranks that share the epoch."""
        samplers = (self.sampler, self.batch_sampler)
        return next((int(sampler.num_replicas) for sampler in samplers if hasattr(sampler, "num_replicas")), 1)

    @property
    def samplers(self) -> list[Any]:
        return samplers_of(self.sampler, self.batch_sampler)

    def batches(self, first_sample: int, first_batch: int) -> Iterator[tuple[list[int], list[int]]]:
        """The batches from there on, as indices and the numbers of their draws; earlier ones are drawn too, and counted."""
        of_sampler = self.batch_sampler is None or (
            isinstance(self.batch_sampler, EpochBatchSampler) and self.batch_size is not None
        )
        counter = DrawCounter(self.dataset, self.sampler if of_sampler else self.batch_sampler)
        if not of_sampler:
            yield from islice(map(counter.draws, self.batch_sampler), first_batch, None)
            return
        order, size = iter(self.sampler), 1 if self.batch_sampler is None else self.batch_size
        counter.draws(islice(order, first_sample))
        while indices := list(islice(order, size)):
            if len(indices) == size or not self.drop_last:
                yield counter.draws(indices)

    def state(self) -> dict[str, Any]:
        """What `restore` takes, as plain numbers if the samplers' own states are; to be taken at the start of a pass, or between two."""
        return {
            "generators": [one.get_state().tolist() for one in self._generators()],
            "samplers": [copy.deepcopy(one.state_dict()) for one in self._with_state()],
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Sets generators and samplers back to where `state` was taken."""
        for generator, numbers in zip(self._generators(), state["generators"], strict=True):
            generator.set_state(torch.tensor(numbers, dtype=torch.uint8))
        for sampler, its_state in zip(self._with_state(), state["samplers"], strict=True):
            sampler.load_state_dict(copy.deepcopy(its_state))

    def check_state(self, state: Any) -> None:
        """Raises ValueError if a loader's state, which may come from any file, makes no sense; the message names what."""
        if not isinstance(state, Mapping):
            raise ValueError(f"loader state: got a {type(state).__name__}, not what state_dict() returned")
        if state.get("version") != STATE_VERSION:
            raise ValueError(
                f"loader state: version {state.get('version')}; this vidload reads version {STATE_VERSION}"
            )
        least = {"epoch": 0, "next_sample": 0, "next_batch": 0, "num_replicas": 1, "num_samples": 0, "seed": -(2**63)}
        for name, minimum in least.items():
            if name not in state:
                raise ValueError(f"loader state: {name} is missing")
            value = state[name]
            if type(value) is not int or not minimum <= value < 2**63:
                raise ValueError(f"loader state: {name} is {value!r}, must be an integer of at least {minimum}")
        for name, here in (("generators", self._generators()), ("samplers", self._with_state())):
            if not isinstance(state.get(name), list):
                raise ValueError(f"loader state: {name} is {state.get(name)!r}, must be a list")
            if len(state[name]) != len(here):
                raise ValueError(
                    f"loader state: {name} has the states of {len(state[name])}, but this loader and its samplers have {len(here)}; give it "
                    "the sampler and generator that the other loader had, or start the epoch again: set_epoch"
                )
        for generator, numbers in zip(self._generators(), state["generators"], strict=True):
            try:
                torch.Generator(generator.device).set_state(torch.tensor(numbers, dtype=torch.uint8))
            except (TypeError, ValueError, RuntimeError, OverflowError) as error:
                raise ValueError(f"loader state: generators: one of them does not fit the loader's ({error})") from None

    def _generators(self) -> list[torch.Generator]:
        """The loader's and the samplers' own, each once."""
        found = [self.generator, *(getattr(sampler, "generator", None) for sampler in self.samplers)]
        return list({id(one): one for one in found if isinstance(one, torch.Generator)}.values())

    def _with_state(self) -> list[Any]:
        """Those whose order depends on more than the epoch. What others with a state_dict keep is their place in it, which is counted here."""
        names = ("state_dict", "load_state_dict")
        return [one for one in self.samplers if all(hasattr(one, n) for n in names) and not hasattr(one, "set_epoch")]
