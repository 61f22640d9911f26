"""The frame-vs-video gap: clips per second from extracted JPEG frames, from video, and from prepared video.

    python bench/peers.py --install && python bench/frame_vs_video.py     # about 9 minutes on 2 cores
    python bench/frame_vs_video.py --data videos --minutes 20

In: real clips (build_data.py's, or --data DIR). JPEG frames and prepared videos are made from them once, in
bench/data. Out: Markdown on stdout and bench/results/frame_vs_video.{md,json}, with three plots beside them. Every
loader gives the same frames and crops, one after another in each round, so anything that disturbs a round disturbs
them all. Peers run as their users run them; see peers.py.

The iteration table shows what that means for training: a timer as long as a published training step stands for
the accelerator, and the loader runs ahead of it.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import os
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import build_data
import numpy as np
from peers import BATCH_SIZE, WARM_STEPS
from timing import RESULTS, Rounds, geometric_mean, log_scale, machine, markdown_table, ratio, write_json
from workers import (
    CLIPS_PER_ROUND,
    MAX_ROUNDS,
    Case,
    Item,
    Worker,
    first_batch,
    make_jobs,
    start_workers,
    worst_difference,
)

from vidload import VideoReader
from vidload.prepare import CLIP_SPECS, PROFILES, describe, prepare
from vidload.prepare.frames import extract_dataset

MIN_ROUNDS = 2
LONG_ROUND = 2 * CLIPS_PER_ROUND  # of the fast sources, so that the start of an epoch weighs little
# Mean absolute difference, on the 0-255 scale, allowed between two encodes of the same clip; a different frame has more.
MAX_DIFFERENCE = 12.0

FILES = {
    "frames": "JPEG frames, -q:v 2",
    "original": "original",
    "keyint 16": "a keyframe every 16 frames",
    **{name: f"vidload prepare --profile {name}: {describe(settings)}" for name, settings in PROFILES.items()},
}


@dataclass(frozen=True)
class Source:
    """Files, and the worker that loads clips from them."""

    name: str
    files: str
    worker: str = "vidload"

    def jobs(self, case: Case, round_number: int) -> list[int]:
        """The arguments of a range of job numbers."""
        if self.files in ("original", "keyint 16"):
            return case.jobs(round_number % MAX_ROUNDS)
        return case.jobs(2 * round_number % (MAX_ROUNDS - 1), LONG_ROUND)


SOURCES = (
    Source("JPEG, DataLoader", "frames", "jpeg"),
    Source("JPEG, DataLoader, fused", "frames", "jpeg_fused"),
    Source("JPEG, vidload", "frames"),
    Source("original, decord", "original", "decord"),
    Source("original, vidload", "original"),
    Source("keyint 16, decord", "keyint 16", "decord"),
    Source("keyint 16, vidload", "keyint 16"),
    *(Source(f"{profile}, vidload", profile) for profile in PROFILES),
)
REFERENCES = ("JPEG, DataLoader", "JPEG, DataLoader, fused", "JPEG, vidload", "original, decord")


@dataclass(frozen=True)
class Step:
    """A training step on one of 8 V100s as MMAction2 published it: from raw frames where available, else from video.
    `clip` is what the loader gives: SlowFast takes both its pathways from 32x2x1.

    Attributes:
        published: s/iter from frames / from video in the table of June 2020 (in brackets, that of 2022).
    """

    model: str
    clip: str
    batch_size: int
    seconds: float
    published: str


TRAINING_STEPS = (
    Step("TSN 1x1x3", "1x1x3", 32, 0.2966, "0.2966 / 0.4165 (0.32 / 1.42, dense 0.61)"),
    Step("I3D 32x2x1", "32x2x1", 8, 0.4528, "0.4528 / 0.4795 (0.43 / -)"),
    Step("I3D 32x2x1, fused", "32x2x1", 8, 0.3886, "0.3886 / -"),
    Step("TSM 1x1x8", "1x1x8", 8, 0.3052, "0.3052 / 0.3027 (0.31 / -)"),
    Step("SlowOnly 4x16x1", "4x16x1", 8, 0.30, "- / 0.30 (- / 0.32, dense 0.25)"),
    Step("SlowFast 4x16x1", "32x2x1", 8, 0.80, "- / 0.80 (- / 0.69, dense 0.68)"),
    Step("R(2+1)D 8x8x1", "8x8x1", 8, 0.48, "0.48 / 0.834 (- / 0.45, dense 0.44)"),
)
STEPPED = tuple(
    source
    for source in SOURCES
    if source.name
    in (
        "JPEG, DataLoader",
        "JPEG, vidload",
        "original, decord",
        "original, vidload",
        "balanced, vidload",
        "fastest, vidload",
    )
)
KEPT_UP = 1.02  # an iteration of at most this many step lengths did not wait for data


# --- what is loaded


def build(data: Path | None, num_videos: int, work: Path) -> dict[str, list[Item]]:
    """The files of each set, in the same order in every set. JPEG frames and prepared videos are made under `work` unless
    they exist already."""
    folders = build_data.build() if data is None else {250: data.resolve()}
    root = folders[250]
    originals = build_data.videos_in(root, num_videos)
    sets: dict[str, list[Item]] = {"original": [(path, 0) for path in originals]}
    if data is None:
        sets["keyint 16"] = [(str(folders[16] / Path(path).name), 0) for path in originals]
    listing = work / f"{root.name}.txt"
    work.mkdir(parents=True, exist_ok=True)
    listing.write_text("".join(f"{os.path.relpath(path, root)} 0\n" for path in originals))
    show = sys.stderr.isatty()
    for name in ("frames", *PROFILES):
        folder = work / f"{root.name}_{name}"
        if name == "frames":
            failures = extract_dataset(listing, folder, root=root, progress=show).failures
        else:
            failures = prepare(listing, folder, PROFILES[name], root=root, progress=show).failures
        if failures:
            raise SystemExit(f"{failures[0][0]}: {failures[0][1]}")
        for line in (folder / listing.name).read_text().splitlines():
            path, *numbers = line.rsplit(" ", 2 if name == "frames" else 1)
            sets.setdefault(name, []).append((str(folder / path), *map(int, numbers)))  # type: ignore[arg-type]
    return sets


def bytes_of(path: str) -> int:
    return os.path.getsize(path) if os.path.isfile(path) else sum(entry.stat().st_size for entry in os.scandir(path))


def luma_psnr(original: str, other: str) -> float | None:
    """Over all frames of a video, or of a folder of JPEG frames, against the original; dB. None if the sizes differ."""
    wanted = limited_luma(original)
    paths = sorted(str(path) for path in Path(other).glob("*.jpg")) if os.path.isdir(other) else [other]
    error, place = 0.0, 0
    for path in paths:
        luma = limited_luma(path)
        here = wanted[place : place + len(luma)]
        if luma.shape != here.shape:
            return None
        error += float(((luma - here) ** 2).sum())
        place += len(luma)
    return 10 * math.log10(255**2 / max(error / wanted.size, 1e-3))


def limited_luma(path: str) -> np.ndarray:
    """float32 [T, H, W], all frames, full range converted to the limited-range scale."""
    with VideoReader(path) as reader:
        luma = np.stack([planes[0] for planes in reader.get_planes_at(range(reader.num_frames))]).astype(np.float32)
        return 16 + luma * np.float32(219 / 255) if reader.color_range == "full" else luma


# --- measuring


def run(args: argparse.Namespace) -> dict[str, Any]:
    started = time.perf_counter()
    sets = build(args.data, args.num_videos, args.work)
    result: dict[str, Any] = {
        "machine": machine(),
        "num_workers": args.num_workers,
        "originals": f"{len(sets['original'])} "
        + (
            "real clips of 10 s, x264 defaults, keyint 250"
            if args.data is None
            else f"videos of {args.data.resolve().name}"
        ),
        "build_minutes": (time.perf_counter() - started) / 60,
    }
    result["files"] = {}
    for name, files in sets.items():
        result["files"][name] = {"num_bytes": sum(bytes_of(item[0]) for item in files), "psnr": None}
        if name not in ("original", "keyint 16"):  # these two come from a common source
            psnrs = [luma_psnr(a[0], b[0]) for a, b in zip(sets["original"], files, strict=True)]
            known = [psnr for psnr in psnrs if psnr is not None]
            result["files"][name]["psnr"] = min(known) if len(known) == len(psnrs) else None
    with tempfile.TemporaryDirectory(prefix="vidload_bench_") as temporary:
        folder = Path(temporary)
        jobs, cases = make_jobs(sets, folder, args.clips)
        case_of = {(case.set_name, case.clip): case for case in cases}
        jobs_file = folder / "jobs.json"
        jobs_file.write_text(json.dumps(jobs))
        # Each worker warms up with the first of its sources.
        first_sets = {source.worker: source.files for source in reversed(SOURCES)}
        warm_ups = {name: case_of[files, args.clips[0]].jobs(0, BATCH_SIZE) for name, files in first_sets.items()}
        workers, result["versions"], result["missing"] = start_workers(warm_ups, jobs_file, args.num_workers)
        try:
            for name, reason in result["missing"].items():
                print(f"without {name}: {reason}", flush=True)
            sources = [source for source in SOURCES if source.files in sets and source.worker in workers]
            clip = "8x8x1" if "8x8x1" in args.clips else args.clips[0]
            result["differences"] = check_same(sources, workers, case_of, clip, folder)
            result["steps"] = measure_steps([s for s in STEPPED if s in sources], workers, case_of, args.steps)
            deadline = started + 60 * args.minutes
            result["seconds"] = measure_rounds(sources, workers, case_of, args.clips, deadline)
        finally:
            for worker in workers.values():
                worker.close()
    result["minutes"] = (time.perf_counter() - started) / 60
    return result


CaseOf = dict[tuple[str, str], Case]


def check_same(
    sources: list[Source], workers: dict[str, Worker], case_of: CaseOf, clip: str, folder: Path
) -> dict[str, float]:
    """Mean absolute difference of each source's first batch from the original's, on the 0-255 scale."""
    ours = first_batch(workers["vidload"], case_of["original", clip], folder)
    differences = {}
    for source in sources:
        theirs = first_batch(workers[source.worker], case_of[source.files, clip], folder)
        differences[source.name] = worst_difference(ours, theirs)
        if differences[source.name] > MAX_DIFFERENCE:
            raise RuntimeError(
                f"{source.name}: not the frames of the original (difference {differences[source.name]:.1f} of 255)"
            )
    print(f"all give the same clips (the worst differs by {max(differences.values()):.1f} of 255)", flush=True)
    return differences


def measure_steps(
    sources: list[Source], workers: dict[str, Worker], case_of: CaseOf, num_steps: int
) -> list[dict[str, Any]]:
    """Seconds per iteration of each published step, with each loader ahead of a timer."""
    rows: list[dict[str, Any]] = []
    for step in TRAINING_STEPS if num_steps > 0 else ():
        if ("original", step.clip) not in case_of:
            continue  # --clips leaves it out
        seconds = {}
        for source in sources:
            case = case_of[source.files, step.clip]
            num_jobs = min((WARM_STEPS + num_steps) * step.batch_size, MAX_ROUNDS * CLIPS_PER_ROUND)
            command = dict(do="steps", batch_size=step.batch_size, step_seconds=step.seconds)
            seconds[source.name] = workers[source.worker].ask(**command, jobs=case.jobs(0, num_jobs))["seconds"]
        print(f"{step.model}: " + ", ".join(f"{name} {value:.3f}" for name, value in seconds.items()), flush=True)
        rows.append({"model": step.model, "step": step.seconds, "published": step.published, "seconds": seconds})
    return rows


def measure_rounds(
    sources: list[Source], workers: dict[str, Worker], case_of: CaseOf, clips: list[str], deadline: float
) -> dict[str, dict[str, list[dict[str, float]]]]:
    """clip spec -> source -> what Worker.timed returns for each round."""
    taken: dict[str, dict[str, list[dict[str, float]]]] = {
        clip: {source.name: [] for source in sources} for clip in clips
    }
    for clip in clips:
        for source in sources:  # as in a long run: processes run, files are indexed, batch memory has been touched
            workers[source.worker].ask(do="time", jobs=case_of[source.files, clip].jobs(0))
    for round_number in itertools.count(1):
        before = time.perf_counter()
        for clip in clips:
            for source in sources:
                jobs = source.jobs(case_of[source.files, clip], round_number)
                taken[clip][source.name].append(workers[source.worker].timed(do="time", jobs=jobs))
        now = time.perf_counter()
        print(f"round {round_number} took {now - before:.0f} s", flush=True)
        if round_number >= MIN_ROUNDS and now + (now - before) > deadline:
            break
    return taken


# --- the result


def milliseconds(measured: list[dict[str, float]], kind: str = "wall") -> Rounds:
    return Rounds(tuple(1000 * seconds[kind] / seconds["clips"] for seconds in measured))


def report(result: dict[str, Any]) -> str:
    about = result["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    lines = [
        "# The frame-vs-video gap",
        "",
        f"{about['cpu']}, {about['cores']} cores, {result['num_workers']} workers; load at start {about['load_at_start']}. "
        f"Originals: {result['originals']}. Versions: {versions}.",
    ]
    lines += [f"Missing: {name} ({why})." for name, why in result["missing"].items()]
    lines += ["", "## On disk", "", disk_table(result), "", "## Clips", "", *clip_tables(result)]
    if result["steps"]:
        lines += ["", "## Iterations", "", *step_table(result)]
    lines += [
        "",
        f"Measured in {result['minutes']:.1f} minutes, {result['build_minutes']:.1f} of them to make the files.",
    ]
    return "\n".join(lines) + "\n"


def disk_table(result: dict[str, Any]) -> str:
    jpeg_bytes = result["files"]["frames"]["num_bytes"]
    rows = []
    for name, words in FILES.items():
        if name in result["files"]:
            files = result["files"][name]
            psnr = "" if files["psnr"] is None else f"{files['psnr']:.1f} dB"
            rows.append([words, f"{files['num_bytes'] / 1e6:.1f}", f"{files['num_bytes'] / jpeg_bytes:.3f}x", psnr])
    return markdown_table(["files", "MB", "of JPEG", "luma PSNR against the original, worst clip"], rows)


def clip_tables(result: dict[str, Any]) -> list[str]:
    """Milliseconds and clips per second, processor time, ratios."""
    seconds = result["seconds"]
    clips = list(seconds)
    names = list(seconds[clips[0]])
    num_rounds = len(seconds[clips[0]][names[0]])
    wall, rate, cpu = [], [], []
    for name in names:
        rounds = [milliseconds(seconds[clip][name]) for clip in clips]
        wall.append([name, *(f"{r}" for r in rounds)])
        rate.append(
            [
                name,
                *(f"{1000 / r.median:.0f}" for r in rounds),
                f"{1000 / geometric_mean([r.median for r in rounds]):.0f}",
            ]
        )
        used = [milliseconds(seconds[clip][name], "cpu").median for clip in clips]
        cpu.append([name, *(f"{ms:.1f}" for ms in used), f"{geometric_mean(used):.1f}"])
    ratios = []
    for reference in REFERENCES:
        for name in names:
            if name == reference or reference not in names or "vidload" not in name:
                continue
            values = [
                ratio(milliseconds(seconds[clip][reference]), milliseconds(seconds[clip][name])) for clip in clips
            ]
            ratios.append(
                [f"{name} : {reference}", *(f"{value:.2f}x" for value in values), f"{geometric_mean(values):.2f}x"]
            )
    mean = "geometric mean"
    return [
        f"Milliseconds per clip, all workers together, median of {num_rounds} rounds ± half the range.",
        "",
        markdown_table(["", *clips], wall),
        "",
        "Clips per second.",
        "",
        markdown_table(["", *clips, mean], rate),
        "",
        "CPU milliseconds per clip, summed over processes and threads.",
        "",
        markdown_table(["", *clips, mean], cpu),
        "",
        "Ratio of clips per second, median over the rounds.",
        "",
        markdown_table(["", *clips, mean], ratios),
    ]


def step_table(result: dict[str, Any]) -> list[str]:
    names = list(result["steps"][0]["seconds"])
    rows = []
    for row in result["steps"]:
        cells = [row["model"], row["published"], f"{row['step']:.3f}"]
        for name in names:
            value = row["seconds"][name]
            cells.append(f"{value:.3f}" if value > KEPT_UP * row["step"] else f"**{value:.3f}**")
        rows.append(cells)
    return [
        "Seconds per iteration when the accelerator is a **timer** as long as the published step: no model runs here. The loader "
        "runs ahead of it on all cores. Bold: the loader kept up. Published: s/iter from frames / from video on 8 V100s, MMAction2, "
        "June 2020 (2022 in brackets; dense: a keyframe every 16 frames), frames from Memcached and videos from disk.",
        "",
        markdown_table(["", "published", "timer", *names], rows),
    ]


COLORS = {
    "JPEG, DataLoader": "#1f4e79",
    "JPEG, DataLoader, fused": "#2e86ab",
    "JPEG, vidload": "#7fb7be",
    "original, decord": "#a3a380",
    "original, vidload": "#5d737e",
    "keyint 16, decord": "#c9ada7",
    "keyint 16, vidload": "#b08968",
    "smallest, vidload": "#f4a259",
    "balanced, vidload": "#d62728",
    "fastest, vidload": "#8f2d56",
}


def draw_gap(result: dict[str, Any], path: Path) -> None:
    """Seconds per iteration, one group of bars per model."""
    from matplotlib.figure import Figure

    rows = result["steps"]
    names = list(rows[0]["seconds"])
    figure = Figure(figsize=(11, 4.2), dpi=110, layout="constrained")
    axes = figure.subplots()
    width = 0.85 / len(names)
    for k, name in enumerate(names):
        places = np.arange(len(rows)) + (k - (len(names) - 1) / 2) * width
        axes.bar(places, [row["seconds"][name] for row in rows], width, color=COLORS[name], label=name)
    for i, row in enumerate(rows):
        axes.plot(
            [i - 0.45, i + 0.45], [row["step"]] * 2, color="black", linewidth=1.2, label=None if i else "the step alone"
        )
    axes.set_xticks(np.arange(len(rows)), [row["model"] for row in rows], fontsize=8)
    axes.set_ylabel("seconds per iteration (the accelerator is a timer)")
    axes.set_title(f"The gap on {result['machine']['cores']} cores of {result['machine']['cpu']}", fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=8)
    figure.savefig(path)


SUMMARY = {
    "original, decord": "original videos, decord in a DataLoader",
    "original, vidload": "original videos, vidload",
    "JPEG, DataLoader, fused": "JPEG frames, DataLoader",
    "balanced, vidload": "prepared videos, vidload",
}


def draw_summary(result: dict[str, Any], path: Path) -> None:
    """The whole story in two panels: clips per second, and disk space."""
    from matplotlib.figure import Figure

    seconds, files = result["seconds"], result["files"]
    names = [name for name in SUMMARY if all(name in of_clip for of_clip in seconds.values())]
    files_of = {source.name: source.files for source in SOURCES}
    rates = [1000 / geometric_mean([milliseconds(seconds[clip][name]).median for clip in seconds]) for name in names]
    shares = [files[files_of[name]]["num_bytes"] / files["frames"]["num_bytes"] for name in names]
    figure = Figure(figsize=(9, 0.55 + 0.42 * len(names)), dpi=130, layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    colors = [COLORS[name] for name in names]
    for axes, values, form, title in (
        (left, rates, "{:.0f}", "clips per second, 2 cores"),
        (right, shares, "{:.2f}x", "bytes on disk, relative to JPEG frames"),
    ):
        bars = axes.barh(range(len(names)), values, color=colors, height=0.7)
        axes.bar_label(bars, [form.format(value) for value in values], padding=4, fontsize=10)
        axes.set_title(title.replace("2 cores", f"{result['machine']['cores']} cores"), fontsize=10, loc="left")
        axes.set_xlim(0, 1.15 * max(values))
        axes.set_xticks([])
        axes.spines[["top", "right", "bottom", "left"]].set_visible(False)
        axes.tick_params(left=False)
    left.set_yticks(range(len(names)), [SUMMARY[name] for name in names], fontsize=10)
    left.invert_yaxis()
    figure.savefig(path)


def draw_bytes(result: dict[str, Any], path: Path) -> None:
    """Time against bytes, one panel per clip spec."""
    from matplotlib.figure import Figure

    jpeg_bytes = result["files"]["frames"]["num_bytes"]
    files_of = {source.name: source.files for source in SOURCES}
    figure = Figure(figsize=(13, 3.6), dpi=110, layout="constrained")
    panels = figure.subplots(1, len(result["seconds"]), sharey=True, squeeze=False)[0]
    for axes, clip in zip(panels, result["seconds"], strict=True):
        for name, measured in result["seconds"][clip].items():
            share = result["files"][files_of[name]]["num_bytes"] / jpeg_bytes
            axes.scatter(share, milliseconds(measured).median, color=COLORS[name], label=name, s=32)
        log_scale(axes, (0.05, 0.1, 0.2, 0.5, 1), (1, 2, 5, 10, 20, 50, 100))
        axes.set_title(clip, fontsize=10)
        axes.set_xlabel("bytes / JPEG frames' bytes")
        axes.spines[["top", "right"]].set_visible(False)
    figure.axes[0].set_ylabel("ms per clip")
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=5, fontsize=8)
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder with your own videos (default: those of build_data.py)")
    parser.add_argument("--clips", nargs="+", default=list(CLIP_SPECS), help="default: %(default)s")
    parser.add_argument("--num-videos", type=int, default=18, help="how many to use (default: %(default)s)")
    parser.add_argument(
        "--work",
        type=Path,
        default=build_data.DATA / "gap",
        help="folder for JPEG frames and prepared videos (default: bench/data/gap)",
    )
    parser.add_argument("--num-workers", type=int, default=len(os.sched_getaffinity(0)), help="default: the cores")
    parser.add_argument(
        "--minutes", type=float, default=5.5, help="no round starts that would end later (default: %(default)s)"
    )
    parser.add_argument(
        "--steps", type=int, default=3, help="timed iterations; 0: no iterations (default: %(default)s)"
    )
    parser.add_argument("--output", type=Path, default=RESULTS / "frame_vs_video", help="default: %(default)s.*")
    args = parser.parse_args()
    result = run(args)
    text = report(result)
    print("\n" + text)
    write_json(args.output.with_suffix(".json"), result)
    args.output.with_suffix(".md").write_text(text)
    if result["steps"]:
        draw_gap(result, args.output.with_suffix(".png"))
    for name, draw in (("bytes", draw_bytes), ("summary", draw_summary)):
        draw(result, args.output.with_name(f"{args.output.name}_{name}.png"))
    print(f"wrote {args.output}.json, .md, .png, _bytes.png and _summary.png")


if __name__ == "__main__":
    main()
