"""What a sampler may ask for, by the names of its arguments, besides (num_frames, fps, spec, rng).

out_of_bound: the dataset's.
shown_seconds: float64 [num_frames + 1]: frame i is shown within [shown_seconds[i], shown_seconds[i + 1]), from the video's first frame.
segment_seconds: (start, end) of the item, from the video's first frame. A sampler that asks for it gets the whole video, and limits itself.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from vidload import _core, sampling
from vidload.annotations import Annotations
from vidload.sampling import Sampler

NAMES = frozenset(("out_of_bound", "shown_seconds", "segment_seconds"))


def sampler_of(name_or_function: str | Sampler) -> tuple[Sampler, frozenset[str]]:
    """The function, and which of NAMES it takes (a user's own need not take any)."""
    if callable(name_or_function):
        return name_or_function, NAMES & argument_names(name_or_function)
    if name_or_function not in sampling.SAMPLERS:
        raise ValueError(f"sampling {name_or_function!r} is not one of {', '.join(sampling.SAMPLERS)}, nor a function")
    function = sampling.SAMPLERS[name_or_function]
    return function, NAMES & argument_names(function)


def argument_names(function: Callable[..., Any]) -> frozenset[str]:
    """Empty where Python cannot tell them."""
    try:
        return frozenset(inspect.signature(function).parameters)
    except (TypeError, ValueError):
        return frozenset()


def pixel_aspect(packet_index: _core.PacketIndex | None) -> float:
    """Of a pixel's width to its height."""
    if packet_index is None:
        return 1.0
    horizontal, vertical = packet_index.sample_aspect_ratio
    return horizontal / vertical


def shown_seconds(
    packet_index: _core.PacketIndex | None, first: int, num_frames: int, fps: float
) -> npt.NDArray[np.float64]:
    """Of the part that begins with frame `first`."""
    if packet_index is None:
        return np.arange(first, first + num_frames + 1) / fps
    num, den = packet_index.time_base
    pts = packet_index.frame_pts
    shown = np.append((pts - pts[0]) * (num / den), packet_index.duration_seconds)
    return shown[first : first + num_frames + 1]


def segment_seconds(
    annotations: Annotations, index: int, packet_index: _core.PacketIndex | None, num_frames: int, fps: float
) -> tuple[float, float]:
    """Of an item; the whole video where it has none."""
    start, end = 0.0, num_frames / fps if packet_index is None else packet_index.duration_seconds
    if annotations.start_seconds is not None and annotations.end_seconds is not None:
        own_start, own_end = float(annotations.start_seconds[index]), float(annotations.end_seconds[index])
        start, end = start if np.isnan(own_start) else own_start, end if np.isnan(own_end) else own_end
    return start, end


def segment_frames(seconds: npt.NDArray[np.float64], start: float, end: float) -> tuple[int, int]:
    """(first, last + 1) of the frames shown within [start, end); NaN = from the start, to the end. Without any, the two are not in order.

    seconds: of all frames, counted from the first one's pts: float64 [num_frames].
    """
    # Half a microsecond: times that went through a float once must still find their frame.
    seconds = seconds + 5e-7
    first = 0 if np.isnan(start) else int(np.searchsorted(seconds, start))
    stop = len(seconds) if np.isnan(end) else int(np.searchsorted(seconds, end))
    return first, stop
