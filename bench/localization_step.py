"""Training iterations of BSN and BMN at the published batch sizes, and the speed of their proposal stages.

    python bench/localization_step.py                        # about 2 minutes on 2 cores
    python bench/localization_step.py --device cuda --amp

In: nothing; features are synthetic (400 channels x 100 positions, one .npy per video). Out: Markdown on stdout and
bench/results/localization_step.json. An iteration is everything from one batch to the next: reading and
collating features, labels, forward, loss, backward, optimizer. Each row runs in its own process, so that its
peak memory is measured alone: on the CPU, resident memory above what was held before the model was created; on
CUDA, what torch allocated. CPU s/iter sums the threads; other programs disturb it less than s/iter.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import timing
import torch
from memory import memory_now, peak_memory, reset_peak
from torch.utils.data import DataLoader

import vidload
from vidload.models import bmn, bsn, create, localization
from vidload.models.localization_metrics import average_recall

# s/iter and memory of MMAction2 0.24.1's last benchmark table and model zoo, and s/iter of the original code.
PUBLISHED_ON = "V100 32 GB, Xeon Gold 6146, PyTorch 1.4; MMAction2's benchmark of August 2022: other hardware"
PUBLISHED = {
    "bsn_tem_400x100": {"batch": "16, 1 GPU", "mmaction2": "0.074 s, 43 MB", "original": "0.101 s"},
    "bsn_pem_400x100": {"batch": "16, 1 GPU", "mmaction2": "0.040 s, 25 MB", "original": "0.040 s"},
    "bmn_400x100": {"batch": "8 on each of 2 GPUs", "mmaction2": "3.27 s, 5412 MB", "original": "3.30 s"},
}
PROPOSALS_PER_VIDEO = 500  # that PEM is trained on


# --- synthetic data


def random_segments(random: np.random.Generator) -> np.ndarray:
    return np.sort(random.random((int(random.integers(1, 4)), 2)), axis=1)


def random_scores(random: np.random.Generator, num_positions: int = 100) -> np.ndarray:
    """Boundary scores that rise and fall like a trained network's: float64 [3, T]."""
    noise = random.random((3, num_positions + 4))
    return np.stack([np.convolve(row, np.ones(5) / 5, mode="valid") ** 3 for row in noise])


def feature_dataset(folder: Path, num_videos: int) -> vidload.FeatureDataset:
    random = np.random.default_rng(0)
    annotations = {}
    for v in range(num_videos):
        np.save(folder / f"v{v}.npy", random.normal(size=(100, 400)).astype(np.float32))
        rows = [{"segment": segment.tolist(), "label": "x"} for segment in 100 * random_segments(random)]
        facts = {"duration_second": 100.0, "duration_frame": 1600, "feature_frame": 1600}
        annotations[f"v{v}"] = {**facts, "annotations": rows}
    return vidload.FeatureDataset(annotations, folder)


