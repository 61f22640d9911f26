"""VideoReader: one video file; its facts, and its frames by index or by time.

Frame ``i`` is the i-th frame in presentation order, exactly as decoding the whole file returns it. Only the packets that a frame needs
are read and decoded. For training batches use vidload.VideoLoader.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from types import TracebackType
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from vidload import _core
from vidload.annotations import from_items
from vidload.errors import FrameIndexError
from vidload.renamed import Renamed
from vidload.system import cuda
from vidload.system.cuda import cuda_device

COLOR_MATRICES = {
    _core.COLOR_SPACE_RGB: "rgb",
    _core.COLOR_SPACE_BT709: "bt709",
    _core.COLOR_SPACE_FCC: "fcc",
    _core.COLOR_SPACE_BT470BG: "bt601",
    _core.COLOR_SPACE_SMPTE170M: "bt601",
    _core.COLOR_SPACE_SMPTE240M: "smpte240m",
    _core.COLOR_SPACE_BT2020_NCL: "bt2020",
    _core.COLOR_SPACE_BT2020_CL: "bt2020",
}
_COLOR_RANGES = {_core.COLOR_RANGE_LIMITED: "limited", _core.COLOR_RANGE_FULL: "full"}


class StreamSummary(NamedTuple):
    """One stream of a container, as the container describes it. Width and height are in pixels as coded, 0 if it is not a video."""

    number: int
    kind: str
    """ "video", "audio", "subtitle", "data" or "attachment"."""
    codec: str
    width: int
    height: int
    is_default: bool
    """Whether VideoReader reads it if no stream is named."""


def streams(path: str | os.PathLike[str]) -> list[StreamSummary]:
    """All streams of a file.

    Raises:
        VideoError: the file is missing, is not a video, or has no video stream.
        OSError: the file cannot be read.
    """
    return [
        StreamSummary(stream.number, stream.kind, stream.codec, stream.width, stream.height, stream.is_chosen)
        for stream in _core.streams(os.fspath(path))
    ]


@dataclass(frozen=True)
class ReadPlan:
    """What reading some frames takes.

    Attributes:
        spans: ``(first packet, last packet + 1)`` of each run of packets decoded from a keyframe on, in decode order.
        num_packets_decoded: packets that are read and decoded.
        num_packets_dropped: packets within the spans that are left out, because no wanted frame depends on them.
        num_packets_skipped: packets of the file outside all spans.
        bytes_read: total size of the decoded packets.
    """

    spans: tuple[tuple[int, int], ...]
    num_packets_decoded: int
    num_packets_dropped: int
    num_packets_skipped: int
    bytes_read: int


class VideoReader:
    """Reads frames of one video.

    Args:
        source: a path; a URL that fsspec knows ("s3://bucket/name.mp4"); (path or URL, offset, size) for a video that is a part of a file,
            in bytes; the bytes of a video file (``bytes``, ``bytearray``, ``memoryview``, a uint8 array), which are kept, not copied; or a
            file object, open for binary reading and seekable, which nothing else may use until the reader is closed.
        stream: which video stream of the file, by its number within the container (`streams` lists them); None = FFmpeg's choice.
        square_pixels: whether frames with non-square pixels (`sample_aspect_ratio`) are stretched horizontally to their display shape.
        allow_damaged: whether frames that depend on damage, or on pictures before the first keyframe, are returned as the decoder conceals
            them, instead of raising DamagedVideoError; `is_trusted` says which frames lack their reference pictures.
        device: where frames go: "cpu" (or None), or a GPU such as "cuda" or "cuda:1". On a GPU, get_frames_at returns torch tensors.
        decoder: for a GPU: "nvdec", "cpu", or "auto" (NVDEC for pictures of 1280x720 pixels or more). What NVDEC cannot decode falls back
            to the CPU.
        strict: whether what NVDEC cannot decode raises UnsupportedVideoError instead of falling back.

    Raises:
        VideoError: (a subclass that says why) the file is missing, is not a video, or its codec is not supported.
        OSError, MemoryError: the file cannot be read, or memory is short; the video may be fine.
        ValueError, TypeError: an argument makes no sense.
        RuntimeError: `device` is a GPU that cannot be used.

    Safe to share between threads; their calls run one at a time.
    """

    def __init__(
        self,
        source: str
        | os.PathLike[str]
        | tuple[str | os.PathLike[str], int, int]
        | bytes
        | bytearray
        | memoryview
        | npt.NDArray[np.uint8]
        | BinaryIO,
        *,
        stream: int | None = None,
        square_pixels: bool = False,
        allow_damaged: bool = False,
        device: str | int | torch.device | None = None,
        decoder: str = "auto",
        strict: bool = False,
    ) -> None:
        gpu = cuda_device(device)
        self.device = torch.device("cpu") if gpu is None else gpu
        self.decoder = decoder
        self.strict = strict
        if decoder not in ("auto", "cpu", "nvdec"):
            raise ValueError(f"decoder {decoder!r} is not one of auto, cpu, nvdec")
        if decoder == "nvdec" and gpu is None:
            raise ValueError("decoder 'nvdec' leaves its frames on the GPU, which needs device='cuda'")
        if stream is not None and stream < 0:
            raise ValueError(f"stream {stream} is not the number of a stream; streams count from 0")
        self.square_pixels = square_pixels
        number = -1 if stream is None else stream
        self._reader: _core.VideoReader | None
        if isinstance(source, (str, os.PathLike)):
            self.name = os.fspath(source)
            self._reader = _core.VideoReader(self.name, number, allow_damaged)
        elif isinstance(source, tuple):
            rows = from_items([(source, -1)])
            self.name = rows.path(0)
            self._reader = _core.VideoReader(rows.source(0), number, allow_damaged)
        elif hasattr(source, "read"):
            if not (hasattr(source, "seek") and hasattr(source, "tell")):
                raise TypeError(f"{source!r} cannot seek; read it into memory and pass its bytes")
            name = getattr(source, "name", None)
            self.name = name if isinstance(name, str) else "<file>"
            self._reader = _core.VideoReader.of_file(source, self.name, number, allow_damaged)
        elif isinstance(source, bytes) and len(source) < 4096 and b"\0" not in source and os.path.exists(source):
            raise ValueError(
                f"VideoReader: bytes are the video itself, but {source!r} is the name of a file; pass os.fsdecode(name)"
            )
        else:
            self.name = "<bytes>"
            self._reader = _core.VideoReader.of_bytes(source, number, allow_damaged)
        self._last_index: _core.PacketIndex = self._reader.index

    def __repr__(self) -> str:
        return (
            f"VideoReader({self.name!r}: {self.num_frames} frames, {self.width}x{self.height}, {self.codec}, "
            f"{self.average_fps:.3f} fps)"
        )

    def __enter__(self) -> VideoReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the file and the decoder. Properties can still be read, frames cannot."""
        self._reader = None

    def _open(self) -> _core.VideoReader:
        if self._reader is None:
            raise ValueError(f"{self.name}: this VideoReader is closed; open the video again to read frames")
        return self._reader

    @property
    def _index(self) -> _core.PacketIndex:
        if self._reader is not None:  # decoding may have shown that the headers were wrong about the frames
            self._last_index = self._reader.index
        return self._last_index

    # --- facts

    @property
    def num_frames(self) -> int:
        """How many frames decoding the whole stream returns."""
        return self._index.num_frames

    def __len__(self) -> int:
        return self.num_frames

    @property
    def width(self) -> int:
        """Of a frame as returned (after rotation, and stretching with `square_pixels`), in pixels."""
        if not self.square_pixels:
            return self._index.width
        return max(1, round(self._index.width * self.sample_aspect_ratio))

    @property
    def height(self) -> int:
        """Of a frame as returned (after rotation), in pixels."""
        return self._index.height

    @property
    def sample_aspect_ratio(self) -> Fraction:
        """Width divided by height of one pixel as displayed (after rotation); 1 if the file does not state it. Frames are returned as coded,
        with pixels of that shape, unless `square_pixels` is set."""
        return Fraction(*self._index.sample_aspect_ratio)

    @property
    def stream(self) -> int:
        """The number of the video stream within the container."""
        return self._index.stream_number

    @property
    def rotation(self) -> int:
        """Degrees clockwise (0, 90, 180, 270) by which decoded pictures are turned to be upright. Returned frames are already upright."""
        return self._index.rotation

    @property
    def is_flipped(self) -> bool:
        """Whether pictures are also flipped left to right after that. Returned frames are already flipped."""
        return self._index.is_mirrored

    @property
    def codec(self) -> str:
        """FFmpeg's name, such as "h264"."""
        return self._index.codec

    @property
    def container(self) -> str:
        """FFmpeg's name, such as "mov,mp4,m4a,3gp,3g2,mj2"."""
        return self._index.container

    @property
    def pixel_format(self) -> str:
        """FFmpeg's name, such as "yuv420p"."""
        return self._index.pixel_format

    @property
    def color_matrix(self) -> str | None:
        """ "bt601", "bt709", "bt2020", …; None where the stream states none (read as bt601)."""
        return COLOR_MATRICES.get(self._index.color_space)

    @property
    def color_range(self) -> str | None:
        """ "limited" or "full"; None where the stream states none (read as limited)."""
        return _COLOR_RANGES.get(self._index.color_range)

    @property
    def average_fps(self) -> float:
        """Frames per second over the whole video."""
        return self._index.average_fps

    @property
    def duration_seconds(self) -> float:
        """From the start of the first frame to the end of the last one."""
        return self._index.duration_seconds

    @property
    def note(self) -> str:
        """What is odd about the file, for people to read; empty if nothing is."""
        return self._index.note

    @property
    def pts_seconds(self) -> npt.NDArray[np.float64]:
        """When each frame is shown, in seconds, in presentation order: float64 [num_frames]."""
        num, den = self._index.time_base
        return np.multiply(self._index.frame_pts, num / den, dtype=np.float64)

    @property
    def keyframe_indices(self) -> npt.NDArray[np.int64]:
        """Which frames can be decoded alone, in increasing order: int64 [num_keyframes]."""
        is_keyframe = (self._index.packet_flags & _core.PACKET_KEYFRAME)[self._index.frame_packet] != 0
        return np.flatnonzero(is_keyframe)

    @property
    def is_trusted(self) -> npt.NDArray[np.bool_]:
        """Which frames have all their reference pictures in the file: bool [num_frames]. Those before the first keyframe of a cut
        recording do not, and raise DamagedVideoError unless `allow_damaged` is set. Damage within the file shows only when it is decoded."""
        untrusted = self._index.packet_flags & _core.PACKET_UNTRUSTED
        is_trusted: npt.NDArray[np.bool_] = untrusted[self._index.frame_packet] == 0
        return is_trusted

    # --- frames

    def _indices(self, indices: Any) -> npt.NDArray[np.int64]:
        array = np.atleast_1d(np.asarray(indices))
        if array.size == 0:
            return np.zeros(0, np.int64)
        if array.dtype.kind not in "iu" or array.ndim != 1:
            raise TypeError(
                f"{self.name}: frame indices must be a sequence of integers, got {array.dtype} of shape {array.shape}"
            )
        array = array.astype(np.int64)
        return np.where(array < 0, array + self.num_frames, array) if (array < 0).any() else array

    def get_frames_at(self, indices: Sequence[int] | npt.NDArray[np.integer[Any]]) -> Any:
        """Frames by index (any order, repeats allowed, negative ones count from the end): uint8 RGB [len(indices), height, width, 3].

        Returns a NumPy array; with a GPU as `device`, a torch.Tensor there, in order with the caller's current stream. Other libraries can
        use the tensor without a copy through its `__dlpack__` or `__cuda_array_interface__`.

        Raises:
            FrameIndexError: the video does not have a frame of that index.
            DamagedVideoError: a frame, or one it depends on, is damaged (unless `allow_damaged` is set).
            OSError: the file cannot be read.
            ValueError: the reader is closed; TypeError: the indices are not integers.
        """
        reader = self._open()
        if self.device.type == "cpu":
            return reader.read_rgb(self._indices(indices), self.height, self.width)
        frames = self._indices(indices)
        shape = (len(frames), self.height, self.width, 3)
        address, memory = cuda.allocate(math.prod(shape), self.device)
        out = cuda.tensor_of(address, math.prod(shape), memory, self.device).view(shape)
        ordinal, stream = int(self.device.index), cuda.current_stream(self.device)
        if len(frames) > 0:
            reader.read_rgb_to_device(
                frames, self.height, self.width, ordinal, self.decoder, self.strict, out.data_ptr(), stream
            )
        return out

    def __getitem__(self, index: int | slice) -> Any:
        """``reader[i]``: uint8 RGB [height, width, 3]; ``reader[a:b:c]``: [T, height, width, 3]."""
        if isinstance(index, slice):
            return self.get_frames_at(np.arange(*index.indices(self.num_frames)))
        return self.get_frames_at([index])[0]

    def __iter__(self) -> Iterator[Any]:
        """Frames in order, decoded in runs of 32."""
        for start in range(0, self.num_frames, 32):
            yield from self[start : start + 32]

    def frame_indices_played_at(
        self, seconds: Sequence[float] | npt.NDArray[np.floating[Any]]
    ) -> npt.NDArray[np.int64]:
        """The index of the frame on screen at each time, int64 [len(seconds)]: the last one whose pts is not later. `seconds` are on the
        scale of `pts_seconds`, whose first value need not be 0.

        Raises:
            FrameIndexError: a time before the first frame, or after the last one has ended.
        """
        times = np.atleast_1d(np.asarray(seconds, np.float64))
        pts = self.pts_seconds
        end = pts[0] + self.duration_seconds
        # Half a microsecond: times that went through a float once must still find their frame.
        found = np.searchsorted(pts, times + 5e-7, side="right") - 1
        outside = (found < 0) | (times >= end + 5e-7) | ~np.isfinite(times)
        if outside.any():
            value = float(times[outside][0])
            raise FrameIndexError(
                self.name, None, f"no frame is shown at {value:g} seconds; the video plays over [{pts[0]:g}, {end:g})"
            )
        return found.astype(np.int64)

    def get_frames_played_at(self, seconds: Sequence[float] | npt.NDArray[np.floating[Any]]) -> Any:
        """Frames by time: uint8 RGB [len(seconds), height, width, 3]; see `frame_indices_played_at` and `get_frames_at`."""
        return self.get_frames_at(self.frame_indices_played_at(seconds))

    def get_planes_at(
        self, indices: Sequence[int] | npt.NDArray[np.integer[Any]]
    ) -> list[tuple[npt.NDArray[Any], ...]]:
        """The decoder's planes, not turned upright: for each index a tuple of [rows, samples] arrays, uint8, or uint16 above 8 bits.

        Raises what `get_frames_at` raises.
        """
        return self._open().read_planes(self._indices(indices))

    def plan(self, indices: Sequence[int] | npt.NDArray[np.integer[Any]]) -> ReadPlan:
        """What `get_frames_at(indices)` would read and decode. Raises FrameIndexError."""
        plan = self._open().plan(self._indices(indices))
        return ReadPlan(tuple(plan.spans), plan.num_decoded, plan.num_dropped, plan.num_skipped, plan.bytes_read)

    # --- names of earlier versions

    pts = Renamed("pts_seconds")
    duration = Renamed("duration_seconds")
    keyframes = Renamed("keyframe_indices")
    is_mirrored = Renamed("is_flipped")
    frames_played_at = Renamed("frame_indices_played_at")
