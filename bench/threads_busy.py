"""Are all threads kept busy? 64 threads should load 64 times what one loads, even with batches of 1. Reads that sleep, as on a remote mount,
take the place of work, so that no many-core machine is needed. Also measured with stragglers: one read in 50 is ten times as slow.

A small library, compiled here and preloaded in front of the C library's pread, does the sleeping.

    python bench/threads_busy.py
"""

from __future__ import annotations

import argparse
import ctypes
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from timing import RESULTS, machine, markdown_table, write_json

SLEEP_SECONDS = 0.1
_SLOW_READS = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>
static atomic_long count;
static void sleep_a_little(void) {
  const char* text = getenv("VIDLOAD_SLOW_READS");
  if (!text) return;
  char* end;
  double seconds = strtod(text, &end);
  const long every = strtol(end + 1, 0, 10);
  if (every > 0 && atomic_fetch_add(&count, 1) % every == every - 1) seconds *= 10;
  struct timespec time = {(time_t)seconds, (long)((seconds - (double)(time_t)seconds) * 1e9)};
  nanosleep(&time, 0);
}
ssize_t pread(int file, void* to, size_t size, off_t offset) {
  sleep_a_little();
  return ((ssize_t(*)(int, void*, size_t, off_t))dlsym(RTLD_NEXT, "pread"))(file, to, size, offset);
}
ssize_t pread64(int file, void* to, size_t size, off_t offset) {
  sleep_a_little();
  return ((ssize_t(*)(int, void*, size_t, off_t))dlsym(RTLD_NEXT, "pread64"))(file, to, size, offset);
}
"""


def with_slow_reads() -> None:
    """Restarts this script with the library preloaded."""
    with tempfile.TemporaryDirectory() as folder:
        library = os.path.join(folder, "slow_reads.so")
        command = ["gcc", "-shared", "-fPIC", "-O1", "-x", "c", "-", "-o", library, "-ldl"]
        subprocess.run(command, input=_SLOW_READS, text=True, check=True)
        environment = {**os.environ, "LD_PRELOAD": library, "VIDLOAD_BENCH_SLOW": "1", "OMP_NUM_THREADS": "1"}
        sys.exit(subprocess.run([sys.executable, *sys.argv], env=environment).returncode)


def set_slow_reads(seconds: float, straggler_every: int) -> None:
    ctypes.CDLL(None).setenv(b"VIDLOAD_SLOW_READS", f"{seconds} {straggler_every}".encode(), 1)


def clips_per_second(files: list[str], index: str, batch_size: int, num_threads: int, seconds: float) -> float:
    """In steady state."""
    import vidload

    transform = vidload.transforms.center_crop(32, 32)
    data = vidload.VideoDataset([(file, 0) for file in files] * 2000, clip="1x1x1", transform=transform, index=index)
    iterator = iter(vidload.VideoLoader(data, batch_size, num_workers=num_threads))
    for _ in range(max(3 * num_threads // batch_size, 2)):
        next(iterator)
    num_clips, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds or num_clips < 4 * num_threads:
        next(iterator)
        num_clips += batch_size
    return num_clips / (time.perf_counter() - started)


def small_files(folder: str, count: int) -> list[str]:
    """Videos of a few small frames: next to a read that sleeps, decoding costs nothing."""
    import av
    import numpy as np

    files = []
    for number in range(count):
        files.append(os.path.join(folder, f"{number}.mp4"))
        with av.open(files[-1], "w") as container:
            stream = container.add_stream("mpeg4", rate=25)
            stream.width = stream.height = 32
            for shade in (50, 100, 150, 200):
                frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), shade, np.uint8), format="rgb24")
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
    return files


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=64)
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[1, 8, 64])
    parser.add_argument("--seconds", type=float, default=10.0, help="per figure; default: %(default)s")
    parser.add_argument("--output", type=Path, default=RESULTS / "threads_busy.json", help="default: %(default)s")
    args = parser.parse_args()
    if "VIDLOAD_BENCH_SLOW" not in os.environ:
        with_slow_reads()
    from vidload.index_building import build_index

    shares: dict[str, float] = {}
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        files = small_files(folder, 8)
        index = os.path.join(folder, "index.arrow")
        build_index(files, index)
        for name, straggler_every in (("even reads", 0), ("one in 50 ten times as slow", 50)):
            set_slow_reads(SLEEP_SECONDS, straggler_every)
            # What one thread loads: measured with even reads; with stragglers it would take minutes to see enough of them.
            if straggler_every == 0:
                one = clips_per_second(files, index, 1, 1, args.seconds)
            single = one if straggler_every == 0 else one / (1 + 9 / straggler_every)
            for batch_size in args.batch_sizes:
                rate = clips_per_second(files, index, batch_size, args.threads, args.seconds)
                shares[f"{name}, batch {batch_size}"] = share = rate / (args.threads * single)
                rows.append([name, str(batch_size), f"{single:.1f}", f"{rate:.0f}", f"{share:.2f}"])
                print(
                    f"{name}, batch {batch_size}: {rate:.0f} clips/s, {share:.2f} of {args.threads} x {single:.1f}",
                    flush=True,
                )
    header = ["reads", "batch", "1 thread, clips/s", f"{args.threads} threads, clips/s", "of linear"]
    write_json(args.output, {"machine": machine(), "threads": args.threads, "of_linear": shares})
    print(markdown_table(header, rows))


if __name__ == "__main__":
    main()
