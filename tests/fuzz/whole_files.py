"""Runs mutated video files through the reader and the loader, compared with a sequential decode by the same libavcodec.

    python tests/fuzz/whole_files.py --seconds 600 [--first 0]

A file is given by its number: the same number is the same file, on every machine that encodes the clips identically. Child processes do the
work, so that a crash costs one number and names it. A finding is a crash, a hang, an exception other than VideoError, or a good video lost
next to a bad one: exit status 1. Frames that differ from the sequential decode are counted and listed: not all damage can be detected
(docs/security.md), but no frame of an intact stream may differ.
"""

from __future__ import annotations

import argparse
import collections
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

TESTS = Path(__file__).parents[1]
sys.path.insert(0, str(TESTS))

CLIPS = (
    *(
        "h264",
        "h264_no_b_frames",
        "h264_open_gop",
        "h264_mkv",
        "h264_ts",
        "h264_flv",
        "h264_fragmented",
        "h264_raw",
        "h264_avi",
    ),
    *(
        "hevc",
        "hevc_mkv",
        "vp8",
        "vp9",
        "vp9_mp4",
        "av1",
        "mpeg4",
        "mpeg4_packed_avi",
        "mpeg2_ts",
        "mjpeg_avi",
        "h264_edit_list",
    ),
)
_NUMBERS = (
    0,
    1,
    2,
    7,
    0x7F,
    0x80,
    0xFF,
    0x7FFF,
    0xFFFF,
    0x10000,
    1_000_000,
    0x40000000,
    0x7FFFFFFF,
    0x80000000,
    0xFFFFFFFF,
)
_BOXES = (
    *(
        b"moov",
        b"trak",
        b"mdia",
        b"stbl",
        b"stsd",
        b"stts",
        b"ctts",
        b"stsz",
        b"stsc",
        b"stco",
        b"stss",
        b"elst",
        b"avcC",
        b"hvcC",
    ),
    *(
        b"av1C",
        b"vpcC",
        b"moof",
        b"traf",
        b"trun",
        b"tfhd",
        b"mdat",
        b"tkhd",
        b"mdhd",
        b"idx1",
        b"strh",
        b"strf",
        b"movi",
        b"RIFF",
        b"LIST",
    ),
)
_CHILD_FILES = 100
_HANG_SECONDS = 60


def mutated(clips: list[Path], number: int) -> tuple[str, bytes, str]:
    """(file name of the clip, its bytes with a few changes, what was done). Every fiftieth is left unchanged."""
    rng = np.random.default_rng(number)
    clip = clips[int(rng.integers(len(clips)))]
    data, done = bytearray(clip.read_bytes()), []
    for _ in range(0 if number % 50 == 0 else int(rng.integers(1, 4))):
        if len(data) < 64:
            break
        kind = _MUTATIONS[int(rng.integers(len(_MUTATIONS)))]
        kind(data, rng, clips)
        done.append(kind.__name__.strip("_"))
    return clip.name, bytes(data), " ".join(done) or "intact"


def _place(data: bytearray, rng: np.random.Generator) -> int:
    """A random position, more often near the two ends, where the headers are."""
    near = min(len(data), 1500)
    where = rng.random()
    if where < 0.35:
        return int(rng.integers(near))
    return len(data) - 1 - int(rng.integers(near)) if where < 0.5 else int(rng.integers(len(data)))


def _flip(data: bytearray, rng: np.random.Generator, clips: list[Path]) -> None:
    for _ in range(int(rng.integers(1, 20))):
        data[_place(data, rng)] ^= 1 << int(rng.integers(8))


def _overwrite(data: bytearray, rng: np.random.Generator, clips: list[Path]) -> None:
    place, size = _place(data, rng), int(rng.integers(1, 64))
    size = min(size, len(data) - place)
    data[place : place + size] = (bytes(size), b"\xff" * size, rng.bytes(size))[int(rng.integers(3))]


def _cut(data: bytearray, rng: np.random.Generator, clips: list[Path]) -> None:
    del data[int(rng.integers(8, len(data))) :]


def _delete(data: bytearray, rng: np.random.Generator, clips: list[Path]) -> None:
    place = _place(data, rng)
    del data[place : place + int(rng.integers(1, 200))]


def _repeat(data: bytearray, rng: np.random.Generator, clips: list[Path]) -> None:
    place = _place(data, rng)
    data[place:place] = data[place : place + int(rng.integers(1, 300))]


def _splice(data: bytearray, rng: np.random.Generator, clips: list[Path]) -> None:
    other = clips[int(rng.integers(len(clips)))].read_bytes()
    data[_place(data, rng) :] = other[int(rng.integers(len(other))) :]


def _number(data: bytearray, rng: np.random.Generator, clips: list[Path]) -> None:
    size = int(rng.choice([1, 2, 4]))
    place = min(_place(data, rng), len(data) - size)
    number = _NUMBERS[int(rng.integers(len(_NUMBERS)))] & ((1 << 8 * size) - 1)
    data[place : place + size] = number.to_bytes(size, "big" if rng.random() < 0.6 else "little")


