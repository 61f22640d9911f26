"""From which picture size on does NVDEC beat CPU decoding followed by the GPU kernel?

Both give the same clips in GPU memory; they differ in what decodes. For each codec, size, clip and number of threads (each has at most one NVDEC
decoder), rounds alternate between the two, and the table shows clips per second, their ratio, NVDEC decoders created, and fallbacks.
Then the kernel alone: bytes read and written per second, compared with the card's own copy bandwidth. Needs a GPU:

    python bench/gpu_crossover.py                      # about 15 minutes; writes bench/results/gpu_crossover.{md,json}
    python bench/gpu_crossover.py --sizes 256 720 --codecs h264 --seconds 2
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from timing import RESULTS, Rounds, machine, ratio

import vidload
from vidload import _testing
from vidload.system import cuda
from vidload.system.info import cuda_summary
from vidload.system.selftest import CLIPS, encode_clip


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--sizes", type=int, nargs="+", default=[256, 480, 720, 1080, 2160], help="heights; 16:9")
    parser.add_argument("--codecs", nargs="+", choices=list(CLIPS), default=["h264", "hevc", "vp9", "av1"])
    parser.add_argument(
        "--clips", nargs="+", default=["1x1x3", "8x8x1", "32x2x1"], help="clip_len x frame_interval x num_clips"
    )
    parser.add_argument("--num-workers", type=int, nargs="+", default=[1, 4, 8])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batches", type=int, default=4, help="batches of 8 clips per round")
    parser.add_argument("--crop", type=int, default=224)
    parser.add_argument(
        "--out", type=Path, default=RESULTS / "gpu_crossover", help="without extension; '' writes nothing"
    )
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> list[dict[str, Any]]:
    args = arguments(argv)
    gpu = cuda.cuda_device(args.device)
    assert gpu is not None, "--device must be a GPU"
    head = cuda_summary(vidload.info()["cuda"])
    print(head)
    rows = []
    with tempfile.TemporaryDirectory(prefix="vidload-crossover-") as folder:
        for codec, height in itertools.product(args.codecs, args.sizes):
            width = (height * 16 // 9 + 15) // 16 * 16
            path = Path(folder, f"{codec.replace(' ', '_')}_{height}.mkv")
            encode_clip(codec, path, width, height)
            for clip, num_workers in itertools.product(args.clips, args.num_workers):
                row = measure(str(path), gpu, clip, num_workers, args)
                rows.append({"codec": codec, "size": f"{width}x{height}", "clip": clip, "threads": num_workers, **row})
                print(line(rows[-1]), flush=True)
    kernel = kernel_rows(gpu, args)
    text = "\n".join([head, "", table(rows), "", *kernel]) + "\n"
    print("\n".join(kernel))
    if str(args.out) != ".":
        args.out.parent.mkdir(exist_ok=True)
        args.out.with_suffix(".md").write_text(text)
        args.out.with_suffix(".json").write_text(
            json.dumps({"machine": machine(), "cuda": head, "rows": rows, "kernel": kernel}, indent=1)
        )
    return rows


def measure(path: str, gpu: torch.device, clip: str, num_workers: int, args: argparse.Namespace) -> dict[str, Any]:
    """Clips per second of both decoders, in alternating rounds; the first batches are compared with the CPU loader's."""
    data = vidload.VideoDataset(
        [(path, 0)] * (8 * args.batches),
        clip=clip,
        transform=vidload.transforms.random_resized_crop(args.crop),
        dtype=torch.float16,
    )
    expected, _ = next(iter(vidload.VideoLoader(data, batch_size=8)))
    loaders = {}
    for decoder in ("cpu", "nvdec"):
        loader = vidload.VideoLoader(data, batch_size=8, num_workers=num_workers, device=gpu, decoder=decoder)
        loader.set_epoch(0)
        batches = [cuda.to_host(clips) for clips, _ in loader]  # warm-up: decoders created, files indexed
        if not torch.equal(batches[0], expected):
            sys.exit(f"{path}: clips of decoder={decoder!r} differ from the CPU's; run 'vidload selftest --gpu'")
        loaders[decoder] = loader
    speeds: dict[str, list[float]] = {decoder: [] for decoder in loaders}
    for _ in range(args.rounds):
        for decoder, loader in loaders.items():
            started = time.perf_counter()
            for batch in loader:
                del batch
            cuda.synchronize(gpu)
            speeds[decoder].append(8 * args.batches / (time.perf_counter() - started))
    stats = loaders["nvdec"].stats()
    on_cpu, on_nvdec = (Rounds(tuple(speeds[decoder])) for decoder in ("cpu", "nvdec"))
    return {
        "cpu clips/s": str(on_cpu),
        "nvdec clips/s": str(on_nvdec),
        "nvdec / cpu": round(ratio(on_nvdec, on_cpu), 2),
        "decoders made": stats["num_nvdec_creations"],
        "fallbacks": stats["fallbacks"],
    }


def kernel_rows(gpu: torch.device, args: argparse.Namespace) -> list[str]:
    """The kernel's bytes per second (planes read once, outputs written once) at each size, and the card's copy bandwidth."""
    lines = []
    num_pictures, num_launches = (64, 50) if torch.cuda.is_available() else (2, 1)
    for height in args.sizes:
        width = (height * 16 // 9 + 15) // 16 * 16
        seconds = _testing.time_kernel(int(gpu.index), height, width, args.crop, args.crop, num_pictures, num_launches)
        moved = num_pictures * num_launches * (height * width * 1.5 + 6 * args.crop**2)
        lines.append(
            f"kernel, {width}x{height} to {args.crop}x{args.crop} float16: {moved / seconds / 1e9:.2f} GB/s, "
            f"{1e6 * seconds / num_pictures / num_launches:.2f} us per picture"
        )
    if torch.cuda.is_available():
        source = torch.empty(1 << 28, dtype=torch.uint8, device=gpu)
        target = torch.empty_like(source)
        target.copy_(source)
        torch.cuda.synchronize(gpu)
        started = time.perf_counter()
        for _ in range(20):
            target.copy_(source)
        torch.cuda.synchronize(gpu)
        lines.append(
            f"copy on the card: {20 * 2 * source.numel() / (time.perf_counter() - started) / 1e9:.0f} GB/s read and written"
        )
    return lines


def line(row: dict[str, Any]) -> str:
    return "| " + " | ".join(str(value) for value in row.values()) + " |"


def table(rows: list[dict[str, Any]]) -> str:
    return "\n".join(
        ["| " + " | ".join(rows[0]) + " |", "| " + " | ".join("---" for _ in rows[0]) + " |", *map(line, rows)]
    )


if __name__ == "__main__":
    main()
