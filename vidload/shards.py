"""Tar shards in WebDataset's layout, read with random access: which videos are in them, where, and their labels.

In: shards, local or at URLs: tar files in which the files of a sample share a name up to the first dot ("000.mp4", "000.cls", "000.json").
Out: `Annotations` whose videos are parts of the shards; nothing is unpacked. Every header of a shard is read to list it; an index file
(`vidload index`) keeps that list beside it, so that shards that did not change are not read again.
"""

from __future__ import annotations

import itertools
import json
import os
import posixpath
import re
import tarfile
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from vidload import _core
from vidload.annotations import VIDEO_EXTENSIONS, Annotations, path_array
from vidload.errors import UnreadableVideoError
from vidload.labels import column_of
from vidload.sources import Parts, SourceFile, is_url
from vidload.system.files import written_aside

MEMBERS_SUFFIX = ".members"  # of the list of members that stands beside an index file
_LABEL_BYTES = 1 << 20
_SHARDS_AT_ONCE = 16
_BLOCK = 512
# WebDataset's: the folder and all up to the first dot of the file's name; what follows it.
_KEY = re.compile(r"((?:.*/|)[^.]+)[.]([^/]*)", re.DOTALL)
_SCHEMA = pa.schema(
    [
        ("shard", pa.int32()),
        ("name", pa.binary()),
        ("offset", pa.int64()),
        ("size", pa.int64()),
        ("cls", pa.binary()),
        ("json", pa.binary()),
    ]
)
_VERSION = b"1"


class ShardVideo(NamedTuple):
    """A video in a shard. name: of the member; offset, size: of its bytes in the shard; cls, json: the members of these names beside it."""

    name: bytes
    offset: int
    size: int
    cls: bytes | None
    json: bytes | None


class Shard(NamedTuple):
    """A shard and its videos. stamp: of the file when it was listed."""

    path: str
    stamp: tuple[int, int]
    videos: list[ShardVideo]


def expand_braces(pattern: str) -> list[str]:
    """The names that a pattern stands for: "a-{000..002}.tar" is a-000.tar, a-001.tar and a-002.tar; "{train,val}.tar" is train.tar and val.tar.

    Raises:
        ValueError: a range makes no sense.
    """
    pieces = re.split(r"\{([^{}]*\.\.[^{}]*|[^{}]*,[^{}]*)\}", pattern)
    choices = [_choices(piece, pattern) if number % 2 else [piece] for number, piece in enumerate(pieces)]
    return ["".join(parts) for parts in itertools.product(*choices)]


def _choices(piece: str, pattern: str) -> list[str]:
    if "," in piece:
        return piece.split(",")
    match = re.fullmatch(r"(\d+)\.\.(\d+)", piece)
    if not match or int(match[2]) < int(match[1]):
        raise ValueError(f"{pattern!r}: {{{piece}}} is not a range such as {{000..099}}")
    width = (
        max(map(len, match.groups())) if any(text.startswith("0") and len(text) > 1 for text in match.groups()) else 0
    )
    return [f"{number:0{width}d}" for number in range(int(match[1]), int(match[2]) + 1)]


def shard_paths(shards: str | os.PathLike[str] | Iterable[str | os.PathLike[str]]) -> list[str]:
    """The shards that a pattern, or several, stand for."""
    patterns = [shards] if isinstance(shards, str | os.PathLike) else list(shards)
    paths = [path for pattern in patterns for path in expand_braces(os.fspath(pattern))]
    if not paths:
        raise ValueError("shards: no shards in the sequence")
    if len(set(paths)) < len(paths):
        twice = next(path for number, path in enumerate(paths) if path in paths[:number])
        raise ValueError(f"shards: {twice!r} is listed twice")
    return paths


def read_shards(
    shards: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    *,
    index: str | os.PathLike[str] | None = None,
    video: str | None = None,
    label: str = "label",
) -> Annotations:
    """Lists the videos of tar shards in WebDataset's layout, in the order of the shards and of their members.

    A sample's label is the integer in its .cls file, else the field `label` of its .json file (if that does not hold an object, its value is
    the label), else -1.

    Args:
        shards: a path or URL with braces ("train-{000..099}.tar"), or several.
        index: an index file; shards that have not changed since are taken from the list of members beside it.
        video: which file of a sample is the video, by what follows the first dot of its name ("left.mp4"); None = the one with a video's
            extension.
        label: the name of the label in .json files.

    Raises:
        FileNotFoundError: a shard does not exist.
        ValueError: a shard is not a tar file or is cut short, has no random access (compressed, sparse), or a label makes no sense.
        OSError: a shard cannot be read.
    """
    return shard_annotations(list_shards(shards, index=index, video=video), label)


