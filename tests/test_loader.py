"""VideoLoader keeps DataLoader's contract, and gives the same tensors however it is run."""

from __future__ import annotations

import copy
import gc
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import (
    DataLoader,
    DistributedSampler,
    Subset,
    WeightedRandomSampler,
)
from waiting import becomes_true, num_threads

import vidload
from vidload import FrameFolderDataset, VideoDataset, VideoError, VideoLoader
from vidload.transforms import center_crop, random_resized_crop, three_crop

CLIPS = ("h264", "h264_no_b_frames", "hevc", "vp9", "mpeg4", "h264_rotated_90", "h264_star", "mjpeg_avi")


@pytest.fixture
def items(video) -> list[tuple[str, int]]:
    return [(video(name), label) for label, name in enumerate(CLIPS)]


@pytest.fixture
def dataset(items) -> VideoDataset:
    return VideoDataset(items, clip="4x2x1", transform=random_resized_crop(32), seed=1)


def epoch_of(loader) -> list[tuple[torch.Tensor, torch.Tensor]]:
    return [(clips.clone(), labels) for clips, labels in loader]


def assert_same(one, other) -> None:
    assert len(one) == len(other)
    for (clips, labels), (other_clips, other_labels) in zip(one, other, strict=True):
        assert torch.equal(clips, other_clips)
        assert torch.equal(labels, other_labels)


# --- the same tensors


@pytest.mark.parametrize("clip", ["1x1x3", "1x1x8", "8x2x1", "4x4x1", "2x1x2"])
def test_any_number_of_threads_and_a_plain_data_loader_give_equal_tensors(clip: str, items) -> None:
    dataset = VideoDataset(items, clip=clip, transform=random_resized_crop(32), seed=5)
    expected = epoch_of(DataLoader(dataset, batch_size=3))
    for num_workers in (0, 1, 2, 5):
        dataset.set_epoch(0)  # a new loader would go on with the next
        assert_same(epoch_of(VideoLoader(dataset, batch_size=3, num_workers=num_workers)), expected)


def test_worker_processes_of_a_plain_data_loader_give_equal_tensors(dataset) -> None:
    for epoch in (0, 3):
        dataset.set_epoch(epoch)
        expected = epoch_of(DataLoader(dataset, batch_size=3))
        assert_same(epoch_of(DataLoader(dataset, batch_size=3, num_workers=2)), expected)


def test_persistent_worker_processes_of_a_plain_data_loader_see_set_epoch(dataset) -> None:
    loader = DataLoader(dataset, batch_size=4, num_workers=1, persistent_workers=True)
    epochs = []
    for epoch in (0, 1):
        dataset.set_epoch(epoch)
        epochs.append(epoch_of(loader))
    dataset.set_epoch(1)
    assert_same(epochs[1], epoch_of(DataLoader(dataset, batch_size=4)))
    assert not torch.equal(epochs[0][0][0], epochs[1][0][0])


def test_each_epoch_is_new_and_set_epoch_repeats_one(dataset) -> None:
    loader = VideoLoader(dataset, batch_size=4, shuffle=True, num_workers=2)
    first, second = epoch_of(loader), epoch_of(loader)
    assert not torch.equal(first[0][0], second[0][0])
    loader.set_epoch(0)
    assert_same(epoch_of(loader), first)
    assert_same(epoch_of(loader), second)


def test_shuffled_order_depends_on_seed_and_epoch_alone(items) -> None:
    def order(seed: int) -> list[int]:
        torch.manual_seed(os.getpid())
        dataset = VideoDataset(items, clip="1x1x1", transform=center_crop(16), seed=seed)
        return torch.cat([labels for _, labels in VideoLoader(dataset, batch_size=2, shuffle=True)]).tolist()

    assert order(1) == order(1)
    assert sorted(order(1)) == list(range(len(items)))
    assert order(1) != order(2)


def test_a_generator_shuffles_as_it_does_in_a_plain_data_loader(dataset) -> None:
    loaders = [
        kind(dataset, batch_size=3, shuffle=True, generator=torch.Generator().manual_seed(9))
        for kind in (VideoLoader, DataLoader)
    ]
    ours, plain = ([labels.tolist() for _, labels in loader] for loader in loaders)
    assert ours == plain