def _box(data: bytearray, rng: np.random.Generator, clips: list[Path]) -> None:
    """Overwrites a number in a box of an mp4 or a chunk of an AVI, or its size."""
    places = [place for box in _BOXES if (place := data.find(box)) >= 4]
    if not places:
        return
    place = places[int(rng.integers(len(places)))]
    place += -4 if rng.random() < 0.5 else 4 + 4 * int(rng.integers(8))
    data[place : place + 4] = _NUMBERS[int(rng.integers(len(_NUMBERS)))].to_bytes(4, "big")


_MUTATIONS = (_flip, _overwrite, _cut, _delete, _repeat, _splice, _number, _box)


def try_one(number: int, clips: list[Path], folder: Path, reference: Path) -> dict[str, object]:
    """The result of one file, as a row; the key "finding" marks a finding."""
    import torch
    from corpus_check import sequential_sums, sum_of

    import vidload
    from vidload import VideoDataset, VideoLoader, transforms

    name, data, what = mutated(clips, number)
    path = folder / name
    path.write_bytes(data)
    row: dict[str, object] = {"number": number, "clip": name, "what": what}
    rng = np.random.default_rng(number + 10**9)
    sums: dict[int, set[int]] = collections.defaultdict(set)
    try:
        reader = vidload.VideoReader(data if number % 3 == 0 else path)
        wanted = [[index] for index in range(min(reader.num_frames, 64))]
        wanted += [rng.integers(0, reader.num_frames, int(rng.integers(1, 6))).tolist() for _ in range(3)]
        num_errors = 0
        for indices in wanted:
            try:
                for index, planes in zip(indices, reader.get_planes_at(indices), strict=True):
                    sums[index].add(sum_of(planes))
            except vidload.VideoError:
                num_errors += 1
        row |= {"frames": reader.num_frames, "errors": num_errors}
        if any(len(found) > 1 for found in sums.values()):
            row["differs"] = "from itself"
    except vidload.VideoError as error:
        row["refused"] = error.kind
    except Exception as error:
        row["finding"] = f"{type(error).__name__}: {error}"
    if number % 2 == 0:
        try:
            good = str(clips[0])
            items = VideoDataset(
                [(str(path), 0), (good, 1)],
                clip="4x1x2",
                transform=transforms.random_resized_crop(24),
                seed=number,
                dtype=torch.uint8,
            )
            loader = VideoLoader(items, batch_size=2, num_workers=number % 3, on_error="skip")
            if 1 not in [int(label) for _, labels in loader for label in labels]:
                row["finding"] = "the good video was lost"
        except Exception as error:
            row["finding"] = f"loader: {type(error).__name__}: {error}"
    if sums:
        expected = set(sequential_sums(reference, path) or ())
        if missing := sorted(index for index, found in sums.items() if not found <= expected):
            row["differs"] = f"{len(missing)} of {len(sums)} frames do not occur in a sequential decode: {missing[:5]}"
            if what == "intact":
                row["finding"] = row["differs"]
    return row


def child(first: int, last: int, folder: Path, clips: list[Path], reference: Path) -> None:
    for number in range(first, last):
        print(json.dumps({"at": number}), flush=True)
        print(json.dumps(try_one(number, clips, folder, reference)), flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--child", nargs=4, metavar=("FIRST", "LAST", "FOLDER", "REFERENCE"))
    parser.add_argument("--clips", nargs="*")
    args = parser.parse_args()
    if args.child:
        first, last, folder, reference = args.child
        child(int(first), int(last), Path(folder), [Path(clip) for clip in args.clips], Path(reference))
        return 0

    import videos
    from corpus_check import build_reference

    end, number = time.monotonic() + args.seconds, args.first
    counter: collections.Counter[str] = collections.Counter()
    findings: list[str] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        reference = build_reference(folder)
        if reference is None:
            print("needs a C compiler, pkg-config and the headers of vidload's FFmpeg", file=sys.stderr)
            return 1
        clips = [str(videos.make_video(clip, folder / "clips")) for clip in CLIPS]
        while time.monotonic() < end:
            last, at = number + _CHILD_FILES, number
            command = [
                sys.executable,
                __file__,
                "--child",
                str(number),
                str(last),
                name,
                str(reference),
                "--clips",
                *clips,
            ]
            with subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=dict(os.environ)
            ) as process:
                try:
                    out, errors = process.communicate(
                        timeout=min(_HANG_SECONDS * 20, max(end - time.monotonic(), 1) + _HANG_SECONDS)
                    )
                except subprocess.TimeoutExpired:
                    process.kill()
                    out, errors = process.communicate()
                    errors += "\nhangs"
            for line in out.splitlines():
                row = json.loads(line)
                at = row.get("at", at)
                if "at" in row:
                    continue
                counter["files"] += 1
                counter[f"refused as {row['refused']}" if "refused" in row else "read"] += 1
                counter["files with frames that differ"] += "differs" in row
                if "finding" in row:
                    findings.append(line)
            if process.returncode != 0:
                findings.append(json.dumps({"number": at, "status": process.returncode, "stderr": errors[-2000:]}))
            number = last if process.returncode == 0 else at + 1
    print(", ".join(f"{count} {what}" for what, count in counter.most_common()))
    for finding in findings[:20]:
        print(finding)
    print(f"{len(findings)} findings in files {args.first} to {number}")
    return int(bool(findings))


if __name__ == "__main__":
    sys.exit(main())
