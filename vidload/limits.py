"""VideoLimits: how much one file may ask for before it fails."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

from vidload import _core


@dataclass(frozen=True)
class VideoLimits:
    """How much one file may ask for. A file that asks for more raises VideoLimitError before the memory or the time is spent.

    The defaults are far above what training videos need. `set_limits` changes them for the whole process; worker processes that are
    spawned start with the defaults.

    Attributes:
        pixels: width x height of a picture.
        packet_bytes: bytes of one packet, which holds one picture or a few.
        packets, frames: how many the video stream has.
        edits: entries in an mp4's edit lists, in total.
        streams: how many the container has.
        jpeg_bytes, jpeg_pixels: bytes of the file, and width x height, of an extracted frame.
        cpu_seconds: processor time that a loader's sample may take to index its file, and again to decode it.

    Raises:
        ValueError: a limit is not a positive number.
    """

    pixels: int = 8192 * 8192
    packet_bytes: int = 256 << 20
    packets: int = 20_000_000
    frames: int = 20_000_000
    edits: int = 4096
    streams: int = 1000
    jpeg_bytes: int = 64 << 20
    jpeg_pixels: int = 8192 * 8192
    cpu_seconds: float = 1800.0

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            kinds = (int, float) if name == "cpu_seconds" else (int,)
            if type(value) not in kinds or not 0 < value < 2**62 or not math.isfinite(value):
                raise ValueError(f"{name} is {value!r}, must be a positive {'number' if len(kinds) > 1 else 'integer'}")


def set_limits(limits: VideoLimits) -> VideoLimits:
    """Sets the limits of this process for all files read from now on; returns the previous ones."""
    before = get_limits()
    _core.set_video_limits(asdict(limits))
    return before


def get_limits() -> VideoLimits:
    """The limits of this process."""
    return VideoLimits(**_core.video_limits())