def list_shards(
    shards: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    *,
    index: str | os.PathLike[str] | None = None,
    video: str | None = None,
) -> list[Shard]:
    """The shards with their videos; arguments and exceptions as for read_shards."""
    paths = shard_paths(shards)
    known = {} if index is None or video is not None else _kept_shards(Path(f"{os.fspath(index)}{MEMBERS_SUFFIX}"))
    with ThreadPoolExecutor(_SHARDS_AT_ONCE if any(map(is_url, paths)) else 1) as threads:
        return list(threads.map(lambda path: _listed(path, known.get(_absolute(path)), video), paths))


def _listed(path: str, known: Shard | None, video: str | None) -> Shard:
    if known is not None and _core.stamp_of(path) == known.stamp:
        return known._replace(path=path)
    return list_shard(path, video)


def list_shard(path: str, video: str | None = None) -> Shard:
    """The videos of one shard; `video` and exceptions as for read_shards."""
    source = _core.ByteSource(path)
    found: dict[bytes, dict[str, tuple[bytes, int, int]]] = {}
    try:
        with tarfile.open(fileobj=SourceFile(source), mode="r:", encoding="utf-8", errors="surrogateescape") as tar:
            for member in tar:
                if member.isdir():
                    continue
                # Index files know a video by its tidied path: two names that become one must not pass for one video.
                name = posixpath.normpath(member.name).lstrip("/")
                match = _KEY.fullmatch(name)
                if not match:
                    continue  # as WebDataset does: it has no key
                if "\0" in name or name.startswith("../"):
                    raise _unreadable(path, f"{member.name!r} is not the name of a file")
                if not member.isreg() or member.issparse():
                    raise _unreadable(
                        path, f"{member.name!r} is a link, a sparse or a special file; write the shard with plain files"
                    )
                files = found.setdefault(os.fsencode(match[1]), {})
                extension = match[2].lower()
                if extension in files:
                    raise _unreadable(
                        path, f"{member.name!r} is there twice, or differs from another name only in case; rename it"
                    )
                files[extension] = (os.fsencode(name), member.offset_data, member.size)
                tar.members = []  # type: ignore[attr-defined]  # it keeps them all
            end = tar.offset
    except tarfile.TarError as error:
        why = (
            "a compressed archive has no random access; decompress it to a plain .tar"
            if source.read(0, 2) == b"\x1f\x8b"
            else error
        )
        raise _unreadable(path, f"not a whole tar file ({why})") from error
    if source.read(end, _BLOCK).strip(b"\0") or source.size < end + _BLOCK:
        raise _unreadable(
            path, f"damaged or cut short: neither a member nor the archive's end is at byte {end}; get it again"
        )
    videos = [_video(path, source, key, files, video) for key, files in found.items()]
    source.check_unchanged()
    return Shard(path, source.stamp, [found_video for found_video in videos if found_video is not None])


def _video(
    path: str, source: _core.ByteSource, key: bytes, files: dict[str, tuple[bytes, int, int]], video: str | None
) -> ShardVideo | None:
    if video is None:
        names = [extension for extension in files if f".{extension}".endswith(VIDEO_EXTENSIONS)]
    else:
        names = [extension for extension in files if extension == video.lower()]
    if not names:
        return None
    if len(names) > 1:
        raise _unreadable(
            path,
            f"sample {os.fsdecode(key)!r} has {len(names)} videos ({', '.join(names)}), since a sample's name ends at the first dot; "
            f"choose one with video={names[0]!r}, or write names without further dots",
        )
    name, offset, size = files[names[0]]
    if size == 0:
        raise _unreadable(path, f"{os.fsdecode(name)!r} is empty; write the shard without it")
    labels: dict[str, bytes | None] = {}
    for extension in ("cls", "json"):
        labels[extension] = None
        if extension in files:
            _, label_offset, label_size = files[extension]
            if label_size > _LABEL_BYTES:
                raise _unreadable(
                    path,
                    f"the .{extension} of {os.fsdecode(key)!r} has {label_size} bytes, more than a label's {_LABEL_BYTES}",
                )
            labels[extension] = source.read(label_offset, label_size)
    return ShardVideo(name, offset, size, labels["cls"], labels["json"])