def proposal_dataset(num_videos: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """(features [500, 32], best IoU [500]) of each video, held in memory."""
    random = np.random.default_rng(0)
    samples = []
    for _ in range(num_videos):
        action, start, end = random_scores(random)
        proposals = bsn.generate_proposals(start, end, top_k=PROPOSALS_PER_VIDEO)
        best_iou = bsn.proposal_overlaps(proposals, random_segments(random))[:, 0]
        features = torch.from_numpy(bsn.proposal_features(action, proposals))
        samples.append((features, torch.from_numpy(best_iou).float()))
    return samples


# --- training rows


def concatenated(rows: Any) -> tuple[torch.Tensor, ...]:
    """The rows' tensors end to end, column by column."""
    return tuple(map(torch.cat, zip(*rows, strict=True)))


def endless(loader: DataLoader[Any]) -> Iterator[Any]:
    while True:
        yield from loader


def training_row(name: str, args: argparse.Namespace) -> dict[str, Any]:
    device = torch.device(args.device)
    held_before = memory_now(device)
    torch.manual_seed(0)
    model = create(name).to(device)
    recipe = model.recipe
    batch_size = args.batch_size or recipe.batch_size
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(trained, recipe.lr, weight_decay=recipe.weight_decay, fused=True)

    with tempfile.TemporaryDirectory() as folder:
        samples: Any
        collate: Callable[[Any], Any]
        if name == "bsn_pem_400x100":
            samples = proposal_dataset(4 * batch_size)
            collate = concatenated
        else:
            samples = feature_dataset(Path(folder), 4 * batch_size)
            collate = vidload.FeatureDataset.collate
        loader: DataLoader[Any] = DataLoader(samples, batch_size, shuffle=True, drop_last=True, collate_fn=collate)
        batches = endless(loader)

        def step() -> float:
            """Seconds that the data took."""
            started = time.perf_counter()
            inputs, targets, *_ = next(batches)
            if name == "bsn_tem_400x100":
                targets = bsn.tem_labels(targets)
            elif name == "bmn_400x100":
                targets = bmn.bmn_labels(targets)
            data_seconds = time.perf_counter() - started
            with torch.autocast(device.type, torch.bfloat16, enabled=args.amp):
                output = model(inputs.to(device, non_blocking=True))
            if name == "bsn_tem_400x100":
                loss = bsn.tem_loss(output, targets).total
            elif name == "bsn_pem_400x100":
                loss = bsn.pem_loss(output, targets)
            else:
                loss = bmn.bmn_loss(output, targets).total
            loss.backward()
            torch.nn.utils.clip_grad_norm_(trained, recipe.max_grad_norm)
            optimizer.step()
            optimizer.zero_grad()
            if device.type == "cuda":
                torch.cuda.synchronize()
            return data_seconds

        reset_peak(device)
        times, cpu_times, data_times = [], [], []
        for k in range(args.warmup + args.max_steps):
            started, cpu_started = time.perf_counter(), time.process_time()
            data_seconds = step()
            if k >= args.warmup:
                times.append(time.perf_counter() - started)
                cpu_times.append(time.process_time() - cpu_started)
                data_times.append(data_seconds)
                if len(times) >= 5 and sum(times) >= args.seconds:
                    break
    return {
        "model": name,
        "batch_size": batch_size,
        "num_steps": len(times),
        "seconds": statistics.median(times),
        "seconds_quartiles": np.percentile(times, [25, 75]).tolist(),
        "cpu_seconds": statistics.median(cpu_times),
        "data_seconds": statistics.median(data_times),
        "peak_bytes": peak_memory(device) - held_before,
    }


# --- the layer that was made sparse


def boundary_matching_row(form: str, args: argparse.Namespace) -> dict[str, Any]:
    """Forward and backward of boundary matching with its convolution, one video, as published or as
    here."""
    device = torch.device(args.device)
    mask = bmn.boundary_matching_mask()
    layer = bmn.BoundaryMatchingConv(256, 512, 32, mask).to(device)
    dense_mask = mask.view(100, -1).to(device) if form == "dense" else None
    del mask
    features = torch.randn(1, 256, 100, device=device, requires_grad=True)
    gradient = torch.randn(1, 512, 100, 100, device=device)
    held_before = memory_now(device)
    reset_peak(device)

    def run() -> None:
        if dense_mask is None:
            output = layer(features)
        else:
            sampled = (features @ dense_mask).view(1, 256, 32, 100, 100)
            output = torch.nn.functional.conv3d(sampled, layer.weight, layer.bias).squeeze(2)
        output.backward(gradient)
        if device.type == "cuda":
            torch.cuda.synchronize()

    times = timed(run, 2 if form == "dense" else 10)
    return {
        "form": form,
        "seconds": statistics.median(times),
        "peak_bytes": peak_memory(device) - held_before,
    }


# --- proposal stages


def proposal_rows(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Time per video and number of proposals of each stage, NumPy on one thread."""
    random = np.random.default_rng(0)
    scores = [random_scores(random) for _ in range(20)]
    proposals = [bsn.generate_proposals(start, end) for _, start, end in scores]
    maps = [random.random((2, 100, 100)) for _ in scores]
    bmn_proposals = [bmn.bmn_proposals(m, start, end) for m, (_, start, end) in zip(maps, scores, strict=True)]
    results = {f"v{v}": localization.detections(rows, 100.0, bmn.BMN_SOFT_NMS) for v, rows in enumerate(bmn_proposals)}
    truth = {v: [{"segment": s.tolist()} for s in 100 * random_segments(random)] for v in results}
    stages: list[tuple[str, list[np.ndarray], Callable[[int], Any]]] = [
        ("PGM: proposals, best 1000", proposals, lambda v: bsn.generate_proposals(*scores[v][1:])),
        ("PGM: features", proposals, lambda v: bsn.proposal_features(scores[v][0], proposals[v])),
        ("soft-NMS, BSN, to 100", proposals, lambda v: localization.soft_nms(proposals[v][:, [0, 1, 4]], bsn.BSN_SOFT_NMS)),
        ("BMN: proposals from maps", bmn_proposals, lambda v: bmn.bmn_proposals(maps[v], *scores[v][1:])),
        ("soft-NMS, BMN, to 100", bmn_proposals, lambda v: localization.soft_nms(bmn_proposals[v], bmn.BMN_SOFT_NMS)),
    ]  # fmt: skip
    rows = []
    for stage, inputs, run in stages:
        times = [statistics.median(timed(partial(run, v), 5)) for v in range(len(inputs))]
        count = sum(map(len, inputs))
        rows.append(
            {
                "stage": stage,
                "proposals_per_video": count / len(inputs),
                "seconds_per_video": sum(times) / len(times),
            }
        )
    seconds = statistics.median(timed(lambda: average_recall(truth, results), 5)) / len(truth)
    rows.append({"stage": "AR@AN", "proposals_per_video": 100.0, "seconds_per_video": seconds})
    return rows


# --- measuring


def timed(run: Callable[[], Any], repeats: int) -> list[float]:
    run()
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        run()
        times.append(time.perf_counter() - started)
    return times


def in_own_process(job: str, arguments: list[str]) -> Any:
    command = [sys.executable, __file__, "--job", job, *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def run_job(args: argparse.Namespace) -> Any:
    if args.job in PUBLISHED:
        return training_row(args.job, args)
    if args.job == "proposals":
        return proposal_rows(args)
    return boundary_matching_row(args.job, args)


def markdown(report: dict[str, Any]) -> str:
    facts = report["machine"]
    where = f"{facts['cpu']}, {facts['threads']} threads" if facts["device"] == "cpu" else facts["device"]
    parts = [
        f"Training iterations on {where}, {report['dtype']}, PyTorch {facts['torch']}.\n"
        f"The three columns on the right were published for {PUBLISHED_ON}.",
    ]
    rows: list[tuple[str, ...]] = []
    head: tuple[str, ...]
    for row in report["training"]:
        low, high = row["seconds_quartiles"]
        measured = (
            f"{row['seconds']:.3f} ({low:.3f}-{high:.3f})",
            f"{row['cpu_seconds']:.3f}",
            f"{row['data_seconds']:.4f}",
            f"{row['peak_bytes'] / 1e6:.0f} MB",
        )
        published = PUBLISHED[row["model"]]
        theirs = (published["mmaction2"], published["original"], published["batch"])
        rows.append((row["model"], str(row["batch_size"]), *measured, *theirs))
    head = ("model", "batch", "s/iter (quartiles)", "CPU s/iter", "data loading", "peak memory")
    parts.append(timing.markdown_table((*head, "MMAction2", "original code", "their batch"), rows))
    if report["boundary_matching"]:
        titles = {
            "dense": "as published: dense product, then convolution",
            "sparse": "reordered and sparse, as here",
        }
        rows = [
            (titles[row["form"]], f"{1e3 * row['seconds']:.1f}", f"{row['peak_bytes'] / 1e6:.0f} MB")
            for row in report["boundary_matching"]
        ]
        head = ("boundary matching and 3D convolution, one video, forward and backward", "ms", "peak memory")
        parts.append(timing.markdown_table(head, rows))
    rows = []
    for row in report["proposals"]:
        count, seconds = row["proposals_per_video"], row["seconds_per_video"]
        rows.append((row["stage"], f"{count:.0f}", f"{1e3 * seconds:.2f}", f"{count / seconds:,.0f}"))
    head = ("stage (NumPy, one thread)", "proposals per video", "ms per video", "proposals/s")
    parts.append(timing.markdown_table(head, rows))
    return "\n\n".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--amp", action="store_true", help="bfloat16 autocast")
    parser.add_argument("--threads", type=int, help="torch threads (default: torch's own choice)")
    parser.add_argument("--batch-size", type=int, help="default: each model's published batch size")
    parser.add_argument("--seconds", type=float, default=15.0, help="measuring time per row (default: %(default)s)")
    parser.add_argument("--max-steps", type=int, default=200)
    parser.add_argument("--warmup", type=int, default=3, help="steps before measuring")
    parser.add_argument("--models", nargs="+", default=list(PUBLISHED), choices=list(PUBLISHED))
    parser.add_argument("--no-dense", action="store_true", help="skip boundary matching as published (2 GB)")
    parser.add_argument("--output", type=Path, default=timing.RESULTS / "localization_step.json")
    parser.add_argument("--job", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    if args.job:
        print(json.dumps(run_job(args)))
        return

    arguments = sys.argv[1:]
    device = torch.cuda.get_device_name() if args.device == "cuda" else "cpu"
    report = {
        "machine": {
            **timing.machine(),
            "device": device,
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
        },
        "dtype": "bfloat16 autocast" if args.amp else "float32",
        "published_on": PUBLISHED_ON,
        "published": PUBLISHED,
        "training": [in_own_process(name, arguments) for name in args.models],
        "boundary_matching": [] if args.no_dense else [in_own_process(form, arguments) for form in ("dense", "sparse")],
        "proposals": in_own_process("proposals", [*arguments, "--threads", "1"]),
    }
    print(markdown(report))
    timing.write_json(args.output, report)
    print(f"\nwrote {args.output}")


if __name__ == "__main__":
    main()
