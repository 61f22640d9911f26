"""`vidload frames`: extracts JPEG frames, for FrameFolderDataset and for comparison with training from video."""

from __future__ import annotations

import argparse
import sys

from vidload.cli import _shared
from vidload.prepare.frames import extract_dataset

_DESCRIPTION = """\
Writes every frame of every video as a JPEG file, as MMAction2's tools do: one folder per video, img_00001.jpg and so
on, short side 256, quality -q:v 2, and a list with lines "folder num_frames label". Rotation is applied.

Stop it when you like: the same command resumes where it stopped. A video that cannot be decoded is listed in
failed.jsonl with its reason and does not stop the run.
The exit status is 0 if the frames of every video are there, 1 otherwise.
"""
_EXAMPLE = """\
example:
  vidload frames train.txt frames --root videos

then:
  FrameFolderDataset.from_list("frames/train.txt", root="frames", ...)
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = _shared.add_command(
        subparsers,
        "frames",
        help="extract JPEG frames",
        description=_DESCRIPTION,
        example=_EXAMPLE,
    )
    _shared.add_videos(parser)
    parser.add_argument("dst", metavar="DST", help="folder to write")
    parser.add_argument(
        "--short-side",
        type=int,
        default=256,
        metavar="PX",
        help="shorter side of the pictures; smaller videos keep their size (default: 256)",
    )
    _shared.add_jobs(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    summary = extract_dataset(
        args.list_or_dir,
        args.dst,
        short_side=args.short_side,
        root=args.root,
        jobs=args.jobs,
        engine=args.engine,
        progress=sys.stderr.isatty(),
    )
    print(
        f"{args.dst}: {summary.num_extracted} videos extracted, {summary.num_kept} were there already; "
        f"{summary.num_frames} frames, {summary.num_bytes / 1e6:.1f} MB"
    )
    print(f"list: {summary.list_path}")
    return _shared.print_failures(summary.failures, summary.num_videos, args.dst)
