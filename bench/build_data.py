"""Builds the clips that the benches read, once: 27 files of 10 seconds, short side 256, each encoded twice.

In: the nine videos of source_clips.py, each of a different kind. Out: `bench/data/keyint250/` and `bench/data/keyint16/`, each
with 27 MP4 files and `list.txt` ("name label"). x264 defaults (medium, CRF 23) except for the keyframe interval. A
video is played forwards and backwards until 10 seconds are filled, so looping adds no cut; crops and frame rates vary.
Existing files are kept; other files in these folders are deleted. `clips_of` encodes the same videos in other codecs and sizes.

    python bench/build_data.py
"""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
from source_clips import KINDS, SECONDS, decode, source_clips
from tqdm import tqdm

from vidload.annotations import find_videos
from vidload.system import selftest

DATA = Path(__file__).resolve().parent / "data"
KEYINTS = (250, 16)
ENCODERS = selftest.CLIPS  # codec -> encoder, pixel format, options


@dataclass(frozen=True)
class Variant:
    """A window of the source with the output's shape: `zoom` times the largest that fits, placed at (x, y) within the
    remaining space."""

    width: int
    height: int
    fps: Fraction
    zoom: float
    x: float
    y: float
    phase: float  # where in the source the clip starts

    def __str__(self) -> str:
        return f"{self.width}x{self.height}_{float(self.fps):g}fps_{round(100 * self.phase):02d}"


VARIANTS = (
    Variant(340, 256, Fraction(25), zoom=1.0, x=0.5, y=0.5, phase=0.0),
    Variant(340, 256, Fraction(30), zoom=1.0, x=0.1, y=0.5, phase=0.3),
    Variant(454, 256, Fraction(30000, 1001), zoom=1.0, x=0.5, y=0.5, phase=0.1),
    Variant(256, 454, Fraction(30), zoom=1.0, x=0.6, y=0.5, phase=0.5),
    Variant(340, 256, Fraction(24), zoom=0.75, x=0.9, y=0.8, phase=0.6),
    Variant(454, 256, Fraction(25), zoom=0.8, x=0.2, y=0.3, phase=0.8),
)


def variants_of(number: int) -> tuple[Variant, ...]:
    """Every second variant, alternating between sources: three each."""
    return VARIANTS[number % 2 :: 2]


def source_of(path: str) -> str:
    """The source's name in a built clip's file name."""
    name = Path(path).stem
    return next((source for source in KINDS if name.startswith(f"{source}_")), name)


def cropped(frames: list[av.VideoFrame], variant: Variant) -> list[av.VideoFrame]:
    """Every frame cut to the variant's window and resized to its size."""
    width, height = frames[0].width, frames[0].height
    aspect = variant.width / variant.height
    crop_width = int(variant.zoom * min(width, height * aspect)) // 2 * 2
    crop_height = int(variant.zoom * min(height, width / aspect)) // 2 * 2
    left = int(variant.x * (width - crop_width)) // 2 * 2
    top = int(variant.y * (height - crop_height)) // 2 * 2
    graph = av.filter.Graph()
    steps = [
        graph.add_buffer(width=width, height=height, format=frames[0].format, time_base=Fraction(1, 25)),
        graph.add("crop", f"{crop_width}:{crop_height}:{left}:{top}"),
        graph.add("scale", f"{variant.width}:{variant.height}:flags=bicubic"),
        graph.add("format", "yuv420p"),
        graph.add("buffersink"),
    ]
    graph.link_nodes(*steps)
    graph.configure()
    result = []
    for frame in frames:
        graph.push(frame)
        result.append(graph.vpull())
    return result


def forwards_and_backwards(num_source: int, num_frames: int, phase: float) -> list[int]:
    """Source frame of each output frame: ... n-2 n-1 n-2 ... 1 0 1 ..., from `phase` on."""
    period = max(2 * num_source - 2, 1)
    first = int(phase * num_source)
    places = [(first + i) % period for i in range(num_frames)]
    return [place if place < num_source else period - place for place in places]


