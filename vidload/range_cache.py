"""A folder of this machine that keeps what was read of remote objects: whole blocks, bounded in bytes, shared by processes.

In: an object's identity (URL, size, tag) and a range. Out: its bytes, from the folder where they are there. Each block is a file, written aside
and renamed, with its checksum at the end, so that a process that is killed leaves nothing that could be taken for data; the blocks used
longest ago go first.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import threading
from collections.abc import Callable
from pathlib import Path

from vidload.system.files import written_aside

BLOCK_BYTES = 256 << 10
_DIGEST_BYTES = 8
_DEFAULT_BYTES = 10 << 30
_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}


def parsed_bytes(text: str) -> int:
    """Of a size such as "500MB", "1GB" or "4096".

    Raises:
        ValueError: it is none.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)B?", text.strip(), re.IGNORECASE)
    if not match or float(match[1]) <= 0:
        raise ValueError(f"{text!r} is not a size such as 500MB or 1GB")
    return int(float(match[1]) * _UNITS[match[2].upper()])


class RangeCache:
    """Args:
    folder: made if it is not there.
    max_bytes: of all blocks together.
    """

    def __init__(self, folder: str | os.PathLike[str], max_bytes: int) -> None:
        self.folder = Path(folder)
        self.max_bytes = max_bytes
        self._lock = threading.Lock()
        self._num_written = max_bytes // 64  # since the folder was last looked through; that much to begin with

    def read(
        self, identity: tuple[str, int, int], begin: int, end: int, size: int, fetch: Callable[[int, int], bytes]
    ) -> bytes:
        """Bytes [begin, end) of an object of `size` bytes; `fetch(begin, end)` gives what is not there."""
        if identity[2] == 0:  # nothing tells one state of it from another
            return fetch(begin, end)
        first, stop = begin // BLOCK_BYTES, -(-end // BLOCK_BYTES)
        paths = [self._path(identity, number) for number in range(first, stop)]
        blocks = [self._kept(path) for path in paths]
        missing = [place for place, block in enumerate(blocks) if block is None]
        if missing:
            start = (first + missing[0]) * BLOCK_BYTES
            data = fetch(start, min((first + missing[-1] + 1) * BLOCK_BYTES, size))
            for place in range(missing[0], missing[-1] + 1):
                at = (first + place) * BLOCK_BYTES - start
                blocks[place] = data[at : at + BLOCK_BYTES]
                if place in missing:
                    self._keep(paths[place], data[at : at + BLOCK_BYTES])
        whole = b"".join(block for block in blocks if block is not None)
        return whole[begin - first * BLOCK_BYTES : end - first * BLOCK_BYTES]

    def _path(self, identity: tuple[str, int, int], number: int) -> Path:
        name = hashlib.blake2b(repr((identity, number)).encode(errors="surrogateescape"), digest_size=20).hexdigest()
        return self.folder / name[:2] / name

    def _kept(self, path: Path) -> bytes | None:
        try:
            data = path.read_bytes()
        except OSError:
            return None
        block, digest = data[:-_DIGEST_BYTES], data[-_DIGEST_BYTES:]
        if digest != _digest(block):
            return None
        with contextlib.suppress(OSError):
            os.utime(path)  # used just now
        return block

    def _keep(self, path: Path, block: bytes) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with written_aside(path) as part:
                part.write_bytes(block + _digest(block))
        except OSError:
            return  # a full disk costs speed, not the sample
        with self._lock:
            self._num_written += len(block)
            if self._num_written < self.max_bytes // 64:
                return
            self._num_written = 0
        self._make_room()

    def _make_room(self) -> None:
        found = []
        for folder in self.folder.iterdir():
            if len(folder.name) != 2 or not folder.is_dir():
                continue
            for entry in os.scandir(folder):
                try:
                    facts = entry.stat()
                except FileNotFoundError:  # another process was faster
                    continue
                found.append((facts.st_mtime_ns, facts.st_size, entry.path))
        total = sum(size for _, size, _ in found)
        for _, size, path in sorted(found):
            if total <= self.max_bytes - self.max_bytes // 16:  # what is written until the next look
                break
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
            total -= size


def _digest(block: bytes) -> bytes:
    return hashlib.blake2b(block, digest_size=_DIGEST_BYTES).digest()


_caches: dict[tuple[str, str], RangeCache] = {}


def of_environment() -> RangeCache | None:
    """The cache in the folder VIDLOAD_CACHE, of VIDLOAD_CACHE_SIZE ("10GB" if not set); None without."""
    folder = os.environ.get("VIDLOAD_CACHE", "")
    if not folder:
        return None
    size = os.environ.get("VIDLOAD_CACHE_SIZE", "")
    if (folder, size) not in _caches:
        _caches[folder, size] = RangeCache(folder, parsed_bytes(size) if size else _DEFAULT_BYTES)
    return _caches[folder, size]
