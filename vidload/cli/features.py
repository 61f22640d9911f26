"""`vidload features`: snippet features of untrimmed videos, for training and running temporal localizers."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
from pathlib import Path
from typing import IO, Any

from tqdm import tqdm

from vidload.cli import _videos
from vidload.errors import VideoError

_DESCRIPTION = """\
Slides a window of frames over each video and writes what a recognizer says of every window: one file a video,
NAME.npy (float32 [snippets, channels]) or NAME.csv, and features.jsonl with the lengths of all videos.
vidload.FeatureDataset reads the folder; the recognizers' 400 class scores are what the localizers expect.

A video is decoded once, however much its windows overlap. Each file is written aside and renamed when whole.
Stopped and started again with the same options, the command goes on with what is missing; a video that changed
is done again. A video that cannot be read is listed in failed.jsonl with its reason and does not stop the run.
The exit status is 0 when all videos are done, 1 when some failed.
"""
_EXAMPLE = """\
example:
  vidload features videos.txt --model slowonly_r50_4x16x1 --checkpoint slowonly.pth -o features"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "features",
        help="write snippet features of untrimmed videos for temporal localizers",
        description=_DESCRIPTION,
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _videos.add_arguments(parser)
    parser.add_argument("-o", "--output", required=True, type=Path, metavar="DIR", help="folder to write to")
    parser.add_argument("--model", required=True, help="a recognizer, such as slowonly_r50_4x16x1")
    parser.add_argument(
        "--checkpoint",
        required=True,
        metavar="FILE",
        help="its trained weights; random ones would say nothing",
    )
    parser.add_argument(
        "--num-classes", type=int, default=400, metavar="N", help="of the checkpoint (default: %(default)s)"
    )
    parser.add_argument(
        "--channels",
        default="logits",
        choices=("logits", "pooled"),
        help="class scores, or the pooled features before the classifier (default: %(default)s)",
    )
    parser.add_argument("--window", type=int, default=16, help="frames of a snippet (default: %(default)s)")
    parser.add_argument(
        "--stride", type=int, default=16, help="frames from snippet to snippet (default: %(default)s)"
    )
    parser.add_argument("--format", default="npy", choices=("npy", "csv"), help="default: %(default)s")
    parser.add_argument("--batch-size", type=int, default=8, help="snippets at once (default: %(default)s)")
    parser.add_argument("--device", help="default: cuda if there is one, else cpu")
    parser.add_argument(
        "--num-workers",
        type=int,
        metavar="N",
        help="decoding threads (default: the cores this process may use)",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    videos: dict[str, str] = {}
    for path in _videos.read_videos(args.list_or_dir, args.root).path_list():
        name = Path(path).stem
        if videos.setdefault(name, path) != path:
            raise ValueError(
                f"{videos[name]} and {path} would both be written as {name}.{args.format}; give them different names"
            )

    import torch  # slow to import, and the other commands do without

    from vidload import models
    from vidload.feature_dataset import FACTS_FILE, read_facts
    from vidload.features import FeatureExtractor

    if args.model not in models.list_models():
        raise ValueError(f"--model {args.model}: not one of {', '.join(models.list_models())}")
    settings = {
        "model": args.model,
        "checkpoint_sha256": _sha256(args.checkpoint),
        "channels": args.channels,
        "window": args.window,
        "stride": args.stride,
        "format": args.format,
    }
    args.output.mkdir(parents=True, exist_ok=True)
    for litter in args.output.glob(".*.part"):  # of a run that was killed
        litter.unlink()
    facts_path = args.output / FACTS_FILE
    earlier, done = read_facts(facts_path)
    differing = [key for key in settings if earlier and earlier.get(key) != settings[key]]
    if differing:
        raise ValueError(
            f"{args.output}: holds features made with another {', '.join(differing)}; choose another folder"
        )

    model = models.create(args.model, num_classes=args.num_classes)
    try:
        models.load_checkpoint(model, args.checkpoint)
    except models.CheckpointError as error:
        raise ValueError(str(error)) from error
    extractor = FeatureExtractor(
        model,
        window=args.window,
        stride=args.stride,
        output=args.channels,
        batch_size=args.batch_size,
        device=args.device or ("cuda" if torch.cuda.is_available() else "cpu"),
        num_workers=args.num_workers,
    )
    todo = [
        name
        for name, path in videos.items()
        if not (args.output / f"{name}.{args.format}").exists()
        or done.get(name, {}).get("source") != _stamp(path)
    ]
    _rewrite_facts(facts_path, settings, done)
    failures: list[dict[str, str]] = []
    num_snippets = 0
    with (
        facts_path.open("a", encoding="utf-8") as facts,
        tqdm(todo, unit="video", initial=len(videos) - len(todo), total=len(videos), disable=None) as bar,
    ):
        for name in bar:
            source = _stamp(videos[name])
            try:
                found = extractor.extract(videos[name])
            except VideoError as error:
                failures.append({"path": videos[name], "reason": str(error)})
                continue
            _write_features(args.output / f"{name}.{args.format}", found.features)
            row = {
                "name": name,
                "duration_second": found.duration_seconds,
                "duration_frame": found.num_frames,
                "feature_frame": found.feature_frames,
                "source": source,
            }
            facts.write(json.dumps(row) + "\n")
            facts.flush()
            num_snippets += len(found.features)
            bar.set_postfix(snippets=num_snippets)

    _list_failures(args.output / "failed.jsonl", failures)
    num_new = len(todo) - len(failures)
    print(
        f"{args.output}: {num_new} videos with {num_snippets} snippets written, {len(videos) - len(todo)} were there"
    )
    if failures:
        print(f"{len(failures)} failed, listed in {args.output / 'failed.jsonl'}:")
        for failure in failures:
            print(f"  {failure['reason']}")
    return 1 if failures else 0


def _sha256(path: str) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _stamp(path: str) -> list[int]:
    """What tells whether a video changed: size and time of writing; nothing of a missing one."""
    try:
        status = os.stat(path)
    except OSError:
        return []
    return [status.st_size, status.st_mtime_ns]


def _write_features(path: Path, features: Any) -> None:
    import numpy as np

    with _Aside(path) as file:
        if path.suffix == ".npy":
            np.save(file, features)
        else:
            header = ",".join(f"f{k}" for k in range(features.shape[1]))
            np.savetxt(
                file, features, fmt="%.9g", delimiter=",", header=header, comments=""
            )  # 9 digits: exact


def _rewrite_facts(path: Path, settings: dict[str, Any], videos: dict[str, dict[str, Any]]) -> None:
    """Begins the file, or leaves out of it what was cut off and what was superseded."""
    rows: list[dict[str, Any]] = [
        {"settings": settings},
        *({"name": name, **row} for name, row in videos.items()),
    ]
    with _Aside(path) as file:
        file.write("".join(json.dumps(row) + "\n" for row in rows).encode())


def _list_failures(path: Path, failures: list[dict[str, str]]) -> None:
    if failures:
        with _Aside(path) as file:
            file.write("".join(json.dumps(failure) + "\n" for failure in failures).encode())
    else:
        path.unlink(missing_ok=True)


class _Aside:
    """A file to write that comes under its name only when it is whole."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._aside = path.with_name(f".{path.name}.{os.getpid()}.part")

    def __enter__(self) -> IO[bytes]:
        self._file = self._aside.open("wb")
        return self._file

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._file.close()
        if kind is None:
            os.replace(self._aside, self._path)
        else:
            self._aside.unlink()
