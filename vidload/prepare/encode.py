"""Re-encodes one video for loading: short GOPs, the frames of the source at their own times, a chosen PSNR.

In: a video file and `EncodeSettings`. Out: an MP4 file under its final name, whole and verified, or an exception
and nothing; and what was measured on the way (`EncodedVideo`). The same source and settings give the same bytes
on every run: encoders run on one thread, and nothing in the file depends on the clock. vidload.prepare.tasks
decides which files are encoded, in what order and on which machines.
"""

from __future__ import annotations

import math
import os
import statistics
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
from av.video.frame import PictureType

from vidload.errors import DamagedVideoError, VideoError
from vidload.prepare.settings import ENCODERS, Encoder, EncodeSettings
from vidload.prepare.source_frames import JpegEncoder, SourceFrames
from vidload.reader import VideoReader
from vidload.system.files import written_aside

_SAMPLE_MARGIN = 0.1  # dB by which a sample of the frames should be better than all of them must be
_PSNR_MARGIN = 0.3  # dB above the target at which the search for a coarser quality ends
_MAX_PASSES = 6
# Encoders see numbered frames, the container their times. So files of one size have the same headers, whatever their rate,
# and one open decoder serves all of them.
_NOMINAL_FPS = 25
_LAMBDA = 118  # FFmpeg's FF_QP2LAMBDA: one step of qscale
_JPEG_SAMPLES = 8  # frames of a video that are encoded as JPEG to estimate the size of all of them


@dataclass(frozen=True)
class EncodedVideo:
    """What `encode_video` wrote.

    Attributes:
        num_frames, width, height: of the new video.
        quality: the value of the encoder's quality option.
        psnr: luma PSNR in dB against the source's frames at the new size.
        num_bytes, source_bytes, source_mtime_ns: sizes of the two files; when the source was last changed.
        jpeg_bytes: about what its frames would take as JPEG files of `-q:v 2`, estimated from a few of them.
    """

    num_frames: int
    width: int
    height: int
    quality: float
    psnr: float
    num_bytes: int
    source_bytes: int
    source_mtime_ns: int
    jpeg_bytes: int


def encode_video(
    source: str | os.PathLike[str],
    destination: str | os.PathLike[str],
    settings: EncodeSettings,
    *,
    max_frames: int | None = None,
) -> EncodedVideo:
    """Encodes `source` to the MP4 file `destination`, whole or not at all.

    The file is written aside in the same folder, read back (frame count and times must be the source's), flushed to
    disk and renamed; it gets the source's modification time, so that a second run changes nothing. With `max_frames`,
    only the beginning is encoded, and `source_bytes` is that part's share.

    Raises:
        VideoError: the source is missing, empty, damaged or not supported.
        OSError: `destination` cannot be written.
    """
    destination = Path(destination)
    frames = SourceFrames(os.fspath(source), settings, max_frames)
    jpeg_sizes: list[int] = []
    with written_aside(destination, is_durable=True) as part:
        if settings.crf is None:
            quality, psnr = _encode_to_psnr(frames, settings, part, jpeg_sizes)
        else:
            quality, psnr = settings.crf, _encode(frames, frames, settings, settings.crf, part, jpeg_sizes)
        _verify(part, frames)
        os.utime(part, ns=(frames.mtime_ns, frames.mtime_ns))
        num_bytes = part.stat().st_size
    return EncodedVideo(
        num_frames=len(frames),
        width=frames.width,
        height=frames.height,
        quality=quality,
        psnr=psnr,
        num_bytes=num_bytes,
        source_bytes=frames.num_bytes,
        source_mtime_ns=frames.mtime_ns,
        jpeg_bytes=round(statistics.fmean(jpeg_sizes) * len(frames)),
    )


def _encode_to_psnr(
    frames: SourceFrames, settings: EncodeSettings, path: Path, jpeg_sizes: list[int]
) -> tuple[float, float]:
    """Writes `path` with the coarsest quality that reaches `settings.psnr`: (quality, psnr)."""
    encoder = ENCODERS[settings.codec]
    sample = frames.sample(settings.gop)
    quality = coarsest_quality(
        encoder,
        settings.psnr + _SAMPLE_MARGIN,
        lambda quality: _encode(frames, sample, settings, quality, path, jpeg_sizes),
    )
    while True:
        psnr = _encode(frames, frames, settings, quality, path, jpeg_sizes)
        if psnr >= settings.psnr or quality == encoder.finest:
            return quality, psnr
        num_steps = math.ceil((settings.psnr - psnr) / encoder.psnr_per_step)
        quality = max(quality - num_steps * encoder.step, encoder.finest)


