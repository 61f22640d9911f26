"""The members of a tar archive, found by reading its headers alone: ustar, GNU's and pax.

In: the bytes of an archive. Out: `Members`, where each file is. Names are bytes, as they are stored. The archive may be anything: whatever a
header says is checked before it is used.
"""

from __future__ import annotations

import os
import re
import zlib
from typing import NamedTuple

from vidload import _core
from vidload.errors import UnreadableVideoError

BLOCK = 512
_EMPTY_BLOCK = bytes(BLOCK)
_MAX_EXTRA_BYTES = 1 << 20  # of a header that only describes the next one
# Read at once where the next header is near, and where it is far. Of a URL, only the header: the source reads ahead itself.
_NEAR_BYTES, _FAR_BYTES = 64 << 10, 4 << 10

_REGULAR, _DIRECTORY, _SPARSE = (b"0", b"\0", b"7"), b"5", b"S"
_LONG_NAME, _LONG_LINK, _PAX, _PAX_GLOBAL = b"L", b"K", (b"x", b"X"), b"g"
_WITHOUT_DATA = (b"1", b"2", b"3", b"4", b"5", b"6")  # links, devices, directories, pipes, whatever size they state
_GNU_MAGIC = b"ustar  \0"  # where ustar has the prefix of a long name, this format has times
_PAX_RECORD = re.compile(rb"(\d{1,20}) ([^=]+)=")


class Members(NamedTuple):
    """The members of an archive but its directories, in its order.

    names: as they are stored. offsets, sizes: of their data, in bytes. is_file: False for links and special files.
    data: of members that were read on the way, by their numbers; only of those whose names end as `wanted`.
    end: the offset of the archive's end, an empty block.
    """

    names: list[bytes]
    offsets: list[int]
    sizes: list[int]
    is_file: list[bool]
    data: dict[int, bytes]
    end: int