def test_ranks_together_give_what_one_process_gives(dataset) -> None:
    whole = {int(label): clip for clip, label in dataset}
    for num_ranks in (1, 2, 4):
        seen = {}
        for rank in range(num_ranks):
            dataset.set_epoch(0)  # ranks are processes of their own: here one would go on after the other
            sampler = DistributedSampler(dataset, num_ranks, rank, shuffle=True)
            for clips, labels in VideoLoader(dataset, batch_size=2, sampler=sampler, num_workers=1):
                seen |= {int(label): clip for clip, label in zip(clips.clone(), labels, strict=True)}
        assert seen.keys() == whole.keys()
        assert all(torch.equal(seen[label], whole[label]) for label in whole)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.uint8])
@pytest.mark.parametrize("layout", ["NCTHW", "NVCTHW", "NTHWC", "NVTHWC"])
def test_every_layout_holds_the_same_pixels(layout: str, dtype: torch.dtype, items) -> None:
    def load(**options) -> torch.Tensor:
        dataset = VideoDataset(items[:2], clip="4x2x1", transform=center_crop(24), dtype=dtype, **options)
        ((clips, _),) = VideoLoader(dataset, batch_size=2)
        assert clips.shape == (2, *dataset.sample_shape) and clips.dtype == dtype
        return clips

    clips = load(layout=layout)
    if "V" in layout:
        clips = clips[:, 0]
    if layout.endswith("C"):
        clips = clips.permute(0, 4, 1, 2, 3)
    assert torch.equal(clips, load())


def test_views_are_crops_by_clips_with_the_clip_fastest(items) -> None:
    many = VideoDataset(items[:1], clip="2x1x2", transform=three_crop(24), training=False)
    clips, _ = many[0]
    assert clips.shape == (6, 3, 2, 24, 24)
    info = many.start_indexing(vidload._core.LoaderPool(0), [0]).infos()[0]
    request = many.request(0, 0, info)
    assert request.views["clip"].tolist() == [0, 1, 0, 1, 0, 1]
    assert len({tuple(view)[1:] for view in request.views[:2].tolist()}) == 1  # two clips of one crop


def test_repeats_are_new_draws_from_one_decode(items) -> None:
    dataset = VideoDataset(items[:1], clip="2x1x1", transform=random_resized_crop(24), num_repeats=3)
    clips, _ = dataset[0]
    assert clips.shape == (3, 3, 2, 24, 24)
    assert not torch.equal(clips[0], clips[1])


def test_a_layout_without_views_is_refused_when_there_are_several(items) -> None:
    with pytest.raises(ValueError, match=r"'NCTHW' has no place for the 3 views.*'NVCTHW'"):
        VideoDataset(items, clip="1x1x3", transform=center_crop(24), layout="NCTHW")


def test_a_users_sampler_is_called_with_the_video_s_facts(items) -> None:
    calls = []

    def last_frames(num_frames, fps, spec, rng):
        calls.append((num_frames, fps, str(spec), rng))
        return np.arange(num_frames - spec.clip_len, num_frames)[None]

    dataset = VideoDataset(items[:1], clip="3x1x1", transform=center_crop(24), sampling=last_frames)
    clip, _ = dataset[0]
    assert calls[-1] == (48, pytest.approx(25.0), "3x1x1", None)
    frames = vidload.VideoReader(items[0][0])
    expected = VideoDataset(items[:1], clip="1x1x1", transform=center_crop(24), sampling=lambda *_: np.array([[47]]))
    assert torch.equal(clip[:, -1:], expected[0][0])
    assert frames.num_frames == 48


