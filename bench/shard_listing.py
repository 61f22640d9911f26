"""What does a dataset of many tar shards cost before its first clip: when the headers are read, and with the list of members beside an index file,
compared with a list file of as many lines and with Python's tarfile?

The shards are made in a temporary folder; half of their members are videos (zeros) and half labels. Each row is measured in a process of its own.

    python bench/shard_listing.py
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from memory import memory_now
from timing import RESULTS, machine, markdown_table, write_json

import vidload
from vidload.shards import keep_shards, list_shards
from vidload.transforms import center_crop

ROWS = {
    "first": "shards, headers read",
    "again": "shards, with the list of members",
    "list": "a list file of as many videos",
    "tarfile": "Python's tarfile, headers read one after the other",
}
_LEAST_HOLE = 16_384  # in a file of the system; smaller videos are zeros
_OPTIONS: dict[str, Any] = {"clip": "8x8x1", "transform": center_crop(224)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", type=int, default=1000)
    parser.add_argument("--members", type=int, default=1000, help="of each shard")
    parser.add_argument(
        "--video-bytes", type=int, default=1000, help="of each video; large ones are holes of the file system"
    )
    parser.add_argument("--folder", type=Path, help="for the shards (default: a temporary one)")
    parser.add_argument("--output", type=Path, default=RESULTS / "shard_listing", help="without extension")
    parser.add_argument("--row", choices=ROWS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.row:
        print(json.dumps(measure(args.row, args.folder, args.shards)))
        return
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        make_shards(Path(folder), args.shards, args.members // 2, args.video_bytes)
        command = [sys.executable, __file__, "--shards", str(args.shards), "--folder", folder, "--row"]
        rows = {row: json.loads(subprocess.check_output([*command, row])) for row in ROWS}
    head = f"{args.shards} shards with {args.shards * args.members} members, half of them videos of {args.video_bytes} bytes"
    table = markdown_table(
        ["before the first clip", "seconds", "of the processor", "resident MB", "most MB on the way"],
        [
            [
                ROWS[name],
                f"{row['seconds']:.1f}",
                f"{row['cpu_seconds']:.1f}",
                f"{row['mb']:.0f}",
                f"{row['peak_mb']:.0f}",
            ]
            for name, row in rows.items()
        ],
    )
    print(f"{head}\n\n{table}")
    write_json(args.output.with_suffix(".json"), {"machine": machine(), "what": head, "rows": rows})


def make_shards(folder: Path, num_shards: int, num_videos: int, video_bytes: int) -> None:
    """Every shard has the same bytes; beside them a list file names as many videos."""
    runs: list[tuple[int, bytearray]] = [(0, bytearray())]  # what is written between holes
    at = 0
    for number in range(num_videos):
        label = str(number % 400).encode()
        for name, size, data in ((f"{number:06d}.mp4", video_bytes, b""), (f"{number:06d}.cls", len(label), label)):
            member = tarfile.TarInfo(name)
            member.size = size
            num_bytes = tarfile.BLOCKSIZE + -(-size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
            piece = member.tobuf(tarfile.USTAR_FORMAT) + data
            is_hole = num_bytes > _LEAST_HOLE
            runs[-1][1].extend(piece if is_hole else piece.ljust(num_bytes, b"\0"))
            at += num_bytes
            if is_hole:
                runs.append((at, bytearray()))
    for shard in range(num_shards):
        with open(folder / f"s-{shard:06d}.tar", "wb") as file:
            for offset, run in runs:
                os.pwrite(file.fileno(), run, offset)
            file.truncate(at + tarfile.RECORDSIZE)
    with open(folder / "list.txt", "w") as file:
        for shard in range(num_shards):
            file.writelines(f"s-{shard:06d}/{number:06d}.mp4 {number % 400}\n" for number in range(num_videos))


def measure(row: str, folder: Path, num_shards: int) -> dict[str, float]:
    """Seconds and MB of one row."""
    pattern = f"{folder}/s-{{000000..{num_shards - 1:06d}}}.tar"
    index = folder / "kept"
    vidload.VideoDataset([("any.mp4", 0)], **_OPTIONS)  # first-time work
    device = torch.device("cpu")
    work: dict[str, Callable[[], Any]] = {
        "first": lambda: vidload.VideoDataset.from_shards(pattern, **_OPTIONS),
        "again": lambda: vidload.VideoDataset(vidload.shards.read_shards(pattern, index=index), **_OPTIONS),
        "list": lambda: vidload.VideoDataset.from_list(folder / "list.txt", root=folder, **_OPTIONS),
        "tarfile": lambda: sum(map(_count_members, sorted(folder.glob("*.tar")))),
    }
    before, most_before = memory_now(device), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    start, cpu_start = time.perf_counter(), time.process_time()
    made = work[row]()
    result = {"seconds": time.perf_counter() - start, "cpu_seconds": time.process_time() - cpu_start}
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    result |= {
        "mb": (memory_now(device) - before) / 1e6,
        "peak_mb": (most - max(before, 0)) / 1e6 if most > most_before else 0.0,
    }
    del made
    if row == "first":
        keep_shards(list_shards(pattern), index)
    return result


def _count_members(path: Path) -> int:
    with tarfile.open(path) as tar:
        return sum(1 for _ in tar)


if __name__ == "__main__":
    main()
