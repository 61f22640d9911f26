"""Re-encodes one video for loading: short GOPs, the frames of the source at their own times, a chosen PSNR.

In: a video file and `EncodeSettings`. Out: an MP4 file under its final name, whole and verified, or an exception
and nothing; and what was measured on the way (`EncodedVideo`). The same source and settings give the same bytes
on every run: encoders run on one thread, and nothing in the file depends on the clock. Which files, in what
order and on which machines is vidload.prepare's business.
"""

from __future__ import annotations

import math
import os
import statistics
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any

import av
import av.filter
import numpy as np
import numpy.typing as npt
from av.video.frame import PictureType

from vidload.errors import DamagedVideoError, UnreadableVideoError, VideoError, VideoNotFoundError
from vidload.reader import VideoReader

# H.273 numbers, as FFmpeg's AVCOL_* constants have them.
LIMITED_RANGE, FULL_RANGE = 1, 2
RGB, BT709, UNSTATED, BT601, BT2020 = 0, 1, 2, 6, 9
_SCALE_MATRICES = {1: "bt709", 4: "fcc", 5: "bt601", 6: "bt601", 7: "smpte240m", 9: "bt2020", 10: "bt2020"}
_SCALE_FLAGS = "flags=bicubic+accurate_rnd+full_chroma_int+bitexact"
_TURNS: dict[int, list[tuple[str, ...]]] = {  # degrees clockwise -> filters
    0: [],
    90: [("transpose", "clock")],
    180: [("hflip",), ("vflip",)],
    270: [("transpose", "cclock")],
}
_USUAL_COLORS = {BT709: (BT709, BT709), BT2020: (BT2020, 14)}  # matrix -> primaries and transfer that go with it

PART_PREFIX, PART_SUFFIX = ".vidload-", ".part"  # of files that are not yet whole; any found later are litter

_CACHE_BYTES = 256 << 20  # scaled frames kept for the next pass over the same video; beyond it, they are decoded again
_SAMPLE_FRAMES = 64  # of a video, in whole GOPs, on which its quality is searched for
_SAMPLE_MARGIN = 0.1  # dB by which they should be better than all its frames must be
_PSNR_MARGIN = 0.3  # dB above the target at which a coarser quality is no longer looked for
_MAX_PASSES = 6
# Encoders see numbered frames, the container their times. So files of one size have the same headers, whatever their rate,
# and one open decoder does for all of them.
_NOMINAL_FPS = 25
_LAMBDA = 118  # FFmpeg's FF_QP2LAMBDA: one step of qscale
_JPEG_SAMPLES = 8  # frames of a video that are encoded as JPEG to estimate the size of all of them


@dataclass(frozen=True)
class Encoder:
    """An encoder of PyAV's wheel. Quality values rise from the finest to the coarsest picture."""

    name: str
    quality: str  # the option's name
    finest: float
    coarsest: float
    step: float
    first_guess: float
    psnr_per_step: float  # about how many dB one `step` costs
    decoder: str
    options: Callable[[EncodeSettings], dict[str, str]]


