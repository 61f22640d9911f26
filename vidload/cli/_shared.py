"""What the commands share: how their parsers are made, what LIST_OR_DIR means, and how failures are printed."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence

from vidload.prepare.check_words import printable
from vidload.prepare.tasks import FAILED_NAME

_LIST_OR_DIR = (
    "a list file with lines 'path label' (or just 'path'), a Kinetics CSV, a folder (with or without a "
    "folder for each class), or a single video"
)
_NUM_PRINTED = 10  # failures, where a file has them all


def add_command(
    subparsers: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    *,
    help: str,
    description: str,
    example: str,
) -> argparse.ArgumentParser:
    """Adds a command whose description and example are printed line by line as they are written."""
    return subparsers.add_parser(
        name,
        help=help,
        description=description,
        epilog=example,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def add_videos(parser: argparse.ArgumentParser) -> None:
    """The arguments LIST_OR_DIR and --root, which vidload.annotations.read_videos takes."""
    parser.add_argument("list_or_dir", metavar="LIST_OR_DIR", help=_LIST_OR_DIR)
    parser.add_argument("--root", default="", help="folder that the paths of a list start from")


def add_jobs(parser: argparse.ArgumentParser) -> None:
    """The arguments --jobs and --engine of commands that give each video to a process."""
    parser.add_argument("--jobs", type=int, metavar="N", help="processes (default: the cores this process may use)")
    add_engine(parser)


def add_engine(parser: argparse.ArgumentParser) -> None:
    """The argument --engine."""
    parser.add_argument(
        "--engine",
        choices=("local", "ray"),
        default="local",
        help="ray: a Ray cluster (RAY_ADDRESS; all nodes need vidload and the same paths)",
    )


def print_failures(
    failures: Sequence[tuple[str, str]], num_videos: int, folder: str | os.PathLike[str] | None = None
) -> int:
    """Prints which videos failed and why; the first ten, if `folder` has them all in its failed.jsonl. Returns the exit status: 1 if any
    failed."""
    if failures:
        where = "" if folder is None else f"; they are listed in {os.path.join(folder, FAILED_NAME)}"
        print(f"{len(failures)} of {num_videos} videos failed{where}:")
        shown = failures if folder is None else failures[:_NUM_PRINTED]
        for path, reason in shown:
            print(printable(f"  {path}: {reason}"))
        if len(shown) < len(failures):
            print("  ...")
    return 1 if failures else 0
