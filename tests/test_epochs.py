"""Which epoch a pass is, whoever sets it; and which clip a video gives that is drawn again."""

from __future__ import annotations

import copy
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from passes import TELLERS, Batches, eight_videos, epoch_of, order, passed
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    DistributedSampler,
    Subset,
    WeightedRandomSampler,
)

import vidload
from vidload import VideoDataset, VideoLoader
from vidload.transforms import center_crop, random_resized_crop


@pytest.fixture
def dataset(video) -> VideoDataset:
    return eight_videos(video)


# --- a video that is drawn again


def test_a_video_drawn_again_in_an_epoch_gives_another_clip(dataset) -> None:
    """WeightedRandomSampler, class balancing and repeated augmentation did nothing: the same clip came twice."""
    sampler = WeightedRandomSampler([0.9, 0.1], 12, generator=torch.Generator().manual_seed(0))
    ((_, pixels),) = passed(VideoLoader(dataset, 12, sampler=sampler, num_workers=2))
    size = len(pixels) // 12
    assert len({pixels[i * size : (i + 1) * size] for i in range(12)}) == 12


def test_the_first_draw_is_the_dataset_s_own_clip(dataset) -> None:
    (first, again), _ = next(iter(VideoLoader(dataset, 2, sampler=[5, 5])))
    assert torch.equal(first, dataset[5][0]) and not torch.equal(again, dataset[5][0])


def test_a_subset_that_lists_a_video_twice_draws_it_twice(dataset) -> None:
    ((one, other), labels) = next(iter(VideoLoader(Subset(dataset, [3, 3]), 2)))
    assert labels.tolist() == [3, 3] and not torch.equal(one, other)


@pytest.mark.parametrize("num_done", [1, 2, 5])
def test_draws_are_the_same_for_any_threads_and_after_resuming(num_done: int, dataset) -> None:
    draws = [1, 1, 2, 1, 0, 2, 1, 0, 0, 1, 1, 2]
    runs = []
    for num_workers in (0, 1, 4):
        dataset.set_epoch(0)
        runs.append(passed(VideoLoader(dataset, 2, sampler=draws, num_workers=num_workers)))
    assert runs[0] == runs[1] == runs[2]
    dataset.set_epoch(0)
    loader = VideoLoader(dataset, 2, sampler=draws, num_workers=2)
    iterator = iter(loader)
    for _ in range(num_done):
        next(iterator)
    other = VideoLoader(dataset, 2, sampler=draws, num_workers=1)
    other.load_state_dict(loader.state_dict())
    assert passed(other) == runs[0][num_done:]


class RepeatedAugmentation(torch.utils.data.Sampler[int]):
    """Each video several times in a row, dealt out to the ranks (DeiT's RASampler)."""

    def __init__(self, num_videos: int, num_repeats: int, num_replicas: int, rank: int) -> None:
        self.indices = [index for index in range(num_videos) for _ in range(num_repeats)]
        self.num_replicas, self.rank = num_replicas, rank

    def __iter__(self) -> Iterator[int]:
        return iter(self.indices[self.rank :: self.num_replicas])

    def __len__(self) -> int:
        return len(self.indices) // self.num_replicas


def test_a_video_that_several_ranks_draw_gives_each_another_clip(dataset) -> None:
    clips = []
    for rank in range(3):
        dataset.set_epoch(0)
        loader = VideoLoader(dataset, 1, sampler=RepeatedAugmentation(4, 3, 3, rank))
        clips += [pixels for _, pixels in passed(loader)]
    assert len(set(clips)) == 12


def test_ranks_that_share_one_order_have_the_clips_of_one_process(dataset) -> None:
    alone = {labels[0]: pixels for labels, pixels in (passed(VideoLoader(dataset, 1)))}
    for rank in range(2):
        dataset.set_epoch(0)
        sampler = DistributedSampler(dataset, 2, rank)
        assert all(alone[labels[0]] == pixels for labels, pixels in passed(VideoLoader(dataset, 1, sampler=sampler)))


def test_a_substitute_is_not_a_copy_of_the_video_s_own_sample(dataset, video, tmp_path: Path) -> None:
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(b"no video")
    mixed = VideoDataset([(video("h264"), 0), (str(bad), 1)], clip="2x1x1", transform=random_resized_crop(16))
    for epoch in range(4):
        mixed.set_epoch(epoch)
        (((own, substitute), labels),) = VideoLoader(mixed, 2, on_error="substitute")
        assert labels.tolist() == [0, 0] and not torch.equal(own, substitute)


# --- whoever sets the epoch


