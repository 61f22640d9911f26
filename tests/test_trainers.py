"""The recipes of docs/migrating.md under the real packages: two ranks, two epochs, a run that was interrupted in mid-epoch and went on; each
sees the samples and pixels of a run that nobody interrupted. And what is refused, with its recipe."""

from __future__ import annotations

import importlib.util
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import ConcatDataset, DataLoader, DistributedSampler, Subset

import vidload
from vidload import VideoDataset, VideoLoader
from vidload.transforms import random_resized_crop

sys.path.insert(0, str(Path(__file__).parent / "trainers"))
import recipe

HERE = Path(recipe.__file__).parent
PACKAGES = {
    "Lightning": "lightning",
    "Fabric": "lightning",
    "torchdata": "torchdata",
    "Accelerate": "accelerate",
    "Transformers": "transformers",
    "Ray": "ray",
}

pytestmark = pytest.mark.trainers


def needs(trainer: str) -> None:
    if importlib.util.find_spec(PACKAGES[trainer]) is None:
        pytest.skip(f"{PACKAGES[trainer]} is not installed")


@pytest.fixture
def videos(video) -> list[str]:
    return [video(name) for name in ("h264", "vp9", "mpeg4", "h264_star")]


@pytest.fixture
def dataset(videos) -> VideoDataset:
    items = [(videos[i % len(videos)], i) for i in range(recipe.NUM_VIDEOS)]
    return VideoDataset(items, clip="2x1x1", transform=random_resized_crop(16), seed=1)


