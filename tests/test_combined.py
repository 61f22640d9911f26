"""ConcatDataset, Subset, random_split and weighted mixtures of them through VideoLoader: the samples of a plain DataLoader over the same."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from samples import both, is_same
from torch.utils.data import ConcatDataset, DataLoader, DistributedSampler, Subset, WeightedRandomSampler, random_split

from vidload import VideoDataset, VideoLoader
from vidload.transforms import center_crop, random_resized_crop


@pytest.fixture
def parts(video) -> tuple[VideoDataset, VideoDataset]:
    """Two datasets of other clips, crops, labels, seeds and rules."""
    one = VideoDataset([(video(n), i) for i, n in enumerate(("h264", "vp9", "mpeg4"))], clip="2x2x1",
                       transform=random_resized_crop(16), seed=1, fields=["index", "path"])  # fmt: skip
    two = VideoDataset([(video(n), 10 + i) for i, n in enumerate(("h264_star", "h264"))], clip="2x1x1",
                       transform=center_crop(16), sampling="dense", training=True, seed=2, fields=["index", "path"],
                       clip_transform=lambda clip, rng: clip + rng.random())  # fmt: skip
    return one, two


def passed(loader: Any) -> list[Any]:
    return [(clips.clone(), *rest) for clips, *rest in loader]


def labels_of(batches: list[Any]) -> list[int]:
    return [label for _, labels, *_ in batches for label in labels.tolist()]


@pytest.mark.parametrize(
    "combine, labels",
    [
        (lambda one, two: ConcatDataset([one, two]), [0, 1, 2, 10, 11]),
        (lambda one, two: Subset(ConcatDataset([two, one]), [4, 0, 1, 2]), [2, 10, 11, 0]),
        (lambda one, two: ConcatDataset([Subset(one, [2, 0]), ConcatDataset([Subset(two, [1])])]), [2, 0, 11]),
        (lambda one, two: ConcatDataset([two]), [10, 11]),
    ],
)
def test_combinations_give_the_samples_of_a_plain_data_loader(combine, labels: list[int], parts) -> None:
    assert labels_of(both(combine(*parts))) == labels


def test_random_splits_share_no_sample_and_keep_their_own(parts) -> None:
    whole = ConcatDataset(parts)
    train, val = random_split(whole, [3, 2], torch.Generator().manual_seed(0))
    assert sorted(labels_of(both(train)) + labels_of(both(val))) == [0, 1, 2, 10, 11]


def test_each_epoch_of_a_combination_is_new_and_can_be_set_by_anyone(parts) -> None:
    whole = ConcatDataset(parts)
    loader = VideoLoader(whole, 2, shuffle=True, num_workers=2)
    epochs = [passed(loader) for _ in range(3)]
    assert not is_same(epochs[0], epochs[1]) and sorted(labels_of(epochs[1])) == [0, 1, 2, 10, 11]
    loader.set_epoch(1)
    assert is_same(passed(loader), epochs[1])
    parts[1].set_epoch(0)  # the last one that was told is heard
    assert is_same(passed(loader), epochs[0])
    assert is_same(passed(VideoLoader(whole, 2, shuffle=True)), epochs[1])  # a new loader goes on
    moved = pickle.loads(pickle.dumps(ConcatDataset([parts[0]])))
    moved.datasets[0].set_epoch(7)
    assert VideoLoader(moved).state_dict()["epoch"] == 7


def test_a_plain_data_loader_gives_the_same_in_a_later_epoch(parts) -> None:
    whole = ConcatDataset(parts)
    for part in parts:
        part.set_epoch(5)
    assert is_same(list(DataLoader(whole, 3)), list(VideoLoader(whole, 3)))


def test_a_weighted_mixture_draws_new_clips_of_a_video_drawn_again(parts) -> None:
    whole = ConcatDataset(parts)
    weights = torch.cat(
        [torch.full((len(part),), share / len(part)) for part, share in zip(parts, (0.25, 0.75), strict=True)]
    )
    sampler = WeightedRandomSampler(weights.tolist(), 400, generator=torch.Generator().manual_seed(0))
    batches = passed(VideoLoader(whole, 8, sampler=sampler))
    labels = torch.tensor(labels_of(batches))
    assert 0.67 < (labels >= 10).float().mean() < 0.83  # 0.75, and 3.5 standard deviations of 400 draws
    clips = torch.cat([clips for clips, *_ in batches])
    of_one_video = clips[labels == 0].flatten(1)
    assert len(torch.unique(of_one_video, dim=0)) == len(of_one_video) > 10


def test_a_dataset_that_is_there_twice_counts_its_draws_once(parts) -> None:
    one, _ = parts
    clips = torch.cat([clips for clips, *_ in passed(VideoLoader(ConcatDataset([one, one]), 4))])
    assert torch.equal(clips[0], one[0][0]) and not torch.equal(clips[3], clips[0])


@pytest.mark.parametrize("num_done", [0, 1, 2])
def test_a_combination_goes_on_in_mid_epoch(num_done: int, parts) -> None:
    whole = ConcatDataset(parts)
    loader = VideoLoader(whole, 2, shuffle=True, num_workers=2)
    passed(loader)
    iterator = iter(loader)
    for _ in range(num_done):
        next(iterator)
    state, rest = loader.state_dict(), passed(iterator)
    other = VideoLoader(whole, 2, shuffle=True, num_workers=0)
    other.load_state_dict(state)
    assert is_same(passed(other), rest)
    with pytest.raises(ValueError, match="num_samples is 5, but 3 here"):
        VideoLoader(parts[0]).load_state_dict(state)


def test_ranks_share_a_combination(parts) -> None:
    whole = ConcatDataset(parts)
    labels = []
    for rank in range(2):
        loader = VideoLoader(whole, 1, sampler=DistributedSampler(whole, 2, rank, shuffle=False))
        loader.set_epoch(0)
        labels += labels_of(passed(loader))
    assert sorted(labels) == [0, 0, 1, 2, 10, 11]


def test_bad_videos_of_a_combination_are_named_skipped_and_substituted(parts, tmp_path: Path) -> None:
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(b"no video")
    one, two = parts
    broken = VideoDataset([(str(bad), 99)], clip="2x1x1", transform=center_crop(16), fields=["index", "path"])
    whole = ConcatDataset([one, broken, two])
    with pytest.raises(ValueError, match=r"bad\.mp4"):
        passed(VideoLoader(whole, 6))
    loader = VideoLoader(whole, 6, on_error="skip")
    loader.set_epoch(0)
    ((clips, labels, _),) = passed(loader)
    assert labels.tolist() == [0, 1, 2, 10, 11] and len(clips) == 5
    assert [(failure.sample, failure.path) for failure in loader.stats()["failures"]] == [(3, str(bad))]
    for num_workers in (0, 2):
        loader = VideoLoader(whole, 6, on_error="substitute", num_workers=num_workers)
        loader.set_epoch(0)
        ((substituted, of_all, fields),) = passed(loader)
        assert of_all.tolist()[3] in {0, 1, 2, 10, 11} and fields["path"][3] != str(bad)
        assert torch.equal(substituted[[0, 1, 2, 4, 5]], clips)


def test_substitutes_come_from_the_loader_s_own_part_of_a_dataset(video, tmp_path: Path) -> None:
    """A training split was given samples of the validation split in place of bad ones."""
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(b"no video")
    items = [(str(bad), 0), (video("h264"), 1), *((video("h264"), 2) for _ in range(30))]
    data = VideoDataset(items, clip="1x1x1", transform=center_crop(16))
    for epoch in range(5):
        loader = VideoLoader(Subset(data, [0, 1]), 2, on_error="substitute")
        loader.set_epoch(epoch)
        ((_, labels),) = passed(loader)
        assert labels.tolist() == [1, 1]


def test_datasets_that_do_not_fit_into_one_batch_are_refused(video) -> None:
    def data(**options: Any) -> VideoDataset:
        return VideoDataset([(video("h264"), 0)], **{"clip": "2x1x1", "transform": center_crop(16), **options})

    for other, name in (
        (data(clip="4x1x1"), "sample_shape"),
        (data(dtype=torch.uint8), "dtype"),
        (data(fields=["index"]), "fields"),
    ):
        with pytest.raises(ValueError, match=rf"samples of one kind: {name} is .* in number 1 \(.*h264\.mp4"):
            VideoLoader(ConcatDataset([data(), other]))


class OwnConcat(ConcatDataset):
    def __getitem__(self, index):
        return super().__getitem__(index)[0]


def test_a_getitem_of_a_concat_dataset_s_subclass_is_refused(parts) -> None:
    with pytest.raises(TypeError, match="OwnConcat overrides __getitem__"):
        VideoLoader(OwnConcat(parts))


def test_an_index_beyond_a_combination_is_an_error(parts) -> None:
    with pytest.raises(IndexError, match=r"the sampler drew 5, which is out of range \[0, 5\)"):
        passed(VideoLoader(ConcatDataset(parts), sampler=[5]))
