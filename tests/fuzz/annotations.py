"""Runs mutated lists, CSV files, records and states through their readers: each is read, or rejected with a ValueError that names the file.

python tests/fuzz/annotations.py --seconds 60
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path

from vidload import FeatureDataset, VideoError
from vidload.annotations import read_frame_list, read_kinetics_csv, read_list

_SEEDS = {
    "list.txt": b"a/b c.mp4 0\nd.mp4 1\n\xc3\xa9.avi\t2\n",
    "frames.txt": b"folder 12 0\nother folder 3 40 2\n",
    "kinetics.csv": b'label,youtube_id,time_start,time_end,split\nriding a bike,abc,1,11,train\n"a, b",def,0,10,val\n',
    "features.jsonl": b'{"settings": {"a": 1}}\n{"name": "v", "duration_second": 3.5, "duration_frame": 90, "feature_frame": 80}\n',
    "annotations.json": b'{"v": {"duration_second": 10, "annotations": [{"segment": [1, 2.5], "label": "x"}]}}',
}
_PIECES = (
    b"\0",
    b"\xff",
    b"\n",
    b"\r",
    b",",
    b'"',
    b"\t",
    b" ",
    b"inf",
    b"nan",
    b"-1",
    b"1e400",
    b"9" * 400,
    b"[",
    b"{",
    b"null",
    b"\xef\xbb\xbf",
    b"[" * 5000,
)


def read(path: Path, folder: Path) -> None:
    if path.name == "list.txt":
        read_list(path, folder)
        read_list(path, folder, multi_label=True)
    elif path.name == "frames.txt":
        read_frame_list(path, folder, with_offset=False)
    elif path.name == "kinetics.csv":
        read_kinetics_csv(path, folder)
    elif path.name == "features.jsonl":
        FeatureDataset(None, folder)
    else:
        FeatureDataset(path, folder / "none")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seconds", type=float, default=60)
    args = parser.parse_args()
    rng, end, number = random.Random(0), time.monotonic() + args.seconds, 0
    with tempfile.TemporaryDirectory() as name:
        while time.monotonic() < end:
            number += 1
            file_name, seed = rng.choice(list(_SEEDS.items()))
            data = bytearray(seed)
            for _ in range(rng.randrange(1, 5)):
                place = rng.randrange(len(data) + 1)
                if rng.random() < 0.3:
                    del data[place : place + rng.randrange(1, 10)]
                elif rng.random() < 0.7:
                    data[place:place] = rng.choice(_PIECES)
                else:
                    data[place : place + 1] = bytes([rng.randrange(256)])
            path = Path(name) / file_name
            path.write_bytes(data)
            try:
                read(path, Path(name))
            except (ValueError, VideoError, FileNotFoundError) as error:
                assert isinstance(error, VideoError | FileNotFoundError) or str(error), data
            except Exception as error:
                print(f"{file_name}: {bytes(data)[:300]!r}: {type(error).__name__}: {str(error)[:300]}")
                return 1
            path.unlink()
    print(f"{number} files, no findings")
    return 0


if __name__ == "__main__":
    sys.exit(main())
