"""Compares every frame of every video in a folder, and random ones, with a sequential decode: one line per file. For your own archive.

    make corpus-check DIR=/archive          (or python tests/corpus_check.py /archive [--json report.json])

The reference is tests/reference/sequential.c, compiled against the FFmpeg that vidload is linked with. Exits with 1 if a file differs.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zlib
from pathlib import Path

import numpy as np

import vidload

SOURCE = Path(__file__).parent / "reference" / "sequential.c"
NUM_RANDOM_SETS = 20


def build_reference(folder: str | os.PathLike[str]) -> Path | None:
    """Compiles the reference decoder; None if there is no compiler or pkg-config, or the FFmpeg it finds is not vidload's."""
    if shutil.which("cc") is None or shutil.which("pkg-config") is None:
        return None
    found = subprocess.run(["pkg-config", "--modversion", "libavcodec"], capture_output=True, text=True).stdout
    if not found.startswith(vidload.info()["ffmpeg"]["libavcodec"] + "."):
        return None
    target = Path(folder) / "sequential"
    flags = subprocess.run(
        ["pkg-config", "--cflags", "--libs", "libavformat", "libavcodec", "libavutil"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    subprocess.run(["cc", "-O1", "-w", "-o", target, SOURCE, *flags], check=True)
    return target


def sequential_sums(reference: Path, path: Path) -> list[int] | None:
    """A sum per frame of a sequential decode; None if the file cannot be opened."""
    done = subprocess.run([reference, path], capture_output=True, text=True)
    if done.returncode != 0:
        return None
    return [int(line.split()[0]) for line in done.stdout.splitlines()]


def sum_of(planes: tuple[np.ndarray, ...]) -> int:
    total = 1
    for plane in planes:
        total = zlib.adler32(np.ascontiguousarray(plane).tobytes(), total)
    return total


def check(reference: Path, path: Path) -> dict[str, object]:
    """The result for one file; "verdict" is "right", "refused", "damaged" (some frames raise, the rest are right) or "DIFFERS"."""
    expected = sequential_sums(reference, path)
    row: dict[str, object] = {"path": str(path), "sequential": None if expected is None else len(expected)}
    try:
        reader = vidload.VideoReader(path)
    except vidload.VideoError as error:
        is_agreed = not expected or isinstance(error, vidload.UnsupportedVideoError)
        return row | {"verdict": "refused" if is_agreed else "DIFFERS", "why": error.reason}
    num_raised, wrong = 0, []

    def compare(indices: list[int]) -> None:
        nonlocal num_raised
        try:
            for index, planes in zip(indices, reader.get_planes_at(indices), strict=True):
                if expected is None or index >= len(expected) or sum_of(planes) != expected[index]:
                    wrong.append(index)
        except vidload.DamagedVideoError:
            num_raised += 1

    for index in range(reader.num_frames):
        compare([index])
    rng = np.random.default_rng(0)
    for _ in range(NUM_RANDOM_SETS):
        compare(rng.integers(0, reader.num_frames, int(rng.integers(1, 9))).tolist())
    is_right = not wrong and expected is not None and reader.num_frames == len(expected)
    times_rise = bool((np.diff(reader.pts_seconds) > 0).all())
    verdict = "DIFFERS" if not is_right or not times_rise else "damaged" if num_raised else "right"
    return row | {
        "verdict": verdict,
        "frames": reader.num_frames,
        "raised": num_raised,
        "wrong": sorted(set(wrong))[:10],
        "codec": reader.codec,
        "is_regular": reader._index.is_regular,
        "fps": round(reader.average_fps, 3),
        "note": reader.note,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--json", type=Path, help="write the rows here too")
    arguments = parser.parse_args()
    paths = sorted(path for path in arguments.folder.rglob("*") if path.is_file())
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        reference = build_reference(folder)
        if reference is None:
            print("corpus_check: needs a C compiler, pkg-config and the headers of vidload's FFmpeg", file=sys.stderr)
            return 2
        for path in paths:
            if sequential_sums(reference, path) is None and path.suffix not in vidload.annotations.VIDEO_EXTENSIONS:
                continue  # no video at all
            row = check(reference, path)
            rows.append(row)
            facts = {
                key: value
                for key, value in row.items()
                if key not in ("path", "verdict") and value not in ("", [], None)
            }
            print(f"{row['verdict']:<8} {path.relative_to(arguments.folder)}  {facts}", flush=True)
    counts = {
        verdict: sum(row["verdict"] == verdict for row in rows)
        for verdict in ("right", "damaged", "refused", "DIFFERS")
    }
    print(f"{len(rows)} files: {counts}")
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1) + "\n")
    return 1 if counts["DIFFERS"] else 0


if __name__ == "__main__":
    sys.exit(main())
