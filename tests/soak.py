"""Loads clips from good and bad files for a long time, abandons iterators in mid-epoch, and watches memory, handles and threads.

    make soak                      (or python tests/soak.py --clips 200000 [--abandon 500])

Prints one line of figures; exits with 1 if resident memory grows by 2 % or more after the first twentieth, or if the numbers of handles
or threads do not return to what they were. The GPU is covered by tests/test_cuda.py, with a CUDA driver or the tests' stub of one.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import logging
import os
import random
import sys
import tempfile
import threading
import time
from pathlib import Path

import torch
import videos
from fuzz.whole_files import CLIPS, mutated

from vidload import VideoDataset, VideoLoader
from vidload.transforms import random_resized_crop

NUM_BAD = 150
NUM_COPIES = 6  # of each good file in an epoch


def resident_mb() -> float:
    """Excludes what malloc keeps for reuse: tens of MB that depend on which thread freed last."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE") / 1e6


def counts() -> tuple[int, int]:
    """Open files, threads."""
    gc.collect()
    return len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task"))


def dataset(folder: Path) -> VideoDataset:
    good = [str(videos.make_video(name, folder / "clips")) for name in CLIPS]
    bad = []
    for number in range(NUM_BAD):
        name, data, _ = mutated([Path(path) for path in good], number)
        bad.append(str(folder / f"{number}_{name}"))
        Path(bad[-1]).write_bytes(data)
    bad += [str(folder / "missing.mp4"), "/dev/null", str(folder)]
    items = [(path, label) for label, path in enumerate(good * NUM_COPIES + bad)]
    random.Random(0).shuffle(items)
    return VideoDataset(items, clip="4x2x1", transform=random_resized_crop(48), seed=1, dtype=torch.uint8)


def abandon(data: VideoDataset, number: int) -> int:
    """Abandons one loader in mid-epoch, in one of several ways; returns how many clips it gave."""
    num_workers, on_error = number % 4, ("skip", "substitute")[number % 2]
    loader = VideoLoader(
        data, batch_size=8, shuffle=True, num_workers=num_workers, on_error=on_error, max_failures=None
    )
    iterator = iter(loader)
    num_clips = sum(len(next(iterator)[1]) for _ in range(number % 5))
    if number % 3 == 1:
        iterator.close()
    elif number % 3 == 2:  # by another thread
        box = [iterator]
        del iterator
        thread = threading.Thread(target=box.clear)
        thread.start()
        thread.join()
    return num_clips


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--clips", type=int, default=200_000)
    parser.add_argument("--abandon", type=int, default=500)
    args = parser.parse_args()
    logging.getLogger("vidload").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as name:
        data = dataset(Path(name))
        loader = VideoLoader(data, batch_size=16, shuffle=True, num_workers=2, on_error="skip", max_failures=None)
        for _ in loader:  # creates the thread pool, decoders and buffers
            pass
        start, num_clips, num_abandoned, early_mb = time.monotonic(), 0, 0, 0.0
        before = counts()
        while num_clips < args.clips:
            for _, labels in loader:
                num_clips += len(labels)
            while num_abandoned < args.abandon * num_clips / args.clips:
                num_clips += abandon(data, num_abandoned)
                num_abandoned += 1
            if early_mb == 0 and num_clips >= args.clips / 20:
                early_mb = resident_mb()
        late_mb, after = resident_mb(), counts()
        growth = late_mb / early_mb - 1
        print(
            f"{num_clips} clips, {loader.stats()['num_failed']} failures, {num_abandoned} loaders abandoned in {time.monotonic() - start:.0f} s; "
            f"memory {early_mb:.0f} -> {late_mb:.0f} MB ({growth:+.1%}), files {before[0]} -> {after[0]}, threads {before[1]} -> {after[1]}"
        )
        return int(growth >= 0.02 or after != before)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    sys.exit(main())
