"""The recognizer rows of the published training-speed benchmark, on this machine.

    python bench/train_step.py                                        # under 8 minutes on 2 cores
    python bench/train_step.py --model tsm_r50_1x1x8 --steps 10
    python bench/train_step.py --device cuda --tf32 --amp bf16 --compile --memory-format channels-last

In: the real clips of build_data.py, as video, as JPEG frames and as prepared by `vidload prepare` (or --data DIR with
your own videos). Out: Markdown on stdout and bench/results/train_step.{md,json,png}. An iteration is everything from
one batch to the next: data, forward, backward, gradient clipping, optimizer. Clips are loaded to the model's device.
Each row is also timed with a batch that stays in memory; the difference is the cost of loading. A second table and
the right third of the plot show how many clips per second the model could consume and how many the loader alone gives
from each source: the gap between frames and video on this machine. Each model runs in its own process, so that its
peak memory is measured alone. The localizers' rows: localization_step.py.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import build_data
import numpy as np
import timing
import torch
import torch.nn.functional as F
from memory import memory_now, peak_memory, reset_peak

from vidload import FrameFolderDataset, VideoDataset, VideoLoader, models
from vidload.models.recipe import Recipe
from vidload.prepare import prepare
from vidload.prepare.frames import extract_dataset

PUBLISHED_ON = (
    "8 V100 32 GB, Xeon Gold 6146/6148, PyTorch 1.4, CUDA 10.1; frames from Memcached, videos from disk: other hardware"
)
AMP = {"off": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
SOURCES = {"video": "original video", "prepared": "prepared video", "frames": "JPEG frames"}


@dataclass(frozen=True)
class Row:
    """`first`: framework -> (s/iter, MB) in the first published table (MMAction2's docs/benchmark.md of
    June 2020, when it was still called mmaction-lite). `last`: framework -> s/iter in the last one
    (August 2022; "dense": a keyframe every 16 frames).
    """

    title: str
    model: str
    source: str  # "frames" or "video"
    first: dict[str, tuple[float, int]]
    last: dict[str, float] = field(default_factory=dict)
    note: str = ""


FUSED = "crop, resize, flip and normalization are one pass in vidload anyway, so this equals the frames row"
ROWS = (
    Row(
        "TSN 1x1x3, frames",
        "tsn_r50_1x1x3",
        "frames",
        {"mmaction-lite": (0.2966, 8339), "open-mmaction": (0.3659, 8245)},
        {"MMAction2": 0.32, "MMAction": 0.38, "TSM repo": 0.42},
    ),
    Row(
        "TSN 1x1x3, video",
        "tsn_r50_1x1x3",
        "video",
        {"mmaction-lite": (0.4165, 8339)},
        {"MMAction2": 1.42, "MMAction2, dense": 0.61},
    ),
    Row(
        "I3D 32x2x1, frames",
        "i3d_r50_32x2x1",
        "frames",
        {"mmaction-lite": (0.4528, 5169), "open-mmaction": (0.5873, 5065)},
        {"MMAction2": 0.43, "MMAction": 0.56},
    ),
    Row("I3D 32x2x1, video", "i3d_r50_32x2x1", "video", {"mmaction-lite": (0.4795, 5169)}),
    Row("I3D 32x2x1, frames, fused", "i3d_r50_32x2x1", "frames", {"mmaction-lite": (0.3886, 5169)}, note=FUSED),
    Row(
        "TSM 1x1x8, frames",
        "tsm_r50_1x1x8",
        "frames",
        {"mmaction-lite": (0.3052, 7077), "HAN": (0.3843, 9337)},
        {"MMAction2": 0.31, "TSM repo": 0.41},
    ),
    Row("TSM 1x1x8, video", "tsm_r50_1x1x8", "video", {"mmaction-lite": (0.3027, 7077)}),
    Row(
        "SlowFast 4x16x1, video",
        "slowfast_r50_4x16x1",
        "video",
        {"mmaction-lite": (0.80, 6203), "PySlowFast": (1.40, 6850)},
        {"MMAction2": 0.69, "MMAction2, dense": 0.68, "PySlowFast": 1.04, "PySlowFast, dense": 0.96},
    ),
    Row(
        "SlowFast 8x8x1, video",
        "slowfast_r50_8x8x1",
        "video",
        {"mmaction-lite": (1.05, 9062), "PySlowFast": (1.41, 10230)},
    ),
    Row(
        "SlowOnly 4x16x1, video",
        "slowonly_r50_4x16x1",
        "video",
        {"mmaction-lite": (0.30, 3158), "PySlowFast": (1.03, 3481)},
        {"MMAction2": 0.32, "MMAction2, dense": 0.25, "PySlowFast": 0.34, "PySlowFast, dense": 0.28},
    ),
    Row(
        "SlowOnly 8x8x1, video",
        "slowonly_r50_8x8x1",
        "video",
        {"mmaction-lite": (0.50, 5820), "PySlowFast": (1.29, 6400)},
    ),
    Row("R(2+1)D 8x8x1, frames", "r2plus1d_r34_8x8x1", "frames", {"mmaction-lite": (0.48, 3998)}),
    Row(
        "R(2+1)D 8x8x1, video",
        "r2plus1d_r34_8x8x1",
        "video",
        {"mmaction-lite": (0.8340, 10339)},
        {"MMAction2": 0.45, "MMAction2, dense": 0.44},
        note="its 10339 MB suggest a larger batch than the 8 of the frames row",
    ),
    Row(
        "I3D heavy 8x8x1, video",
        "i3d_r50_heavy_8x8x1",
        "video",
        {},
        {"MMAction2": 0.34, "MMAction2, dense": 0.35, "PySlowFast": 0.44, "PySlowFast, dense": 0.36},
        note="PySlowFast's I3D is a lighter network",
    ),
)


# --- one model, in its own process


def endless(loader: VideoLoader) -> Iterator[Any]:
    while True:
        yield from loader


def memory_format_of(recipe: Recipe, args: argparse.Namespace) -> torch.memory_format:
    if args.memory_format == "recipe":
        of_recipe: torch.memory_format = recipe.memory_format(torch.device(args.device).type)
        return of_recipe
    return recipe.channels_last if args.memory_format == "channels-last" else torch.contiguous_format


def batches_of(source: str, recipe: Recipe, is_channels_last: bool, args: argparse.Namespace) -> VideoLoader:
    options = recipe.dataset_options("train", args.size)
    options["dtype"] = AMP[args.amp]  # autocast would convert the clips to it anyway
    if is_channels_last:
        options["layout"] = {"NCTHW": "NTHWC", "NVCTHW": "NVTHWC"}[options["layout"]]
    folder = args.data_folders[source]
    kind = FrameFolderDataset if source == "frames" else VideoDataset
    dataset = kind.from_list(Path(folder, "list.txt"), root=folder, **options)
    return VideoLoader(
        dataset,
        args.batch_size,
        shuffle=True,
        drop_last=True,
        num_workers=args.workers,
        device=args.device,
    )


def clips_per_second(loader: VideoLoader, device: torch.device, seconds: float) -> float:
    """Of the loader alone, once what it had ready is used up."""
    batches = endless(loader)
    for _ in range(3):
        next(batches)
    synchronize(device)
    started, num_clips = time.perf_counter(), 0
    while num_clips == 0 or time.perf_counter() - started < seconds:
        clips, _ = next(batches)
        num_clips += len(clips)
    synchronize(device)
    return num_clips / (time.perf_counter() - started)


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def measure_model(args: argparse.Namespace) -> dict[str, Any]:
    """Times for the resident batch and for each source, and clips per second of the loader alone: {"resident": {...},
    "video": {...}, ..., "loader": {"video": n, ...}, "peak_bytes": n}.
    """
    device = torch.device(args.device)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = args.tf32
    held_before = memory_now(device)
    torch.manual_seed(0)
    model = models.create(args.job)
    recipe = model.recipe
    memory_format = memory_format_of(recipe, args)
    is_channels_last = memory_format != torch.contiguous_format
    if is_channels_last:
        model = model.to(memory_format=memory_format)
    model = model.to(device).train()
    training = recipe.training
    groups = model.param_groups(training.lr, training.weight_decay)
    optimizer = torch.optim.SGD(groups, momentum=training.momentum, fused=True)
    scaler = torch.amp.GradScaler(device.type, enabled=args.amp == "fp16")
    forward = torch.compile(model) if args.compile else model

    def step(clips: torch.Tensor, labels: torch.Tensor) -> None:
        with torch.autocast(device.type, AMP[args.amp], enabled=args.amp != "off"):
            loss = F.cross_entropy(forward(clips), labels)
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_(model.parameters(), training.max_grad_norm)
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()  # here, so that no old gradients are held through the next forward

    shape = recipe.sample_shape(args.batch_size, args.size)
    resident = torch.randn(shape, device=device, dtype=AMP[args.amp])
    if is_channels_last:
        resident = resident.movedim(-4, -1).contiguous().movedim(-1, -4)
    classes = torch.arange(args.batch_size, device=device)
    reset_peak(device)
    result: dict[str, Any] = {"resident": measure(lambda: step(resident, classes), device, args), "loader": {}}
    result["peak_bytes"] = peak_memory(device) - held_before
    result["memory_format"] = "channels-last" if is_channels_last else "contiguous"
    for source in args.sources:
        loader = batches_of(source, recipe, is_channels_last, args)
        batches = endless(loader)

        def load_and_step(batches: Iterator[Any] = batches) -> None:
            clips, labels = next(batches)
            step(clips.movedim(-1, -4) if is_channels_last else clips, labels.to(device, non_blocking=True))

        result[source] = measure(load_and_step, device, args, partial(seconds_waited, loader))
        del load_and_step, batches
        result["loader"][source] = clips_per_second(loader, device, args.seconds / 2)
    return result


def seconds_waited(loader: Any) -> float:
    """How long the caller of a VideoLoader has waited for batches so far."""
    return float(loader.stats()["wait_seconds"])


def measure(
    step: Callable[[], None],
    device: torch.device,
    args: argparse.Namespace,
    waited: Callable[[], float] = lambda: 0.0,
) -> dict[str, Any]:
    """`args.steps` iterations after `args.warmup`; fewer (at least one) once `args.seconds` have passed."""
    deadline = time.perf_counter() + args.seconds
    seconds, cpu_seconds, waits = [], [], []
    for number in range(args.warmup + args.steps):
        started, cpu_started, waited_before = time.perf_counter(), time.process_time(), waited()
        step()
        synchronize(device)
        if number >= args.warmup:
            seconds.append(time.perf_counter() - started)
            cpu_seconds.append(time.process_time() - cpu_started)
            waits.append(waited() - waited_before)
            if time.perf_counter() > deadline:
                break
    return {
        "seconds": statistics.median(seconds),
        "quartiles": np.percentile(seconds, [25, 75]).tolist(),
        "cpu_seconds": statistics.median(cpu_seconds),
        "wait_seconds": statistics.median(waits),
        "num_steps": len(seconds),
    }


# --- all of them


def data_folders(data: Path | None, sources: set[str]) -> dict[str, str]:
    """Folders with a list.txt: videos, and what is made of them where it is needed."""
    folder = build_data.build()[250] if data is None else data
    if not (folder / "list.txt").exists():
        raise SystemExit(f'{folder}: contains no list.txt; write one with lines "path label"')
    folders = {"video": str(folder)}
    for source, make in (("frames", extract_dataset), ("prepared", prepare)):
        if source in sources:
            made = folder.with_name(f"{folder.name}_{source}")
            if failures := make(folder / "list.txt", made, root=folder, progress=True).failures:
                raise SystemExit(f"{failures[0][0]}: {failures[0][1]}")
            folders[source] = str(made)
    return folders


def published(row: Row) -> tuple[str, str]:
    first = "; ".join(f"{who} {seconds:.4g} s, {memory} MB" for who, (seconds, memory) in row.first.items())
    last = "; ".join(f"{who} {seconds:.2f}" for who, seconds in row.last.items())
    return first or "-", last or "-"


def markdown(report: dict[str, Any]) -> str:
    machine, settings = report["machine"], report["settings"]
    where = f"{machine['cpu']}, {machine['threads']} threads" if machine["device"] == "cpu" else machine["device"]
    lines = [
        f"Training iterations on {where}, PyTorch {machine['torch']}, load {machine['load_at_start']} at the start.",
        f"Settings: {settings}. Medians after the warm-up; quartiles in brackets.",
        f'**The "published" columns are from {PUBLISHED_ON}.** Their batch: 32 videos per GPU for TSN, otherwise 8.',
    ]
    table = []
    for row in report["rows"]:
        loaded, resident = row["loaded"], row["resident"]
        low, high = loaded["quartiles"]
        extra = max(0.0, 1 - resident["seconds"] / loaded["seconds"])
        table.append(
            (
                row["title"],
                str(row["batch_size"]),
                row["memory_format"],
                f"{loaded['seconds']:.3f} ({low:.3f}-{high:.3f})",
                f"{resident['seconds']:.3f}",
                f"{extra:.0%}",
                f"{loaded['wait_seconds'] / loaded['seconds']:.1%}",
                f"{loaded['cpu_seconds']:.2f}",
                f"{row['peak_bytes'] / 1e6:.0f}",
                *row["published_text"],
            )
        )
    head = (
        "row",
        "batch",
        "memory",
        "s/iter",
        "resident batch",
        "cost of loading",
        "waiting for data",
        "CPU s/iter",
        "peak MB",
    )
    lines += [
        "",
        timing.markdown_table((*head, "published, first table", "published, last table"), table),
        "",
    ]
    lines += [
        "Clips per second that the model could consume, and that the loader alone gives (in brackets: with the model).",
        "",
    ]
    lines += [gap_table(report["gap"]), ""]
    lines += [f"- {row['title']}: {row['note']}." for row in report["rows"] if row["note"]]
    lines += [
        "- Resident batch: the same iteration without loading. Cost of loading: the share of the iteration that loading adds. Waiting for "
        "data: the share of an iteration in which the training thread waits for the loader.",
        "- CPU s/iter sums all threads; on a busy machine it is more reliable than s/iter.",
    ]
    return "\n".join(lines)


def gap_of(measured: dict[str, dict[str, Any]], sources: list[str]) -> list[dict[str, Any]]:
    """Clips per second of each model: of the resident batch, and from each source, of the loader alone and with the model."""
    gap = []
    for name, of_model in measured.items():
        size = of_model["batch_size"]
        trained = {source: size / of_model[source]["seconds"] for source in sources}
        model_rate = size / of_model["resident"]["seconds"]
        gap.append(
            {
                "model": name,
                "batch_size": size,
                "model_rate": model_rate,
                "loader": of_model["loader"],
                "trained": trained,
            }
        )
    return gap


def gap_table(gap: list[dict[str, Any]]) -> str:
    sources = list(gap[0]["loader"])
    table = []
    for row in gap:
        given = [f"{row['loader'][source]:.3g} ({row['trained'][source]:.3g})" for source in sources]
        table.append((row["model"], str(row["batch_size"]), f"{row['model_rate']:.3g}", *given))
    return timing.markdown_table(
        ("model", "batch", "the model could consume", *(SOURCES[source] for source in sources)), table
    )


def plot(report: dict[str, Any], path: Path) -> None:
    from matplotlib.figure import Figure

    rows = report["rows"][::-1]
    figure = Figure((16, 0.42 * len(rows) + 1.9), layout="constrained")
    here, there, gap = figure.subplots(1, 3)
    there.sharey(here)
    there.tick_params(labelleft=False)
    titles = [row["title"] for row in rows]
    here.barh(titles, [row["loaded"]["seconds"] for row in rows], color="#c44e52", label="with loading")
    here.barh(
        titles,
        [row["resident"]["seconds"] for row in rows],
        color="#4c72b0",
        height=0.5,
        label="resident batch",
    )
    here.set(title=f"this machine, batch {report['rows'][0]['batch_size']}", xlabel="s/iter")
    here.legend(fontsize=8)
    markers = {"mmaction-lite": "o", "open-mmaction": "s", "HAN": "^", "PySlowFast": "D"}
    for who, marker in markers.items():
        points = [(row["first"][who][0], row["title"]) for row in rows if who in row["first"]]
        there.plot(*zip(*points, strict=True), marker, label=who) if points else None
    there.set(title="published, 8 V100s, batch 8 (TSN 32): other hardware", xlabel="s/iter", xlim=(0, None))
    there.legend(fontsize=8)
    plot_gap(report["gap"][::-1], gap)
    figure.savefig(path, dpi=130)


def plot_gap(gap: list[dict[str, Any]], axes: Any) -> None:
    """Bars: what the loader alone gives; a line across them: what the model could consume."""
    sources = list(gap[0]["loader"])
    height = 0.8 / len(sources)
    for k, source in enumerate(sources):
        places = np.arange(len(gap)) - (k - (len(sources) - 1) / 2) * height
        axes.barh(places, [row["loader"][source] for row in gap], height, label=SOURCES[source])
    for place, row in enumerate(gap):
        label = "the model could consume" if place == 0 else None
        axes.plot([row["model_rate"]] * 2, [place - 0.4, place + 0.4], "k", label=label)
    axes.set_yticks(np.arange(len(gap)), [row["model"] for row in gap])
    axes.set(title="the loader alone, and the model alone", xlabel="clips/s")
    axes.legend(fontsize=8)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--model", action="append", choices=models.list_models(), metavar="NAME", help="repeatable (default: all)")
    add("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    add("--batch-size", type=int, help="videos per iteration (default: on CUDA the published number, on the CPU 1)")
    add("--size", type=int, help="height and width of the input (default: 224)")
    add("--steps", type=int, help="timed iterations (default: CUDA 50, CPU 3)")
    add("--warmup", type=int, help="untimed iterations before them (default: CUDA 20, CPU 1)")
    add("--minutes", type=float, default=6, help="measuring time; slow rows run fewer steps (default: %(default)s)")
    add("--amp", choices=AMP, default="off", help="mixed precision (default: %(default)s)")
    add("--tf32", action="store_true", help="TensorFloat-32 for float32 matrix products and convolutions (CUDA)")
    add("--compile", action="store_true")
    formats = ("recipe", "contiguous", "channels-last")
    add("--memory-format", choices=formats, default="recipe", help="of model and clips (default: as the recipe says)")
    add("--sources", nargs="+", choices=SOURCES, help="what is loaded (default: CUDA all; CPU video and frames)")
    add("--workers", type=int, help="decoding threads (default: all cores)")
    add("--threads", type=int, help="torch threads on the CPU (default: all cores)")
    add("--data", type=Path, metavar="DIR", help="your own videos, with a list.txt (default: build_data.py's)")
    add("--output", type=Path, default=timing.RESULTS / "train_step", help="without suffix (default: %(default)s)")
    for hidden in ("--job", "--data-folders"):
        add(hidden, help=argparse.SUPPRESS)
    add("--seconds", type=float, help=argparse.SUPPRESS)
    args = parser.parse_args()
    cuda = args.device.startswith("cuda")
    args.sources = args.sources or (list(SOURCES) if cuda else ["video", "frames"])
    args.steps = args.steps or (50 if cuda else 3)
    args.warmup = (20 if cuda else 1) if args.warmup is None else args.warmup
    if args.threads:
        torch.set_num_threads(args.threads)
    return args


def main() -> None:
    args = parse_args()
    if args.job:
        args.data_folders = json.loads(args.data_folders)
        print(json.dumps(measure_model(args)))
        return
    is_wanted = {name: args.model is None or name in args.model for name in models.list_models()}
    rows = [row for row in ROWS if is_wanted[row.model] and row.source in args.sources]
    names = list(dict.fromkeys(row.model for row in ROWS if is_wanted[row.model]))
    folders = data_folders(args.data, set(args.sources))
    cuda = args.device.startswith("cuda")
    machine = {
        **timing.machine(),
        "device": torch.cuda.get_device_name() if cuda else "cpu",
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }
    num_measurements = len(names) * (1 + 1.5 * len(args.sources))
    measured: dict[str, dict[str, Any]] = {}
    for name in names:
        batch_size = args.batch_size or (models.get_recipe(name).batch_size if cuda else 1)
        options = [f"--batch-size={batch_size}", f"--seconds={60 * args.minutes / num_measurements}"]
        options += [f"--job={name}", f"--data-folders={json.dumps(folders)}"]
        print(f"{name}: resident batch, {', '.join(args.sources)}", file=sys.stderr)
        command = [sys.executable, __file__, *sys.argv[1:], *options]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=os.environ)
        measured[name] = {"batch_size": batch_size, **json.loads(done.stdout.splitlines()[-1])}
    precision = "float32" if args.amp == "off" else f"{args.amp} autocast"
    precision += " with TF32" if args.tf32 else ""
    memory = {"recipe": "memory format of the recipe"}.get(args.memory_format, args.memory_format)
    compiled = ", compiled" if args.compile else ""
    report = {
        "machine": machine,
        "settings": f"{precision}, {memory}, fused SGD{compiled}",
        "published_on": PUBLISHED_ON,
        "gap": gap_of(measured, args.sources),
        "rows": [
            {
                "title": row.title,
                "model": row.model,
                "source": row.source,
                "first": row.first,
                "last": row.last,
                "note": row.note,
                "published_text": published(row),
                "loaded": measured[row.model][row.source],
                **{key: measured[row.model][key] for key in ("batch_size", "memory_format", "resident", "peak_bytes")},
            }
            for row in rows
        ],
    }
    text = markdown(report)
    print(text)
    timing.write_json(args.output.with_suffix(".json"), report)
    args.output.with_suffix(".md").write_text(text + "\n")
    plot(report, args.output.with_suffix(".png"))
    print(f"\nwrote {args.output}.md, .json and .png")


if __name__ == "__main__":
    main()
