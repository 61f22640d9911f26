"""How long a file says it is, where its container says so: mp4 and mov boxes, Matroska's segment, RIFF lists.

In: a path. Out: the bytes that its outermost elements claim. A download that broke off has fewer, although what is there may read well.
"""

from __future__ import annotations

import struct
from typing import BinaryIO

from vidload.sources import open_binary

_EBML, _SEGMENT = 0x1A45DFA3, 0x18538067
_MAX_BOXES = 1_000_000


def declared_size(path: str) -> int | None:
    """Bytes that the container claims; None if it does not say, or is of another kind.

    Raises:
        OSError: the file cannot be read.
    """
    with open_binary(path) as file:
        head = file.read(12)
        if head[:4] == b"RIFF":
            return _riff_size(file)
        if head[:4] == struct.pack(">I", _EBML):
            return _matroska_size(file)
        if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot", b"styp"):
            return _box_size(file)
    return None


def _box_size(file: BinaryIO) -> int | None:
    """ISO 14496-12: 4 bytes of size and 4 of type; size 1: 8 bytes of size follow, 0: to the end of the file."""
    position = 0
    end = file.seek(0, 2)
    for _ in range(_MAX_BOXES):
        file.seek(position)
        head = file.read(16)
        if position >= end or len(head) < 8:
            return position
        size = int.from_bytes(head[:4], "big")
        if size == 1 and len(head) == 16:
            size = int.from_bytes(head[8:], "big")
        if size < 8 or not head[4:8].isalnum():  # to the end, or no box at all
            return max(position, end) if size == 0 else position
        position += size
    return None


def _matroska_size(file: BinaryIO) -> int | None:
    """RFC 8794: an identifier and a size, whose leading zeros tell how many bytes they take; a size of ones is unknown."""
    position = 0
    for _ in range(2):
        file.seek(position)
        head = file.read(12)
        if len(head) < 5 or head[4] == 0:
            return None
        length = 9 - head[4].bit_length()
        size = int.from_bytes(head[4 : 4 + length], "big") & ((1 << 7 * length) - 1)
        identifier = int.from_bytes(head[:4], "big")
        if size == (1 << 7 * length) - 1 or identifier not in (_EBML, _SEGMENT):
            return None
        position += 4 + length + size
        if identifier == _SEGMENT:
            return position
    return None


def _riff_size(file: BinaryIO) -> int | None:
    """Lists of 4 bytes "RIFF", 4 of size; the first of an unfinished recording has size 0."""
    position = 0
    while True:
        file.seek(position)
        head = file.read(8)
        if len(head) < 8 or head[:4] != b"RIFF":
            return position
        size = int.from_bytes(head[4:], "little")
        if size in (0, 0xFFFFFFFF):
            return None
        position += 8 + size + size % 2