def test_segments_in_seconds_limit_the_frames(video) -> None:
    path = video("h264")  # 48 frames at 25 fps
    items = [(path, 0, 0.4, 0.8), (path, 1, None, 0.2), (path, 2, 1.0, None)]
    dataset = VideoDataset(items, clip="1x1x1", transform=center_crop(16), seed=0)
    batch = dataset.start_indexing(vidload._core.LoaderPool(0), [0, 1, 2])
    ranges = [dataset._segment(index, info.index) for index, info in enumerate(batch.infos())]
    assert ranges == [(10, 10), (0, 5), (25, 23)]


def test_missing_files_are_told_when_asked(video, tmp_path: Path) -> None:
    items = [(video("h264"), 0), (str(tmp_path / "gone.mp4"), 1)]
    dataset = VideoDataset(items, clip="1x1x1", transform=center_crop(16))
    assert dataset.missing_files() == [str(tmp_path / "gone.mp4")]


def test_a_segment_without_frames_is_an_error_that_names_it(video) -> None:
    dataset = VideoDataset([(video("h264"), 0, 50.0, 60.0)], clip="1x1x1", transform=center_crop(16))
    with pytest.raises(VideoError, match=r"h264\.mp4.*\[50, 60\) seconds; the video lasts 1\.92"):
        dataset[0]


# --- DataLoader's contract


def test_it_is_a_data_loader_and_keeps_every_argument_as_an_attribute(dataset) -> None:
    loader = VideoLoader(
        dataset, 2, True, num_workers=2, drop_last=True, timeout=30, prefetch_factor=3, on_error="skip"
    )
    assert isinstance(loader, DataLoader)
    assert (loader.batch_size, loader.num_workers, loader.drop_last) == (2, 2, True)
    assert (loader.timeout, loader.prefetch_factor, loader.on_error, loader.shuffle) == (30, 3, "skip", True)
    assert loader.dataset is dataset
    again = VideoLoader(  # as Lightning and Accelerate rebuild a loader
        loader.dataset,
        batch_size=loader.batch_size,
        sampler=DistributedSampler(dataset, 2, 0),
        num_workers=loader.num_workers,
        drop_last=loader.drop_last,
        pin_memory=loader.pin_memory,
        timeout=loader.timeout,
        on_error=loader.on_error,
    )
    assert len(epoch_of(again)) == len(again) == 2


@pytest.mark.parametrize(("drop_last", "sizes"), [(False, [3, 3, 2]), (True, [3, 3])])
def test_the_last_batch_is_partial_or_dropped(drop_last: bool, sizes: list[int], dataset) -> None:
    loader = VideoLoader(dataset, batch_size=3, drop_last=drop_last)
    assert [len(clips) for clips, _ in loader] == sizes
    assert len(loader) == len(sizes)


def test_any_sampler_or_batch_sampler_gives_the_order(dataset) -> None:
    order = [5, 0, 3, 3]
    assert [int(labels) for _, labels in VideoLoader(dataset, sampler=order)] == order
    batches = [[1, 2], [7], [0, 4, 6]]
    assert [labels.tolist() for _, labels in VideoLoader(dataset, batch_sampler=batches)] == batches
    weighted = WeightedRandomSampler([0, 0, 1.0], 4)
    assert [int(labels) for _, labels in VideoLoader(dataset, sampler=weighted)] == [2, 2, 2, 2]


def test_batch_size_none_gives_samples(dataset) -> None:
    samples = list(VideoLoader(dataset, batch_size=None))
    assert len(samples) == len(dataset)
    assert samples[0][0].shape == dataset.sample_shape and samples[0][1] == 0


def test_a_collate_function_gets_the_samples(dataset) -> None:
    loader = VideoLoader(
        dataset, batch_size=2, collate_fn=lambda samples: [(clip.shape, label) for clip, label in samples]
    )
    assert next(iter(loader)) == [(dataset.sample_shape, 0), (dataset.sample_shape, 1)]


