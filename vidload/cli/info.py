"""`vidload info`: versions, decoders and machine, for one's own eyes and for bug reports."""

from __future__ import annotations

import argparse

import vidload


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "info",
        help="print versions, decoders and machine, for bug reports",
        description="Prints what vidload found here: its version, FFmpeg's, the decoders, the cores. "
        "Paste it into a bug report.",
        epilog="example: vidload info",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    print(vidload.info())
    return 0