@dataclass(frozen=True)
class EncodeSettings:
    """How a video is encoded.

    Attributes:
        codec: a key of `ENCODERS`.
        gop: frames from one keyframe to the next; 1 = keyframes only (mjpeg has no other).
        b_frames: B frames, which nothing depends on, between one reference frame and the next (as many as fit);
            see Note [What makes H.264 cheap to decode]. For h264 and hevc.
        psnr: luma PSNR in dB that every video must reach: the coarsest quality that does is searched for.
        crf: a fixed quality instead of the search (the encoder's own scale).
        short_side: the shorter side in pixels; smaller videos keep their size.
        fps: a new frame rate; None keeps every frame and its time.
        preset: the encoder's effort.
        extra: further encoder options, for experiments.
    """

    codec: str = "h264"
    gop: int = 4
    b_frames: int = 2
    psnr: float = 40.1
    crf: float | None = None
    short_side: int = 256
    fps: Fraction | None = None
    preset: str = ""
    extra: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        if self.codec not in ENCODERS:
            raise ValueError(f"codec {self.codec!r} is not one of {', '.join(ENCODERS)}")
        if not 1 <= self.gop <= 1000:
            raise ValueError(f"gop is {self.gop}, must be in [1, 1000]")
        if self.codec == "mjpeg" and self.gop != 1:
            raise ValueError(f"gop is {self.gop}, must be 1 for mjpeg: it has keyframes only")
        if not 0 <= self.b_frames <= 16:
            raise ValueError(f"b_frames is {self.b_frames}, must be in [0, 16]")
        if not 20 <= self.psnr <= 60:
            raise ValueError(f"psnr is {self.psnr:g}, must be in [20, 60] dB")
        if self.short_side < 16:
            raise ValueError(f"short_side is {self.short_side}, must be at least 16 pixels")
        if self.fps is not None and not 0 < self.fps <= 1000:
            raise ValueError(f"fps is {self.fps}, must be above 0 and at most 1000")
        encoder = ENCODERS[self.codec]
        if self.crf is not None and not encoder.finest <= self.crf <= encoder.coarsest:
            raise ValueError(
                f"crf is {self.crf:g}, must be in [{encoder.finest:g}, {encoder.coarsest:g}] for {self.codec}"
            )