def test_a_subset_gives_its_own_samples_with_their_own_random_numbers(dataset) -> None:
    subset = Subset(Subset(dataset, [7, 5, 2, 1]), [2, 0])
    ((clips, labels),) = VideoLoader(subset, batch_size=2)
    assert labels.tolist() == [2, 7]
    assert torch.equal(clips[0], dataset[2][0]) and torch.equal(clips[1], dataset[7][0])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(num_workers=-1), "num_workers"),
        (dict(num_workers=0, prefetch_factor=2), "prefetch_factor"),
        (dict(shuffle=True, sampler=[0]), "mutually exclusive"),
        (dict(batch_sampler=[[0]], batch_size=2), "mutually exclusive"),
        (dict(timeout=-1), "timeout"),
        (dict(on_error="ignore"), "on_error"),
    ],
)
def test_arguments_that_make_no_sense_are_refused_as_by_data_loader(arguments: dict, message: str, dataset) -> None:
    with pytest.raises(ValueError, match=message):
        VideoLoader(dataset, **arguments)


def test_another_dataset_is_refused_by_name() -> None:
    with pytest.raises(TypeError, match="TensorDataset"):
        VideoLoader(torch.utils.data.TensorDataset(torch.zeros(3)))


def test_several_iterators_at_once_are_independent(dataset) -> None:
    loader = VideoLoader(dataset, batch_size=3, num_workers=2)
    pairs = list(zip(loader, loader, strict=True))
    assert len(pairs) == 3
    assert all(one[1].tolist() == other[1].tolist() for one, other in pairs)


def test_breaking_off_and_starting_again_leaves_no_thread_and_no_file_behind(dataset) -> None:
    def count() -> tuple[int, int]:
        gc.collect()
        return num_threads(), len(os.listdir("/proc/self/fd"))

    list(VideoLoader(dataset, batch_size=2, num_workers=1))
    before = count()
    for _ in range(5):
        loader = VideoLoader(dataset, batch_size=2, num_workers=3)
        for _ in loader:
            break
        next(iter(loader))
        del loader
    assert becomes_true(lambda: count() == before), (count(), before)


def test_batch_memory_is_used_again_but_never_while_it_is_held(dataset) -> None:
    loader = VideoLoader(dataset, batch_size=2, num_workers=2)
    held = [clips for clips, _ in loader]
    assert len({clips.data_ptr() for clips in held}) == len(held)
    values = [clips.clone() for clips in held]
    for _ in range(2):
        for _ in loader:
            pass
    assert all(torch.equal(clips, value) for clips, value in zip(held, values, strict=True))
    views = [clips[0, 0] for clips in held]
    del held
    numbers = [view.numpy() for view in views]
    copies = [number.copy() for number in numbers]
    del views
    for _ in loader:
        pass
    assert all(np.array_equal(number, saved) for number, saved in zip(numbers, copies, strict=True))


def test_memory_in_use_does_not_grow_over_epochs(dataset) -> None:
    loader = VideoLoader(dataset, batch_size=2, num_workers=2)
    for batch in loader:
        num_bytes = batch[0].nbytes
    for _ in range(12):
        for _ in loader:
            pass
    # The four batches of an epoch may all be on their way while one is in use here and the next is handed over.
    assert loader.stats()["memory_bytes"] <= 6 * num_bytes


def test_a_batch_that_is_late_is_a_timeout(dataset, tmp_path) -> None:
    loader = VideoLoader(dataset, batch_size=8, num_workers=1, timeout=1e-6)
    with pytest.raises(RuntimeError, match="timed out"):
        next(iter(loader))


def test_stats_count_what_was_done(dataset) -> None:
    loader = VideoLoader(dataset, batch_size=4, num_workers=2)
    for _ in loader:
        pass
    stats = loader.stats()
    assert (stats["num_samples"], stats["num_batches"], stats["num_frames"]) == (8, 2, 32)
    assert stats["num_failed"] == 0 and stats["failures"] == []
    assert stats["num_packets_decoded"] > 0 and stats["num_packets_dropped"] > 0 and stats["bytes_read"] > 0
    assert all(stats[f"{stage}_seconds"] > 0 for stage in ("read", "decode", "transform", "wait"))


def test_datasets_can_be_copied_and_pickled(dataset) -> None:
    for other in (copy.deepcopy(dataset), pickle.loads(pickle.dumps(dataset))):
        assert torch.equal(other[3][0], dataset[3][0])


# --- processes


