"""`vidload selftest`: compares random with sequential access, and the GPU with the CPU, on clips that it makes."""

from __future__ import annotations

import argparse
from pathlib import Path

from vidload.cli import _shared
from vidload.system.selftest import report, selftest

_DESCRIPTION = """\
Makes a few clips and checks that random access returns the frames of sequential decoding. With --gpu, it also checks
that the GPU gives the CPU's pixels, through the CPU's decoder and through NVDEC, and measures the speed.
The exit status is 0 if every check passed, 1 if one failed or the GPU cannot be used.
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = _shared.add_command(
        subparsers,
        "selftest",
        help="check that this machine, with its GPU, gives the right pixels",
        description=_DESCRIPTION,
        example="example:\n  vidload selftest --gpu --report selftest.md",
    )
    parser.add_argument("--gpu", action="store_true", help="compare the GPU with the CPU")
    parser.add_argument("--device", default="cuda", help="which GPU (default: %(default)s)")
    parser.add_argument("--report", metavar="FILE", help="also write the report, in Markdown, to FILE")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    try:
        checks = []
        for check in selftest(args.device if args.gpu else None):
            checks.append(check)
            mark = "    " if check.is_good is None else "ok  " if check.is_good else "FAIL"
            print(f"{mark} {check.name}: {check.found}", flush=True)
    except RuntimeError as error:  # no GPU, or it broke down
        print(f"FAIL {error}")
        return 1
    if args.report:
        Path(args.report).write_text(report(checks))
        print(f"report: {args.report}")
    return 1 if any(check.is_good is False for check in checks) else 0
