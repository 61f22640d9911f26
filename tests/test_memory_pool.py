"""The memory of batches is never written while anybody holds a part of it, in this interpreter and in others."""

from __future__ import annotations

import copy
import gc
import os
import pickle
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from vidload import VideoDataset, VideoLoader, _core
from vidload.transforms import random_resized_crop

HERE = Path(__file__).parent / "memory_pool"
CSRC = HERE.parents[1] / "csrc"


def check_in(command: list[str], module: str) -> None:
    done = subprocess.run([*command, str(HERE / "check.py"), module], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith(": fine\n")


def test_what_is_held_is_not_handed_out_again() -> None:
    assert _core.__file__ is not None
    check_in([sys.executable], _core.__file__)


def other_pythons() -> list[str]:
    """Commands that start other interpreters: of VIDLOAD_TEST_PYTHONS, one per line, and those found by name."""
    named = os.environ.get("VIDLOAD_TEST_PYTHONS", "").splitlines()
    found = [shutil.which(f"python3.{minor}{kind}") for minor in (13, 14, 15) for kind in ("", "t")]
    return [*named, *(path for path in found if path is not None)]


def test_the_same_holds_in_every_other_interpreter_here(tmp_path: Path) -> None:
    """Python 3.14 borrows references where 3.13 took them: a pool that counted them handed out memory that was held."""
    if shutil.which("g++") is None or not CSRC.is_dir():
        pytest.skip("the module for another interpreter is compiled by g++ from a source checkout")
    pybind11 = subprocess.run(
        [sys.executable, "-m", "pybind11", "--includes"], capture_output=True, text=True, check=True
    )
    include = next(part for part in pybind11.stdout.split() if (Path(part[2:]) / "pybind11").is_dir())
    num_checked = 0
    for number, command in enumerate(map(str.split, other_pythons())):
        asked = "import sysconfig; print(sysconfig.get_path('include')); print(sysconfig.get_config_var('EXT_SUFFIX'))"
        told = subprocess.run([*command, "-c", asked], capture_output=True, text=True)
        headers, suffix = told.stdout.splitlines() if told.returncode == 0 else ("", "")
        if not (Path(headers) / "Python.h").exists():
            continue
        module = tmp_path / str(number) / f"memory_pool{suffix}"
        module.parent.mkdir()
        sources = [HERE / "module.cpp", CSRC / "bindings/bind_memory.cpp", CSRC / "base/memory_pool.cpp"]
        flags = ["-std=c++17", "-O1", "-fPIC", "-shared", "-fvisibility=hidden", f"-I{CSRC}", include, f"-I{headers}"]
        # The headers of some distributions refer to a folder of the machine's kind beside them.
        done = subprocess.run(
            ["g++", *flags, f"-I{Path(headers).parent}", *map(str, sources), "-o", str(module)],
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        check_in(command, str(module))
        num_checked += 1
    if num_checked == 0:
        pytest.skip("no other interpreter with its headers was found; VIDLOAD_TEST_PYTHONS may name some")


# --- as the loader's user meets it


@pytest.fixture
def loader(video) -> VideoLoader:
    data = VideoDataset([(video("h264"), 0)] * 6, clip="2x1x1", transform=random_resized_crop(16))
    return VideoLoader(data, batch_size=2, num_workers=2)


def dlpack_of(clips: torch.Tensor) -> np.ndarray:
    return np.from_dlpack(clips)


HOLDERS = {
    "a slice": lambda clips: clips[1:, :, 0],
    "a view in another type": lambda clips: clips.view(torch.uint8),
    "a NumPy array": lambda clips: clips.numpy(),
    "a consumer of DLPack": dlpack_of,
    "its storage": lambda clips: clips.untyped_storage(),
    "a tensor that autograd keeps": lambda clips: (clips * torch.ones((), requires_grad=True)).grad_fn,
}


@pytest.mark.parametrize("holder", HOLDERS)
def test_a_batch_is_not_overwritten_while_it_is_held_by(holder: str, loader: VideoLoader) -> None:
    clips, _ = next(iter(loader))
    address = clips.data_ptr()
    held = HOLDERS[holder](clips)
    del clips
    for _ in range(3):
        assert address not in {batch.data_ptr() for batch, _ in loader}
    del held
    gc.collect()
    assert any(address in {batch.data_ptr() for batch, _ in loader} for _ in range(5))


def test_a_pickled_or_copied_batch_is_its_own(loader: VideoLoader) -> None:
    clips, _ = next(iter(loader))
    expected = clips.clone()
    others = [pickle.loads(pickle.dumps(clips)), copy.deepcopy(clips)]
    assert len(pickle.dumps(clips)) < clips.nbytes + 2000  # and not the memory around it
    del clips
    for _ in range(3):
        list(loader)
    assert all(torch.equal(other, expected) for other in others)


def test_batches_that_other_threads_hold_are_not_overwritten(loader: VideoLoader) -> None:
    wrong: list[int] = []

    def consume(held: list[torch.Tensor]) -> None:
        for clips in held:
            before = clips.clone()
            for _ in range(20):
                if not torch.equal(clips, before):
                    wrong.append(1)

    threads = []
    for _ in range(5):
        for clips, _ in loader:
            threads.append(threading.Thread(target=consume, args=([clips],)))
            threads[-1].start()
            del clips
    for thread in threads:
        thread.join()
    assert not wrong
