"""`vidload check`: finds what is wrong with a video dataset, before anything is trained on it."""

from __future__ import annotations

import argparse
import os
import sys
import time

from vidload.annotations import read_videos
from vidload.cli import _shared
from vidload.prepare import check
from vidload.prepare.check_file import KINDS
from vidload.prepare.check_page import write_page
from vidload.prepare.check_words import amount, duration, printable, ranges, would_pay
from vidload.prepare.checking import CheckReport, Tally

_DESCRIPTION = """\
Decodes every frame of every video of a dataset and reports what is wrong: files that are missing, unreadable, cut
short or damaged, and where; odd or variable frame rates, rotation, changing sizes, wrong extensions, duplicates, files
that are listed twice, files that must be decoded to be indexed. Also predicts what clips will cost, and whether
'vidload prepare' would pay.

Stop it or kill it when you like: the same command resumes where it stopped. Later runs look only at files that changed.
The exit status is 0 if no file is bad, 1 if some are, 2 if nothing could be checked.
"""
_EXAMPLE = """\
examples:
  vidload check train.txt --root videos
  vidload check train.txt --root videos --html report.html --json report.json --write-list good.txt
  vidload check videos --fast
"""
_NUM_SHOWN = 3  # problems of each kind
_NUM_VALUES = 4  # of sizes, rates and codecs


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = _shared.add_command(
        subparsers,
        "check",
        help="decode every frame of a dataset and report what is wrong with it",
        description=_DESCRIPTION,
        example=_EXAMPLE,
    )
    _shared.add_videos(parser)
    parser.add_argument(
        "--fast",
        action="store_true",
        help="decode only keyframes, and compare files by their size and their first and last MiB",
    )
    parser.add_argument("--json", metavar="FILE", help="write the facts and problems of every file")
    parser.add_argument("--html", metavar="FILE", help="write a page with tables, charts and thumbnails")
    parser.add_argument("--write-list", metavar="FILE", help="write the list without bad files")
    parser.add_argument("--write-index", metavar="FILE", help="write the packet index, as 'vidload index' does")
    parser.add_argument(
        "--record",
        metavar="DIR",
        help="folder of the record from which runs resume (default: one below ~/.cache/vidload/check)",
    )
    parser.add_argument(
        "--num-workers", type=int, metavar="N", help="processes (default: the cores this process may use)"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    start = time.perf_counter()
    try:
        _refuse_inputs_as_outputs(args)
        report = check(
            args.list_or_dir,
            root=args.root,
            record=args.record,
            is_fast=args.fast,
            num_workers=args.num_workers,
            progress=sys.stderr.isatty(),
        )
        _print_report(report, time.perf_counter() - start)
        _write_files(report, args)
    except BrokenPipeError:
        raise
    except (ValueError, OSError) as error:
        print(f"vidload check: {printable(str(error))}", file=sys.stderr)
        return 2
    return 1 if report.num_bad else 0


def _refuse_inputs_as_outputs(args: argparse.Namespace) -> None:
    outputs = {name: getattr(args, name) for name in ("json", "html", "write_list", "write_index")}
    given = {os.path.realpath(path): name for name, path in outputs.items() if path is not None}
    if len(given) < sum(path is not None for path in outputs.values()):
        raise ValueError("two outputs have the same name; give each its own")
    inputs = [args.list_or_dir, *(read_videos(args.list_or_dir, args.root).path_list() if given else [])]
    for path in inputs:
        if (name := given.get(os.path.realpath(path))) is not None:
            raise ValueError(f"--{name.replace('_', '-')} {path} would overwrite the input; give it another name")


def _print_report(report: CheckReport, seconds: float) -> None:
    print(
        f"{printable(report.source)}: {report.num_files} files in {report.num_rows} rows, {amount(report.num_bytes)}, "
        f"{duration(report.duration_seconds)}, {report.num_frames} frames"
    )
    how = "keyframes" if report.is_fast else "every frame"
    print(
        f"  decoded    {how} of {report.num_checked} files, {report.num_kept} known from an earlier run; {duration(seconds)}"
    )
    for line in _tally_lines(report.tally):
        print(line)
    for is_bad, heading in (
        (True, f"bad: {report.num_bad} of {report.num_files} files"),
        (False, "odd, though not bad"),
    ):
        kinds = [kind for kind in report.counts if KINDS[kind].is_bad == is_bad]
        if kinds or is_bad:
            print(f"\n{heading}")
        for kind in kinds:
            print(f"  {KINDS[kind].title}: {report.counts[kind]}")
            for file, problem in report.examples[kind][:_NUM_SHOWN]:
                where = ranges(problem, most=2)
                print(
                    f"    {printable(report.short(file.path))}: {where + ': ' if where else ''}{printable(problem.detail)}"
                )
            if (left := report.counts[kind] - _NUM_SHOWN) > 0:
                print(f"    ... and {left} more")
    if report.clips:
        print("\nrandom training clips, predicted for one core like this machine's")
        print(f"  {'clip':<8}{'packets':>9}{'ms':>9}{'clips/s':>9}{'core-hours per epoch':>22}{'once prepared':>15}")
        for number, clip in enumerate(report.clips):
            gain = "" if report.prepare is None else f"{report.prepare.gains[number]:.1f}x"
            print(
                f"  {clip.clip:<8}{clip.num_packets:>9.1f}{clip.milliseconds:>9.1f}{clip.clips_per_second:>9.1f}"
                f"{clip.core_hours_per_epoch:>22.3g}{gain:>15}"
            )
    if report.prepare is not None:
        print(f"\nwould 'vidload prepare' pay? {would_pay(report)}")


def _tally_lines(tally: Tally) -> list[str]:
    rows: dict[str, list[tuple[str, int]]] = {
        "sizes": [(f"{width}x{height}", count) for (width, height), count in tally.sizes.most_common()],
        "codecs": tally.codecs.most_common(),
        "rates": [(f"{rate:g} fps", count) for rate, count in tally.rates.most_common()],
        "keyframes": [(f"every {gop} frames", count) for gop, count in tally.gops.most_common()],
    }
    lines = []
    for name, values in rows.items():
        shown = ", ".join(f"{value} ({count})" for value, count in values[:_NUM_VALUES])
        left = len(values) - _NUM_VALUES
        if shown:
            lines.append(f"  {name:<11}{shown}" + (f", and {left} others" if left > 0 else ""))
    return lines


def _write_files(report: CheckReport, args: argparse.Namespace) -> None:
    lines = []
    if args.json:
        report.write_json(args.json)
        lines.append(f"json:  {args.json}")
    if args.html:
        write_page(report, args.html, args.num_workers)
        lines.append(f"page:  {args.html}")
    if args.write_list:
        num_rows = report.write_list(args.write_list)
        lines.append(f"list:  {args.write_list}, {num_rows} of {report.num_rows} rows")
    if args.write_index:
        report.write_index(args.write_index, args.num_workers)
        lines.append(f"index: {args.write_index}")
    if lines:
        print("\n" + "\n".join(map(printable, lines)))
