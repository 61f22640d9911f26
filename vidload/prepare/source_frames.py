"""The frames of a video as they will be encoded, and JPEG pictures of them.

In: a video file and `EncodeSettings`. Out: frames that are upright, of the new size, 8 bit 4:2:0, each at its own time, as often as they
are asked for. A file that is damaged, or that does not give every frame, is a VideoError.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import av
import av.filter
import numpy as np
import numpy.typing as npt
from av.video.frame import PictureType

from vidload import _core
from vidload.errors import DamagedVideoError, UnreadableVideoError, VideoNotFoundError
from vidload.prepare.settings import EncodeSettings
from vidload.reader import COLOR_MATRICES, VideoReader
from vidload.sources import is_url, open_binary, size_and_mtime

LIMITED_RANGE, FULL_RANGE = _core.COLOR_RANGE_LIMITED, _core.COLOR_RANGE_FULL
RGB, BT709, UNSTATED = _core.COLOR_SPACE_RGB, _core.COLOR_SPACE_BT709, _core.COLOR_SPACE_UNSTATED
BT601, BT2020 = _core.COLOR_SPACE_SMPTE170M, _core.COLOR_SPACE_BT2020_NCL
_SCALE_MATRICES = {number: name for number, name in COLOR_MATRICES.items() if name != "rgb"}
_SCALE_FLAGS = "flags=bicubic+accurate_rnd+full_chroma_int+bitexact"
_TURNS: dict[int, list[tuple[str, ...]]] = {  # degrees clockwise -> filters
    0: [],
    90: [("transpose", "clock")],
    180: [("hflip",), ("vflip",)],
    270: [("transpose", "cclock")],
}
_USUAL_COLORS = {
    BT709: (BT709, BT709),
    BT2020: (BT2020, _core.COLOR_TRANSFER_BT2020_10),
}  # matrix -> primaries and transfer that go with it

_CACHE_BYTES = 256 << 20  # scaled frames kept for the next pass over the same video; beyond it, they are decoded again
_SAMPLE_FRAMES = 64  # of a video, in whole GOPs, on which its quality is searched for


class SourceFrames:
    """The frames of a video as they will be encoded: upright, resized, 8 bit 4:2:0, of the source's range or of the
    full range. Iterate as often as needed.

    Attributes:
        width, height: of the frames.
        pts, durations: int64 [num_frames], in ticks of `time_base` seconds.
        matrix, primaries, transfer, color_range: H.273 numbers; what the source does not state is filled in.
        source_matrix, source_range, source_siting: of the source; siting is where chroma samples sit among luma samples.
        is_jpeg: whether the pictures are for a JPEG encoder: BT.601, chroma centered.
        rotation, is_flipped, is_rgb: of the source's pictures.
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
            self.rotation, self.is_flipped = reader.rotation, reader.is_flipped
            self._num_source_frames = reader.num_frames
            self.time_base = Fraction(*index.time_base)
            self.pts = np.array(index.frame_pts, np.int64)
            end = int(self.pts[0]) + round(reader.duration_seconds / float(self.time_base))
            self.durations = np.append(np.diff(self.pts), max(end - int(self.pts[-1]), 1))
            scale = min(1.0, settings.short_side / min(reader.width, reader.height))
            self.width, self.height = (max(round(side * scale / 2) * 2, 2) for side in (reader.width, reader.height))
        try:
            self.num_bytes, self.mtime_ns = size_and_mtime(path)
        except OSError:
            raise VideoNotFoundError(path, None, "the file is gone; put it back and run again") from None
        self._is_cut = max_frames is not None and max_frames < self._num_source_frames
        if max_frames is not None and self._is_cut:
            self.num_bytes = self.num_bytes * max_frames // self._num_source_frames
            self._num_source_frames = max_frames
            self.pts, self.durations = self.pts[:max_frames], self.durations[:max_frames]

        # Colors that the stream does not state are those that VideoReader assumes.
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
        """Gives a packet, whose times are frame numbers, the times of those frames."""
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
        """About 64 of the frames, in runs of `gop`, evenly spread; all of them if there are not many more."""
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
            with av.open(open_binary(self.path) if is_url(self.path) else self.path) as container:
                stream = container.streams.best("video")
                stream.codec_context.thread_count = 1  # one process a core: threads would only wait for each other
                for number, frame in enumerate(container.decode(stream)):
                    if frame.is_corrupt:
                        raise DamagedVideoError(self.path, number, "it is damaged; get the file again")
                    if number == self._num_source_frames:
                        break
                    yield resize(frame)
        except FileNotFoundError:
            raise VideoNotFoundError(self.path, None, "the file is gone; put it back and run again") from None
        except av.FFmpegError as error:
            raise DamagedVideoError(
                self.path, number + 1, f"cannot be decoded ({error.strerror}); get the file again", error.errno
            ) from None
        if number + 1 < self._num_source_frames or (number == self._num_source_frames and not self._is_cut):
            count = "fewer" if number + 1 < self._num_source_frames else "more"
            reason = (
                f"decoding gives {count} frames than the {self._num_source_frames} of its index; get the file again"
            )
            raise DamagedVideoError(self.path, None, reason)


class _Resizer:
    """Turns decoded frames upright, resizes them and makes them 8 bit 4:2:0; size, format and colors of the input may
    change from frame to frame."""

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
        turn = _TURNS[target.rotation] + ([("hflip",)] if target.is_flipped else [])
        source = (
            f"video_size={width}x{height}:pix_fmt={pixel_format}:time_base=1/1:"
            f"colorspace={colorspace}:range={color_range}"
        )
        to_siting = "center" if target.is_jpeg else "left"
        siting = f"in_chroma_loc={target.source_siting}:out_chroma_loc={to_siting}"
        from_range, to_range = (
            "full" if color_range == FULL_RANGE else "limited"
            for color_range in (target.source_range, target.color_range)
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
