"""Runs code in a child process in which calls of the system fail on demand; see faults.c beside this file."""

from __future__ import annotations

import functools
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

import pytest

SOURCE = Path(__file__).with_name("faults.c")

# What the code finds already there: `faults`, the functions of faults.c, and the loader's usual names.
_PRELUDE = """
import ctypes, errno, os, sys, threading, time
import torch, vidload
from vidload import VideoDataset, VideoLoader, transforms
from waiting import becomes_true, num_threads
faults = ctypes.CDLL(os.environ["LD_PRELOAD"])
for name in ("alloc", "read", "write"):
    getattr(faults, f"fault_{name}").argtypes = [ctypes.c_long, ctypes.c_int]
    getattr(faults, f"fault_{name}s").restype = ctypes.c_long
def dataset(paths, **options):
    items = [(path, label) for label, path in enumerate(paths)]
    return VideoDataset(items, **{"clip": "4x2x1", "transform": transforms.center_crop(32), "dtype": torch.uint8, **options})
def epoch(loader):
    return [(clips.clone(), labels.tolist()) for clips, labels in loader]
def same(one, other):
    return len(one) == len(other) and all(a[1] == b[1] and torch.equal(a[0], b[0]) for a, b in zip(one, other))
"""


@functools.cache
def _library() -> Path:
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None or sys.platform != "linux":
        pytest.skip("faults.c needs a C compiler and glibc")
    key = hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:12]
    library = Path(tempfile.gettempdir()) / f"vidload-faults-{os.getuid()}-{key}.so"
    if not library.exists():
        with tempfile.TemporaryDirectory() as folder:
            fresh = Path(folder) / "faults.so"
            subprocess.run([compiler, "-O1", "-shared", "-fPIC", "-o", fresh, SOURCE, "-ldl", "-pthread"], check=True)
            shutil.copy(fresh, f"{library}.{os.getpid()}")
            os.replace(f"{library}.{os.getpid()}", library)
    return library


def run_with_faults(code: str, *arguments: object, timeout: float = 120) -> str:
    """What the code prints; `arguments` are its sys.argv[1:]. Fails where the child does, with its stderr."""
    if "san.so" in os.environ.get("LD_PRELOAD", ""):
        pytest.skip("the runtime of a sanitizer is preloaded, and must be the first library")
    folders = (str(SOURCE.parent.parent), os.environ.get("PYTHONPATH"))
    done = subprocess.run(
        [sys.executable, "-c", _PRELUDE + textwrap.dedent(code), *map(str, arguments)],
        env={**os.environ, "LD_PRELOAD": str(_library()), "PYTHONPATH": os.pathsep.join(filter(None, folders))},
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    assert done.returncode == 0, f"exit status {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-6000:]}"
    return done.stdout
