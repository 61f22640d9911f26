"""The self-test: does this machine, with its GPU, give the very pixels that the CPU gives?

In: which device. Out: a list of checks with what was found, and a short report in Markdown that can be pasted into a bug report. Clips are
generated on the spot, so nothing is needed. `vidload selftest` is its command.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import torch

import vidload
from vidload.system import cuda
from vidload.system.info import cuda_summary, nvdec_verdict

FRAMES = 60

os.environ.setdefault("SVT_LOG", "1")  # SVT-AV1 prints its settings otherwise

# name: encoder, pixel format, options
CLIPS: dict[str, tuple[str, str, dict[str, str]]] = {
    "h264": ("libx264", "yuv420p", {"preset": "veryfast", "g": "24", "bf": "3"}),
    "h264 open GOP": ("libx264", "yuv420p", {"preset": "veryfast", "g": "12", "bf": "3", "x264-params": "open-gop=1"}),
    "h264 interlaced": ("libx264", "yuv420p", {"preset": "veryfast", "g": "24", "x264-params": "interlaced=1"}),
    "hevc": ("libx265", "yuv420p", {"preset": "ultrafast", "g": "24", "x265-params": "log-level=none:bframes=3"}),
    "hevc 10 bit": ("libx265", "yuv420p10le", {"preset": "ultrafast", "g": "24", "x265-params": "log-level=none"}),
    "vp8": ("libvpx", "yuv420p", {"deadline": "realtime", "cpu-used": "8", "g": "24", "b": "1M"}),
    "vp9": ("libvpx-vp9", "yuv420p", {"deadline": "realtime", "cpu-used": "8", "g": "24"}),
    "av1": ("libsvtav1", "yuv420p", {"preset": "12", "g": "24"}),
    "av1 film grain": ("libsvtav1", "yuv420p", {"preset": "12", "g": "24", "svtav1-params": "film-grain=12"}),
}


@dataclass(frozen=True)
class Check:
    """One line of the report. `is_good` is None for what is reported but not judged."""

    name: str
    found: str
    is_good: bool | None = None

    def __str__(self) -> str:
        return f"| {self.name} | {self.found} | {'' if self.is_good is None else 'ok' if self.is_good else 'FAILED'} |"


def selftest(device: str | None = None, *, width: int = 640, height: int = 360, num_clips: int = 64) -> Iterator[Check]:
    """Runs all checks, one after another; only on the CPU if `device` is None.

    Raises:
        RuntimeError: the device cannot be used.
    """
    gpu = cuda.cuda_device(device)
    with tempfile.TemporaryDirectory(prefix="vidload-selftest-") as folder:
        paths: dict[str, str] = {}
        for name in CLIPS:
            path = Path(folder, f"{name.replace(' ', '_')}.mkv")
            try:
                encode_clip(name, path, width, height)
            except (av.FFmpegError, ValueError) as error:
                yield Check(f"{name}: encode a clip", f"left out: {error}")
                continue
            paths[name] = str(path)
            yield _random_access(name, str(path))
        if gpu is None:
            return
        facts = vidload.info()
        yield Check("GPU", cuda_summary(facts["cuda"]))
        yield Check("NVDEC", nvdec_verdict(facts))
        for name, file in paths.items():
            yield from _frames_on_gpu(name, file, gpu)
        for name, file in paths.items():
            yield from _batches_on_gpu(name, file, gpu, num_clips)


def report(checks: list[Check]) -> str:
    """The checks as Markdown."""
    facts = vidload.info()
    failed = sum(check.is_good is False for check in checks)
    lines = [
        f"### vidload selftest: {'all good' if failed == 0 else f'{failed} FAILED'}",
        "",
        f"vidload {vidload.__version__}, FFmpeg {facts['ffmpeg']['version']}, torch {torch.__version__}, {facts['platform']}  ",
        f"CUDA: {cuda_summary(facts['cuda'])}  ",
        nvdec_verdict(facts),
        "",
        "| check | found | |",
        "| --- | --- | --- |",
        *map(str, checks),
    ]
    return "\n".join(lines) + "\n"


def _picture(index: int, width: int, height: int) -> npt.NDArray[np.uint8]:
    """A sliding texture with a moving square: any two frames differ visibly."""
    y, x = np.mgrid[:height, :width]
    texture = 128 + 60 * np.sin((x + 3 * index) / 17) + 50 * np.cos((y - 2 * index) / 11)
    picture = np.stack([texture, np.roll(texture, 7 * index, 1), 255 - texture], -1).clip(0, 255).astype(np.uint8)
    left = 5 * index % max(width - 40, 1)
    picture[height // 3 : height // 3 + 40, left : left + 40] = (255, 16 * index % 256, 0)
    return picture


def encode_clip(name: str, path: Path, width: int, height: int) -> None:
    """Writes the clip of CLIPS with that name, FRAMES frames long. Raises av.FFmpegError or ValueError if the encoder is missing."""
    encoder, pixel_format, options = CLIPS[name]
    with av.open(str(path), "w") as output:
        stream: Any = output.add_stream(encoder, rate=Fraction(25), options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, pixel_format
        stream.codec_context.thread_count = 1
        for index in range(FRAMES):
            frame = av.VideoFrame.from_ndarray(_picture(index, width, height), format="rgb24")
            frame.pts = index
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))


def _random_access(name: str, path: str) -> Check:
    whole = vidload.VideoReader(path).get_frames_at(range(FRAMES))
    wanted = [41, 7, 58, 7, 30]
    picked = vidload.VideoReader(path).get_frames_at(wanted)
    is_same = bool((picked == whole[wanted]).all())
    return Check(f"{name}: random access on the CPU", "equals sequential decoding" if is_same else "differs", is_same)


def _difference(found: npt.NDArray[np.uint8], expected: npt.NDArray[np.uint8]) -> tuple[str, bool]:
    """In words, and whether it is within one step of uint8."""
    most = int(np.abs(found.astype(np.int16) - expected.astype(np.int16)).max())
    if most == 0:
        return "bit for bit", True
    share = float((found != expected).mean())
    return f"differs by up to {most} in {share:.2%} of the samples", most <= 1


def _frames_on_gpu(name: str, path: str, gpu: torch.device) -> Iterator[Check]:
    wanted = [*range(0, 20), 58, 31, 5]
    expected = vidload.VideoReader(path).get_frames_at(wanted)
    for decoder in ("cpu", "nvdec"):
        check = f"{name}: frames, decoder={decoder!r}"
        reader = vidload.VideoReader(path, device=gpu, decoder=decoder, strict=True)
        try:
            found = cuda.to_host(reader.get_frames_at(wanted)).numpy()
        except vidload.UnsupportedVideoError as error:
            has_failed = "map_failed" in error.reason or "decode_failed" in error.reason  # on what it had said it could
            yield Check(check, f"not decoded by this GPU: {error.reason}", False if has_failed else None)
            continue
        text, is_good = _difference(found, expected)
        # The CPU's planes through the kernel must give the CPU's bits, and NVDEC must give the CPU's planes.
        yield Check(check, text, is_good)


def _batches_on_gpu(name: str, path: str, gpu: torch.device, num_clips: int) -> Iterator[Check]:
    data = vidload.VideoDataset(
        [(path, 0)] * num_clips,
        clip="8x2x1",
        transform=vidload.transforms.random_resized_crop(112),
        dtype=torch.uint8,
    )
    expected = [clips.numpy().copy() for clips, _ in vidload.VideoLoader(data, batch_size=16)]
    for decoder in ("cpu", "nvdec"):
        loader = vidload.VideoLoader(data, batch_size=16, device=gpu, decoder=decoder)
        loader.set_epoch(0)
        texts, is_good = set(), True
        for (clips, _), right in zip(loader, expected, strict=True):
            text, is_near = _difference(cuda.to_host(clips).numpy(), right)
            texts.add(text)
            is_good &= is_near
        before = loader.stats()
        started = time.perf_counter()
        for _ in loader:
            pass
        cuda.synchronize(gpu)
        seconds = time.perf_counter() - started
        stats = loader.stats()
        packets = stats["num_packets_decoded"] - before["num_packets_decoded"]
        found = (
            f"{', '.join(sorted(texts))}; {num_clips / seconds:.0f} clips/s, {packets / seconds:.0f} decoded frames/s, "
            f"{stats['num_nvdec_creations']} NVDEC decoders made, fallbacks {stats['fallbacks'] or 'none'}"
        )
        yield Check(f"{name}: batches, decoder={decoder!r}", found, is_good)
