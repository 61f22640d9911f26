"""A clip_transform and a batch_transform of the user's own: where they run, what they get, and what becomes of their errors."""

from __future__ import annotations

import gc
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from samples import both, is_same
from torch.utils.data import DistributedSampler

import vidload
from vidload import VideoDataset, VideoLoader
from vidload.errors import ClipTransformError
from vidload.transforms import center_crop, random_resized_crop

CLIPS = ("h264", "vp9", "mpeg4", "h264_star", "hevc")


@pytest.fixture
def data(video):
    """data(function, ...) -> a dataset with it."""

    def make(function: Any, **options: Any) -> VideoDataset:
        given = {"clip": "2x2x1", "transform": random_resized_crop((16, 24)), "seed": 3, **options}
        return VideoDataset([(video(n), i) for i, n in enumerate(CLIPS)], clip_transform=function, **given)

    return make


def noisy(clip: torch.Tensor, rng: Any) -> torch.Tensor:
    return clip + torch.tensor(rng.random(clip.shape), dtype=torch.float32)


@pytest.mark.parametrize(
    "function, shape",
    [
        (lambda clip: clip * 2, (3, 2, 16, 24)),
        (noisy, (3, 2, 16, 24)),
        (lambda clip: clip.mul_(2), (3, 2, 16, 24)),
        (lambda clip: clip.flip(-1), (3, 2, 16, 24)),
        (lambda clip: clip[:, :1, ::2], (3, 1, 8, 24)),
        (lambda clip: clip.to(torch.float64), (3, 2, 16, 24)),
    ],
    ids=["of the same kind", "random", "in place", "mirrored", "a part", "another dtype"],
)
def test_clips_are_what_the_function_makes_of_them_in_every_loader(function, shape, data) -> None:
    (clips, _), _ = both(data(function))
    assert clips.shape == (3, *shape)


def test_the_function_gets_the_clip_without_it(data) -> None:
    bare, changed = data(None), data(lambda clip: clip + 1)
    assert torch.equal(changed[2][0], bare[2][0] + 1)


def test_a_square_clip_transposed_in_its_own_memory_is_not_garbled(data) -> None:
    square = {"transform": center_crop(16)}
    turned = data(lambda clip: clip.transpose(-1, -2), **square)
    assert torch.equal(turned[0][0], data(None, **square)[0][0].transpose(-1, -2))
    both(turned)


def test_what_is_no_tensor_is_collated(data) -> None:
    views = data(lambda clip: {"fast": clip, "slow": clip[:, ::2]})
    (clips, _), _ = both(views)
    assert clips["fast"].shape == (3, 3, 2, 16, 24) and clips["slow"].shape == (3, 3, 1, 16, 24)


def test_random_numbers_differ_by_sample_epoch_and_draw_and_by_nothing_else(data) -> None:
    seen: dict[tuple[int, int, int], float] = {}
    drawn = data(lambda clip, rng: torch.tensor([rng.random()]))
    for num_workers in (0, 3):
        for epoch in (0, 1):
            loader = VideoLoader(drawn, 2, sampler=[0, 1, 0, 2, 0], num_workers=num_workers)
            loader.set_epoch(epoch)
            values = torch.cat([clips for clips, _ in loader]).flatten().tolist()
            for place, value in enumerate(values):
                assert seen.setdefault((epoch, place, 0), value) == value
    assert len(set(seen.values())) == 10
    assert drawn[1][0].item() == seen[1, 1, 0]  # the dataset is in epoch 1


def test_the_function_s_numbers_are_not_those_of_the_crop(data) -> None:
    crop = vidload.system.random.sample_rng(3, 0, 1).random(8)
    own = data(lambda clip, rng: torch.tensor(rng.random(8)))[1][0]
    assert not set(crop.tolist()) & set(own.tolist())


