"""Frames by time for a video-language model, and three synchronized cameras for a robot policy, on clips made on the spot.

python examples/frames_by_time.py                                  # needs no data
python examples/frames_by_time.py --videos folder --fps 2 --max-frames 64 --max-pixels 100352
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import torch
from synthetic_clips import write_clips

import vidload
from vidload.annotations import find_videos
from vidload.sampling import FramesByTime
from vidload.transforms import center_crop, fit_pixels


def show_frames_by_time(paths: list[str], args: argparse.Namespace) -> None:
    """Batches of varying length and size, as lists; then of one size, packed."""
    clip = FramesByTime(fps=args.fps, max_frames=args.max_frames)
    items = [(path, number) for number, path in enumerate(paths)]
    data = vidload.VideoDataset(
        items, clip=clip, transform=fit_pixels(args.max_pixels), dtype=torch.uint8, fields=["pts_seconds"]
    )
    for clips, labels, fields in vidload.VideoLoader(data, args.batch_size):
        for pixels, label, seconds in zip(clips, labels, fields["pts_seconds"], strict=True):
            tokens = len(pixels) * pixels.shape[2] // 28 * pixels.shape[3] // 28
            print(f"{Path(paths[label]).name}: {list(pixels.shape)}, {tokens} tiles of 28x28, at {seconds.tolist()}")

    data = vidload.VideoDataset(items, clip=clip, transform=center_crop(112, short_side=112))
    for clips, _, fields in vidload.VideoLoader(data, args.batch_size, batch_as="packed"):
        print(f"packed: {list(clips.shape)}, offsets {fields['offsets'].tolist()}")


def show_cameras(paths: list[str]) -> None:
    """The frame of a moment and the one 0.1 s before it, of each camera."""
    cameras = dict(zip(("front", "wrist", "top"), paths, strict=False))
    data = vidload.MultiVideoDataset.from_episodes(
        [(cameras, "pick up the cube", 10)], fps=10, delta_seconds=[-0.1, 0.0], transform=center_crop(96, short_side=96)
    )
    clips, labels, fields = next(iter(vidload.VideoLoader(data, batch_size=4)))
    print(f"{len(data)} moments of {', '.join(data.cameras)}: {list(clips.shape)}, {labels[0]!r}")
    print(f"frames there are at the first moment: {fields['mask'][0].tolist()}")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Frames by time, and several cameras in step.")
    parser.add_argument("--videos", type=Path, help="a folder of videos; without it, clips are made")
    parser.add_argument("--fps", type=float, default=4.0)
    parser.add_argument("--max-frames", type=int, default=64)
    parser.add_argument("--max-pixels", type=int, default=16 * 28 * 28, help="per frame")
    parser.add_argument("--batch-size", type=int, default=2)
    args = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        paths = find_videos(args.videos or write_clips(Path(folder) / "clips", 1, seed=0))
        show_frames_by_time(paths, args)
        show_cameras(paths)


if __name__ == "__main__":
    main()
