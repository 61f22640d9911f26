"""ClipSpec: the shape of a sample in time; and what samplers share.

In: starts of clips. Out: their frames, all within the video.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

FrameIndices = NDArray[np.int64]
Sampler = Callable[..., FrameIndices]

OUT_OF_BOUND = ("loop", "repeat_last")


@dataclass(frozen=True)
class ClipSpec:
    """The shape of a sample in time: `num_clips` clips of `clip_len` frames, each `frame_interval` frames
    after the last.

    Written "clip_len x frame_interval x num_clips", as in "32x2x1". Raises ValueError for counts below 1.
    """

    clip_len: int
    frame_interval: int = 1
    num_clips: int = 1

    def __post_init__(self) -> None:
        for name in ("clip_len", "frame_interval", "num_clips"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"clip: {name} is {value!r}, must be an integer of at least 1")

    @classmethod
    def parse(cls, clip: str | ClipSpec) -> ClipSpec:
        """Reads "32x2x1" (a ClipSpec is returned as it is). Raises ValueError for anything else."""
        if isinstance(clip, ClipSpec):
            return clip
        match = re.fullmatch(r"\s*(\d+)x(\d+)x(\d+)\s*", clip, re.ASCII) if isinstance(clip, str) else None
        if match is None:
            raise ValueError(
                f"clip: cannot read {clip!r}; write clip_len x frame_interval x num_clips, for example "
                "'32x2x1' for one clip of 32 frames, every second frame"
            )
        return cls(*(int(number) for number in match.groups()))

    def __str__(self) -> str:
        return f"{self.clip_len}x{self.frame_interval}x{self.num_clips}"

    @property
    def clip_span(self) -> int:
        """Frames from the first to the last of a clip, both counted: frame_interval * (clip_len - 1) + 1."""
        return self.frame_interval * (self.clip_len - 1) + 1


def in_bounds(indices: FrameIndices, num_frames: int, out_of_bound: str = "loop") -> FrameIndices:
    """Brings int64 frame indices [num_clips, clip_len], none below 0, into [0, num_frames).

    "loop" wraps them; "repeat_last" repeats the largest in-range index of the same clip (n = 10: 0 4 8 12 ->
    0 4 8 8).
    """
    if out_of_bound == "loop":
        return indices % num_frames
    is_inside = indices < num_frames
    last = (indices * is_inside).max(axis=1, keepdims=True)
    return np.where(is_inside, indices, last)


def check(num_frames: int, out_of_bound: str) -> None:
    if num_frames < 1:
        raise ValueError(f"sampling: cannot take frames from a video of {num_frames} frames")
    if out_of_bound not in OUT_OF_BOUND:
        raise ValueError(f"sampling: out_of_bound is {out_of_bound!r}, must be one of {OUT_OF_BOUND}")


@lru_cache(maxsize=64)
def steps_of(clip_len: int, frame_interval: int) -> FrameIndices:
    steps = np.arange(clip_len, dtype=np.int64) * frame_interval
    steps.setflags(write=False)
    return steps


def clips_from(starts: list[int], num_frames: int, spec: ClipSpec, out_of_bound: str) -> FrameIndices:
    steps = steps_of(spec.clip_len, spec.frame_interval)
    indices = np.array(starts, dtype=np.int64)[:, None] + steps
    if max(starts) + spec.clip_span > num_frames:
        indices = in_bounds(indices, num_frames, out_of_bound)
    return indices


def rate_ratio(fps: float | None, target_fps: float) -> float:
    """Frames of the video per frame at `target_fps`; 1 where the video's rate is not known.

    Raises ValueError if target_fps is not above 0.
    """
    if not target_fps > 0:
        raise ValueError(f"sampling: target_fps is {target_fps}, must be above 0")
    return fps / target_fps if fps and fps > 0 and math.isfinite(fps) else 1.0