def read_members(source: _core.ByteSource, path: str, *, is_remote: bool, wanted: tuple[bytes, ...]) -> Members:
    """Finds the members of an archive.

    Args:
        path: what errors call it.
        is_remote: whether each read may be a request over a network.
        wanted: ends of names, in lower case, of members whose data is kept where it was read anyway.

    Raises:
        UnreadableVideoError: it is no tar archive, is damaged or cut short, or has sparse members.
        OSError: it cannot be read.
    """
    members = Members([], [], [], [], {}, 0)
    names, offsets, sizes, is_file, kept, _ = members
    size = source.size
    extra: dict[bytes, bytes] = {}  # what headers before a member say of it; the first that does counts
    is_described = False  # whether a member must follow
    buffer, start, at, before = b"", 0, 0, -_NEAR_BYTES

    def read(offset: int, num_bytes: int) -> bytes:
        place = offset - start
        is_here = place + num_bytes <= len(buffer)
        return buffer[place : place + num_bytes] if is_here else source.read(offset, num_bytes)

    while True:
        place = at - start
        if place + BLOCK > len(buffer):
            num_bytes = BLOCK if is_remote else _NEAR_BYTES if at - before < _NEAR_BYTES // 4 else _FAR_BYTES
            buffer, start, place = source.read(at, num_bytes), at, 0
        header = buffer[place : place + BLOCK]
        if header == _EMPTY_BLOCK:
            if is_described:
                raise unreadable(
                    path, f"the header at byte {before} describes a member that is not there; get it again"
                )
            break
        if not _is_header(header):
            raise _no_header(source, path, at)
        kind = header[156:157]
        data = at + BLOCK
        try:
            num_bytes = _number(header[124:136])
            if extra and b"size" in extra and kind not in (_LONG_NAME, _LONG_LINK, _PAX_GLOBAL, *_PAX):
                num_bytes = int(extra[b"size"])
        except ValueError:
            num_bytes = -1
        following = data if kind in _WITHOUT_DATA else data + -(-num_bytes // BLOCK) * BLOCK
        if num_bytes < 0:
            raise unreadable(path, f"the member at byte {at} states no size that makes sense; get it again")
        if following > size:
            raise unreadable(
                path, f"cut short: the member at byte {at} ends at byte {following}, the file at {size}; get it again"
            )
        before, at = at, following
        is_regular = kind in _REGULAR
        is_described = not is_regular and kind in (_LONG_NAME, _LONG_LINK, _PAX_GLOBAL, *_PAX)
        if is_regular or (not is_described and kind not in (_DIRECTORY, _SPARSE)):
            name = _name(header)
            if kind == b"\0" and name.endswith(b"/"):  # how tar of Unix V7 wrote a directory
                extra.clear()
                continue
            if extra:
                if any(key.startswith(b"GNU.sparse.") for key in extra):
                    raise not_plain(path, extra.get(b"GNU.sparse.name") or extra.get(b"path") or name)
                name = extra.get(b"path", name)
                extra.clear()
            if num_bytes <= len(buffer) - (data - start) and name[-5:].lower().endswith(wanted):
                kept[len(names)] = buffer[data - start : data - start + num_bytes]
            names.append(name)
            offsets.append(data)
            sizes.append(num_bytes)
            is_file.append(is_regular)
        elif kind == _SPARSE:
            raise not_plain(path, extra.get(b"path") or _name(header))
        elif kind == _DIRECTORY:
            extra.clear()
        elif num_bytes > _MAX_EXTRA_BYTES:
            raise unreadable(path, f"the header at byte {before} has {num_bytes} bytes, more than {_MAX_EXTRA_BYTES}")
        elif kind == _LONG_NAME:
            extra.setdefault(b"path", _text(read(data, num_bytes)))
        elif kind != _LONG_LINK:
            records = _pax_records(read(data, num_bytes))
            if records is None:
                raise unreadable(path, f"the pax header at byte {before} is damaged; get it again")
            if kind == _PAX_GLOBAL and any(key in (b"path", b"size") or key.startswith(b"GNU.") for key in records):
                raise unreadable(path, f"the pax header at byte {before} gives all members one name or size")
            if kind in _PAX:
                for key, value in records.items():
                    extra.setdefault(key, value)
    return members._replace(end=at)


def unreadable(path: str, reason: str) -> UnreadableVideoError:
    """An error about an archive."""
    return UnreadableVideoError(path, None, reason)


def not_plain(path: str, name: bytes) -> UnreadableVideoError:
    """An error about a member that is no plain file."""
    return unreadable(
        path, f"{os.fsdecode(name)!r} is a link, a sparse or a special file; write the shard with plain files"
    )


def _is_header(header: bytes) -> bool:
    """Whether the checksum is right: the sum of all bytes, its own field counted as spaces. Some have summed signed bytes."""
    if len(header) < BLOCK:
        return False
    try:
        stated = _number(header[148:156])
    except ValueError:
        return False
    spaced = header[:148] + b"        " + header[156:]
    # Adler-32 has 1 + the sum of the bytes in its lower half, modulo 65521, which 256 bytes cannot reach.
    total = (zlib.adler32(spaced[:256]) & 0xFFFF) + (zlib.adler32(spaced[256:]) & 0xFFFF) - 2
    return stated == total or stated == total - 256 * sum(byte > 127 for byte in spaced)


def _number(field: bytes) -> int:
    """A number of a header: octal digits, or, behind a byte that is no character, two's complement. Raises ValueError."""
    try:
        return int(field.rstrip(b"\0 ") or b"0", 8)
    except ValueError:  # behind the first NUL anything may stand
        if field[0] in (0x80, 0xFF):
            return int.from_bytes(field[1:], "big") - (256 ** (len(field) - 1) if field[0] == 0xFF else 0)
        return int(_text(field).strip() or b"0", 8)


def _text(field: bytes) -> bytes:
    return field.partition(b"\0")[0]


def _name(header: bytes) -> bytes:
    name = _text(header[:100])
    if header[345] and header[257:265] != _GNU_MAGIC:
        return _text(header[345:500]) + b"/" + name
    return name


def _pax_records(data: bytes) -> dict[bytes, bytes] | None:
    """Records "length key=value\\n", the length that of the record; None where they are not."""
    records: dict[bytes, bytes] = {}
    at = 0
    while at < len(data) and data[at]:
        match = _PAX_RECORD.match(data, at)
        end = at + int(match[1]) if match else 0
        if not match or not match.end() < end <= len(data) or data[end - 1 : end] != b"\n":
            return None
        if match.end() < end - 1:  # one without a value says nothing
            records[match[2]] = data[match.end() : end - 1]
        at = end
    return records if records.get(b"size", b"0").isdigit() else None


def _no_header(source: _core.ByteSource, path: str, at: int) -> UnreadableVideoError:
    if at == 0:
        if source.read(0, 2) == b"\x1f\x8b":
            return unreadable(path, "a compressed archive has no random access; decompress it to a plain .tar")
        return unreadable(path, "not a tar file: it does not begin with the header of a member")
    return unreadable(
        path, f"damaged or cut short: neither a member nor the archive's end is at byte {at}; get it again"
    )
