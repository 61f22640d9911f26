"""Where the bytes of videos are: paths, URLs, and parts of either (members of tar shards, places in archives of any kind).

Only names are handled here. The core opens all of them alike (csrc/source).
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from vidload import _core
from vidload.errors import VideoError, VideoNotFoundError

URL_PATTERN = r"^[^/]+://"  # for Arrow too

# As the core takes them: a path or URL, or (path or URL, offset, size, name, stamp of the file).
Source = str | bytes | tuple[str | bytes, int, int, str | bytes, int, int]


def is_url(path: str | bytes) -> bool:
    """Whether a path is a URL, such as "s3://bucket/name"."""
    return re.match(URL_PATTERN, os.fsdecode(path)) is not None


def absolute(path: str) -> str:
    """A path as an absolute one without "." and ".."; URLs as they are. Behind a symbolic link ".." is the parent of the link's target, as it
    is for the system."""
    if is_url(path):
        return path
    path = os.path.join(os.getcwd(), path)
    if os.pardir not in path:
        return os.path.normpath(path)
    found = os.sep
    for part in path.split(os.sep):
        if part == os.pardir:
            found = os.path.dirname(os.path.realpath(found) if os.path.islink(found) else found)
        elif part not in ("", os.curdir):
            found = os.path.join(found, part)
    return found


def exists(path: str) -> bool:
    """As os.path.exists, of URLs too. Raises OSError where a server does not answer."""
    if not is_url(path):
        return os.path.exists(path)
    try:
        _core.stamp_of(path)
    except VideoNotFoundError:
        return False
    except VideoError:  # there, but refused or empty
        pass
    return True


def size_and_mtime(path: str) -> tuple[int, int]:
    """Of a file, the mtime in ns; of an object its size and a number that changes with its content. Raises OSError."""
    if is_url(path):
        return _core.stamp_of(path)
    status = os.stat(path)
    return status.st_size, status.st_mtime_ns


class SourceFile(io.RawIOBase):
    """A file object over bytes of the core's."""

    def __init__(self, source: _core.ByteSource) -> None:
        self._source = source
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._source.size}[whence]
        return self._at

    def read(self, size: int = -1) -> bytes:
        data = self._source.read(self._at, self._source.size - self._at if size < 0 else size)
        self._at += len(data)
        return data

    def readinto(self, buffer: Any) -> int:
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


def open_binary(path: str | os.PathLike[str]) -> BinaryIO:
    """open(path, "rb"), of URLs too. Raises OSError, VideoError."""
    name = os.fspath(path)
    return cast(BinaryIO, SourceFile(_core.ByteSource(name))) if is_url(name) else open(path, "rb")


def read_all(path: str | os.PathLike[str]) -> bytes:
    """All bytes of a file or of an object.

    Raises:
        FileNotFoundError: there is no such file.
        OSError, VideoError: it cannot be read.
    """
    if not is_url(name := os.fspath(path)):
        with open(path, "rb") as file:
            return file.read()
    source = _core.ByteSource(name)
    data = source.read(0, source.size)
    source.check_unchanged()
    return data


def read_array(source: Source) -> NDArray[np.uint8]:
    """All bytes of a video, as an array; raises as read_all."""
    if isinstance(source, str | bytes) and not is_url(source):
        return np.fromfile(source, np.uint8)
    found = _core.ByteSource(source)
    data = np.frombuffer(found.read(0, found.size), np.uint8)
    found.check_unchanged()
    return data


@dataclass(frozen=True, eq=False)
class Parts:
    """Which parts of which files videos are, one row per video.

    files: paths or URLs, each once.
    file: int32 [N], the number of each row's file.
    offsets, sizes: int64 [N], in bytes; a size of -1: the row is no part, and its path says it all.
    stamps: int64 [len(files), 2], size and mtime when the files' members were listed; -1 = not known.
    """

    files: tuple[str, ...]
    file: NDArray[np.int32]
    offsets: NDArray[np.int64]
    sizes: NDArray[np.int64]
    stamps: NDArray[np.int64]

    def source(self, row: int, name: bytes) -> Source:
        """Where row `row`, called `name`, is."""
        size = int(self.sizes[row])
        if size < 0:
            return name
        file = int(self.file[row])
        listed_size, listed_mtime = self.stamps[file].tolist()
        return (self.files[file], int(self.offsets[row]), size, name, listed_size, listed_mtime)

    @property
    def nbytes(self) -> int:
        """Of memory, without the files' names."""
        return self.file.nbytes + self.offsets.nbytes + self.sizes.nbytes + self.stamps.nbytes


def parts_of(places: Iterable[tuple[str, int, int] | None]) -> Parts | None:
    """From (file, offset, size) of each video, None for one that is a whole file; None if all are."""
    rows = list(places)
    if all(row is None for row in rows):
        return None
    number: dict[str, int] = {}
    filled = [("", 0, -1) if row is None else row for row in rows]
    file = np.array([number.setdefault(name, len(number)) for name, _, _ in filled], np.int32)
    offsets, sizes = (np.array([row[i] for row in filled], np.int64) for i in (1, 2))
    return Parts(tuple(number), file, offsets, sizes, np.full((len(number), 2), -1, np.int64))
