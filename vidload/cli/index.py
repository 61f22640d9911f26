"""`vidload index`: scans the videos of a dataset once, so that training need not."""

from __future__ import annotations

import argparse
import os
import sys
import time

from vidload.annotations import read_videos
from vidload.cli import _shared
from vidload.index_building import build_index
from vidload.shards import keep_shards, list_shards, shard_annotations

_DESCRIPTION = """\
Reads the packet tables of all videos of a dataset and writes them to one index file.
Training with VideoDataset(..., index=FILE) then starts immediately.

Run it again after files have been added or changed, or after it was interrupted
or killed: it reads only what is missing.
A file that cannot be read is listed with its reason and does not stop the run.
LIST_OR_DIR may also be tar shards in WebDataset's layout: a name that ends in .tar, with braces for several
("train-{000..099}.tar"). The list of their members is then written beside the index file.
The exit status is 0 if the index is written, 1 if not a single file could be read.
"""
_EXAMPLE = """\
examples:
  vidload index train.txt --root videos -o train.vidx
  vidload index "s3://bucket/train-{000..099}.tar" -o train.vidx
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = _shared.add_command(
        subparsers,
        "index",
        help="scan the videos of a dataset once and write one index file",
        description=_DESCRIPTION,
        example=_EXAMPLE,
    )
    _shared.add_videos(parser)
    parser.add_argument("-o", "--output", required=True, metavar="FILE", help="the index file to write")
    parser.add_argument(
        "--num-workers", type=int, metavar="N", help="threads (default: the cores this process may use)"
    )
    _shared.add_engine(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    start = time.perf_counter()
    shards = None
    if args.list_or_dir.lower().endswith(".tar"):
        shards = list_shards(args.list_or_dir, index=args.output)
        videos = shard_annotations(shards)
    else:
        videos = read_videos(args.list_or_dir, args.root)
    summary = build_index(
        videos, args.output, num_workers=args.num_workers, engine=args.engine, progress=sys.stderr.isatty()
    )
    if shards is not None:
        keep_shards(shards, args.output)
    seconds = time.perf_counter() - start
    num_good = summary.num_files - len(summary.failures)
    unchanged = summary.num_files - summary.num_scanned
    print(
        f"{args.output}: {num_good} of {summary.num_files} videos, {os.path.getsize(args.output) / 1e6:.1f} MB; "
        f"{summary.num_scanned} read, {unchanged} unchanged since the last index; {seconds:.1f} s"
    )
    _shared.print_failures(summary.failures, summary.num_files)
    return 0 if num_good else 1