def run_script(text: str, *arguments: str, **options) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", text, *arguments], capture_output=True, text=True, timeout=120, **options
    )


HEAD = """
import os, sys, threading, time, torch, vidload
dataset = vidload.VideoDataset([(sys.argv[1], 0)] * 12, clip="4x2x1", transform=vidload.transforms.center_crop(32))
loader = vidload.VideoLoader(dataset, batch_size=2, num_workers=2)
"""


def test_a_process_ends_normally_in_mid_epoch(video) -> None:
    done = run_script(HEAD + "keep = iter(loader); next(keep); print('left')", video("h264"))
    assert (done.returncode, done.stdout, done.stderr) == (0, "left\n", "")


def test_ctrl_c_stops_a_waiting_loader(video) -> None:
    script = HEAD + (
        "threading.Timer(0.5, lambda: os.kill(os.getpid(), 2)).start()\n"
        "try:\n    while True:\n        for _ in loader: pass\n"
        "except KeyboardInterrupt:\n    print('stopped', threading.active_count())\n"
    )
    done = run_script(script, video("h264"))
    assert done.returncode == 0 and done.stdout.startswith("stopped"), done.stderr


def test_a_forked_child_starts_its_own_threads(video) -> None:
    script = HEAD + (
        "iterator = iter(loader); expected = next(iterator)[0].clone()\n"
        "pid = os.fork()\n"
        "if pid == 0:\n"
        "    loader.set_epoch(0)\n"
        "    good = torch.equal(next(iter(loader))[0], expected)\n"
        "    try:\n        next(iterator); good = False\n"
        "    except RuntimeError as error:\n        good &= 'forked' in str(error)\n"
        "    del iterator, loader\n"
        "    os._exit(0 if good else 1)\n"
        "print(os.waitpid(pid, 0)[1], len(list(iterator)))\n"
    )
    done = run_script(script, video("h264"))
    assert done.stdout == "0 5\n", done.stderr


def test_spawned_workers_can_use_a_dataset(video, tmp_path: Path) -> None:
    script = tmp_path / "spawn.py"
    script.write_text(
        "import sys, vidload\nfrom torch.utils.data import DataLoader\n"
        "if __name__ == '__main__':\n"
        "    dataset = vidload.VideoDataset([(sys.argv[1], 0)] * 4, clip='2x1x1', transform=vidload.transforms.center_crop(16))\n"
        "    loader = DataLoader(dataset, batch_size=2, num_workers=1, multiprocessing_context='spawn')\n"
        "    print(len(list(loader)))\n"
    )
    done = subprocess.run([sys.executable, str(script), video("h264")], capture_output=True, text=True, timeout=120)
    assert done.stdout == "2\n", done.stderr


# --- going on in the middle of an epoch


@pytest.mark.parametrize("num_done", [0, 1, 2, 3])
@pytest.mark.parametrize("shuffle", [False, True])
def test_resuming_gives_the_rest_of_the_epoch_with_another_number_of_threads(
    num_done: int, shuffle: bool, dataset
) -> None:
    def loader(num_workers: int) -> VideoLoader:
        return VideoLoader(dataset, batch_size=2, shuffle=shuffle, num_workers=num_workers)

    first = loader(2)
    epoch_of(first)  # epoch 0
    iterator = iter(first)
    for _ in range(num_done):
        next(iterator)
    state = pickle.loads(pickle.dumps(first.state_dict()))
    rest, next_epoch = [(clips.clone(), labels) for clips, labels in iterator], epoch_of(first)

    second = loader(0)
    second.load_state_dict(state)
    assert second.state_dict() == state
    assert_same(epoch_of(second), rest)
    assert_same(epoch_of(second), next_epoch)


def test_state_at_the_end_of_an_epoch_is_the_start_of_the_next(dataset) -> None:
    loader = VideoLoader(dataset, batch_size=4)
    epoch_of(loader)
    state = loader.state_dict()
    assert (state["epoch"], state["next_sample"], state["next_batch"]) == (1, 0, 0)


