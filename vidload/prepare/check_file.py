"""Checks one video file: what it is, and what is wrong with it.

In: a path. Out: `CheckedFile`: facts, problems with the frames they concern, what clips of it cost, and how long decoding took. Pixels are
decoded as training decodes them and thrown away. vidload.prepare.checking finds what is wrong with the dataset as a whole.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import os
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from vidload import _core
from vidload.annotations import VIDEO_EXTENSIONS
from vidload.batch import views_of
from vidload.errors import IndexMismatchError, UnreadableVideoError, VideoError
from vidload.prepare.costs import CLIP_SPECS, clip_plan
from vidload.prepare.declared_size import declared_size
from vidload.reader import VideoReader
from vidload.sources import open_binary, size_and_mtime


@dataclass(frozen=True)
class Kind:
    """A kind of problem: its heading, what it means, and whether a file that has it is bad, that is, can fail in training or train on wrong
    data."""

    title: str
    is_bad: bool
    meaning: str


KINDS = {
    "missing": Kind("missing", True, "There is no such file."),
    "unreadable": Kind("unreadable", True, "Not a video, cut off before its tables, in a codec without a decoder, or on a failing disk."),
    "cut_short": Kind("cut short", True, "The file is shorter than it says, ends inside a packet, or its container is damaged beyond some point."),
    "damaged": Kind("damaged", True, "These frames cannot be decoded, or depend on damage."),
    "no_keyframe_at_start": Kind(
        "no keyframe at the start", True, "These frames were predicted from pictures that are not in the file."
    ),
    "empty_segment": Kind("empty segment", True, "No frame is shown between the start and the end of a row."),
    "listed_twice": Kind("listed more than once", False, "Several rows name one file."),
    "duplicate": Kind("duplicate", False, "The same bytes as another file; a leak if one is for training and the other for validation."),
    "same_packets": Kind("same packets", False, "The same video as another file, in another container or with other metadata."),
    "irregular": Kind("irregular", False, "Headers and times do not tell reliably which frames there are: indexing has to decode the whole file."),
    "size_changes": Kind("size changes", False, "The picture size changes within the video."),
    "variable_rate": Kind("variable frame rate", False, "Frames are shown for unequal times, while most samplers count frames."),
    "odd_rate": Kind("odd frame rate", False, "Less than half or more than twice the dataset's median, or outside 5 to 120 fps."),
    "rotated": Kind("rotated", False, "Turned or flipped by the container; vidload undoes it, other readers may not."),
    "wrong_extension": Kind("wrong extension", False, "The file's container is not the one that its name says."),
}  # fmt: skip

_EXTENSIONS = {  # FFmpeg's name of a container -> what its files may be called
    "mov,mp4,m4a,3gp,3g2,mj2": (".mp4", ".mov", ".m4v", ".3gp"),
    "matroska,webm": (".mkv", ".webm"),
    "avi": (".avi",),
    "mpegts": (".ts", ".mts", ".m2ts"),
    "flv": (".flv",),
    "mpeg": (".mpg", ".mpeg"),
    "mpegvideo": (".mpg", ".mpeg"),
    "asf": (".wmv",),
    "ogg": (".ogv",),
}
_FRAMES_PER_RUN = 32  # at least, so that videos of keyframes alone are not decoded frame by frame
_NUM_CLIPS = 8  # random clips of each spec that packet counts are averaged over
_NUM_TIMED_FRAMES = 16
_NUM_SIZES = 8  # keyframes whose size is compared
_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True)
class Problem:
    """Something wrong or odd.

    Attributes:
        kind: a key of `KINDS`.
        detail: what it is, in words.
        frames: half-open ranges of the frame indices it concerns; none if it concerns the file as a whole.
        seconds: when the first and the last frame of each range are shown, on the scale of VideoReader.pts_seconds.
    """

    kind: str
    detail: str
    frames: tuple[tuple[int, int], ...] = ()
    seconds: tuple[tuple[float, float], ...] = ()


@dataclass(frozen=True)
class CheckedFile:
    """What `check_file` found.

    Attributes:
        source_bytes, source_mtime_ns: size of the file, and when it was last changed.
        container, codec, pixel_format, width, height, rotation, is_flipped, num_frames, average_fps, duration_seconds: as of VideoReader.
        num_keyframes, median_gop, longest_gop: keyframes, and frames from one to the next.
        digest: of the file's bytes; with `is_fast`, of its size, its first and its last MiB.
        packet_digest: of the bytes of its packets; empty with `is_fast`, or where the container does not tell where they are.
        packets_per_clip: packets that a random clip of each of CLIP_SPECS decodes, means.
        num_packets_timed, decode_seconds: packets whose decoding was timed, and the processor time it took.
        transform_seconds: processor time that cropping and resizing a frame to 224x224 takes.
        problems: those of the file alone.
    """

    source_bytes: int
    source_mtime_ns: int
    container: str
    codec: str
    pixel_format: str
    width: int
    height: int
    rotation: int
    is_flipped: bool
    num_frames: int
    average_fps: float
    duration_seconds: float
    num_keyframes: int
    median_gop: float
    longest_gop: int
    digest: str
    packet_digest: str
    packets_per_clip: tuple[float, ...]
    num_packets_timed: int
    decode_seconds: float
    transform_seconds: float
    problems: tuple[Problem, ...]


@dataclass(frozen=True)
class CheckSettings:
    """is_fast: decode keyframes alone, and do not read the whole file."""

    is_fast: bool = False


def check_file(source: str, destination: str, settings: CheckSettings) -> CheckedFile:
    """Decodes a video and returns what it found; nothing is written to `destination`.

    Raises:
        VideoError: the file is missing, or nothing of it can be read.
    """
    try:
        try:
            return _checked(source, settings)
        except IndexMismatchError:  # it has been listed by a decode since
            return _checked(source, settings)
    except VideoError:
        raise
    except OSError as error:  # about the file: nothing is written here
        raise UnreadableVideoError(source, None, f"cannot be read ({error.strerror or error})") from None


def _checked(path: str, settings: CheckSettings) -> CheckedFile:
    decoding = _Decoding(path)
    with VideoReader(path) as reader:
        reader._open().read_whole_index()
        was_regular = reader._index.is_regular
        damaged, reason = _damaged_frames(reader, decoding, settings)
    num_packets, seconds = decoding.num_packets, decoding.seconds
    with VideoReader(path) as reader:  # again: decoding may have shown that the headers were wrong about the frames
        reader._open().read_whole_index()
        num_bytes, mtime_ns = size_and_mtime(path)
        untrusted = np.flatnonzero(~reader.is_trusted)
        timed = _timed_frames(decoding, damaged, reader)
        if settings.is_fast or num_packets == 0:
            num_packets, seconds = timed[:2]
        keyframes = reader.keyframe_indices
        gops = np.diff([*keyframes.tolist(), reader.num_frames]) if len(keyframes) else np.array([reader.num_frames])
        digest, packet_digest = _quick_digest(path) if settings.is_fast else _digests(path, reader)
        # Damage makes a file be listed by a decode too; that is not what is wrong with it.
        is_regular = was_regular and (reader._index.is_regular or len(damaged) > 0)
        problems = [*_problems(reader, path, is_regular)]
        if len(damaged):
            problems.append(Problem("damaged", reason, *_ranges(damaged, reader)))
        if len(untrusted):
            detail = f"{len(untrusted)} frames before the first keyframe"
            problems.append(Problem("no_keyframe_at_start", detail, *_ranges(untrusted, reader)))
        return CheckedFile(
            source_bytes=num_bytes,
            source_mtime_ns=mtime_ns,
            container=reader.container,
            codec=reader.codec,
            pixel_format=reader.pixel_format,
            width=reader.width,
            height=reader.height,
            rotation=reader.rotation,
            is_flipped=reader.is_flipped,
            num_frames=reader.num_frames,
            average_fps=reader.average_fps,
            duration_seconds=reader.duration_seconds,
            num_keyframes=len(keyframes),
            median_gop=statistics.median(gops.tolist()),
            longest_gop=int(gops.max()),
            digest=digest,
            packet_digest=packet_digest,
            packets_per_clip=tuple(
                statistics.fmean(clip_plan(reader, clip, i).num_packets_decoded for i in range(_NUM_CLIPS))
                for clip in CLIP_SPECS
            ),
            num_packets_timed=num_packets,
            decode_seconds=seconds,
            transform_seconds=timed[2],
            problems=tuple(problems),
        )


class _Decoding:
    """Decodes frames of a file and throws them away.

    num_packets, seconds: decoded so far, and the processor time it took.
    """

    def __init__(self, path: str) -> None:
        self.num_packets = 0
        self.seconds = 0.0
        self._path = path
        self._pool = _pool()

    def run(self, frames: NDArray[np.int64], size: int = 2) -> VideoError | None:
        """Decodes frames; each gives a picture of `size` x `size`, made of as much of it, or of the middle half for size 224.

        Returns what is wrong with the first frame that cannot be decoded.
        """
        dtype = torch.uint8 if size == 2 else torch.float32
        out = torch.empty(len(frames), 3, size, size, dtype=dtype)
        batch = _core.Batch(self._pool, [self._path], needs_whole_indexes=True)
        batch.wait()
        self._raise_first(batch)
        (info,) = batch.infos()
        assert info is not None
        box = (
            (0, 0, 2, 2, 0)
            if size == 2
            else (*(share * side for share in (0.13, 0.73) for side in (info.height, info.width)), 0)
        )
        views = views_of(np.arange(len(frames)), np.tile(np.array(box, np.float64), (len(frames), 1)))
        mean = None if size == 2 else (123.675, 116.28, 103.53)
        spec = _core.TransformSpec(size, size, str(dtype).removeprefix("torch."), True, mean, mean)
        frame, channel, row, column = out.stride()
        strides = _core.Strides(sample=0, view=frame, frame=frame, channel=channel, row=row, column=column)
        packets, start = self._pool.stats()["num_packets_decoded"], time.process_time()
        batch.decode(spec, 1, [frames], [views], out.data_ptr(), strides, out)
        batch.wait()
        self.seconds += time.process_time() - start
        self.num_packets += self._pool.stats()["num_packets_decoded"] - packets
        (error,) = batch.errors()
        if error is None or (isinstance(error, VideoError) and error.kind == "damaged" and error.frame is not None):
            return error
        raise error

    def _raise_first(self, batch: _core.Batch) -> None:
        for error in batch.errors():
            if error is not None:
                raise error


@functools.cache
def _pool() -> _core.LoaderPool:
    return _core.LoaderPool(1)


def _damaged_frames(reader: VideoReader, decoding: _Decoding, settings: CheckSettings) -> tuple[NDArray[np.int64], str]:
    """Which frames cannot be decoded, among those that have what they were predicted from in the file; and why the first cannot."""
    keyframes = reader.keyframe_indices
    packet_of = np.asarray(reader._index.frame_packet, np.int64)
    wanted = keyframes if settings.is_fast else np.arange(reader.num_frames, dtype=np.int64)
    wanted = wanted[reader.is_trusted[wanted]]
    gop_of = np.searchsorted(keyframes, wanted, side="right")
    gops = np.split(wanted, np.flatnonzero(np.diff(gop_of)) + 1) if len(wanted) else []
    damaged: list[int] = []
    reason = ""
    for run in _joined(gops):
        if decoding.run(np.concatenate(run)) is None:
            continue
        for gop in run:
            left = gop
            while len(left) and (error := decoding.run(left)) is not None:
                assert error.frame is not None
                reason = reason or error.reason
                damaged.append(error.frame)
                behind = left[packet_of[left] > packet_of[error.frame]]
                # A decoder that met damage takes all behind it, up to the next keyframe, for damaged.
                if error.frame == left[np.argmin(packet_of[left])] and len(damaged) > 1 and damaged[-2] in gop:
                    damaged += behind.tolist()
                    break
                left = behind
    return np.unique(np.array(damaged, np.int64)), reason


def _joined(gops: Sequence[NDArray[np.int64]]) -> Iterator[list[NDArray[np.int64]]]:
    """GOPs in groups of at least _FRAMES_PER_RUN frames, but for the last."""
    group: list[NDArray[np.int64]] = []
    for gop in gops:
        group.append(gop)
        if sum(map(len, group)) >= _FRAMES_PER_RUN:
            yield group
            group = []
    if group:
        yield group


def _timed_frames(decoding: _Decoding, damaged: NDArray[np.int64], reader: VideoReader) -> tuple[int, float, float]:
    """(packets, processor seconds) of decoding the first frames, and processor seconds of transforming one of them; zeros if they are
    damaged."""
    frames = np.arange(min(_NUM_TIMED_FRAMES, reader.num_frames))
    if np.isin(frames, damaged).any() or not reader.is_trusted[frames].all():
        return 0, 0.0, 0.0
    seconds = []
    for size in (2, 224):
        packets, before = decoding.num_packets, decoding.seconds
        if decoding.run(frames, size) is not None:
            return 0, 0.0, 0.0
        seconds.append(decoding.seconds - before)
        packets = decoding.num_packets - packets
    return packets, seconds[0], max(seconds[1] - seconds[0], 0.0) / len(frames)


def _problems(reader: VideoReader, path: str, is_regular: bool) -> Iterator[Problem]:
    index = reader._index
    num_missing = (declared_size(path) or 0) - size_and_mtime(path)[0]
    if index.is_cut_short or num_missing > 1:  # a byte of padding may be left out
        why = reader.note if index.is_cut_short else f"it says that it has {num_missing} bytes more"
        detail = f"{reader.num_frames} frames are left; {why}"
        yield Problem("cut_short", detail, *_ranges(np.array([reader.num_frames - 1]), reader))
    if not is_regular:
        note = "" if index.is_cut_short or not reader.note else f" ({reader.note})"
        yield Problem("irregular", f"its frames were listed by a decode{note}")
    if len(sizes := _sizes(reader)) > 1:
        yield Problem("size_changes", "keyframes of " + ", ".join(f"{width}x{height}" for width, height in sizes))
    if (steps := uneven_steps(reader)) is not None:
        yield Problem("variable_rate", f"{steps[0] * 1000:.0f} to {steps[1] * 1000:.0f} ms per frame")
    if reader.rotation or reader.is_flipped:
        turned = f"by {reader.rotation} degrees" if reader.rotation else ""
        yield Problem("rotated", " ".join(filter(None, [turned, "flipped" if reader.is_flipped else ""])))
    extension = os.path.splitext(path)[1].lower()
    right = _EXTENSIONS.get(reader.container, ())
    if right and extension in VIDEO_EXTENSIONS and extension not in right:
        container = reader.container.partition(",")[0]
        yield Problem("wrong_extension", f"a {container} file, whose name should end in {' or '.join(right)}")


def uneven_steps(reader: VideoReader) -> tuple[float, float] | None:
    """The shortest and the longest time from one frame to the next, in seconds; None for an even rate, give or take a tick of rounding in
    the container."""
    steps = np.diff(reader.pts_seconds)
    if len(steps) < 2 or np.ptp(steps) < 0.25 * np.median(steps):
        return None
    return float(steps.min()), float(steps.max())


def _sizes(reader: VideoReader) -> list[tuple[int, int]]:
    """(width, height) of a few keyframes, as coded, each once, in order."""
    keyframes = reader.keyframe_indices[reader.is_trusted[reader.keyframe_indices]]
    sizes = []
    for frame in np.unique(
        keyframes[np.linspace(0, len(keyframes) - 1, _NUM_SIZES).astype(int)] if len(keyframes) else keyframes
    ):
        try:
            height, width = reader.get_planes_at([frame])[0][0].shape[:2]
        except VideoError:
            continue
        sizes.append((width, height))
    return list(dict.fromkeys(sizes))


def _ranges(
    frames: NDArray[np.int64], reader: VideoReader
) -> tuple[tuple[tuple[int, int], ...], tuple[tuple[float, float], ...]]:
    """Frames as half-open ranges, and the seconds of the first and the last frame of each."""
    pts = reader.pts_seconds
    starts = [0, *(np.flatnonzero(np.diff(frames) > 1) + 1).tolist(), len(frames)]
    runs = [(int(frames[start]), int(frames[stop - 1])) for start, stop in itertools.pairwise(starts)]
    return (
        tuple((first, last + 1) for first, last in runs),
        tuple((round(float(pts[first]), 6), round(float(pts[last]), 6)) for first, last in runs),
    )


def _quick_digest(path: str) -> tuple[str, str]:
    digest = hashlib.blake2b(digest_size=16)
    with open_binary(path) as file:
        size = os.fstat(file.fileno()).st_size
        digest.update(b"%d" % size)
        digest.update(file.read(_BLOCK_BYTES))
        file.seek(max(size - _BLOCK_BYTES, 0))
        digest.update(file.read(_BLOCK_BYTES))
    return digest.hexdigest(), ""


def _digests(path: str, reader: VideoReader) -> tuple[str, str]:
    """Of all bytes of the file, and of those of its packets alone, in one pass."""
    index = reader._index
    whole, packets = hashlib.blake2b(digest_size=16), hashlib.blake2b(reader.codec.encode(), digest_size=16)
    starts = np.asarray(index.packet_offsets, np.int64)
    stops = starts + np.asarray(index.packet_sizes, np.int64)
    order = np.argsort(starts, kind="stable") if index.is_byte_addressable else np.zeros(0, np.int64)
    spans = iter(zip(starts[order].tolist(), stops[order].tolist(), strict=True))
    span = next(spans, None)
    position = 0
    with open_binary(path) as file:
        while block := memoryview(file.read(_BLOCK_BYTES)):
            end = position + len(block)
            whole.update(block)
            while span is not None and span[0] < end:
                packets.update(block[max(span[0] - position, 0) : span[1] - position])
                if span[1] > end:
                    break
                span = next(spans, None)
            position = end
    return whole.hexdigest(), packets.hexdigest() if index.is_byte_addressable else ""