@pytest.mark.parametrize("when", ["before iter()", "after iter()"])
@pytest.mark.parametrize("teller", TELLERS)
@pytest.mark.parametrize("kind", ["shuffle", "DistributedSampler"])
def test_whoever_sets_the_epoch_is_heard_in_order_and_crops(kind: str, teller, when: str, dataset) -> None:
    def options() -> dict:
        return {"shuffle": True} if kind == "shuffle" else {"sampler": DistributedSampler(dataset, 1, 0)}

    expected = {epoch: epoch_of(dataset, epoch, **options()) for epoch in (0, 3, 5, 6)}
    assert order(expected[5]) != order(expected[6]) and expected[5] != expected[6]
    loader = VideoLoader(dataset, 2, num_workers=2, **options())
    for epoch in (5, 3, 3, 0, 0):
        if when == "before iter()":
            teller(loader, epoch)
            assert passed(loader) == expected[epoch]
        else:
            iterator = iter(loader)
            teller(loader, epoch)
            assert passed(iterator) == expected[epoch]
    teller(loader, 5)
    assert passed(loader) == expected[5]
    assert passed(loader) == expected[6]  # and told nothing, it counts on


def test_the_order_under_a_distributed_sampler_is_data_loader_s(dataset) -> None:
    for epoch in (0, 5):
        orders = []
        for kind in (DataLoader, VideoLoader):
            sampler = DistributedSampler(dataset, 2, 0, seed=7)
            loader = kind(dataset, 2, sampler=sampler)
            if epoch:
                sampler.set_epoch(epoch)
            dataset.set_epoch(epoch)
            orders.append(order(passed(loader)))
        assert orders[0] == orders[1]


class Restless(torch.utils.data.Sampler[int]):
    """Holds its epoch under another name, as an int of its own."""

    def __init__(self) -> None:
        self.turn = 0

    def set_epoch(self, epoch: int) -> None:
        self.turn = epoch

    def __iter__(self) -> Iterator[int]:
        return iter([self.turn % 8, (self.turn + 1) % 8])


def test_a_sampler_that_keeps_its_epoch_under_any_name_is_heard_once_it_was_told_one(dataset) -> None:
    loader = VideoLoader(dataset, 2, sampler=Restless())
    assert order(passed(loader)) == [0, 1]
    assert order(passed(loader)) == [1, 2]
    for epoch in (6, 6, 0):
        loader.sampler.set_epoch(epoch)
        assert order(passed(loader)) == [epoch, epoch + 1]


class Bucketed(BatchSampler):
    """A batch sampler with an epoch of its own, around a sampler without one."""

    epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __iter__(self) -> Iterator[list[int]]:
        batches = list(super().__iter__())
        yield from batches[self.epoch % 4 :] + batches[: self.epoch % 4]


def test_a_batch_sampler_s_own_epoch_is_heard(dataset) -> None:
    batch_sampler = Bucketed(range(8), 2, False)
    loader = VideoLoader(dataset, batch_sampler=batch_sampler)
    batch_sampler.set_epoch(3)
    third = passed(loader)
    assert order(third) == [6, 7, 0, 1, 2, 3, 4, 5]
    dataset.set_epoch(3)
    assert third[0][1] == b"".join(dataset[index][0].numpy().tobytes() for index in (6, 7))


class Delegating(torch.utils.data.Sampler[int]):
    """Hands the epoch on to a sampler that it holds under a name of its own."""

    def __init__(self, base: DistributedSampler) -> None:
        self.base = base

    def set_epoch(self, epoch: int) -> None:
        self.base.set_epoch(epoch)

    def __iter__(self) -> Iterator[int]:
        return iter(self.base)


class Reseeded(torch.utils.data.Sampler[int]):
    """Keeps no number, only a generator."""

    def __init__(self) -> None:
        self.random = torch.Generator().manual_seed(0)

    def set_epoch(self, epoch: int) -> None:
        self.random.manual_seed(epoch)

    def __iter__(self) -> Iterator[int]:
        return iter(torch.randperm(8, generator=self.random).tolist())


class PlainInt(torch.utils.data.Sampler[int]):
    """Stores a plain int, which does not tell who has set it."""

    epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = int(epoch)

    def __iter__(self) -> Iterator[int]:
        return iter(torch.randperm(8, generator=torch.Generator().manual_seed(self.epoch)).tolist())


@pytest.mark.parametrize("kind", [Delegating, Reseeded, PlainInt])
def test_a_sampler_is_heard_however_it_keeps_its_epoch(kind: type, dataset) -> None:
    sampler = kind(DistributedSampler(dataset, 1, 0)) if kind is Delegating else kind()
    loader = VideoLoader(dataset, 2, sampler=sampler, num_workers=0)
    for epoch in (5, 6, 7, 7, 7, 0, 0):
        sampler.set_epoch(epoch)
        expected = list(sampler)
        sampler.set_epoch(epoch)
        assert order(passed(loader)) == expected
        assert dataset.epoch == epoch


