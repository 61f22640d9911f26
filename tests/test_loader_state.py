"""What a loader's state brings back: the place in an epoch, and the generators and states of samplers."""

from __future__ import annotations

import pickle
from collections.abc import Iterator

import pytest
import torch
from passes import TELLERS, eight_videos, epoch_of, passed
from torch.utils.data import (
    BatchSampler,
    DistributedSampler,
    RandomSampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
)

from vidload import VideoDataset, VideoLoader


@pytest.fixture
def dataset(video) -> VideoDataset:
    return eight_videos(video)


@pytest.mark.parametrize("kind", ["weighted", "random"])
def test_the_state_brings_back_the_order_of_a_sampler_with_a_generator_of_its_own(kind: str, dataset) -> None:
    def loader(seed: int) -> VideoLoader:
        generator = torch.Generator().manual_seed(seed)
        weighted = WeightedRandomSampler([1.0] * 8, 8, generator=generator)
        return VideoLoader(
            dataset, 2, sampler=weighted if kind == "weighted" else RandomSampler(dataset, generator=generator)
        )

    first = loader(1)
    passed(first)
    iterator = iter(first)
    next(iterator)
    state = pickle.loads(pickle.dumps(first.state_dict()))
    rest = [passed(iterator), passed(first)]
    second = loader(2)
    second.load_state_dict(state)
    assert [passed(second), passed(second)] == rest


class Counting(torch.utils.data.Sampler[int]):
    """A sampler with a state."""

    def __init__(self) -> None:
        self.start = 0

    def state_dict(self) -> dict[str, int]:
        return {"start": self.start}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.start = state["start"]

    def __iter__(self) -> Iterator[int]:
        self.start += 1
        return iter([(self.start + i) % 8 for i in range(4)])


def test_a_sampler_s_own_state_belongs_to_the_loader_s(dataset) -> None:
    loader = VideoLoader(dataset, 1, sampler=Counting())
    passed(loader)
    iterator = iter(loader)
    next(iterator)
    state = loader.state_dict()
    rest = passed(iterator)
    other = VideoLoader(dataset, 1, sampler=Counting())
    other.load_state_dict(state)
    assert passed(other) == rest


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(1)


ORDERS = {
    "shuffle": lambda: {"shuffle": True, "generator": seeded()},
    "weighted": lambda: {"sampler": WeightedRandomSampler([1.0] * 8, 8, generator=seeded())},
    "subset": lambda: {"sampler": SubsetRandomSampler(range(6), generator=seeded())},
    "replacement": lambda: {"sampler": RandomSampler(range(8), replacement=True, num_samples=50, generator=seeded())},
    "batches": lambda: {"batch_sampler": BatchSampler(RandomSampler(range(8), generator=seeded()), 4, False)},
    "state": lambda: {"sampler": Counting()},
    "two": lambda: {"sampler": RandomSampler(range(8), generator=seeded()), "generator": seeded()},
}


def loader_of(kind: str, dataset: VideoDataset) -> VideoLoader:
    options = ORDERS[kind]()
    return VideoLoader(dataset, 1 if "batch_sampler" in options else 4, num_workers=1, **options)


@pytest.mark.parametrize("kind", ORDERS)
def test_a_state_between_epochs_goes_on_as_an_undisturbed_run(kind: str, dataset) -> None:
    """Saved at the end of each epoch, it had no generators: the resumed epoch had the order of the first."""
    loader = loader_of(kind, dataset)
    states, epochs = [], []
    for _ in range(3):
        states.append(pickle.loads(pickle.dumps(loader.state_dict())))
        epochs.append(passed(loader))
    for done, state in enumerate(states):
        other = loader_of(kind, dataset)
        other.load_state_dict(state)
        assert [passed(other) for _ in range(done, 3)] == epochs[done:]


def test_a_state_taken_after_set_epoch_goes_on_as_an_undisturbed_run(dataset) -> None:
    loader = loader_of("shuffle", dataset)
    passed(loader)
    loader.set_epoch(4)
    state, expected = loader.state_dict(), passed(loader)
    other = loader_of("shuffle", dataset)
    other.load_state_dict(state)
    assert passed(other) == expected


@pytest.mark.parametrize("kind", ["shuffle", "state"])
def test_a_state_with_another_number_of_generators_or_samplers_is_refused(kind: str, dataset) -> None:
    plain, loader = VideoLoader(dataset, 4), loader_of(kind, dataset)
    for one, other, counts in ((plain, loader, "0, .* have 1"), (loader, plain, "1, .* have 0")):
        with pytest.raises(ValueError, match=f"has the states of {counts}; give it the sampler and generator"):
            other.load_state_dict(one.state_dict())


class Positioned(DistributedSampler):
    """Its state is its place in the epoch (torchdata's StatefulDistributedSampler)."""

    num_done, start = 0, 0

    def __iter__(self) -> Iterator[int]:
        self.num_done, self.start = self.start, 0
        for index in list(super().__iter__())[self.num_done :]:
            self.num_done += 1
            yield index

    def state_dict(self) -> dict[str, int]:
        return {"num_done": self.num_done}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.start = state["num_done"]


@pytest.mark.parametrize("num_done", [0, 1, 4, 5, 8])
def test_the_place_that_a_distributed_sampler_keeps_is_not_counted_twice(num_done: int, dataset) -> None:
    whole = VideoLoader(dataset, 2, sampler=Positioned(dataset, 1, 0))
    expected = [batch for _ in range(3) for batch in passed(whole)]
    dataset.set_epoch(0)
    loader = VideoLoader(dataset, 2, sampler=Positioned(dataset, 1, 0))
    for _ in range(num_done // 4):
        passed(loader)
    iterator = iter(loader)
    for _ in range(num_done % 4):
        next(iterator)
    other = VideoLoader(dataset, 2, sampler=Positioned(dataset, 1, 0))
    other.load_state_dict(loader.state_dict())
    assert passed(other) == expected[num_done : 4 * (num_done // 4 + 1)]


def test_setting_the_epoch_of_a_loaded_state_keeps_its_place(dataset) -> None:
    """Trainers restore the loader, then set the epoch: the place in it was lost."""
    loader = VideoLoader(dataset, 2, shuffle=True)
    loader.set_epoch(4)
    iterator = iter(loader)
    next(iterator)
    state, rest = loader.state_dict(), passed(iterator)
    for teller in TELLERS:
        other = VideoLoader(dataset, 2, shuffle=True)
        other.load_state_dict(state)
        teller(other, 4)
        assert passed(other) == rest
        other.load_state_dict(state)
        teller(other, 5)
        assert passed(other) == epoch_of(dataset, 5, shuffle=True)
