"""The exceptions of vidload. Each says which file, which frame, why, and what to do; each is also one of Python's own kinds of error."""

from __future__ import annotations

import errno
from typing import Any, NamedTuple


class VideoError(Exception):
    """Something about one video.

    Attributes:
        path: the file, or ``"<bytes>"``.
        frame: the frame index concerned, None if the error concerns the file as a whole.
        reason: what went wrong and what to do about it, and in brackets FFmpeg's last message.
        av_error: FFmpeg's error code, None if FFmpeg was not involved.
        kind: the class in a word: "not_found", "unreadable", "unsupported", "damaged", "frame_index", "cancelled", "limit".
    """

    kind = "unreadable"

    def __init__(self, path: str, frame: int | None, reason: str, av_error: int | None = None) -> None:
        super().__init__(path, frame, reason, av_error)
        self.path = path
        self.frame = frame
        self.reason = reason
        self.av_error = av_error

    def __str__(self) -> str:
        where = self.path if self.frame is None else f"{self.path}: frame {self.frame}"
        return f"{where}: {self.reason}"


class VideoNotFoundError(VideoError, FileNotFoundError):
    """There is no such file."""

    kind = "not_found"

    def __init__(self, path: str, frame: int | None, reason: str, av_error: int | None = None) -> None:
        VideoError.__init__(self, path, frame, reason, av_error)
        self.errno = errno.ENOENT
        self.filename = path


class UnreadableVideoError(VideoError, ValueError):
    """The file exists but is not a video, or cannot be read."""

    kind = "unreadable"


class UnsupportedVideoError(VideoError, NotImplementedError):
    """The video is of a kind that this build of FFmpeg, or vidload, cannot decode."""

    kind = "unsupported"


class DamagedVideoError(VideoError, ValueError):
    """A wanted frame, or a picture it depends on, is damaged."""

    kind = "damaged"


class FrameIndexError(VideoError, IndexError):
    """A frame index that the video does not have."""

    kind = "frame_index"


class LoadCancelled(VideoError):
    """The batch was given up before this video was decoded."""

    kind = "cancelled"


class VideoLimitError(VideoError, ValueError):
    """The video asks for more than VideoLimits allows."""

    kind = "limit"


class Failure(NamedTuple):
    """A sample that failed, as VideoLoader.stats() lists them: `sample`, its index in the dataset (if several are combined, counted through
    all of them), and the attributes of its VideoError."""

    sample: int
    path: str
    reason: str
    frame: int | None
    kind: str


class ClipTransformError(RuntimeError):
    """The dataset's clip_transform raised; `__cause__` is its exception. It is raised whatever on_error says: no video is to blame.

    Attributes:
        path: the sample's file.
        sample: its index in its dataset.
    """

    def __init__(self, path: str, sample: int, reason: str) -> None:
        super().__init__(path, sample, reason)
        self.path = path
        self.sample = sample
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.path}: clip_transform of sample {self.sample}: {self.reason}"


class TooManyFailuresError(RuntimeError):
    """More samples of an epoch failed than `max_failures` allows: perhaps a folder is not mounted, or a list's root is wrong."""


class LostWorkError(RuntimeError):
    """A worker was lost with what it was doing (killed, out of memory, its node gone). No video is blamed, and what is finished is kept."""

    def __init__(self, what: str, why: str) -> None:
        super().__init__(what, why)
        self.what = what
        self.why = why

    def __str__(self) -> str:
        return f"{self.what} was lost: {self.why}; what is finished is kept: run the same command again to do the rest"


class IndexMismatchError(VideoError):
    """The decoder returned other frames than the file's headers and times suggested; the file is then indexed again, by decoding it."""

    kind = "index_mismatch"


# By the names that csrc/base/error.cpp gives them.
_KINDS: dict[str, type[VideoError]] = {
    "not_found": VideoNotFoundError,
    "unreadable": UnreadableVideoError,
    "unsupported": UnsupportedVideoError,
    "damaged": DamagedVideoError,
    "frame_index": FrameIndexError,
    "cancelled": LoadCancelled,
    "index_mismatch": IndexMismatchError,
    "limit": VideoLimitError,
}


def _from_core(kind: str, path: str, frame: int, reason: str, av_error: int) -> Any:
    return _KINDS[kind](path, None if frame < 0 else frame, reason, av_error or None)