def test_two_runs_over_one_dataset_that_set_their_epochs_are_equal(dataset) -> None:
    """The second run's epoch 0 had the clips of the epoch after the first run's last."""

    def run() -> list[Batches]:
        sampler = DistributedSampler(dataset, 1, 0)
        loader = VideoLoader(dataset, 2, sampler=sampler)
        epochs = []
        for epoch in range(2):
            sampler.set_epoch(epoch)
            epochs.append(passed(loader))
        return epochs

    assert run() == run()


def test_an_epoch_set_before_the_loader_was_made_is_heard(dataset) -> None:
    sampler = DistributedSampler(dataset, 1, 0)
    sampler.set_epoch(4)
    passed(VideoLoader(dataset, 2, sampler=sampler))
    assert dataset.epoch == 4


@pytest.mark.parametrize("last", ["dataset", "sampler"])
def test_of_two_epochs_the_one_set_last_counts_for_order_and_clips(last: str, dataset) -> None:
    expected = epoch_of(dataset, 7, shuffle=True)
    loader = VideoLoader(dataset, 2, shuffle=True)
    first, second = (loader.sampler, dataset) if last == "dataset" else (dataset, loader.sampler)
    first.set_epoch(5)
    second.set_epoch(7)
    assert passed(loader) == expected


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))])
def test_a_copy_of_a_loader_s_sampler_is_told_its_epoch_alone(duplicate, dataset) -> None:
    sampler = PlainInt()
    loader = VideoLoader(dataset, 2, sampler=sampler)
    sampler.set_epoch(3)
    other = duplicate(sampler)
    other.set_epoch(6)
    assert (sampler.epoch, other.epoch) == (3, 6)
    passed(VideoLoader(dataset, 2, sampler=other))
    assert dataset.epoch == 6
    passed(loader)
    assert dataset.epoch == 3


class Slotted:
    __slots__ = ("epoch",)

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch


def test_a_sampler_whose_epoch_cannot_be_heard_is_refused(dataset) -> None:
    with pytest.raises(TypeError, match=r"Slotted: calls of its set_epoch cannot be noted.*without __slots__"):
        VideoLoader(dataset, 2, sampler=Slotted())


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))])
def test_persistent_workers_over_a_copied_dataset_hear_set_epoch(duplicate, dataset) -> None:
    data = duplicate(dataset)
    loader = DataLoader(data, 8, num_workers=1, persistent_workers=True, multiprocessing_context="fork")
    epochs = []
    for epoch in range(2):
        data.set_epoch(epoch)
        epochs += [passed(loader)]
    assert epochs[0] != epochs[1]


def test_a_new_loader_for_each_epoch_goes_on(dataset) -> None:
    """It began with epoch 0 each time: one order and one set of crops for the whole training."""
    expected = [epoch_of(dataset, epoch, shuffle=True) for epoch in range(3)]
    dataset.set_epoch(0)
    assert [passed(VideoLoader(dataset, 2, shuffle=True)) for _ in range(3)] == expected


def test_loaders_of_the_parts_of_a_dataset_count_for_themselves(dataset) -> None:
    train, val = Subset(dataset, range(6)), Subset(dataset, range(6, 8))
    train_loader, val_loader = VideoLoader(train, 6), VideoLoader(val, 2)
    passes = [(passed(val_loader), passed(train_loader)) for _ in range(2)]
    for epoch, (of_val, of_train) in enumerate(passes):
        dataset.set_epoch(epoch)
        whole = passed(VideoLoader(dataset, 8))[0][1]
        assert of_train[0][1] + of_val[0][1] == whole


def test_a_loader_s_set_epoch_reaches_its_sampler_at_once(dataset) -> None:
    sampler = DistributedSampler(dataset, 2, 0)
    loader = VideoLoader(dataset, sampler=sampler)
    loader.set_epoch(4)
    assert sampler.epoch == 4


# --- subclasses, copies, names


class WithPath(VideoDataset):
    def __getitem__(self, index):
        clip, label = super().__getitem__(index)
        return {"pixel_values": clip, "labels": label}


class WithPathLabel(VideoDataset):
    def label(self, index: int) -> dict:
        return {"class": super().label(index), "path": self.annotations.path(index)}


@pytest.mark.parametrize("wrap", [lambda data: data, lambda data: Subset(data, [0])])
def test_a_getitem_of_a_subclass_is_refused_and_label_is_named(wrap, video) -> None:
    """A dict, a tokenizer or an extra transform disappeared without a word."""
    data = WithPath([(video("h264"), 0)], clip="1x1x1", transform=center_crop(16))
    with pytest.raises(TypeError, match=r"WithPath overrides __getitem__.*override label\(index\)"):
        VideoLoader(wrap(data))


