"""What videos cost: on disk, in quality, and in packets and milliseconds per clip.

In: video files. Out: rows of a table, and the table as text.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

from vidload import transforms
from vidload.dataset import VideoDataset
from vidload.loading.loader import VideoLoader
from vidload.reader import ReadPlan, VideoReader
from vidload.sampling import ClipSpec, segments
from vidload.system.random import sample_rng

CLIP_SPECS = ("1x1x3", "1x1x8", "32x2x1", "4x16x1", "8x8x1")


@dataclass(frozen=True)
class Cost:
    """A row of the table: what some videos cost.

    Attributes:
        name: what they are.
        num_bytes: on disk.
        vs_source, vs_jpeg: the same, as a share of the source's bytes and of those of JPEG frames (`-q:v 2`).
        psnr: luma PSNR of the worst video in dB; NaN for the source itself.
        packets, milliseconds: per clip, for each of CLIP_SPECS; empty if not measured.
    """

    name: str
    num_bytes: int
    vs_source: float
    vs_jpeg: float
    psnr: float
    packets: tuple[float, ...] = ()
    milliseconds: tuple[float, ...] = ()


def clip_plan(reader: VideoReader, clip: str, number: int) -> ReadPlan:
    """What one random training clip of a video reads and decodes. `number` tells clips apart: the same number draws the same frames."""
    frames = segments(reader.num_frames, reader.average_fps, ClipSpec.parse(clip), sample_rng(0, 0, number))
    return reader.plan(frames.ravel())


def clip_costs(paths: Sequence[str]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Packets decoded and milliseconds for a training clip of each of CLIP_SPECS, on one core, means over `paths`."""
    packets, milliseconds = [], []
    for spec in CLIP_SPECS:
        counts = []
        for number, path in enumerate(paths):
            with VideoReader(path) as reader:
                counts.append(clip_plan(reader, spec, number).num_packets_decoded)
        packets.append(statistics.fmean(counts))
        dataset = VideoDataset(
            [(path, 0) for path in paths], clip=spec, transform=transforms.random_resized_crop(224), seed=0
        )
        loader = VideoLoader(dataset, batch_size=1, num_workers=0, on_error="skip")
        for _ in loader:  # scans the files, warms the cache
            pass
        loader.set_epoch(0)
        start = time.perf_counter()
        for _ in loader:
            pass
        milliseconds.append((time.perf_counter() - start) / len(paths) * 1e3)
    return tuple(packets), tuple(milliseconds)


def cost_table(costs: Sequence[Cost]) -> str:
    """The rows as text for a terminal."""
    specs = " ".join(f"{spec:>12}" for spec in CLIP_SPECS)
    lines = [
        f"{'':<14} {'MB':>9} {'vs source':>9} {'vs JPEG':>8} {'PSNR':>6}   packets and ms per clip, one core",
        f"{'':<14} {'':>9} {'':>9} {'':>8} {'':>6} {specs}",
    ]
    for cost in costs:
        psnr = "" if math.isnan(cost.psnr) else f"{cost.psnr:.1f}"
        cells = " ".join(
            f"{f'{packets:.0f}':>4} {f'{ms:.1f}':>7}"
            for packets, ms in zip(cost.packets, cost.milliseconds, strict=True)
        )
        lines.append(
            f"{cost.name:<14} {cost.num_bytes / 1e6:>9.1f} {cost.vs_source:>8.2f}x {cost.vs_jpeg:>7.2f}x {psnr:>6} {cells}"
        )
    return "\n".join(lines)