@dataclass(frozen=True)
class EncodedVideo:
    """What `encode_video` wrote.

    Attributes:
        num_frames, width, height: of the new video.
        quality: the value of the encoder's quality option.
        psnr: luma PSNR in dB against the source's frames at the new size.
        num_bytes, source_bytes, source_mtime_ns: sizes of the two files; when the source was last changed.
        jpeg_bytes: about what its frames would take as JPEG files of `-q:v 2`, from a few of them.
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


def _h264_options(settings: EncodeSettings) -> dict[str, str]:
    # See Note [What makes H.264 cheap to decode].
    num_b_frames = min(settings.b_frames, max(settings.gop - 2, 0), 16)
    params = (
        f"keyint={settings.gop}:min-keyint={settings.gop}:scenecut=0:bframes={num_b_frames}:b-adapt=0:b-pyramid=none:"
        "ref=1:cabac=0:no-deblock=1:weightp=0:weightb=0:aq-mode=0:psy=0:mbtree=0:rc-lookahead=0:sync-lookahead=0:"
        "force-cfr=1:stitchable=1:threads=1"
    )
    return {"preset": settings.preset or "medium", "x264-params": params}


def _hevc_options(settings: EncodeSettings) -> dict[str, str]:
    num_b_frames = min(settings.b_frames, max(settings.gop - 2, 0), 16)
    params = (
        f"keyint={settings.gop}:min-keyint={settings.gop}:scenecut=0:bframes={num_b_frames}:b-adapt=0:b-pyramid=0:"
        "open-gop=0:ref=1:no-deblock=1:no-sao=1:weightp=0:weightb=0:aq-mode=0:psy-rd=0:psy-rdoq=0:cutree=0:"
        f"rc-lookahead={num_b_frames + 1}:pools=none:frame-threads=1:info=0:log-level=none"
    )
    return {"preset": settings.preset or "medium", "x265-params": params}


def _vp9_options(settings: EncodeSettings) -> dict[str, str]:
    return {
        "g": str(settings.gop if settings.gop > 1 else 0),
        "keyint_min": str(settings.gop if settings.gop > 1 else 0),
        "b": "0",
        "deadline": "good",
        "cpu-used": settings.preset or "4",
        "lag-in-frames": "0",
        "row-mt": "0",
    }


def _av1_options(settings: EncodeSettings) -> dict[str, str]:
    os.environ.setdefault("SVT_LOG", "1")  # errors only; it prints its settings otherwise
    structure = "pred-struct=1:rc=0" if settings.gop > 1 else "rc=0"
    return {
        "preset": settings.preset or "8",
        "svtav1-params": f"keyint={settings.gop}:scd=0:{structure}:lp=1:fast-decode=1:enable-tf=0",
    }


def _mjpeg_options(settings: EncodeSettings) -> dict[str, str]:
    return {"strict": "unofficial"}  # allows limited range, which a comment in each picture then states


ENCODERS: dict[str, Encoder] = {
    "h264": Encoder("libx264", "crf", 1, 51, 0.5, 21, 0.45, "h264", _h264_options),
    "hevc": Encoder("libx265", "crf", 1, 51, 0.5, 21, 0.45, "hevc", _hevc_options),
    "vp9": Encoder("libvpx-vp9", "crf", 1, 63, 1, 30, 0.4, "vp9", _vp9_options),
    "av1": Encoder("libsvtav1", "crf", 1, 63, 1, 30, 0.4, "libdav1d", _av1_options),
    "mjpeg": Encoder("mjpeg", "qscale", 1, 31, 1, 4, 1.2, "mjpeg", _mjpeg_options),
}

# vidload prepare --dry-run measures them on a sample of your own videos.
PROFILES: dict[str, EncodeSettings] = {
    "smallest": EncodeSettings(gop=16, b_frames=3),
    "balanced": EncodeSettings(gop=4, b_frames=2),
    "fastest": EncodeSettings(codec="mjpeg", gop=1),
}


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
    only the beginning is encoded, and `source_bytes` is its share.

    Raises:
        VideoError: the source is missing, empty, damaged or not supported.
        OSError: `destination` cannot be written.
    """
    destination = Path(destination)
    part = destination.with_name(f"{PART_PREFIX}{os.getpid()}-{destination.name}{PART_SUFFIX}")
    frames = SourceFrames(os.fspath(source), settings, max_frames)
    jpeg_sizes: list[int] = []
    try:
        if settings.crf is None:
            quality, psnr = _encode_to_psnr(frames, settings, part, jpeg_sizes)
        else:
            quality, psnr = settings.crf, _encode(frames, frames, settings, settings.crf, part, jpeg_sizes)
        _verify(part, frames)
        os.utime(part, ns=(frames.mtime_ns, frames.mtime_ns))
        with open(part, "rb") as file:
            os.fsync(file.fileno())
        num_bytes = part.stat().st_size
        os.replace(part, destination)
        sync_folder(destination.parent)
    finally:
        part.unlink(missing_ok=True)
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

    PSNR falls nearly along a line as quality gets coarser: a few steps along it, kept between the coarsest value known
    to be fine enough and the finest known to be too coarse, find it.
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
    """Writes `pictures`, which are all of `frames` or some, to the MP4 file `path` at one quality. Returns the luma PSNR
    of what a decoder makes of them.

    The first pass leaves in `jpeg_sizes` the sizes of some of the frames as JPEG files.
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
        reason = f"{len(errors)} of {len(pictures)} frames came out of {encoder.name}; try another codec"
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
    """Reads the file as training will: the number of frames, their times, and the last picture."""
    with VideoReader(path) as reader:
        expected = frames.pts * float(frames.time_base)
        if reader.num_frames != len(frames):
            raise DamagedVideoError(frames.path, None, f"{reader.num_frames} of its {len(frames)} frames were written")
        worst = float(np.abs(reader.pts - expected).max())
        if worst > 1e-4:
            raise DamagedVideoError(frames.path, None, f"its times cannot be kept in MP4 (off by {worst:g} seconds)")
        try:
            reader.get_planes_at([0, len(frames) - 1])
        except VideoError as error:
            raise type(error)(frames.path, error.frame, error.reason, error.av_error) from None


def sync_folder(folder: Path) -> None:
    """Makes a rename last through a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class SourceFrames:
    """The frames of a video as they will be encoded: upright, resized, 8 bit 4:2:0, of the source's range or of the
    full range. Iterate as often as needed.

    Attributes:
        width, height: of the frames.
        pts, durations: int64 [num_frames], ticks of `time_base` seconds.
        matrix, primaries, transfer, color_range: as H.273 numbers them; what the source leaves open is filled in.
        source_matrix, source_range, source_siting: of the source; siting is where chroma samples sit among luma samples.
        is_jpeg: whether the pictures are for a JPEG encoder: BT.601, chroma centered.
        rotation, is_mirrored, is_rgb: of the source's pictures.
        num_bytes, mtime_ns: of the source file.

    Raises:
        VideoError: the source is missing, empty, damaged or not supported; also while iterating.
    """

    def __init__(
        self, path: str, settings: EncodeSettings, max_frames: int | None = None, *, full_range: bool = False
    ) -> None:
        self.path = path
        if os.path.isdir(path):
            raise UnreadableVideoError(path, None, "is a directory, not a video file")
        with VideoReader(path) as reader:  # says what is wrong with the file, if anything
            if not reader.is_trusted.all():  # once encoded, they would pass for good
                untrusted = np.flatnonzero(~reader.is_trusted)
                reason = (
                    f"{len(untrusted)} of its frames were predicted from pictures before the first keyframe, which are not in the file; "
                    "cut the file at a keyframe, or leave it out"
                )
                raise DamagedVideoError(path, int(untrusted[0]), reason)
            index = reader._index
            self.rotation, self.is_mirrored = reader.rotation, reader.is_mirrored
            self._num_source_frames = reader.num_frames
            self.time_base = Fraction(*index.time_base)
            self.pts = np.array(index.frame_pts, np.int64)
            end = int(self.pts[0]) + round(reader.duration / float(self.time_base))
            self.durations = np.append(np.diff(self.pts), max(end - int(self.pts[-1]), 1))
            scale = min(1.0, settings.short_side / min(reader.width, reader.height))
            self.width, self.height = (max(round(side * scale / 2) * 2, 2) for side in (reader.width, reader.height))
        try:
            status = os.stat(path)
        except OSError:
            raise VideoNotFoundError(path, None, "the file has vanished; put it back and run again") from None
        self.num_bytes, self.mtime_ns = status.st_size, status.st_mtime_ns
        self._is_cut = max_frames is not None and max_frames < self._num_source_frames
        if max_frames is not None and self._is_cut:
            self.num_bytes = self.num_bytes * max_frames // self._num_source_frames
            self._num_source_frames = max_frames
            self.pts, self.durations = self.pts[:max_frames], self.durations[:max_frames]

        # As VideoReader takes colors that the stream does not state.
        is_gray = index.pixel_format.startswith("gray")
        self.is_rgb = index.color_space == RGB or index.pixel_format.startswith(("gbr", "rgb", "bgr"))
        is_full = index.color_range == FULL_RANGE or index.pixel_format.startswith("yuvj")
        is_full |= is_gray and index.color_range != LIMITED_RANGE
        self.source_range = FULL_RANGE if is_full or self.is_rgb else LIMITED_RANGE
        self.color_range = FULL_RANGE if full_range or (is_full and not self.is_rgb) else LIMITED_RANGE
        self.source_matrix = BT601 if self.is_rgb or index.color_space == UNSTATED else index.color_space
        self.source_siting = "center" if index.codec in ("mjpeg", "mpeg1video") else "left"
        self.is_jpeg = settings.codec == "mjpeg"
        self.matrix = BT601 if self.is_jpeg else self.source_matrix  # JPEG knows no other
        primaries, transfer = _USUAL_COLORS.get(self.matrix, (BT601, BT601))
        self.primaries = primaries if index.color_primaries in (0, UNSTATED) else index.color_primaries
        self.transfer = transfer if index.color_transfer in (0, UNSTATED) else index.color_transfer

        self._repeats: npt.NDArray[np.int64] | None = None  # how often each source frame is shown, with a new rate
        if settings.fps is not None:
            self._resample(settings.fps)
        # The search for a quality makes several passes.
        num_bytes = self._num_source_frames * self.width * self.height * 3 // 2
        self._is_cached = settings.crf is None and num_bytes <= _CACHE_BYTES
        self._cache: list[av.VideoFrame] | None = None

    def __len__(self) -> int:
        return len(self.pts)

    def set_times(self, packet: av.Packet[Any]) -> None:
        """Gives a packet that has frame numbers for times those of the frames."""
        assert packet.pts is not None and packet.dts is not None  # encoders of video set both
        number, order = packet.pts, packet.dts
        packet.pts, packet.duration = int(self.pts[number]), int(self.durations[number])
        # Reordering starts before the first frame.
        packet.dts = int(self.pts[order]) if order >= 0 else int(self.pts[0] + order * self.durations[0])
        packet.time_base = self.time_base

    def _resample(self, fps: Fraction) -> None:
        """Frame k of the new rate is the one on screen at k / fps after the first."""
        ticks = self.pts - self.pts[0]
        end = int(ticks[-1] + self.durations[-1])
        num_frames = max(round(end * self.time_base * fps), 1)
        tick_of = [math.floor(Fraction(k) / fps / self.time_base) for k in range(num_frames)]
        shown = np.searchsorted(ticks, np.array(tick_of, np.int64), side="right") - 1
        self._repeats = np.bincount(shown, minlength=len(ticks))
        self.time_base = 1 / fps
        self.pts = np.arange(num_frames, dtype=np.int64)
        self.durations = np.ones(num_frames, np.int64)

    def __iter__(self) -> Iterator[av.VideoFrame]:
        """One pass over the frames, in order."""
        return (picture for _, picture in self._numbered())

    def sample(self, gop: int) -> list[av.VideoFrame]:
        """About 64 of the frames, in runs of `gop`, evenly spread; all of them if they are not many more."""
        num_runs = max(_SAMPLE_FRAMES // gop, 1)
        run_length = min(gop, _SAMPLE_FRAMES)
        if len(self) < 2 * num_runs * run_length:
            chosen = set(range(len(self)))
        else:
            starts = [i * (len(self) // gop) // num_runs * gop for i in range(num_runs)]
            chosen = {start + i for start in starts for i in range(run_length)}
        return [picture for number, picture in self._numbered() if number in chosen]

    def _numbered(self) -> Iterator[tuple[int, av.VideoFrame]]:
        keep: list[av.VideoFrame] | None = [] if self._is_cached and self._cache is None else None
        number = 0
        for source_number, picture in enumerate(self._cache or self._decode()):
            if keep is not None:
                keep.append(picture)
            for _ in range(1 if self._repeats is None else int(self._repeats[source_number])):
                yield number, picture
                number += 1
        self._cache = keep or self._cache

    def _decode(self) -> Iterator[av.VideoFrame]:
        """Decodes the file once: every source frame, upright and resized."""
        resize = _Resizer(self)
        number = -1
        try:
            with av.open(self.path) as container:
                stream = container.streams.best("video")
                stream.codec_context.thread_count = 1  # one process a core: threads would only wait for each other
                for number, frame in enumerate(container.decode(stream)):
                    if frame.is_corrupt:
                        raise DamagedVideoError(self.path, number, "it is damaged; get the file anew")
                    if number == self._num_source_frames:
                        break
                    yield resize(frame)
        except FileNotFoundError:
            raise VideoNotFoundError(self.path, None, "the file has vanished; put it back and run again") from None
        except av.FFmpegError as error:
            raise DamagedVideoError(
                self.path, number + 1, f"cannot be decoded ({error.strerror}); get the file anew", error.errno
            ) from None
        if number + 1 < self._num_source_frames or (number == self._num_source_frames and not self._is_cut):
            count = "fewer" if number + 1 < self._num_source_frames else "more"
            reason = f"{count} frames come out than the {self._num_source_frames} of its index; get the file anew"
            raise DamagedVideoError(self.path, None, reason)


class _Resizer:
    """Turns decoded frames upright, resizes them and makes them 8 bit 4:2:0; the size, format and colors of the
    input may change on the way."""

    def __init__(self, target: SourceFrames) -> None:
        self._target = target
        self._graph: av.filter.Graph | None = None
        self._input: tuple[Any, ...] = ()

    def __call__(self, frame: av.VideoFrame) -> av.VideoFrame:
        kind = (frame.width, frame.height, frame.format.name, int(frame.colorspace), int(frame.color_range))
        if self._graph is None or kind != self._input:
            self._graph, self._input = self._build(*kind), kind
        frame.pts = None  # not looked at; the frame's number decides when it is shown
        self._graph.push(frame)
        resized: av.VideoFrame = self._graph.vpull()
        return resized

    def _build(self, width: int, height: int, pixel_format: str, colorspace: int, color_range: int) -> av.filter.Graph:
        target = self._target
        size = (target.width, target.height)
        if target.rotation in (90, 270):
            size = size[::-1]
        turn = _TURNS[target.rotation] + ([("hflip",)] if target.is_mirrored else [])
        source = (
            f"video_size={width}x{height}:pix_fmt={pixel_format}:time_base=1/1:"
            f"colorspace={colorspace}:range={color_range}"
        )
        to_siting = "center" if target.is_jpeg else "left"
        siting = f"in_chroma_loc={target.source_siting}:out_chroma_loc={to_siting}"
        from_range, to_range = (
            "full" if color_range == FULL_RANGE else "limited" for color_range in (target.source_range, target.color_range)
        )
        resize = f"{size[0]}:{size[1]}:{_SCALE_FLAGS}:{siting}:in_range={from_range}:out_range={to_range}"
        if target.is_rgb:
            resize += ":out_color_matrix=bt601"
        elif target.matrix != target.source_matrix:
            resize += f":in_color_matrix={_SCALE_MATRICES[target.source_matrix]}:out_color_matrix=bt601"
        steps: list[tuple[str, ...]] = [("buffer", source), ("scale", resize)]
        if turn:  # through 4:4:4, or chroma would end up half a pixel off: it sits left of its luma, and turns with it
            steps += [("format", "yuv444p"), *turn, ("scale", f"{_SCALE_FLAGS}:out_chroma_loc={to_siting}")]
        graph = av.filter.Graph()
        graph.link_nodes(*(graph.add(*step) for step in (*steps, ("format", "yuv420p"), ("buffersink",))))
        graph.configure()
        return graph


class JpegEncoder:
    """Encodes frames of one size as JPEG, as `ffmpeg -q:v 2` does."""

    def __init__(self, width: int, height: int) -> None:
        self._context = av.CodecContext.create("mjpeg", "w")
        self._context.width, self._context.height, self._context.pix_fmt = width, height, "yuvj420p"
        self._context.time_base = Fraction(1, 25)
        self._context.qmin = self._context.qmax = 2
        self._context.thread_count = 1
        self._num_frames = 0

    def __call__(self, frame: av.VideoFrame) -> bytes:
        picture = frame.reformat(format="yuvj420p", dst_color_range=FULL_RANGE, interpolation="BICUBIC")
        picture.pts, picture.time_base = self._num_frames, Fraction(1, 25)
        picture.pict_type = PictureType.NONE
        self._num_frames += 1
        return b"".join(bytes(packet) for packet in self._context.encode(picture))


# Note [What makes H.264 cheap to decode]
#
# A frame costs its packet and every packet that it depends on, back to the keyframe; a packet costs a share for each
# macroblock (modes, prediction, transform) and a share for each bit. So, at one PSNR:
# - Short GOPs. With g frames a chain of P frames costs (g + 1) / 2 packets for a frame. With B frames between two
#   references, which nothing depends on and the loader leaves out, it costs about 2.5 whatever g is, as in a "star"
#   (I b b P); with b_frames=3 and g=16, (I bbb P bbb P ...), 4, at half the bytes of the star with g=4.
# - CAVLC rather than CABAC: 12 % more bits, a third less time. No loop filter: 4 % more bits, a quarter less time.
# - One reference, no weights: they save next to nothing in so short a GOP.
# - No adaptive quantization, psychovisual tuning or macroblock tree: they look better than they measure, and bits cost time.
#   With them off, nothing depends on a lookahead.
#
# docs/encoding.md has the measurements, bench/encoding_study.py makes them.