def coarsest_quality(encoder: Encoder, target: float, psnr_of: Callable[[float], float]) -> float:
    """The coarsest quality value that reaches `target` dB, or one at most 0.3 dB better; the finest if none does.

    PSNR falls almost linearly as quality gets coarser: a few steps along that line, kept between the coarsest value known
    to be fine enough and the finest known to be too coarse, find the value.
    """
    good: tuple[float, float] | None = None  # quality, psnr
    too_coarse = encoder.coarsest + encoder.step
    quality, slope = encoder.first_guess, encoder.psnr_per_step / encoder.step
    last: tuple[float, float] | None = None
    for _ in range(_MAX_PASSES):
        psnr = psnr_of(quality)
        if psnr >= target:
            good = (quality, psnr)
        else:
            too_coarse = quality
        lowest = encoder.finest if good is None else good[0] + encoder.step
        highest = too_coarse - encoder.step
        if lowest > highest or (good and good[1] <= target + _PSNR_MARGIN):
            break
        if last is not None:
            slope = max((last[1] - psnr) / (quality - last[0]), slope / 4)
        last = (quality, psnr)
        guess = quality + (psnr - target) / slope
        num_steps = math.floor((guess - encoder.finest) / encoder.step + 1e-9)
        quality = min(max(encoder.finest + num_steps * encoder.step, lowest), highest)
    return encoder.finest if good is None else good[0]


def _encode(
    frames: SourceFrames,
    pictures: SourceFrames | list[av.VideoFrame],
    settings: EncodeSettings,
    quality: float,
    path: Path,
    jpeg_sizes: list[int],
) -> float:
    """Writes `pictures`, all of `frames` or some of them, to the MP4 file `path` at one quality. Returns the luma PSNR in
    dB of what a decoder makes of them.

    The first pass puts into `jpeg_sizes` the sizes of some of the frames as JPEG files.
    """
    encoder = ENCODERS[settings.codec]
    options = encoder.options(settings) | dict(settings.extra)
    jpeg = None if jpeg_sizes else JpegEncoder(frames.width, frames.height)
    every = max(len(pictures) // _JPEG_SAMPLES, 1)
    originals: deque[npt.NDArray[np.uint8]] = deque()  # luma of the frames that the decoder has not returned yet
    errors: list[float] = []  # mean squared error of each frame
    with open(path, "wb") as file, av.open(file, "w", format="mp4", options={"fflags": "+bitexact"}) as output:
        stream: Any = output.add_stream(encoder.name, rate=_NOMINAL_FPS)
        stream.time_base = frames.time_base
        context = stream.codec_context
        context.width, context.height, context.pix_fmt = frames.width, frames.height, "yuv420p"
        context.time_base = Fraction(1, _NOMINAL_FPS)
        context.colorspace, context.color_range = frames.matrix, frames.color_range
        context.color_primaries, context.color_trc = frames.primaries, frames.transfer
        context.thread_count = 1  # the same bytes on every machine
        if encoder.quality == "qscale":
            context.qmin = context.qmax = int(quality)
            options["lmin"] = options["lmax"] = str(int(quality) * _LAMBDA)  # else MPEG-4's rate control decides
        else:
            options[encoder.quality] = f"{quality:g}"
        context.options = options
        decoder: Any = av.CodecContext.create(encoder.decoder, "r")
        decoder.thread_count = 1
        for number, frame in enumerate(chain(pictures, [None])):
            if frame is not None:
                originals.append(_luma(frame))
                if jpeg is not None and number % every == every // 2:
                    jpeg_sizes.append(len(jpeg(frame)))
                frame.pts, frame.duration, frame.time_base = number, 1, context.time_base
                frame.pict_type = PictureType.NONE  # else the encoder would repeat the source's choice
            for packet in context.encode(frame):
                if not decoder.is_open and context.extradata:
                    decoder.extradata = context.extradata
                errors += [_squared_error(picture, originals.popleft()) for picture in decoder.decode(packet)]
                frames.set_times(packet)
                output.mux(packet)
        errors += [_squared_error(picture, originals.popleft()) for picture in decoder.decode(None)]
    if len(errors) != len(pictures):
        reason = f"{encoder.name} returned {len(errors)} of {len(pictures)} frames; try another codec"
        raise DamagedVideoError(frames.path, None, reason)
    return 10 * math.log10(255**2 / max(statistics.fmean(errors), 1e-3))


def _squared_error(picture: av.VideoFrame, original: npt.NDArray[np.uint8]) -> float:
    difference = np.subtract(_luma(picture), original, dtype=np.int16).ravel()
    return float(np.dot(difference.astype(np.float32), difference)) / difference.size


def _luma(frame: av.VideoFrame) -> npt.NDArray[np.uint8]:
    """A view of the Y plane: uint8 [height, width]."""
    plane = frame.planes[0]
    rows: npt.NDArray[np.uint8] = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)
    return rows[: frame.height, : frame.width]


def _verify(path: Path, frames: SourceFrames) -> None:
    """Reads the file as training will: the number of frames, their times, the first and the last picture."""
    with VideoReader(path) as reader:
        expected = frames.pts * float(frames.time_base)
        if reader.num_frames != len(frames):
            raise DamagedVideoError(
                frames.path,
                None,
                f"only {reader.num_frames} of its {len(frames)} frames were written; leave it out, or please report it",
            )
        worst = float(np.abs(reader.pts_seconds - expected).max())
        if worst > 1e-4:
            raise DamagedVideoError(
                frames.path,
                None,
                f"its times cannot be kept in MP4 (off by {worst:g} seconds); give all frames equal times with --fps",
            )
        try:
            reader.get_planes_at([0, len(frames) - 1])
        except VideoError as error:
            raise type(error)(frames.path, error.frame, error.reason, error.av_error) from None
