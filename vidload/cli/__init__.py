"""The `vidload` command: one file per subcommand, each with `add_parser(subparsers)` and `run(args) -> exit
status`.

In: command line arguments. Out: text on stdout, files where asked for. Exit status 0; 1 if the work failed,
with one line on stderr; 2 for arguments that make no sense; 130 after Ctrl-C.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence

from vidload import __version__
from vidload.errors import VideoError

# Modules of this package; the order is that of --help.
COMMANDS = ("index", "check", "prepare", "frames", "inspect", "preview", "features", "info", "selftest")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line (`argv`, by default the process's) and returns its exit status."""
    args = _parser().parse_args(argv)
    try:
        return int(args.run(args))
    except KeyboardInterrupt:
        print(f"\nvidload {args.command}: stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:  # `vidload inspect … | head`; stdout is gone, also for what Python flushes at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (VideoError, OSError, ValueError, RuntimeError, MemoryError, ModuleNotFoundError) as error:
        print(f"vidload {args.command}: {error}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="vidload",
        description="Video clips straight into PyTorch training batches: tools for the videos of a dataset.",
        epilog="'vidload COMMAND --help' explains a command and shows an example.",
    )
    parser.add_argument("--version", action="version", version=f"vidload {__version__}")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name in COMMANDS:
        importlib.import_module(f"vidload.cli.{name}").add_parser(subparsers)
    return parser
