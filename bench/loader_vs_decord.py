"""vidload compared with the loaders that people train with, in one run: clips per second, for two keyframe
intervals and five clip specs.

Every loader returns the same clips (same files, same frames, same crops; checked before anything is timed) as
float32 NCTHW 224x224, normalized, in collated batches of 8, with the same number of workers (processes;
threads for vidload and SPDL). Rounds are interleaved: in each round every loader loads the same clips, so anything
that disturbs the machine disturbs them all; medians and spreads are over rounds. Worker startup and first-time work
(vidload: indexing) are not timed for any loader. Also: the floor (what a bare libavcodec loop over the needed
packets costs) and vidload's efficiency against it, the cost per clip outside C++, and peak memory.

    python bench/peers.py --install && python bench/loader_vs_decord.py
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import build_data
import numpy as np
from peers import BATCH_SIZE
from timing import RESULTS, Rounds, geometric_mean, machine, markdown_table, ratio, write_json
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

CLIPS = ("1x1x3", "1x1x8", "32x2x1", "4x16x1", "8x8x1")
SOURCE_CLIP = "8x8x1"  # of the rows per source
SOURCE_JOBS = 16  # clips per source and round
MAX_SOURCES = 12
TITLES = {
    "vidload": "vidload",
    "decord": "decord",
    "torchcodec": "TorchCodec",
    "pyav": "PyAV",
    "opencv": "OpenCV",
    "decord2": "decord2",
    "spdl": "SPDL",
}
COLORS = {
    "vidload": "#d62728",
    "decord": "#1f4e79",
    "torchcodec": "#2e86ab",
    "pyav": "#7fb7be",
    "opencv": "#a3a380",
    "decord2": "#5d737e",
    "spdl": "#c9ada7",
}
PEERS = tuple(name for name in TITLES if name != "vidload")
MIN_ROUNDS = 2
# Mean absolute difference, on the 0-255 scale, allowed between two correct results: chroma interpolation differs.
MAX_DIFFERENCE = 4.0


# set -> clip -> loader -> one {"wall": s, "cpu": s, "clips": n} per round
Seconds = dict[str, dict[str, dict[str, list[dict[str, float]]]]]


def check_same(workers: dict[str, Worker], case: Case, folder: Path) -> dict[str, float]:
    """Mean absolute difference of each loader's first batch from vidload's, on the 0-255 scale."""
    ours = first_batch(workers["vidload"], case, folder)
    return {name: worst_difference(ours, first_batch(worker, case, folder)) for name, worker in workers.items()}


def run(args: argparse.Namespace) -> dict[str, Any]:
    started = time.perf_counter()
    sets = video_sets(args.data)
    result: dict[str, Any] = {
        "machine": machine(),
        "num_workers": args.num_workers,
        "clips_per_round": CLIPS_PER_ROUND,
    }
    with tempfile.TemporaryDirectory(prefix="vidload_bench_") as temporary:
        folder = Path(temporary)
        jobs, cases = make_jobs(sets, folder, args.clips)
        source_jobs, source_cases = make_jobs(by_source(sets), folder, [SOURCE_CLIP])
        source_cases = [replace(case, first=case.first + len(jobs)) for case in source_cases]
        jobs += source_jobs
        jobs_file = folder / "jobs.json"
        jobs_file.write_text(json.dumps(jobs))
        workers, result["versions"], result["missing"] = start_workers(
            {name: [0, BATCH_SIZE] for name in ("vidload", *args.peers)},
            jobs_file,
            args.num_workers,
            {"torchcodec": args.torchcodec_python or sys.executable},
        )
        try:
            for name, reason in result["missing"].items():
                print(f"without {TITLES[name]}: {reason}", flush=True)
            check = next((case for case in cases if case.clip == "8x8x1"), cases[0])
            result["differences"] = check_same(workers, check, folder)
            worst = max(result["differences"].values())
            print(
                f"all give the same clips (mean difference of the worst at most {worst:.1f} of 255)",
                flush=True,
            )
            if worst > MAX_DIFFERENCE:
                raise RuntimeError(f"these are not the same frames: {result['differences']}")
            result["seconds"] = measure(workers, cases, args, started)
            result["by_source"] = measure_sources(workers, source_cases)
            result["overhead_microseconds"] = {
                case.clip: workers["vidload"].ask(do="overhead", jobs=case.jobs(0, 3 * CLIPS_PER_ROUND))["microseconds"]
                for case in cases
                if case.set_name == cases[-1].set_name
            }
        finally:
            for worker in workers.values():
                worker.close()
        result["peak_megabytes"] = peak_memory(cases, jobs_file)
    result["minutes"] = (time.perf_counter() - started) / 60
    return result


def video_sets(data: Path | None) -> dict[str, list[Item]]:
    """Files of each set, with a label: those built for this bench, or all videos in your own folder."""
    if data is not None:
        folders = {data.resolve().name: data}
    else:
        folders = {f"keyint {keyint}": folder for keyint, folder in build_data.build().items()}
    return {name: [(path, 0) for path in build_data.videos_in(folder)] for name, folder in folders.items()}


def by_source(sets: dict[str, list[Item]]) -> dict[str, list[Item]]:
    """The files of each set split by source, "keyint 250: water"; with your own videos, every file is a source."""
    apart: dict[str, list[Item]] = {}
    for name, items in sets.items():
        sources: dict[str, list[Item]] = {}
        for item in items:
            sources.setdefault(build_data.source_of(item[0]), []).append(item)
        apart |= {f"{name}: {source}": files for source, files in list(sources.items())[:MAX_SOURCES]}
    return apart


def measure_sources(workers: dict[str, Worker], cases: list[Case]) -> dict[str, dict[str, list[dict[str, float]]]]:
    """Set name of a case -> loader -> seconds of each of MIN_ROUNDS rounds."""
    seconds: dict[str, dict[str, list[dict[str, float]]]] = {}
    for case in cases:
        workers["vidload"].ask(do="time", jobs=case.jobs(0, SOURCE_JOBS))
    for round_number in range(MIN_ROUNDS):
        for case in cases:
            for name, worker in workers.items():
                taken = worker.timed(do="time", jobs=case.jobs(round_number, SOURCE_JOBS))
                seconds.setdefault(case.set_name, {}).setdefault(name, []).append(taken)
    return seconds


def measure(workers: dict[str, Worker], cases: list[Case], args: argparse.Namespace, started: float) -> Seconds:
    """Seconds of each round; "floor" is one thread, "floor_together" one per worker at once."""
    seconds: Seconds = {}
    for case in cases:  # as in a long run: files are indexed, and the memory that batches reuse has been touched
        workers["vidload"].ask(do="time", jobs=case.jobs(0))
    for round_number in range(MAX_ROUNDS):
        round_started = time.perf_counter()
        for case in cases:
            of_case = seconds.setdefault(case.set_name, {}).setdefault(case.clip, {})
            jobs = case.jobs(round_number)
            for name, worker in workers.items():
                of_case.setdefault(name, []).append(worker.timed(do="time", jobs=jobs))
            for name, num_threads in (("floor", 1), ("floor_together", args.num_workers)):
                every_second = case.jobs(round_number, step=2)
                taken = workers["vidload"].timed(do="floor", jobs=every_second, num_threads=num_threads)
                of_case.setdefault(name, []).append(taken)
        now = time.perf_counter()
        print(f"round {round_number + 1} took {now - round_started:.0f} s", flush=True)
        if round_number + 1 >= MIN_ROUNDS and now - started + (now - round_started) > 60 * args.minutes:
            break
    return seconds


def peak_memory(cases: list[Case], jobs_file: Path) -> dict[str, float]:
    """Peak resident memory in MB of a fresh process: 32x2x1 float32, batch 8, 2 ahead, 2 threads; and before
    the first batch."""
    case = next((case for case in cases if case.clip == "32x2x1"), None)
    if case is None:
        return {}
    worker = Worker("vidload", sys.executable, jobs_file, 2)
    worker.send(jobs=[0, 0])
    worker.receive()
    before = worker.ask(do="memory", jobs=[0, 0])["megabytes"]
    for round_number in range(3):
        worker.ask(do="time", jobs=case.jobs(round_number))
    peak = worker.ask(do="memory", jobs=[0, 0])["megabytes"]
    worker.close()
    return {"peak": peak, "after_import": before}


def rates(of_case: dict[str, list[dict[str, float]]], name: str) -> Rounds:
    """Clips per second."""
    return Rounds(tuple(seconds["clips"] / seconds["wall"] for seconds in of_case[name]))


def cpu_milliseconds(of_case: dict[str, list[dict[str, float]]], name: str) -> Rounds:
    """CPU milliseconds per clip."""
    return Rounds(tuple(1000 * seconds["cpu"] / seconds["clips"] for seconds in of_case[name]))


def report(result: dict[str, Any]) -> str:
    """The result as Markdown."""
    about = result["machine"]
    lines = [
        "# vidload against other loaders",
        "",
        f"{about['cpu']}, {about['cores']} cores, {result['num_workers']} workers; load at start {about['load_at_start']}.",
        "Clips per second, median over rounds ± half the range; in brackets vidload's as a multiple of theirs.",
        "Versions: " + ", ".join(f"{TITLES[name]} {version}" for name, version in result["versions"].items()) + ".",
    ]
    if result["missing"]:
        lines.append(
            "Missing: " + ", ".join(f"{TITLES[name]} ({why})" for name, why in result["missing"].items()) + "."
        )
    for set_name, of_set in result["seconds"].items():
        names = [name for name in TITLES if name in next(iter(of_set.values()))]
        peers = [name for name in names if name != "vidload"]
        others = [name for name in peers if name != "decord"]
        ratios: dict[str, list[float]] = {name: [] for name in peers}
        efficiencies: dict[str, list[float]] = {"floor": [], "floor_together": []}
        rows = []
        for clip, of_case in of_set.items():
            ours = rates(of_case, "vidload")
            row = [clip, str(ours)]
            for name in peers:
                theirs = rates(of_case, name)
                ratios[name].append(ratio(ours, theirs))
                row.append(f"{theirs} ({ratios[name][-1]:.2f}x)")
            floor = Rounds(tuple(result["num_workers"] * rate for rate in rates(of_case, "floor").values))
            efficiencies["floor"].append(ratio(ours, floor))
            efficiencies["floor_together"].append(ratio(ours, rates(of_case, "floor_together")))
            row += [f"{rates(of_case, 'floor')}", *(f"{values[-1]:.2f}" for values in efficiencies.values())]
            rows.append(row)
        rows.append(
            ["geometric mean", ""]
            + [f"{geometric_mean(ratios[name]):.2f}x" for name in peers]
            + ["", *(f"{geometric_mean(values):.2f}" for values in efficiencies.values())]
        )
        num_rounds = len(next(iter(of_set.values()))["vidload"])
        header = [f"{set_name}, {num_rounds} rounds", *(TITLES[name] for name in names)]
        header += [
            "floor, 1 thread",
            f"of floor x {result['num_workers']}",
            f"of {result['num_workers']} floors at once",
        ]
        lines += ["", markdown_table(header, rows), ""]
        if others:
            # the strongest of the others for each clip: not always the same loader
            best = [min(ratios[name][i] for name in others) for i in range(len(of_set))]
            lines.append(f"Against the best loader other than decord, clip by clip: {geometric_mean(best):.2f}x.")
        if peers:
            worst = [min(ratios[name][i] for name in peers) for i in range(len(of_set))]
            lines.append(f"Worst clip against the best of all loaders: {min(worst):.2f}x.")
        lines += ["", cpu_table(set_name, of_set, names)]
    lines += ["", source_table(result["by_source"])]
    overhead = result["overhead_microseconds"]
    lines += [
        "",
        "Outside C++, per clip (CPU time of the calling thread, batch 8): "
        + ", ".join(f"{clip} {value:.0f} µs" for clip, value in overhead.items())
        + ".",
    ]
    if memory := result["peak_megabytes"]:
        lines.append(
            f"Peak memory (32x2x1 float32, batch 8, prefetch 2, 2 threads): {memory['peak']:.0f} MB, of which "
            f"{memory['after_import']:.0f} MB before the first batch."
        )
    return "\n".join(lines) + f"\n\nMeasured in {result['minutes']:.1f} minutes.\n"


def source_table(by_source: dict[str, dict[str, list[dict[str, float]]]]) -> str:
    """How much depends on the content: a row per source, and the range."""
    rows = []
    ranges: dict[str, list[float]] = {"decord": [], "others": []}
    for source, seconds in by_source.items():
        ours = rates(seconds, "vidload")
        ratios = {name: ratio(ours, rates(seconds, name)) for name in seconds if name != "vidload"}
        row = [source, str(ours)]
        if "decord" in ratios:
            ranges["decord"].append(ratios.pop("decord"))
            row.append(f"{ranges['decord'][-1]:.2f}x")
        if ratios:
            best = min(ratios, key=lambda name: ratios[name])
            ranges["others"].append(ratios[best])
            row.append(f"{ratios[best]:.2f}x ({TITLES[best]})")
        rows.append(row)
    names = {"decord": "over decord", "others": "over the best of the others"}
    ranges = {name: values for name, values in ranges.items() if values}
    header = [f"by source, {SOURCE_CLIP}", "vidload", *(names[name] for name in ranges)]
    said = [f"{names[name]} {min(values):.2f}-{max(values):.2f}x" for name, values in ranges.items()]
    return markdown_table(header, rows) + (f"\n\nRange: {', '.join(said)}." if said else "")


def cpu_table(set_name: str, of_set: dict[str, dict[str, list[dict[str, float]]]], names: list[str]) -> str:
    """CPU time, which other programs on the machine disturb less than clips per second."""
    rows = []
    ratios: dict[str, list[float]] = {name: [] for name in [*names[1:], "floor"]}
    for clip, of_case in of_set.items():
        ours = cpu_milliseconds(of_case, "vidload")
        row = [clip, f"{ours.median:.1f}"]
        for name, values in ratios.items():
            theirs = cpu_milliseconds(of_case, name)
            values.append(ratio(theirs, ours))
            row.append(f"{theirs.median:.1f} ({values[-1]:.2f}x)")
        rows.append(row)
    rows.append(["geometric mean", "", *(f"{geometric_mean(values):.2f}x" for values in ratios.values())])
    header = [f"{set_name}, CPU ms per clip", *(TITLES[name] for name in names), "floor"]
    return markdown_table(header, rows)


def draw(result: dict[str, Any], path: Path) -> None:
    """Clips per second as bars, one panel per set."""
    from matplotlib.figure import Figure

    sets = result["seconds"]
    figure = Figure(figsize=(11, 3.6 * len(sets)), dpi=110, layout="constrained")
    for axes, (set_name, of_set) in zip(figure.subplots(len(sets), squeeze=False)[:, 0], sets.items(), strict=True):
        names = [name for name in TITLES if name in next(iter(of_set.values()))]
        width = 0.85 / len(names)
        for k, name in enumerate(names):
            measured = [rates(of_case, name) for of_case in of_set.values()]
            medians = [rounds.median for rounds in measured]
            errors = [
                [rounds.median - min(rounds.values) for rounds in measured],
                [max(rounds.values) - rounds.median for rounds in measured],
            ]
            places = np.arange(len(of_set)) + (k - (len(names) - 1) / 2) * width
            axes.bar(places, medians, width, yerr=errors, capsize=2, color=COLORS[name], label=TITLES[name])
        axes.set_xticks(np.arange(len(of_set)), list(of_set))
        axes.set_ylabel("clips per second")
        axes.set_title(f"{set_name}: {result['num_workers']} workers on {result['machine']['cpu']}", fontsize=10)
        axes.spines[["top", "right"]].set_visible(False)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=len(names))
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder with your own videos (default: those of build_data.py)")
    parser.add_argument("--clips", nargs="+", default=list(CLIPS), help="default: %(default)s")
    parser.add_argument("--peers", nargs="*", default=list(PEERS), choices=PEERS, help="default: all")
    parser.add_argument("--num-workers", type=int, default=len(os.sched_getaffinity(0)), help="default: the cores")
    parser.add_argument(
        "--minutes", type=float, default=3.6, help="no round starts that would end later (default: %(default)s)"
    )
    parser.add_argument(
        "--torchcodec-python",
        metavar="PATH",
        help="Python of an environment whose torch fits TorchCodec",
    )
    parser.add_argument("--output", type=Path, default=RESULTS / "loader_vs_decord", help="default: %(default)s.*")
    args = parser.parse_args()
    result = run(args)
    text = report(result)
    print("\n" + text)
    write_json(args.output.with_suffix(".json"), result)
    args.output.with_suffix(".md").write_text(text)
    draw(result, args.output.with_suffix(".png"))
    print(f"wrote {args.output}.json, .md and .png")


if __name__ == "__main__":
    main()