def test_a_label_of_a_subclass_may_be_what_default_collate_takes(video) -> None:
    items = [(video("h264"), 4), (video("vp9"), 5)]
    data = WithPathLabel(items, clip="1x1x1", transform=center_crop(16))
    ours, plain = (next(iter(kind(data, 2))) for kind in (VideoLoader, DataLoader))
    assert torch.equal(ours[0], plain[0])
    assert ours[1]["path"] == plain[1]["path"] == [path for path, _ in items]
    assert ours[1]["class"].tolist() == [4, 5]


def test_a_slice_of_a_dataset_says_what_to_use(dataset) -> None:
    with pytest.raises(TypeError, match=r"indexed by one integer.*Subset\(dataset, range\(0, 2\)\)"):
        dataset[0:2]


def test_get_iterator_iterates(dataset) -> None:
    assert len(list(VideoLoader(dataset, 4)._get_iterator())) == 2


def test_used_loaders_can_be_copied_and_pickled_and_go_on(dataset) -> None:
    loader = VideoLoader(dataset, 2, shuffle=True, num_workers=2)
    passed(loader)
    copies = [copy.deepcopy(loader), pickle.loads(pickle.dumps(loader))]
    iterator = iter(loader)
    first = next(iterator)[1].tolist()
    copies += [copy.deepcopy(loader)]  # in mid-epoch
    expected = [first, *(labels.tolist() for _, labels in iterator)]
    for other in copies[:2]:
        assert [labels for labels, _ in passed(other)] == expected
    for other in copies:
        assert other.stats()["num_failed"] == 0
        other.set_epoch(9)
        assert passed(other) == epoch_of(dataset, 9, shuffle=True)


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_a_used_loader_goes_to_a_process_started_by(method: str, video, tmp_path: Path) -> None:
    script = tmp_path / "main.py"
    script.write_text(
        "import multiprocessing, sys, vidload\n"
        "def child(loader):\n"
        "    loader.sampler.set_epoch(7)\n"
        "    assert len(list(loader)) == 2 and loader.dataset.epoch == 7\n"
        "if __name__ == '__main__':\n"
        "    data = vidload.VideoDataset([(sys.argv[1], 0)] * 4, clip='2x1x1', transform=vidload.transforms.center_crop(16))\n"
        "    loader = vidload.VideoLoader(data, 2, shuffle=True, num_workers=1)\n"
        "    list(loader)\n"
        "    process = multiprocessing.get_context(sys.argv[2]).Process(target=child, args=(loader,))\n"
        "    process.start(); process.join(); sys.exit(process.exitcode)\n"
    )
    done = subprocess.run(
        [sys.executable, str(script), video("h264"), method], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr


def test_names_that_are_not_utf8_load_and_do_not_refuse_their_folder(video, tmp_path: Path) -> None:
    folder = tmp_path / "class"
    folder.mkdir()
    name = os.fsencode(folder) + b"/lat\xe9in.mp4"
    shutil.copy(video("h264"), name)
    shutil.copy(video("vp9"), folder / "good.webm")
    data = VideoDataset.from_folder(tmp_path, clip="1x1x1", transform=center_crop(16))
    assert len(next(iter(VideoLoader(data, 2)))[0]) == 2
    index = tmp_path / "index.arrow"
    paths = data.annotations.path_list()
    assert vidload.build_index(paths, index).failures == ()
    assert vidload.build_index(paths, index).num_scanned == 0  # they are found again
    indexed = VideoDataset(data.annotations, clip="1x1x1", transform=center_crop(16), index=index)
    loader = VideoLoader(indexed, 2)
    vidload._core.clear_index_cache()
    assert torch.equal(next(iter(loader))[0], torch.stack([data[0][0], data[1][0]]))
    assert loader.stats()["num_files_scanned"] == 0
    assert vidload.VideoReader(os.fsdecode(name)).num_frames == 48
    os.truncate(name, 100)
    with pytest.raises(vidload.VideoError) as caught:
        vidload.VideoReader(os.fsdecode(name))
    assert os.fsencode(caught.value.path) == name


def test_a_name_as_bytes_is_told_from_a_video_s_bytes(video) -> None:
    path = video("h264")
    with pytest.raises(ValueError, match=r"bytes are the video itself.*os\.fsdecode"):
        vidload.VideoReader(os.fsencode(path))


def test_a_dataset_can_be_made_where_there_is_no_shared_memory(video, monkeypatch):
    def refuse(tensor: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("unable to open shared memory object in read-write mode: Permission denied (13)")

    monkeypatch.setattr(torch.Tensor, "share_memory_", refuse)
    data = VideoDataset([(video("h264"), 0)], clip="2x1x1", transform=center_crop(32))
    data.set_epoch(3)
    assert data.epoch == 3
