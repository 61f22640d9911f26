"""Your own DALI operators after vidload's decoding, in an ordinary VideoLoader: it shuffles, resumes, and survives bad files.

    pip install nvidia-dali-cuda130
    python examples/dali_augment.py [folder with one folder of videos per class] [--device cuda]

vidload chooses frames, crops and flips, and decodes what DALI cannot (on the CPU: all but VP8, VP9 and MJPEG). `augment` below is part
of a DALI graph: it receives each cropped clip as uint8 RGB [F, H, W, 3] and returns one of the same shape, which is then flipped, normalized
and collated. Its random numbers are DALI's own. Without a folder, small H.264 clips are made first; after a few seconds it prints

    32 clips of 4 classes, through DALI on cpu
    batch 1: clips float32 [8, 3, 16, 64, 64] mean 0.2, labels [2, 0, 0, 1, 2, 3, 3, 1]
    ...
    decoded by vidload for DALI: {'codec h264': 32}
"""

import argparse
import tempfile
import time
from typing import Any

from nvidia.dali import fn, types
from synthetic_clips import write_clips

import vidload


def augment(clips: Any) -> Any:
    """Color jitter for all, blur for some, a gray patch for some; one draw per clip, so that its frames stay consistent."""
    clips = fn.color_twist(
        clips,
        brightness=fn.random.uniform(range=(0.7, 1.3)),
        contrast=fn.random.uniform(range=(0.7, 1.3)),
        saturation=fn.random.uniform(range=(0.5, 1.5)),
        hue=fn.random.uniform(range=(-15.0, 15.0)),
    )
    if fn.random.coin_flip(probability=0.3, dtype=types.BOOL):  # a branch of the graph, taken or not for each clip
        clips = fn.gaussian_blur(clips, sigma=fn.random.uniform(range=(0.5, 1.5)))
    if fn.random.coin_flip(probability=0.25, dtype=types.BOOL):
        corner = fn.random.uniform(range=(0.0, 0.7), shape=2)  # height, width; as fractions of the clip's size
        clips = fn.erase(
            clips, anchor=corner, shape=(0.3, 0.3), axis_names="HW", normalized=True, fill_value=(124.0, 116.0, 104.0)
        )
    return clips


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", help="one folder of videos per class (default: generated clips)")
    parser.add_argument("--device", default="cpu", help="cpu, or cuda: DALI decodes with NVDEC and augments there")
    args = parser.parse_args()

    with tempfile.TemporaryDirectory() as temporary:
        dataset = vidload.VideoDataset.from_folder(
            args.folder or write_clips(temporary, num_per_class=8, seed=0),
            clip="16x2x1",
            transform=vidload.transforms.random_resized_crop(64),
        )
        classes = dataset.annotations.classes or ()
        print(f"{len(dataset)} clips of {len(classes)} classes, through DALI on {args.device}")
        loader = vidload.VideoLoader(
            dataset,
            batch_size=8,
            shuffle=True,
            on_error="substitute",
            device=args.device,
            decoder="dali",
            augment=augment,
        )
        started = time.perf_counter()
        for number, (clips, labels) in enumerate(loader, start=1):
            dtype = str(clips.dtype).removeprefix("torch.")
            print(
                f"batch {number}: clips {dtype} {list(clips.shape)} mean {clips.mean():.1f}, labels {labels.tolist()}"
            )
        print(
            f"{len(dataset) / (time.perf_counter() - started):.0f} clips per second, including the pipeline's startup"
        )
        print("decoded by vidload for DALI:", loader.stats()["dali_fallbacks"])


if __name__ == "__main__":
    main()