def _unreadable(path: str, reason: str) -> UnreadableVideoError:
    return UnreadableVideoError(path, None, reason)


def shard_annotations(shards: Sequence[Shard], label: str = "label") -> Annotations:
    """What read_shards makes of shards."""
    rows = [(number, video) for number, shard in enumerate(shards) for video in shard.videos]
    if not rows:
        raise ValueError(
            f"{shards[0].path}: no videos in {len(shards)} shards (looked for {', '.join(VIDEO_EXTENSIONS)})"
        )
    names = [f"{shards[number].path}/{os.fsdecode(video.name)}" for number, video in rows]
    labels = [_label(name, video, label) for name, (_, video) in zip(names, rows, strict=True)]
    parts = Parts(
        tuple(shard.path for shard in shards),
        np.array([number for number, _ in rows], np.int32),
        np.array([video.offset for _, video in rows], np.int64),
        np.array([video.size for _, video in rows], np.int64),
        np.array([shard.stamp for shard in shards], np.int64),
    )
    return Annotations(path_array(names), column_of(labels), parts=parts)


def _label(name: str, video: ShardVideo, field: str) -> Any:
    if video.cls is not None:
        try:
            return int(video.cls)
        except ValueError:
            raise ValueError(f"{name}: its .cls file says {video.cls[:40]!r}, which is not an integer") from None
    if video.json is None:
        return -1
    try:
        found = json.loads(video.json)
    except ValueError as error:
        raise ValueError(f"{name}: its .json file is not JSON ({error})") from None
    if not isinstance(found, dict):
        return found
    if field not in found:
        raise ValueError(
            f"{name}: its .json file has no {field!r}, only {', '.join(map(repr, found))}; name one with label="
        )
    return found[field]


# --- the list beside an index file


def _absolute(path: str) -> str:
    return path if is_url(path) else os.path.abspath(path)


def keep_shards(shards: Sequence[Shard], index: str | os.PathLike[str]) -> Path:
    """Writes the list of members beside an index file, where read_shards finds it."""
    path = Path(f"{os.fspath(index)}{MEMBERS_SUFFIX}")
    folder = os.path.abspath(path.parent) + os.sep
    listed = [(os.fsencode(_absolute(shard.path).removeprefix(folder)).hex(), *shard.stamp) for shard in shards]
    rows = [{"shard": number, **video._asdict()} for number, shard in enumerate(shards) for video in shard.videos]
    table = pa.Table.from_pylist(rows, schema=_SCHEMA)
    metadata = {b"vidload_members": _VERSION, b"shards": json.dumps(listed).encode()}
    with (
        written_aside(path) as part,
        pa.OSFile(os.fspath(part), "wb") as file,
        pa.ipc.new_file(
            file, _SCHEMA.with_metadata(metadata), options=pa.ipc.IpcWriteOptions(compression="lz4")
        ) as writer,
    ):
        writer.write_table(table)
    return path


def _kept_shards(path: Path) -> dict[str, Shard]:
    """By their absolute paths; none where there is no list that this version can read: the shards tell all it does."""
    try:
        table = pa.ipc.open_file(pa.BufferReader(path.read_bytes())).read_all()
        table.validate(full=True)
        metadata = table.schema.metadata or {}
        if metadata.get(b"vidload_members") != _VERSION or table.schema.remove_metadata() != _SCHEMA:
            return {}
        names = [
            (os.fsdecode(bytes.fromhex(name)), (int(size), int(mtime)))
            for name, size, mtime in json.loads(metadata[b"shards"])
        ]
        shards = [
            Shard(name if is_url(name) else os.path.join(os.path.abspath(path.parent), name), stamp, [])
            for name, stamp in names
        ]
        columns = [table.column(name).to_pylist() for name in ("shard", *ShardVideo._fields)]
        for number, name, offset, size, cls, json_ in zip(*columns, strict=True):
            if not 0 <= number < len(shards) or offset < 0 or size < 1:
                return {}
            shards[number].videos.append(ShardVideo(name, offset, size, cls, json_))
        return {shard.path: shard for shard in shards}
    except (OSError, ValueError, KeyError, TypeError, pa.ArrowException):
        return {}