def encode(frames: list[av.VideoFrame], order: list[int], variant: Variant, keyint: int, path: Path) -> None:
    """Writes to a temporary file, then renames it, so that any file that exists is complete."""
    partial = path.with_suffix(".partial")
    with av.open(str(partial), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=variant.fps)
        stream.width, stream.height, stream.pix_fmt = variant.width, variant.height, "yuv420p"
        stream.options = {"preset": "medium", "crf": "23", "x264-params": f"keyint={keyint}"}
        stream.codec_context.thread_count = 2  # fixed, so that files are identical on every machine
        stream.codec_context.thread_type = "FRAME"  # x264's own default; PyAV would use slices
        for i, place in enumerate(order):
            frame = frames[place]
            frame.pts, frame.time_base = i, 1 / variant.fps
            frame.pict_type = av.video.frame.PictureType.NONE
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    os.replace(partial, path)


def videos_in(folder: Path, most: int | None = None) -> list[str]:
    """The videos in a folder, at any depth; at most `most` of them, evenly spread."""
    found = find_videos(folder)
    if not found:
        raise SystemExit(f"{folder}: contains no videos")
    return found if most is None or len(found) <= most else [found[i * len(found) // most] for i in range(most)]


def build(data: Path = DATA) -> dict[int, Path]:
    """Builds what is missing. Returns the folder for each keyframe interval."""
    folders = {keyint: data / f"keyint{keyint}" for keyint in KEYINTS}
    wanted = {f"{source}_{variant}.mp4": i for i, source in enumerate(KINDS) for variant in variants_of(i)}
    for folder in folders.values():
        folder.mkdir(parents=True, exist_ok=True)
        for stale in {path.name for path in folder.glob("*.mp4")} - set(wanted):
            (folder / stale).unlink()
        (folder / "list.txt").write_text("".join(f"{name} {label}\n" for name, label in wanted.items()))
    todo = [folder / name for folder in folders.values() for name in wanted if not (folder / name).exists()]
    with tqdm(total=len(todo), desc="encoding bench clips", unit="file", disable=not todo) as progress:
        for i, (source, path) in enumerate(source_clips(data / "sources").items() if todo else []):
            frames: list[av.VideoFrame] = []
            for variant in variants_of(i):
                name = f"{source}_{variant}.mp4"
                missing = {keyint: folder / name for keyint, folder in folders.items() if folder / name in todo}
                if not missing:
                    continue
                frames = frames or decode(path)
                pictures = cropped(frames, variant)
                order = forwards_and_backwards(len(pictures), int(SECONDS * variant.fps), variant.phase)
                for keyint, target in missing.items():
                    encode(pictures, order, variant, keyint, target)
                    progress.update()
    return folders


def clips_of(codec: str, height: int, folder: Path = DATA / "gpu") -> list[str]:
    """The videos of source_clips.py at 16:9 of that height, 10 seconds of 30 frames, a keyframe at least every 250; encoded on first use.
    Most are scaled up, so that large pictures hold less detail than a camera's."""
    width = (height * 16 // 9 + 15) // 16 * 16
    variant = Variant(width, height, Fraction(30), zoom=1.0, x=0.5, y=0.5, phase=0.1)
    encoder, pixel_format, options = ENCODERS[codec]
    target = folder / f"{codec.replace(' ', '_')}_{height}"
    target.mkdir(parents=True, exist_ok=True)
    paths = []
    for source, clip in source_clips(DATA / "sources").items():
        path = target / f"{source}.mkv"
        paths.append(str(path))
        if path.exists():
            continue
        pictures = cropped(decode(clip), variant)
        order = forwards_and_backwards(len(pictures), int(SECONDS * variant.fps), variant.phase)
        partial = path.with_suffix(".partial")
        with av.open(str(partial), "w", format="matroska") as container:
            stream = container.add_stream(encoder, rate=variant.fps, options={**options, "g": "250"})
            stream.width, stream.height, stream.pix_fmt = width, height, pixel_format
            for i, place in enumerate(order):
                picture = pictures[place].reformat(format=pixel_format)
                picture.pts, picture.time_base = i, 1 / variant.fps
                picture.pict_type = av.video.frame.PictureType.NONE
                container.mux(stream.encode(picture))
            container.mux(stream.encode(None))
        os.replace(partial, path)
    return paths


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Builds the clips that the benches read.")
    parser.add_argument("--data", type=Path, default=DATA, help="folder to build in (default: bench/data)")
    for keyint, folder in build(parser.parse_args().data).items():
        files = sorted(folder.glob("*.mp4"))
        megabytes = sum(file.stat().st_size for file in files) / 1e6
        print(f"keyint {keyint}: {len(files)} files, {megabytes:.1f} MB in {folder}")