def test_resuming_with_a_generator_repeats_its_order(dataset) -> None:
    loader = VideoLoader(dataset, batch_size=2, shuffle=True, generator=torch.Generator().manual_seed(3))
    iterator = iter(loader)
    next(iterator)
    state = loader.state_dict()
    rest = [labels.tolist() for _, labels in iterator]
    other = VideoLoader(dataset, batch_size=2, shuffle=True, generator=torch.Generator().manual_seed(77))
    other.load_state_dict(state)
    assert [labels.tolist() for _, labels in other] == rest


def test_resuming_with_a_batch_sampler_counts_batches(dataset) -> None:
    batches = [[0], [1, 2], [3, 4, 5], [6]]
    loader = VideoLoader(dataset, batch_sampler=batches)
    iterator = iter(loader)
    next(iterator), next(iterator)
    other = VideoLoader(dataset, batch_sampler=batches)
    other.load_state_dict(loader.state_dict())
    assert [labels.tolist() for _, labels in other] == batches[2:]


def test_resuming_on_fewer_ranks_covers_what_was_left(dataset) -> None:
    def rank_loader(num_ranks: int, rank: int) -> VideoLoader:
        return VideoLoader(dataset, batch_size=1, sampler=DistributedSampler(dataset, num_ranks, rank, seed=4))

    seen = []
    for rank in range(2):
        dataset.set_epoch(0)  # ranks are processes of their own
        loader = rank_loader(2, rank)
        iterator = iter(loader)
        seen += [int(next(iterator)[1]) for _ in range(2)]
        state = loader.state_dict()
    alone = rank_loader(1, 0)
    alone.load_state_dict(state)
    rest = [int(labels) for _, labels in alone]
    assert sorted(seen + rest) == list(range(8))


@pytest.mark.parametrize(("field", "value"), [("num_samples", 99), ("seed", 42), ("version", 0)])
def test_a_state_of_another_dataset_is_refused_with_both_values(field: str, value: int, dataset) -> None:
    loader = VideoLoader(dataset)
    with pytest.raises(ValueError, match=str(value)):
        loader.load_state_dict({**loader.state_dict(), field: value})


# --- folders of frames


@pytest.fixture
def frame_folder(video, tmp_path: Path) -> Path:
    from PIL import Image

    folder = tmp_path / "clip"
    folder.mkdir()
    for number, frame in enumerate(vidload.VideoReader(video("h264")).get_frames_at(range(20)), 1):
        Image.fromarray(frame).save(folder / f"img_{number:05}.jpg", quality=97)
    return folder


def test_frames_and_video_give_nearly_the_same_clip(frame_folder: Path, video) -> None:
    from_video = VideoDataset(
        [(video("h264"), 0)],
        clip="4x2x1",
        transform=center_crop(48, mean=None, std=None),
        sampling=lambda *_: np.array([[0, 3, 9, 19]]),
    )
    from_frames = FrameFolderDataset(
        [(str(frame_folder), 20, 0)],
        clip="4x2x1",
        transform=center_crop(48, mean=None, std=None),
        sampling=lambda *_: np.array([[0, 3, 9, 19]]),
    )
    difference = (from_video[0][0] - from_frames[0][0]).abs()
    assert difference.mean() < 3


def test_a_missing_frame_is_an_error_that_names_it(frame_folder: Path) -> None:
    (frame_folder / "img_00007.jpg").unlink()
    dataset = FrameFolderDataset([(str(frame_folder), 20, 0)], clip="20x1x1", transform=center_crop(16))
    with pytest.raises(FileNotFoundError, match=r"img_00007\.jpg: frame 6"):
        dataset[0]


def test_a_frame_cut_short_is_an_error(frame_folder: Path) -> None:
    path = frame_folder / "img_00003.jpg"
    path.write_bytes(path.read_bytes()[:-200])
    dataset = FrameFolderDataset([(str(frame_folder), 20, 0)], clip="20x1x1", transform=center_crop(16))
    with pytest.raises(vidload.DamagedVideoError, match=r"img_00003\.jpg: frame 2: cannot decode"):
        dataset[0]
