"""What the LIST_OR_DIR argument of a command means: list file, Kinetics CSV, folder, or one video."""

from __future__ import annotations

import argparse
import os

from vidload.annotations import (
    VIDEO_EXTENSIONS,
    Annotations,
    find_videos,
    from_items,
    read_folder,
    read_kinetics_csv,
    read_list,
)

HELP = (
    "a list file with lines 'path label' (or just 'path'), a Kinetics CSV, a folder (with or without a "
    "folder for each class), or a single video"
)


def add_arguments(parser: argparse.ArgumentParser, name: str = "list_or_dir") -> None:
    parser.add_argument(name, metavar=name.upper(), help=HELP)
    parser.add_argument("--root", default="", help="folder that the paths of a list start from")


def read_videos(source: str, root: str = "") -> Annotations:
    """Reads LIST_OR_DIR. Videos without a class have label -1. ValueError or FileNotFoundError if there is
    nothing."""
    if os.path.isdir(source):
        # videos right in the folder mean that its subfolders are no classes
        if any(
            entry.is_file() and entry.name.lower().endswith(VIDEO_EXTENSIONS) for entry in os.scandir(source)
        ):
            return from_items((path, -1) for path in find_videos(source))
        return read_folder(source)
    if not os.path.exists(source):
        raise FileNotFoundError(f"{source}: no such file or folder")
    if source.lower().endswith(VIDEO_EXTENSIONS):
        return from_items([(source, -1)])
    with open(source, encoding="utf-8-sig", errors="replace") as file:
        is_kinetics = "youtube_id" in file.readline(1000)
    return read_kinetics_csv(source, root) if is_kinetics else read_list(source, root)
