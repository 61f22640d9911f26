"""What Python's threads share: readers, loaders, datasets and memory give each thread what one alone would get. Without a GIL, too: where
Python has none, importing vidload leaves it off."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from vidload import VideoDataset, VideoError, VideoLoader, VideoReader
from vidload.loading.memory import Memory
from vidload.transforms import random_resized_crop

CLIPS = ("h264", "hevc", "vp9", "mpeg4", "h264_rotated_90", "mjpeg_avi")
NUM_THREADS = 8


@pytest.fixture
def items(video) -> list[tuple[str, int]]:
    return [(video(name), label) for label, name in enumerate(CLIPS)]


def results_of(work: Callable[[int], Any]) -> list[Any]:
    """work(number) in each of 8 threads, all started at once."""
    results: list[Any] = [None] * NUM_THREADS
    barrier = threading.Barrier(NUM_THREADS)

    def run(number: int) -> None:
        barrier.wait()
        try:
            results[number] = work(number)
        except BaseException as error:
            results[number] = error

    threads = [threading.Thread(target=run, args=(number,)) for number in range(NUM_THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return results


def batches_of(loader: VideoLoader) -> list[torch.Tensor]:
    return [clips.clone() for clips, _ in loader]


def equal(one: list[torch.Tensor], other: list[torch.Tensor]) -> bool:
    return len(one) == len(other) and all(map(torch.equal, one, other))


@pytest.mark.skipif(not sysconfig.get_config_var("Py_GIL_DISABLED"), reason="this Python has a GIL")
def test_the_gil_stays_off() -> None:
    code = "import sys; from vidload import _core; assert not sys._is_gil_enabled()"
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)


def test_a_reader_that_threads_share_gives_each_its_own_frames(video) -> None:
    reader = VideoReader(video("h264"))
    wanted = [np.random.default_rng(number).permutation(reader.num_frames)[:9] for number in range(NUM_THREADS)]
    expected = [reader.get_frames_at(frames) for frames in wanted]
    for _ in range(3):
        found = results_of(lambda number: reader.get_frames_at(wanted[number]))
        assert all(map(np.array_equal, found, expected))


def test_readers_that_are_opened_and_closed_at_once_agree(video) -> None:
    names = [video(name) for name in CLIPS]
    expected = [VideoReader(name).get_frames_at([3, 1, 4]) for name in names]

    def work(number: int) -> list[Any]:
        found = []
        for turn in range(len(names)):
            place = (number + turn) % len(names)
            with VideoReader(names[place]) as reader:
                found.append(np.array_equal(reader.get_frames_at([3, 1, 4]), expected[place]))
        return found

    assert all(map(all, results_of(work)))


def test_loaders_of_one_dataset_in_threads_give_equal_batches(items) -> None:
    dataset = VideoDataset(items * 3, clip="4x2x1", transform=random_resized_crop(32), seed=1)
    expected = batches_of(VideoLoader(dataset, batch_size=4, num_workers=2))

    def work(_: int) -> list[list[torch.Tensor]]:
        loader = VideoLoader(dataset, batch_size=4, num_workers=2)
        found = []
        for _ in range(2):
            loader.set_epoch(0)
            found.append(batches_of(loader))
        return found

    assert all(equal(batches, expected) for found in results_of(work) for batches in found)


def test_loaders_of_threads_go_on_by_their_own_epochs(items) -> None:
    def epochs() -> list[list[torch.Tensor]]:
        dataset = VideoDataset(items, clip="4x2x1", transform=random_resized_crop(32), seed=1)
        loader = VideoLoader(dataset, batch_size=4, num_workers=1)
        return [batches_of(loader) for _ in range(4)]

    expected = epochs()
    for found in results_of(lambda _: epochs()):
        assert all(map(equal, found, expected))


def test_samples_that_threads_index_are_those_of_one_thread(items) -> None:
    dataset = VideoDataset(items, clip="4x2x1", transform=random_resized_crop(32), seed=1)
    expected = [dataset[i][0] for i in range(len(dataset))]
    for found in results_of(lambda _: [dataset[i][0] for i in range(len(dataset))]):
        assert equal(found, expected)


def test_clip_transforms_of_many_loaders_run_at_once(items) -> None:
    dataset = VideoDataset(
        items, clip="4x2x1", transform=random_resized_crop(32), seed=1, clip_transform=lambda clip: 255 - clip
    )
    expected = batches_of(VideoLoader(dataset, batch_size=2, num_workers=2))

    def work(_: int) -> list[torch.Tensor]:
        loader = VideoLoader(dataset, batch_size=2, num_workers=2)
        loader.set_epoch(0)
        return batches_of(loader)

    for found in results_of(work):
        assert equal(found, expected)


def test_memory_that_threads_take_from_one_pool_is_each_ones_own() -> None:
    memory = Memory(None)

    def work(number: int) -> bool:
        held: list[tuple[torch.Tensor, int]] = []
        for turn in range(200):
            tensor = memory.take((7, 100), torch.uint8, False)
            tensor.fill_((number * 31 + turn) % 256)
            held.append((tensor, (number * 31 + turn) % 256))
            if not all((kept == value).all() for kept, value in held):
                return False
            del held[: len(held) - 2]
        return True

    assert all(results_of(work))


def test_loaders_abandoned_by_threads_do_no_harm(items, tmp_path) -> None:
    (tmp_path / "bad.mp4").write_bytes(b"no video" * 1000)
    dataset = VideoDataset(
        [*items * 2, (str(tmp_path / "bad.mp4"), 0)], clip="4x2x1", transform=random_resized_crop(32), seed=1
    )
    expected = batches_of(VideoLoader(dataset, batch_size=4, num_workers=1, on_error="skip"))

    def work(number: int) -> bool:
        for _ in range(3):
            loader = VideoLoader(dataset, batch_size=4, num_workers=2, on_error="raise")
            loader.set_epoch(0)
            batches = iter(loader)
            if not torch.equal(next(batches)[0], expected[0]):
                return False
            if number % 2:
                with pytest.raises(VideoError, match="bad"):
                    list(batches)
            del batches, loader
        return True

    assert all(results_of(work))
