"""The headers of tar archives: every member is found where Python's tarfile finds it, and an archive that lies is an error."""

from __future__ import annotations

import io
import itertools
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest

from vidload import UnreadableVideoError, _core
from vidload.tar_headers import BLOCK, read_members

FORMATS = {"ustar": tarfile.USTAR_FORMAT, "gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}
LONG = {
    "ustar": "a/" * 70 + "x" * 90 + ".mp4",  # what its prefix holds
    "gnu": "folder/" * 60 + "y" * 300 + ".mp4",
    "pax": "folder/" * 60 + "y" * 300 + ".mp4",
}
NAMES = [
    "0.mp4",
    "b/1.cls",
    "b/" + "x" * 98,
    "b/" + "x" * 99,
    "clip é 日本.mp4",
    os.fsdecode(b"not utf-8 \xff\xe9.mp4"),
]

Listed = tuple[bytes, int, int, bool]  # name, offset, size, whether it is a plain file


def by_tarfile(path: Path) -> list[Listed]:
    with tarfile.open(path, "r:", encoding="utf-8", errors="surrogateescape") as tar:
        return [
            (os.fsencode(member.name), member.offset_data, member.size, member.isreg())
            for member in tar
            if not member.isdir()
        ]


def by_headers(path: Path, is_remote: bool = False) -> list[Listed]:
    members = read_members(_core.ByteSource(str(path)), str(path), is_remote=is_remote, wanted=(b".cls",))
    data = path.read_bytes() if members.data else b""
    for row, kept in members.data.items():
        assert members.names[row].endswith(b".cls")
        assert kept == data[members.offsets[row] : members.offsets[row] + members.sizes[row]]
    return list(zip(*members[:4], strict=True))


def member(name: str, size: int = 0, **attributes: object) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size = size
    for key, value in attributes.items():
        setattr(info, key, value)
    return info


def write(path: Path, members: list[tarfile.TarInfo], format: str, **options: object) -> Path:
    rng = np.random.default_rng(1)
    with tarfile.open(
        path,
        "w",
        format=FORMATS[format],
        encoding="utf-8",
        errors="surrogateescape",
        **options,  # type: ignore[call-overload]
    ) as tar:
        for info in members:
            tar.addfile(info, io.BytesIO(rng.bytes(info.size)))
    return path


@pytest.mark.parametrize("is_remote", [False, True])
@pytest.mark.parametrize("format", FORMATS)
def test_members_of_every_kind_lie_where_tarfile_finds_them(format: str, is_remote: bool, tmp_path: Path) -> None:
    members = [member(name, 700 * number) for number, name in enumerate([*NAMES, LONG[format]])]
    members += [
        member("empty.mp4"),
        member("folder", type=tarfile.DIRTYPE),
        member("folder/hard link.mp4", type=tarfile.LNKTYPE, linkname="0.mp4"),
        member("link.mp4", type=tarfile.SYMTYPE, linkname="e" * 60),
        member("pipe.mp4", type=tarfile.FIFOTYPE),
        member("v7.mp4", 5, type=tarfile.AREGTYPE),
        member("v7 folder/", type=tarfile.AREGTYPE),
        member("contiguous.mp4", 512, type=tarfile.CONTTYPE),
        member("unknown kind.mp4", 513, type=b"Q"),
    ]
    if format != "ustar":
        members.append(member("long link.mp4", type=tarfile.SYMTYPE, linkname="f/" * 200))
        members.append(member(LONG[format] + "2", type=tarfile.LNKTYPE, linkname="f/" * 200))
    members.append(member("last.mp4", 1))
    path = write(tmp_path / "x.tar", members, format)
    listed = by_headers(path, is_remote)
    assert listed == by_tarfile(path)
    assert len(listed) == len(members) - 2  # the folders


@pytest.mark.parametrize("is_remote", [False, True])
def test_members_of_any_size_lie_where_tarfile_finds_them(is_remote: bool, tmp_path: Path) -> None:
    """What is read at once ends anywhere among them."""
    rng = np.random.default_rng(2)
    sizes = [int(rng.choice([0, 3, 512, 4000, 20_000, 70_000, 300_000])) + int(rng.integers(600)) for _ in range(200)]
    members = [member(f"{number}.{rng.choice(['mp4', 'cls'])}", size) for number, size in enumerate(sizes)]
    path = write(tmp_path / "x.tar", members, "pax")
    assert by_headers(path, is_remote) == by_tarfile(path)


@pytest.mark.parametrize("format", ["gnu", "pax"])
def test_sizes_beyond_eleven_octal_digits_are_read(format: str, tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    with open(path, "wb") as file:  # a hole of the file system in place of the data
        file.write(member("0.mp4", 9 << 30).tobuf(FORMATS[format]))
        file.truncate(file.tell() + (9 << 30))
        file.seek(0, os.SEEK_END)
        file.write(member("1.mp4").tobuf(FORMATS[format]) + bytes(2 * BLOCK))
    assert by_headers(path) == by_tarfile(path)
    assert [size for _, _, size, _ in by_headers(path)] == [9 << 30, 0]


def test_headers_for_all_members_and_comments_change_nothing(tmp_path: Path) -> None:
    members = [member("0.mp4", 3, pax_headers={"comment": "of one\n2 x=3"}), member("1.mp4", 4)]
    path = write(tmp_path / "x.tar", members, "pax", pax_headers={"comment": "of all"})
    assert by_headers(path) == by_tarfile(path)


def test_what_follows_the_end_of_an_archive_is_not_looked_at(tmp_path: Path) -> None:
    first = write(tmp_path / "1.tar", [member("0.mp4", 600)], "gnu")
    second = write(tmp_path / "2.tar", [member("1.mp4", 600)], "gnu")
    path = tmp_path / "x.tar"
    for between in (b"", bytes(100 * BLOCK)):
        path.write_bytes(first.read_bytes() + between + second.read_bytes())
        assert [name for name, *_ in by_headers(path)] == [name for name, *_ in by_tarfile(path)] == [b"0.mp4"]


def test_checksums_of_signed_bytes_are_accepted(tmp_path: Path) -> None:
    header = bytearray(member(os.fsdecode(b"\xff\xfe.mp4")).tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape"))
    header[148:156] = b" " * 8
    signed = int(np.frombuffer(bytes(header), np.int8).sum(dtype=np.int64))
    header[148:156] = b"%06o\0 " % signed
    path = tmp_path / "x.tar"
    path.write_bytes(bytes(header) + bytes(2 * BLOCK))
    assert by_headers(path) == by_tarfile(path) == [(b"\xff\xfe.mp4", BLOCK, 0, True)]


def test_members_are_skipped_by_seeking(tmp_path: Path) -> None:
    path = write(tmp_path / "x.tar", [member(f"{number}.mp4", 300_000) for number in range(20)], "gnu")
    read: list[int] = []

    class Counted:
        size = path.stat().st_size

        def read(self, offset: int, num_bytes: int) -> bytes:
            read.append(num_bytes)
            return path.read_bytes()[offset : offset + num_bytes]

    read_members(Counted(), "x", is_remote=False, wanted=())  # type: ignore[arg-type]
    assert len(read) == 21 and sum(read) < 21 * 5000
    read.clear()
    read_members(Counted(), "x", is_remote=True, wanted=())  # type: ignore[arg-type]
    assert read == [BLOCK] * 21


# --- archives that lie


def with_checksum(header: bytes) -> bytes:
    blank = header[:148] + b" " * 8 + header[156:]
    return blank[:148] + b"%06o\0 " % sum(blank) + blank[156:]


def pax_archive(record: bytes, kind: bytes = b"x") -> bytes:
    """A header of pax before a file."""
    first = member("pax", len(record), type=kind).tobuf(tarfile.USTAR_FORMAT)
    return first + record.ljust(BLOCK, b"\0") + member("0.mp4", 4).tobuf(tarfile.USTAR_FORMAT) + bytes(3 * BLOCK)


@pytest.mark.parametrize(
    "archive, message",
    [
        (b"no archive".ljust(4 * BLOCK, b"."), "not a tar file: it does not begin with the header of a member"),
        (
            member("0.mp4", 5000).tobuf(tarfile.GNU_FORMAT) + bytes(BLOCK),
            "cut short: the member at byte 0 ends at byte 5632, the file at 1024",
        ),
        (
            member("0.mp4", 1 << 80).tobuf(tarfile.GNU_FORMAT) + bytes(BLOCK),
            "cut short: the member at byte 0 ends at byte 1208925819614629174706688",
        ),
        (member("0.mp4", -512).tobuf(tarfile.GNU_FORMAT), "the member at byte 0 states no size that makes sense"),
        (
            with_checksum(member("0.mp4").tobuf()[:124] + b"0000x000000\0" + member("0.mp4").tobuf()[136:]),
            "the member at byte 0 states no size that makes sense",
        ),
        (member("0.mp4", 5).tobuf() + bytes(BLOCK), "neither a member nor the archive's end is at byte 1024"),
        (pax_archive(b"15 size=-51200\n"), "the pax header at byte 0 is damaged"),
        (pax_archive(b"99 path=a\n"), "the pax header at byte 0 is damaged"),
        (pax_archive(b"3 path=a\n"), "the pax header at byte 0 is damaged"),
        (pax_archive(b"11 size=99\n"), None),
        (pax_archive(b"10 path=a\n", b"g"), "the pax header at byte 0 gives all members one name or size"),
        (pax_archive(b"22 GNU.sparse.major=1\n"), "'0.mp4' is a link, a sparse or a special file"),
        (
            member("L", 2 << 20, type=b"L").tobuf() + bytes(3 << 20),
            "the header at byte 0 has 2097152 bytes, more than 1048576",
        ),
    ],
)
def test_an_archive_that_lies_is_an_error_that_says_where(archive: bytes, message: str | None, tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    path.write_bytes(archive)
    if message is None:
        assert by_headers(path) == by_tarfile(path)
        return
    with pytest.raises(UnreadableVideoError, match=f"x.tar: .*{message}"):
        by_headers(path)


@pytest.mark.parametrize("format", FORMATS)
def test_headers_changed_at_random_are_read_as_tarfile_reads_them_or_refused(format: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    path = write(tmp_path / "x.tar", [member(name, 600) for name in [*NAMES, LONG[format]]], format)
    whole = path.read_bytes()
    with tarfile.open(path) as tar:
        headers = sorted(itertools.chain.from_iterable((info.offset, info.offset_data - BLOCK) for info in tar))
    fields = [*range(100), *range(124, 136), *[156] * 40]  # name, size, kind
    num_read = 0
    for _ in range(300):
        data = bytearray(whole)
        at = int(rng.choice(headers))
        data[at + int(rng.choice(fields))] = int(rng.choice([*b"0123456789LKxgSV\0\x80\xff", int(rng.integers(256))]))
        data[at : at + BLOCK] = with_checksum(bytes(data[at : at + BLOCK]))
        path.write_bytes(data)
        try:
            listed = by_headers(path)
        except UnreadableVideoError:
            continue
        num_read += 1
        assert listed == by_tarfile(path)
    assert num_read > 100
