"""Varying clips: what VideoDataset takes as `clip` where the number of frames follows from the video.

In: when the frames of a part of a video are shown. Out: some of them, int64 [T], T different from video to video. Pure functions of their
arguments and of float64 uniforms in [0, 1); nothing here opens a file.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from vidload.clip_spec import FrameIndices

Seconds = NDArray[np.float64]

FRAME_CHOICES = ("nearest", "played")

_TOLERANCE_SECONDS = 5e-7  # times that went through a float once must still find their frame


class VaryingClip:
    """A clip whose number of frames depends on the video. Subclass it, and override `frames`, for a rule of your own."""

    def frames(
        self, shown_seconds: Seconds, start_seconds: float, end_seconds: float, rng: Generator | None = None
    ) -> FrameIndices:
        """The frames of the clip, int64 [T], T at least 1, each in [0, n).

        shown_seconds: float64 [n + 1], for the n frames whose pts lies within [start_seconds, end_seconds), the item's segment cut to the
        video: frame i of these is shown within [shown_seconds[i], shown_seconds[i + 1]), in seconds from the video's first frame.
        rng: None = evaluation.
        """
        raise NotImplementedError


@dataclass(frozen=True)
class FramesByTime(VaryingClip):
    """`fps` frames per second of the video, whatever its own rate.

    The moments are start + k * step for k = 0, 1, ..., T - 1. For a stretch of s seconds from start, T = round(s * fps), at least 1, and
    step = 1 / fps. If that T is more than `max_frames`, T = max_frames and step = s / max_frames: the clip still covers the whole stretch,
    at a lower rate. Rounding is half to even. The last moment is before the stretch's end. Frames repeat if the video's rate is lower.

    fps: frames per second, above 0.
    max_frames: the largest T; None = no limit.
    duration_seconds: None: the stretch is the whole segment. Else a part of it this long, placed at random in training
        (start = segment start + u * room, one uniform u) and in the middle in evaluation; the whole segment if it is shorter.
    frame: "nearest": the frame whose pts is nearest to the moment; of two equally near, the earlier one. "played": the frame on screen
        then, the last one whose pts is not later (as in VideoReader.get_frames_played_at). Only frames of the segment are taken; times are
        compared to half a microsecond.

    Raises ValueError for arguments that make no sense.
    """

    fps: float
    max_frames: int | None = None
    duration_seconds: float | None = None
    frame: str = "nearest"

    def __post_init__(self) -> None:
        for name in ("fps", "duration_seconds"):
            value = getattr(self, name)
            if value is not None and not 0 < value < np.inf:
                raise ValueError(f"clip: {name} is {value!r}, must be a number above 0")
        check_count("max_frames", self.max_frames)
        check_frame_choice(self.frame)

    def frames(
        self, shown_seconds: Seconds, start_seconds: float, end_seconds: float, rng: Generator | None = None
    ) -> FrameIndices:
        length = end_seconds - start_seconds
        stretch, start = length, start_seconds
        if self.duration_seconds is not None:
            stretch = min(self.duration_seconds, length)
            start += (0.5 if rng is None else float(rng.random())) * (length - stretch)
        num_frames, step = max(round(stretch * self.fps), 1), 1 / self.fps
        if self.max_frames is not None and num_frames > self.max_frames:
            num_frames, step = self.max_frames, stretch / self.max_frames
        return frames_at(start + np.arange(num_frames) * step, shown_seconds, self.frame)


@dataclass(frozen=True)
class SpreadFrames(VaryingClip):
    """`num_frames` frames spread evenly from the segment's first to its last; all of them if it has fewer.

    Frame k of N is round(k * (n - 1) / (N - 1)) of n, half to even: `np.linspace(0, n - 1, N).round()`. If N = 1, it is the first.
    Raises ValueError if `num_frames` is below 1.
    """

    num_frames: int

    def __post_init__(self) -> None:
        check_count("num_frames", self.num_frames)

    def frames(
        self, shown_seconds: Seconds, start_seconds: float, end_seconds: float, rng: Generator | None = None
    ) -> FrameIndices:
        available = len(shown_seconds) - 1
        frames: FrameIndices = np.linspace(0, available - 1, min(self.num_frames, available)).round().astype(np.int64)
        return frames


@dataclass(frozen=True)
class AllFrames(VaryingClip):
    """Every frame of the segment, or of the video. A minute at 30 fps is 1800 frames: mind the memory."""

    def frames(
        self, shown_seconds: Seconds, start_seconds: float, end_seconds: float, rng: Generator | None = None
    ) -> FrameIndices:
        return np.arange(len(shown_seconds) - 1)


def checked_frames(
    clip: VaryingClip, path: str, shown_seconds: Seconds, segment_seconds: tuple[float, float], rng: Generator | None
) -> FrameIndices:
    """What `clip` gives. Raises ValueError where it is not what VaryingClip promises: a class of the user's own may give anything."""
    frames: Any = clip.frames(shown_seconds, *segment_seconds, rng)
    num_frames = len(shown_seconds) - 1
    is_right = isinstance(frames, np.ndarray) and frames.ndim == 1 and frames.dtype.kind in "iu" and len(frames) > 0
    if not is_right or frames.min() < 0 or frames.max() >= num_frames:
        raise ValueError(
            f"clip {clip} returned {frames!r} for {path}; it must return integers of shape [T], T at least 1, within [0, {num_frames})"
        )
    return np.asarray(frames, np.int64)


def frames_at(moments: NDArray[np.floating[Any]], shown_seconds: Seconds, frame: str) -> FrameIndices:
    """The frame of each moment, one of FRAME_CHOICES, int64 [len(moments)]; before the first and after the last frame these two."""
    starts = shown_seconds[:-1]
    played = np.searchsorted(starts, moments + _TOLERANCE_SECONDS, side="right") - 1
    played = np.maximum(played, 0)
    if frame == "played":
        return played
    following = np.minimum(played + 1, len(starts) - 1)
    is_nearer = starts[following] - moments < moments - starts[played] - _TOLERANCE_SECONDS
    return np.where(is_nearer, following, played)


def check_frame_choice(frame: str) -> None:
    if frame not in FRAME_CHOICES:
        raise ValueError(f"frame is {frame!r}, must be one of {', '.join(FRAME_CHOICES)}")


def check_count(name: str, value: int | None) -> None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
        raise ValueError(f"clip: {name} is {value!r}, must be an integer of at least 1")
