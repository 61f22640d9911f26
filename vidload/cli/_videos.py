"""What the LIST_OR_DIR argument of a command means: list file, Kinetics CSV, folder, or one video."""

from __future__ import annotations

import argparse

HELP = (
    "a list file with lines 'path label' (or just 'path'), a Kinetics CSV, a folder (with or without a "
    "folder for each class), or a single video"
)


def add_arguments(parser: argparse.ArgumentParser, name: str = "list_or_dir") -> None:
    parser.add_argument(name, metavar=name.upper(), help=HELP)
    parser.add_argument("--root", default="", help="folder that the paths of a list start from")
