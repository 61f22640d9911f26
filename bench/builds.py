"""Processor time per clip of several builds of vidload (FFmpegs, compilers, options), interleaved.

    python bench/builds.py system=. wheel=build/wheel/package --data bench/data/keyint250 bench/data/keyint16
    python bench/builds.py system=. wheel=build/wheel/package --sets hevc:256 vp9:256 av1:256

In: NAME=FOLDER for each build, where FOLDER holds the package `vidload`; folders of videos, or the videos of source_clips.py as codec:height
(encoded on first use). Out: a Markdown table of user milliseconds per clip, the median over rounds, and the ratio of each build to the first
(the median of the rounds' ratios). Each build is a process of its own with one decoding thread; in a round each decodes the same clips in
turn, so that what else the machine does falls on all alike.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
from pathlib import Path

import build_data

CLIPS = ("1x1x3", "32x2x1", "4x16x1", "8x8x1")


def work() -> None:
    """The process of one build: reads one job per line, loads its clips and answers with user seconds per clip."""
    import vidload

    print(json.dumps({"module": vidload._core.__file__, "ffmpeg": vidload.info()["ffmpeg"]["version"]}), flush=True)
    transform = vidload.transforms.random_resized_crop(224)
    for line in sys.stdin:
        job = json.loads(line)
        data = vidload.VideoDataset(
            [(path, 0) for path in job["paths"]], clip=job["clip"], transform=transform, seed=job["seed"]
        )
        loader = vidload.VideoLoader(data, batch_size=4, num_workers=1)
        for _ in loader:  # indexes the files and opens decoders
            pass
        before = resource.getrusage(resource.RUSAGE_SELF).ru_utime
        for _ in loader:
            pass
        seconds = resource.getrusage(resource.RUSAGE_SELF).ru_utime - before
        print(json.dumps(seconds / len(data)), flush=True)


def video_sets(folders: list[Path], sets: list[str]) -> dict[str, list[str]]:
    """Their videos by the name of the folder or set."""
    found = {folder.name: build_data.videos_in(folder.resolve()) for folder in folders}
    for name in sets:
        codec, height = name.rsplit(":", 1)
        found[f"{codec} {height}p"] = build_data.clips_of(codec, int(height))
    return found


def answer(process: subprocess.Popen[str]) -> str:
    """The next line that a build's process writes."""
    assert process.stdout is not None
    return process.stdout.readline().strip()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("builds", nargs="+", metavar="NAME=FOLDER")
    parser.add_argument("--data", nargs="+", type=Path, default=[], metavar="FOLDER")
    parser.add_argument(
        "--sets", nargs="+", default=[], metavar="CODEC:HEIGHT", help="codecs: " + ", ".join(build_data.ENCODERS)
    )
    parser.add_argument("--clips", nargs="+", default=CLIPS)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--videos", type=int, default=8, help="how many of each folder (default: 8)")
    args = parser.parse_args()
    videos = video_sets(args.data, args.sets)
    if not videos:
        parser.error("name videos: --data or --sets")
    builds = dict(build.split("=", 1) for build in args.builds)
    processes = {}
    for name, folder in builds.items():
        env = {**os.environ, "PYTHONPATH": str(Path(folder).resolve()), "OMP_NUM_THREADS": "1"}
        processes[name] = subprocess.Popen(
            [sys.executable, __file__, "--work"], env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        print(f"{name}: {answer(processes[name])}")
    print(
        f"load {os.getloadavg()[0]:.1f}; user ms per clip, median of {args.rounds} rounds; ratio to {next(iter(builds))}\n"
    )
    print(
        "| videos | clip | "
        + " | ".join(builds)
        + " | "
        + " | ".join(f"{name} ratio" for name in list(builds)[1:])
        + " |"
    )
    print("| --- | --- |" + " ---: |" * (2 * len(builds) - 1))
    for of_videos, paths in videos.items():
        for clip in args.clips:
            rounds = []
            for seed in range(args.rounds):
                took = {}
                for name in list(builds) if seed % 2 == 0 else list(reversed(builds)):
                    process = processes[name]
                    assert process.stdin is not None
                    process.stdin.write(json.dumps({"paths": paths[: args.videos], "clip": clip, "seed": seed}) + "\n")
                    process.stdin.flush()
                    took[name] = json.loads(answer(process))
                rounds.append(took)
            medians = [f"{1000 * statistics.median(took[name] for took in rounds):.1f}" for name in builds]
            first = next(iter(builds))
            ratios = [f"{statistics.median(t[name] / t[first] for t in rounds):.2f}" for name in list(builds)[1:]]
            print(f"| {of_videos} | {clip} | " + " | ".join(medians + ratios) + " |", flush=True)


if __name__ == "__main__":
    if sys.argv[1:] == ["--work"]:
        work()
    else:
        main()
