"""`vidload prepare`: re-encodes a dataset so that training from video costs no more than from extracted frames."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from fractions import Fraction

from vidload.cli import _shared
from vidload.prepare import PROFILES, cost_table, describe, dry_run, prepare
from vidload.prepare.settings import ENCODERS
from vidload.range_cache import parsed_bytes

_DESCRIPTION = """\
Re-encodes the videos of a dataset for loading: short side 256, keyframes close together, cheap to decode, every video
at the requested PSNR. Frames keep their number and times, rotation is applied, audio is dropped. The annotation list
is written anew with the new names, and the index file beside it.

Stop it, kill it, or lose power: the same command resumes where it stopped. A video that cannot be encoded is listed in
failed.jsonl with its reason and does not stop the run.
The exit status is 0 if every video is there, 1 otherwise.

profiles (measured: docs/encoding.md):
  smallest   the fewest bytes; meant for dense clips such as 32x2x1
  balanced   faster than JPEG frames in a plain DataLoader, at a fraction of their bytes (default)
  fastest    as fast as JPEG frames through vidload itself, at about six tenths of their bytes
"""
_EXAMPLE = """\
examples:
  vidload prepare train.txt prepared --root videos --dry-run     what would it cost?
  vidload prepare train.txt prepared --root videos
  vidload prepare videos prepared --profile smallest --jobs 8

then:
  VideoDataset.from_list("prepared/train.txt", root="prepared", index="prepared/index.vidx", ...)
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = _shared.add_command(
        subparsers,
        "prepare",
        help="re-encode a dataset for loading",
        description=_DESCRIPTION,
        example=_EXAMPLE,
    )
    _shared.add_videos(parser)
    parser.add_argument("dst", metavar="DST", help="folder to write")
    parser.add_argument("--profile", choices=PROFILES, default="balanced", help="what matters most (default: balanced)")
    parser.add_argument("--codec", choices=ENCODERS, help="a codec other than the profile's")
    parser.add_argument("--gop", type=int, metavar="N", help="frames from one keyframe to the next; 1 = keyframes only")
    parser.add_argument(
        "--b-frames", type=int, metavar="N", help="B frames (on which nothing depends) between two reference frames"
    )
    parser.add_argument(
        "--psnr", type=float, metavar="DB", help="luma PSNR that every video reaches; its quality is searched for"
    )
    parser.add_argument(
        "--crf", type=float, metavar="Q", help="one quality for all videos instead, on the encoder's scale"
    )
    parser.add_argument(
        "--short-side", type=int, metavar="PX", help="shorter side of the pictures; smaller videos keep their size"
    )
    parser.add_argument("--fps", type=_fps, metavar="RATE", help="new frame rate, such as 15 or 30000/1001")
    parser.add_argument(
        "--shards",
        type=_size,
        metavar="SIZE",
        help="also write the videos into tar shards of at most this size, such as 1GB, in WebDataset's layout",
    )
    _shared.add_jobs(parser)
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="encode the beginnings of a few videos with three GOP sizes, print what they would cost, and write nothing",
    )
    parser.set_defaults(run=run)


def _fps(text: str) -> Fraction:
    try:
        return Fraction(text)
    except (ValueError, ZeroDivisionError):
        raise argparse.ArgumentTypeError(f"{text!r} is not a frame rate such as 15 or 30000/1001") from None


def _size(text: str) -> int:
    try:
        return parsed_bytes(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def run(args: argparse.Namespace) -> int:
    names = ("codec", "gop", "b_frames", "psnr", "crf", "short_side", "fps")
    given = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    if args.codec == "mjpeg":
        given.setdefault("gop", 1)
    settings = dataclasses.replace(PROFILES[args.profile], **given)
    is_terminal = sys.stderr.isatty()
    print(f"{args.profile}: {describe(settings)}")
    if args.dry_run:
        print(cost_table(dry_run(args.list_or_dir, settings, root=args.root, progress=is_terminal)))
        return 0
    summary = prepare(
        args.list_or_dir,
        args.dst,
        settings,
        root=args.root,
        jobs=args.jobs,
        engine=args.engine,
        progress=is_terminal,
        shard_bytes=args.shards,
    )
    print(f"{args.dst}: {summary.num_encoded} videos encoded, {summary.num_kept} were there already")
    if summary.costs:
        print(cost_table(summary.costs))
    if summary.list_path:
        print(f"list:  {summary.list_path}")
    if summary.index_path:
        print(f"index: {summary.index_path}")
    if summary.shard_paths:
        print(f"shards: {len(summary.shard_paths)}, {summary.shard_paths[0]} to {summary.shard_paths[-1].name}")
        print(f"index of the shards: {summary.shard_index_path}")
    return _shared.print_failures(summary.failures, summary.num_videos, args.dst)
