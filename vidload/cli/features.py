"""`vidload features`: snippet features of untrimmed videos, for training and running temporal localizers."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch

from vidload.cli import _shared

_DESCRIPTION = """\
Slides a window of frames over each video and writes a recognizer's output for every window: one file per video,
NAME.npy (float32 [snippets, channels]) or NAME.csv, and features.jsonl with the lengths of all videos.
vidload.FeatureDataset reads the folder; the localizers expect the recognizers' 400 class scores.

A video is decoded once, however much its windows overlap. Each file appears only once it is complete. If you
stop the command and start it again with the same options, it does what is missing; videos that have changed
are done again. A video that cannot be read is listed in failed.jsonl and does not stop the run.
The exit status is 0 if all videos are done, 1 if any failed.
"""
_EXAMPLE = """\
example:
  vidload features videos.txt --model slowonly_r50_4x16x1 --checkpoint slowonly.pth -o features"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = _shared.add_command(
        subparsers,
        "features",
        help="write snippet features of untrimmed videos for temporal localizers",
        description=_DESCRIPTION,
        example=_EXAMPLE,
    )
    _shared.add_videos(parser)
    parser.add_argument("-o", "--output", required=True, type=Path, metavar="DIR", help="folder to write to")
    parser.add_argument("--model", required=True, help="a recognizer, such as slowonly_r50_4x16x1")
    parser.add_argument(
        "--checkpoint",
        required=True,
        metavar="FILE",
        help="its trained weights; random ones would be meaningless",
    )
    parser.add_argument(
        "--num-classes", type=int, default=400, metavar="N", help="classes of the checkpoint (default: %(default)s)"
    )
    parser.add_argument(
        "--channels",
        default="logits",
        choices=("logits", "pooled"),
        help="class scores, or the pooled features before the classifier (default: %(default)s)",
    )
    parser.add_argument("--window", type=int, default=16, help="frames per snippet (default: %(default)s)")
    parser.add_argument("--stride", type=int, default=16, help="frames from snippet to snippet (default: %(default)s)")
    parser.add_argument("--format", default="npy", choices=("npy", "csv"), help="of the files (default: %(default)s)")
    parser.add_argument("--batch-size", type=int, default=8, help="snippets at a time (default: %(default)s)")
    parser.add_argument("--device", help="where the model runs (default: cuda if there is a GPU, else cpu)")
    parser.add_argument(
        "--num-workers",
        type=int,
        metavar="N",
        help="decoding threads (default: the cores this process may use)",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from vidload import models  # which the other commands do without
    from vidload.prepare.feature_files import write_features

    if args.model not in models.list_models():
        raise ValueError(f"--model {args.model}: not one of {', '.join(models.list_models())}")
    summary = write_features(
        args.list_or_dir,
        args.output,
        root=args.root,
        model=args.model,
        checkpoint=args.checkpoint,
        num_classes=args.num_classes,
        channels=args.channels,
        window=args.window,
        stride=args.stride,
        file_format=args.format,
        batch_size=args.batch_size,
        device=args.device or ("cuda" if torch.cuda.is_available() else "cpu"),
        num_workers=args.num_workers,
        progress=sys.stderr.isatty(),
    )
    print(
        f"{args.output}: {summary.num_done} videos with {summary.num_snippets} snippets written, {summary.num_kept} were there already"
    )
    return _shared.print_failures(summary.failures, summary.num_videos, args.output)
