"""vidload compared with loaders that decode on a GPU or on the CPU: clips per second into the GPU's memory, and what a clip costs.

    python bench/gpu_loaders.py                                  # on a GPU; without one the rows that need none, into host memory
    python bench/gpu_loaders.py --sets h264:256 h264:1080 --loaders vidload_cpu vidload_nvdec torchcodec_cuda --seconds 2
    python bench/gpu_loaders.py --sets h264:256 h264:720 h264:1080 hevc:1080 --loaders vidload_cpu vidload_nvdec   # from which size NVDEC wins
    python bench/gpu_loaders.py --device cpu --sets vp9:256 h264:256 --loaders vidload_cpu vidload_dali dali       # DALI on the CPU

In: the videos of source_clips.py as codec:height (encoded on first use), or --data NAME=DIR with your own videos. Out: Markdown on stdout
and bench/results/gpu_loaders.{md,json}. Each loader gets the same files, frames and crops and gives float32 NCTHW 224x224, normalized, in
batches of 8. It runs in a process of its own and alone, so that memory and engines are its own; in a row's first round its first batch is
compared with the CPU's. Rows of vidload must equal it bit for bit (DALI: nearly). Warm-up is not timed.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import build_data
import numpy as np
import torch
from peers import BATCH_SIZE
from timing import RESULTS, Rounds, machine, markdown_table, write_json
from workers import Case, Worker, first_batch, make_jobs, worst_difference

import vidload
from vidload import _core, _testing
from vidload.system import nvml
from vidload.system.info import cuda_summary

CLIPS = ("1x1x3", "8x8x1", "32x2x1")
LOADERS = {
    "vidload_cpu": "vidload, CPU decode + kernel",
    "vidload_nvdec": "vidload, NVDEC",
    "vidload_auto": "vidload, auto",
    "vidload_dali": "vidload, decoder='dali'",
    "dali": "dali_pipeline alone",
    "torchcodec_cuda": "TorchCodec on CUDA",
    "torchcodec": "TorchCodec on the CPU",
    "pynvvideocodec": "PyNvVideoCodec",
    "decord": "decord on the CPU",
}
NEED_GPU = ("vidload_nvdec", "vidload_auto", "torchcodec_cuda", "pynvvideocodec")
EXACT = ("vidload_cpu", "vidload_nvdec", "vidload_auto")
ON_ENGINES = ("vidload_nvdec", "torchcodec_cuda", "pynvvideocodec")  # a thread for each decoder
# Mean absolute difference, on the 0-255 scale, that two right answers of other loaders may have: chroma is interpolated in other ways.
MAX_DIFFERENCE = 4.0
CLIPS_PER_ROUND = 512  # at most
MIN_CLIPS = 2 * BATCH_SIZE


class GpuMeter:
    """What NVML says while something runs: `summary()` after the `with`. Of no GPU, or without NVML, it says nothing."""

    def __init__(self, gpu: nvml.Gpu | None) -> None:
        self._gpu = gpu
        self._stop = threading.Event()
        self._decoder: list[int] = []
        self._kernel: list[int] = []
        self._memory: list[int] = []

    def _sample(self) -> None:
        assert self._gpu is not None
        while not self._stop.wait(0.05):
            for values, value in (
                (self._decoder, self._gpu.decoder_percent()),
                (self._kernel, self._gpu.kernel_percent()),
                (self._memory, self._gpu.used_bytes()),
            ):
                if value is not None:
                    values.append(value)

    def __enter__(self) -> GpuMeter:
        if self._gpu is not None:
            self._thread = threading.Thread(target=self._sample)
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        if self._gpu is not None:
            self._thread.join()

    def summary(self, bytes_before: int) -> dict[str, float]:
        found = {}
        if self._decoder:
            found["decoder_percent"] = float(np.mean(self._decoder))
        if self._kernel:
            found["kernel_percent"] = float(np.mean(self._kernel))
        if self._memory:
            found["gpu_megabytes"] = (max(self._memory) - bytes_before) / 1e6
        return found


def video_sets(args: argparse.Namespace) -> dict[str, list[tuple[str, int]]]:
    sets = {}
    for text in args.data:
        name, _, folder = text.partition("=")
        sets[name] = build_data.videos_in(Path(folder))
    for text in args.sets if args.sets is not None else [] if sets else ["h264:256", "h264:1080"]:
        codec, _, height = text.partition(":")
        sets[f"{codec} {height}p"] = build_data.clips_of(codec, int(height))
    return {name: [(path, 0) for path in paths] for name, paths in sets.items()}


def num_threads(name: str, args: argparse.Namespace) -> int:
    return int(args.gpu_threads if name in ON_ENGINES else args.num_workers)


def run(args: argparse.Namespace) -> dict[str, Any]:
    cuda = vidload.info()["cuda"]
    result: dict[str, Any] = {
        "machine": machine(),
        "device": args.device,
        "cuda": cuda_summary(cuda),
        "rows": [],
        "missing": {},
    }
    gpu = None
    if args.device == "cuda":
        gpu = nvml.Gpu(cuda["devices"][0]["pci_address"])
        result["driver"] = nvml.driver_version()
    with tempfile.TemporaryDirectory(prefix="vidload_gpu_") as temporary:
        folder = Path(temporary)
        jobs, cases = make_jobs(video_sets(args), folder, args.clips, CLIPS_PER_ROUND, args.rounds)
        jobs_file = folder / "jobs.json"
        jobs_file.write_text(json.dumps(jobs))
        expected = expected_batches(cases, jobs_file, folder, args.num_workers)
        for name in args.loaders:
            if name in NEED_GPU and args.device != "cuda":
                result["missing"][LOADERS[name]] = "needs a GPU"
                continue
            try:
                measure(name, cases, expected, jobs_file, folder, gpu, args, result["rows"])
            except (RuntimeError, OSError) as error:  # one that does not run here is named, and the others go on
                result["missing"][LOADERS[name]] = str(error).splitlines()[0]
    if args.device == "cuda":
        result["kernel"] = kernel_lines(torch.device("cuda", 0), (256, 1080))
    return result


def expected_batches(cases: list[Case], jobs_file: Path, folder: Path, num_workers: int) -> dict[Case, np.ndarray]:
    """The first batch of every case by the CPU alone."""
    worker = Worker("vidload_cpu", sys.executable, jobs_file, num_workers)
    worker.send(jobs=[0, BATCH_SIZE])
    if "error" in (answer := worker.receive()):
        raise SystemExit(f"vidload itself does not run: {answer['error']}")
    try:
        return {case: first_batch(worker, case, folder) for case in cases}
    finally:
        worker.close()


def measure(
    name: str,
    cases: list[Case],
    expected: dict[Case, np.ndarray],
    jobs_file: Path,
    folder: Path,
    gpu: nvml.Gpu | None,
    args: argparse.Namespace,
    rows: list[dict[str, Any]],
) -> None:
    """Adds a row for each case. Raises RuntimeError if the loader does not run, or gives other clips than the CPU."""
    bytes_before = (gpu.used_bytes() if gpu is not None else None) or 0
    worker = Worker(name, sys.executable, jobs_file, num_threads(name, args), args.device)
    try:
        worker.send(jobs=cases[0].jobs(0, BATCH_SIZE))
        answer = worker.receive()
        if "error" in answer:
            raise RuntimeError(answer["error"])
        print(f"{LOADERS[name]} {answer['version']}", file=sys.stderr, flush=True)
        for case in cases:
            difference = worst_difference(expected[case], first_batch(worker, case, folder))
            if difference > (0 if name in EXACT else MAX_DIFFERENCE):
                raise RuntimeError(f"{case.set_name} {case.clip}: not the CPU's clips ({difference:.2f} of 255)")
            warm_up = worker.timed(do="time", jobs=case.jobs(0, MIN_CLIPS))
            wanted = int(args.seconds * warm_up["clips"] / warm_up["wall"])
            count = min(max(wanted // BATCH_SIZE * BATCH_SIZE, MIN_CLIPS), CLIPS_PER_ROUND)
            with GpuMeter(gpu) as meter:
                rounds = [worker.timed(do="time", jobs=case.jobs(number, count)) for number in range(args.rounds)]
            row = {
                "loader": name,
                "version": answer["version"],
                "threads": num_threads(name, args),
                "set": case.set_name,
                "clip": case.clip,
                "rounds": rounds,
                "difference": difference,
                **meter.summary(bytes_before),
            }
            if name.startswith("vidload"):
                row |= worker.ask(do="nvdec", jobs=[0, 0])
            rows.append(row)
    finally:
        worker.close()


def kernel_lines(
    gpu: torch.device, heights: Sequence[int], num_pictures: int = 64, num_launches: int = 50
) -> list[str]:
    """The kernel's bytes per second (planes read once, outputs written once) beside the card's own copy."""
    lines = []
    crop = 224
    for height in heights:
        width = (height * 16 // 9 + 15) // 16 * 16
        seconds = _testing.time_kernel(int(gpu.index), height, width, crop, crop, num_pictures, num_launches)
        moved = num_pictures * num_launches * (height * width * 1.5 + 6 * crop**2)
        lines.append(
            f"kernel, {width}x{height} to {crop}x{crop} float16: {moved / seconds / 1e9:.2f} GB/s, "
            f"{1e6 * seconds / num_pictures / num_launches:.2f} µs a picture"
        )
    if torch.cuda.is_available():
        source = torch.empty(1 << 28, dtype=torch.uint8, device=gpu)
        target = source.clone()
        torch.cuda.synchronize(gpu)
        started = time.perf_counter()
        for _ in range(20):
            target.copy_(source)
        torch.cuda.synchronize(gpu)
        rate = 20 * 2 * source.numel() / (time.perf_counter() - started)
        lines.append(f"copy on the card: {rate / 1e9:.0f} GB/s read and written")
    return lines


def report(result: dict[str, Any]) -> str:
    """The result as Markdown: a table for each set and clip."""
    about = result["machine"]
    where = "GPU memory" if result["device"] == "cuda" else "host memory"
    lines = [
        f"# Clips into {where}",
        "",
        f"{about['cpu']}, {about['cores']} cores; load at start {about['load_at_start']}. {result['cuda']}.",
    ]
    if result.get("driver"):
        lines.append(f"NVIDIA driver {result['driver']}.")
    lines.append(
        "Clips per second: median over rounds ± half the range. Processor time: of the host, all its processes and threads."
    )
    head = [
        "clips/s",
        "CPU ms a clip",
        "threads",
        "GPU MB",
        "NVDEC busy",
        "kernels busy",
        "decoders made",
        "differs by",
    ]
    for set_name, clip in dict.fromkeys((row["set"], row["clip"]) for row in result["rows"]):
        table = []
        for row in result["rows"]:
            if (row["set"], row["clip"]) == (set_name, clip):
                table.append([LOADERS[row["loader"]], *cells(row)])
        lines += ["", markdown_table([f"{set_name}, {clip}", *head], table)]
    fallbacks = {LOADERS[row["loader"]]: row["fallbacks"] for row in result["rows"] if row.get("fallbacks")}
    lines += [f"\n{name}: decoded by the CPU after all, by reason: {reasons}." for name, reasons in fallbacks.items()]
    lines += [f"\nLeft out: {name} ({reason})." for name, reason in result["missing"].items()]
    lines += ["", *result.get("kernel", [])]
    return "\n".join(lines).rstrip() + "\n"


def cells(row: dict[str, Any]) -> list[str]:
    rates = Rounds(tuple(seconds["clips"] / seconds["wall"] for seconds in row["rounds"]))
    processor = Rounds(tuple(1000 * seconds["cpu"] / seconds["clips"] for seconds in row["rounds"]))

    def told(key: str, text: str) -> str:
        return text.format(row[key]) if key in row else ""

    return [
        str(rates),
        f"{processor.median:.1f}",
        str(row["threads"]),
        told("gpu_megabytes", "{:.0f}"),
        told("decoder_percent", "{:.0f} %"),
        told("kernel_percent", "{:.0f} %"),
        told("num_nvdec_creations", "{}"),
        f"{row['difference']:.2f}",
    ]


def default_gpu_threads(num_workers: int) -> int:
    """One more than the card has NVDEC engines, so that none waits for a thread; as many as cores where that is not told."""
    try:
        kinds = _core.nvdec_capabilities(0)["h264"].values()
        return 1 + max(limits["num_engines"] for limits in kinds)
    except (RuntimeError, KeyError):
        return num_workers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--device", default="cuda" if torch.cuda.is_available() else "cpu", choices=("cuda", "cpu"))
    add(
        "--sets",
        nargs="*",
        metavar="CODEC:HEIGHT",
        help="default: h264:256 h264:1080; codecs: " + ", ".join(build_data.ENCODERS),
    )
    add(
        "--data",
        nargs="*",
        default=[],
        metavar="NAME=DIR",
        help="folders of your own videos, instead of the sets or beside them",
    )
    add("--loaders", nargs="+", default=list(LOADERS), choices=LOADERS, help="default: all")
    add("--clips", nargs="+", default=list(CLIPS), help="default: %(default)s")
    add("--rounds", type=int, default=3, help="default: %(default)s")
    add("--seconds", type=float, default=2, help="of a round, about (default: %(default)s)")
    add("--num-workers", type=int, default=len(os.sched_getaffinity(0)), help="default: the cores")
    add("--gpu-threads", type=int, help="of the loaders on NVDEC (default: its engines and one more)")
    add("--output", type=Path, default=RESULTS / "gpu_loaders", help="default: %(default)s.*")
    args = parser.parse_args()
    if args.gpu_threads is None:
        args.gpu_threads = default_gpu_threads(args.num_workers) if args.device == "cuda" else args.num_workers
    result = run(args)
    text = report(result)
    print(text)
    write_json(args.output.with_suffix(".json"), result)
    args.output.with_suffix(".md").write_text(text)


if __name__ == "__main__":
    main()