@pytest.mark.parametrize("on_error", ["raise", "skip", "substitute"])
@pytest.mark.parametrize("num_workers", [0, 2])
def test_an_exception_names_the_sample_and_is_never_skipped(on_error: str, num_workers: int, data, video) -> None:
    def fails(clip: torch.Tensor) -> torch.Tensor:
        raise KeyError("no such thing")

    with pytest.raises(
        ClipTransformError, match=r"h264\.mp4: clip_transform of sample 0: KeyError: 'no such thing'"
    ) as caught:
        list(VideoLoader(data(fails), 2, on_error=on_error, num_workers=num_workers))
    assert isinstance(caught.value.__cause__, KeyError)
    assert (caught.value.path, caught.value.sample) == (video("h264"), 0)


def test_it_runs_in_threads_that_end_with_the_loader(data) -> None:
    names = set()

    def note(clip: torch.Tensor) -> torch.Tensor:
        names.add(threading.current_thread().name)
        return clip

    others = set(threading.enumerate())

    def wake_threads() -> list[threading.Thread]:
        found = set(threading.enumerate()) - others
        return [thread for thread in found if thread.name == "vidload-wake"]

    loader = VideoLoader(data(note), 1, num_workers=2)
    list(loader)
    assert names == {"vidload-wake"} and len(wake_threads()) == 2
    threads = wake_threads()
    next(iter(loader))  # broken off
    del loader
    gc.collect()
    for thread in threads:
        thread.join(10)
    assert not wake_threads()


def test_substitutes_are_transformed_too(data, tmp_path: Path, video) -> None:
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(b"no video")
    items = [(str(bad), 0), (video("h264"), 1)]
    dataset = VideoDataset(
        items, clip="1x1x1", transform=center_crop(16), dtype=torch.uint8, clip_transform=lambda c: c // 2
    )
    clips, _ = next(iter(VideoLoader(dataset, 2, on_error="substitute", num_workers=2)))
    assert torch.equal(clips[0], clips[1]) and clips.max() < 128
    ((clips, labels),) = VideoLoader(dataset, 2, on_error="skip", num_workers=2)
    assert labels.tolist() == [1] and torch.equal(clips[0], dataset[1][0])


# --- batch_transform


def test_a_batch_transform_changes_what_is_yielded(data) -> None:
    loader = VideoLoader(data(None), 2, batch_transform=lambda batch: {"video": batch[0], "labels": batch[1]})
    assert [batch["labels"].tolist() for batch in loader] == [[0, 1], [2, 3], [4]]


def test_its_random_numbers_depend_on_seed_epoch_and_first_sample_alone(data) -> None:
    def draw(batch: Any, rng: Any) -> tuple[list[int], float]:
        return batch[1].tolist(), rng.random()

    def run(num_workers: int, **options: Any) -> list[Any]:
        loader = VideoLoader(data(None), 2, batch_transform=draw, num_workers=num_workers, **options)
        return [list(loader), list(loader)]

    first, second = run(2)
    assert run(0) == [first, second]
    assert len({number for _, number in first + second}) == 6
    loader = VideoLoader(data(None), 2, batch_transform=draw)
    next(iter(loader))
    other = VideoLoader(data(None), 2, batch_transform=draw)
    other.load_state_dict(loader.state_dict())
    assert list(other) == first[1:]
    ranks = [run(1, sampler=DistributedSampler(range(4), 2, rank, shuffle=False))[0] for rank in range(2)]
    assert len({number for rank in ranks for _, number in rank}) == 2


def test_progress_is_shown_when_asked(data, capsys) -> None:
    list(VideoLoader(data(None), 2))
    assert capsys.readouterr().err == ""
    loader = VideoLoader(data(None), 2, progress=True)
    loader.set_epoch(4)
    list(loader)
    shown = capsys.readouterr().err
    assert "epoch 4: 100%" in shown and "3/3" in shown and "waiting=" in shown


def test_a_loader_with_all_of_it_pickles(data) -> None:
    import pickle

    loader = VideoLoader(data(noisy), 2, progress=False, num_workers=2)
    first = list(loader)
    again = pickle.loads(pickle.dumps(loader))
    again.set_epoch(0)
    assert is_same(list(again), first)