def on_two_ranks(script: Path, *arguments: str) -> None:
    """Runs a script as torchrun would."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    common = {
        **os.environ,
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": "2",
        "LOCAL_WORLD_SIZE": "2",
        "GROUP_RANK": "0",
        "TORCHELASTIC_RUN_ID": "test",
        "OMP_NUM_THREADS": "1",
        "ACCELERATE_USE_CPU": "true",
        "HF_HUB_OFFLINE": "1",
        "CUDA_VISIBLE_DEVICES": "",
    }
    ranks = [
        subprocess.Popen(
            [sys.executable, str(script), *arguments],
            env={**common, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        texts = [rank.communicate(timeout=300)[0] for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
    assert [rank.returncode for rank in ranks] == [0, 0], "\n".join(text[-3000:] for text in texts)


def assert_whole(ranks: list[dict[str, recipe.Seen]]) -> None:
    """Every rank saw what it would have seen undisturbed, and all ranks together each video once per epoch, with crops of its own."""
    for seen in ranks:
        assert len(seen["undisturbed"]) == 6
        assert seen["resumed"] == seen["undisturbed"]
    for epoch in range(recipe.NUM_EPOCHS):
        batches = [batch for seen in ranks for batch in seen["undisturbed"][3 * epoch : 3 * epoch + 3]]
        assert sorted(label for labels, _ in batches for label in labels) == list(range(recipe.NUM_VIDEOS))
    checksums = [checksum for seen in ranks for _, checksum in seen["undisturbed"]]
    assert len(set(checksums)) == len(checksums)


@pytest.mark.parametrize("trainer", ["Lightning", "Fabric", "Accelerate", "Transformers"])
def test_two_ranks_that_went_on_in_mid_epoch_saw_what_an_undisturbed_run_sees(
    trainer: str, videos, tmp_path: Path
) -> None:
    needs(trainer)
    on_two_ranks(HERE / "recipe.py", trainer, str(tmp_path), *videos)
    assert_whole([json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2)])


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_stateful_data_loader_over_the_dataset_goes_on_in_mid_epoch(num_workers: int, dataset) -> None:
    needs("torchdata")
    from torchdata.stateful_dataloader import StatefulDataLoader

    def loader_of(epoch: int) -> Any:
        dataset.set_epoch(epoch)
        context = "spawn" if num_workers else None
        return StatefulDataLoader(dataset, batch_size=2, num_workers=num_workers, multiprocessing_context=context)

    first, second = list(loader_of(0)), list(loader_of(1))
    assert not any(torch.equal(clips, other) for (clips, _), (other, _) in zip(first, second, strict=True))
    iterator = iter(loader := loader_of(1))
    next(iterator), next(iterator)
    resumed = loader_of(1)
    resumed.load_state_dict(loader.state_dict())
    rest = list(resumed)
    assert len(rest) == 4
    for (clips, labels), (other, other_labels) in zip(rest, second[2:], strict=True):
        assert torch.equal(clips, other) and torch.equal(labels, other_labels)


def test_two_workers_of_ray_that_went_on_in_mid_epoch_saw_what_an_undisturbed_run_sees(videos, tmp_path: Path) -> None:
    needs("Ray")
    script = tmp_path / "on_ray.py"
    script.write_text(
        "import json, pathlib, sys\n"
        f"sys.path.insert(0, {str(HERE)!r})\n"
        "import ray, ray.train, ray.train.torch\n"
        "def work(config):\n"
        f"    sys.path.insert(0, {str(HERE)!r})\n"
        "    import recipe\n"
        "    rank = ray.train.get_context().get_world_rank()\n"
        "    out = pathlib.Path(config['out'])\n"
        "    seen = recipe.undisturbed_and_resumed('Ray', config['videos'], out, rank)\n"
        "    (out / f'{rank}.json').write_text(json.dumps(seen))\n"
        "    import torch, vidload\n"
        "    items = [(path, 0) for path in config['videos']]\n"
        "    data = vidload.VideoDataset(items, clip='1x1x1', transform=vidload.transforms.center_crop(16))\n"
        "    try:\n"
        "        next(iter(ray.train.torch.prepare_data_loader(vidload.VideoLoader(data, 2, num_workers=0))))\n"
        "        (out / 'prepared').write_text('in silence')\n"
        "    except RuntimeError as error:\n"
        "        (out / 'prepared').write_text(str(error))\n"
        "ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)\n"
        "ray.train.torch.TorchTrainer(work, train_loop_config={'out': sys.argv[1], 'videos': sys.argv[2:]},\n"
        "    scaling_config=ray.train.ScalingConfig(num_workers=2)).fit()\n"
    )
    environment = {**os.environ, "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0", "RAY_USAGE_STATS_ENABLED": "0"}
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path), *videos],
        capture_output=True,
        text=True,
        timeout=300,
        env=environment,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    assert_whole([json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2)])
    assert "sampler=DistributedSampler" in (tmp_path / "prepared").read_text()


# --- Accelerate alone


@pytest.fixture
def accelerator() -> Any:
    needs("Accelerate")
    from accelerate import Accelerator

    return Accelerator(cpu=True)


def passed(loader: Any) -> list[tuple[list[int], bytes]]:
    return [(labels.tolist(), clips.numpy().tobytes()) for clips, labels in loader]


def test_a_prepared_loader_keeps_all_that_a_video_loader_has(accelerator, dataset, tmp_path: Path) -> None:
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(b"no video")
    data = VideoDataset(
        [(dataset.annotations.path(0), 0), (str(bad), 1)], clip="2x1x1", transform=random_resized_crop(16)
    )
    loader = accelerator.prepare(VideoLoader(data, 2, num_workers=1, on_error="substitute"))
    first, second = passed(loader), passed(loader)
    assert [len(labels) for labels, _ in first] == [2]
    assert first != second  # an epoch's crops are its own
    assert loader.stats()["num_failed"] >= 2


def test_accelerate_accumulates_gradients_to_the_end_of_an_epoch(accelerator, dataset) -> None:
    from accelerate import Accelerator

    accumulating = Accelerator(cpu=True, gradient_accumulation_steps=4)
    model, loader = accumulating.prepare(torch.nn.Linear(1, 1), VideoLoader(dataset, 2, num_workers=0))
    steps = []
    for _ in loader:
        with accumulating.accumulate(model):
            steps.append(accumulating.sync_gradients)
    assert steps == [False, False, False, True, False, True]  # 6 batches: the last two are a step too
    assert not accumulating.gradient_state.in_dataloader


@pytest.mark.parametrize("options", [{}, {"shuffle": True}, {"sampler": [0, 3, 3, 3, 1, 2]}])
def test_skip_first_batches_goes_on_with_the_same_samples_and_pixels(accelerator, options: dict, dataset) -> None:
    loader = accelerator.prepare(VideoLoader(dataset, 2, num_workers=1, **options))
    passed(loader)
    whole, after = passed(loader), passed(loader)
    other = accelerator.prepare(VideoLoader(dataset, 2, num_workers=1, **options))
    other.set_epoch(1)
    assert passed(accelerator.skip_first_batches(other, 1)) == whole[1:]
    assert passed(other) == after


def test_skip_first_batches_is_refused_where_it_would_lose_an_argument(accelerator, dataset) -> None:
    loader = accelerator.prepare(VideoLoader(dataset, 2, num_workers=0, on_error="skip"))
    with pytest.raises(RuntimeError, match=r"skip_first_batches.*load_state_dict"):
        passed(accelerator.skip_first_batches(loader, 1))


@pytest.mark.parametrize("wrap", [lambda data: Subset(data, range(8)), lambda data: ConcatDataset([data, data])])
def test_skip_first_batches_over_parts_is_refused_with_what_to_do(wrap, accelerator, dataset) -> None:
    loader = accelerator.prepare(VideoLoader(wrap(dataset), 2, num_workers=0))
    with pytest.raises(RuntimeError, match=r"skip_first_batches: over a Subset or a ConcatDataset.*load_state_dict"):
        passed(accelerator.skip_first_batches(loader, 1))


def test_a_loader_of_all_samples_is_refused_on_two_ranks_with_the_recipe(tmp_path: Path, videos) -> None:
    needs("Accelerate")
    script = tmp_path / "prepare.py"
    script.write_text(
        "import sys, vidload\nfrom accelerate import Accelerator\nfrom accelerate.utils import DataLoaderConfiguration\n"
        "data = vidload.VideoDataset([(sys.argv[1], 0)] * 4, clip='1x1x1', transform=vidload.transforms.center_crop(16))\n"
        "for dispatch in (False, True):\n"
        "    accelerator = Accelerator(cpu=True, dataloader_config=DataLoaderConfiguration(dispatch_batches=dispatch))\n"
        "    try:\n"
        "        accelerator.prepare(vidload.VideoLoader(data, 2))\n"
        "        raise SystemExit('in silence')\n"
        "    except RuntimeError as error:\n"
        "        assert 'gives all samples to each of the 2 processes' in str(error), error\n"
        "        assert 'sampler=DistributedSampler(' in str(error), error\n"
    )
    on_two_ranks(script, *videos)


# --- without any of them


def test_a_plain_data_loader_made_of_a_video_loader_s_pieces_is_refused_with_the_recipe(dataset) -> None:
    loader = VideoLoader(dataset, 2, on_error="skip")
    rebuilt = DataLoader(
        loader.dataset, loader.batch_size, sampler=DistributedSampler(dataset, 2, 0), collate_fn=loader.collate_fn
    )
    with pytest.raises(RuntimeError, match=r"lose the loader's on_error, device.*sampler=DistributedSampler"):
        next(iter(rebuilt))


def test_a_video_loader_made_of_another_s_pieces_is_as_it(dataset) -> None:
    loader = VideoLoader(dataset, 2, shuffle=True, collate_fn=len, on_error="skip")
    rebuilt = VideoLoader(
        loader.dataset, batch_sampler=loader.batch_sampler, collate_fn=loader.collate_fn, on_error=loader.on_error
    )
    assert (rebuilt.batch_size, rebuilt.sampler, list(rebuilt)) == (2, loader.sampler, [2] * 6)
    assert vidload.VideoLoader(dataset, prefetch_factor=loader.prefetch_factor).prefetch_factor is None
