"""Small videos whose class is a direction of motion: shapes that drift left, right, up or down.

In: a folder and a number of clips. Out: `<folder>/<class>/<number>.mp4`, H.264, 96 x 72 pixels, 40
frames. Shapes, colors, positions, speeds and background are random, and whatever leaves the picture on one
side comes back on the other, so that a single frame reveals nothing about the class. Used by train_i3d.py --demo.
"""

import os
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

CLASSES = {"down": (1, 0), "left": (0, -1), "right": (0, 1), "up": (-1, 0)}  # (y, x) of the drift
HEIGHT, WIDTH, NUM_FRAMES = 72, 96, 40


def write_clips(folder: str | os.PathLike[str], num_per_class: int, seed: int) -> Path:
    """Writes the missing clips; `seed` and the clip's number determine everything about it."""
    for label, (name, direction) in enumerate(CLASSES.items()):
        directory = Path(folder, name)
        directory.mkdir(parents=True, exist_ok=True)
        for number in range(num_per_class):
            path = directory / f"{number:03d}.mp4"
            if not path.exists():
                write_video(path, drifting_shapes(np.random.default_rng((seed, label, number)), direction))
    return Path(folder)


def drifting_shapes(rng: np.random.Generator, direction: tuple[int, int]) -> NDArray[np.uint8]:
    """[NUM_FRAMES, HEIGHT, WIDTH, 3]"""
    coarse = rng.integers(40, 216, (HEIGHT // 12, WIDTH // 12, 3))
    frames = np.repeat(coarse.repeat(12, 0).repeat(12, 1)[None], NUM_FRAMES, axis=0)
    t, y, x = np.ogrid[:NUM_FRAMES, :HEIGHT, :WIDTH]
    for _ in range(5):
        speed, radius, color = rng.uniform(1, 2), rng.uniform(6, 14), rng.integers(0, 256, 3)
        # distance to the shape's center, with wraparound at the edges
        dy = (y - rng.uniform(0, HEIGHT) - direction[0] * speed * t + HEIGHT / 2) % HEIGHT - HEIGHT / 2
        dx = (x - rng.uniform(0, WIDTH) - direction[1] * speed * t + WIDTH / 2) % WIDTH - WIDTH / 2
        disc, square, diamond = np.hypot(dy, dx), np.maximum(abs(dy), abs(dx)), abs(dy) + abs(dx)
        frames[(disc, square, diamond)[rng.integers(3)] < radius] = color
    return frames.astype(np.uint8)


def write_video(path: Path, frames: NDArray[np.uint8]) -> None:
    """`frames` [T, H, W, 3] as H.264 at 25 frames per second."""
    unfinished = path.with_suffix(".part")  # so that an interrupted run leaves no incomplete video
    options = {"preset": "veryfast", "crf": "18", "threads": "1"}
    with av.open(str(unfinished), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=25, options=options)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        for picture in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    unfinished.replace(path)
