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
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from vidload import _core
from vidload.annotations import VIDEO_EXTENSIONS, Annotations
from vidload.labels import Column, column_of
from vidload.sources import Parts, absolute, is_url
from vidload.system.files import written_aside
from vidload.tar_headers import Members, not_plain, read_members, unreadable

MEMBERS_SUFFIX = ".members"  # of the list of members that stands beside an index file
_LABEL_BYTES = 1 << 20
_SHARDS_AT_ONCE = 16
# WebDataset's: the folder and all up to the first dot of the file's name; what follows it.
_KEY = re.compile(rb"((?:.*/|)[^.]+)[.]([^/]*)", re.DOTALL)
_VIDEO_FIELDS = [
    ("name", pa.binary()),
    ("offset", pa.int64()),
    ("size", pa.int64()),
    ("cls", pa.binary()),
    ("json", pa.binary()),
]
_VIDEOS = pa.schema(_VIDEO_FIELDS)
_SCHEMA = pa.schema([("shard", pa.int32()), *_VIDEO_FIELDS])
_VERSION = b"2"


class Shard(NamedTuple):
    """A shard and its videos. stamp: of the file when it was listed.

    videos: a row for each. name: of the member; offset, size: of its bytes in the shard; cls, json: the members of these names beside it, or
    null.
    """

    path: str
    stamp: tuple[int, int]
    videos: pa.Table


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
    with ThreadPoolExecutor(_SHARDS_AT_ONCE) as threads:
        return list(threads.map(lambda path: _listed(path, known.get(absolute(path)), video), paths))


def _listed(path: str, known: Shard | None, video: str | None) -> Shard:
    if known is not None and _core.stamp_of(path) == known.stamp:
        return known._replace(path=path)
    return list_shard(path, video)


def list_shard(path: str, video: str | None = None) -> Shard:
    """The videos of one shard; `video` and exceptions as for read_shards."""
    source = _core.ByteSource(path)
    members = read_members(source, path, is_remote=is_url(path), wanted=(b".cls", b".json"))
    names, keys, extensions, rows = [], [], [], []
    for row, stored in enumerate(members.names):
        name = _tidied(stored)
        match = _KEY.fullmatch(name)
        if not match:
            continue  # as WebDataset does: it has no key
        if b"\0" in name or name.startswith(b"../"):
            raise unreadable(path, f"{os.fsdecode(stored)!r} is not the name of a file")
        if not members.is_file[row]:
            raise not_plain(path, stored)
        names.append(name)
        keys.append(match[1])
        extension = match[2]
        extensions.append(extension.lower() if extension.isascii() else os.fsencode(os.fsdecode(extension).lower()))
        rows.append(row)
    samples = pa.array(keys, pa.binary()).dictionary_encode()
    kinds = pa.array(extensions, pa.binary()).dictionary_encode()
    sample, kind = samples.indices.to_numpy(), kinds.indices.to_numpy().astype(np.int64)
    kind_names: list[str] = [os.fsdecode(name) for name in kinds.dictionary.to_pylist()]
    _, first = np.unique(sample * np.int64(len(kind_names)) + kind, return_index=True)
    if len(first) < len(rows):
        again = np.setdiff1d(np.arange(len(rows)), first)[0]
        twice = os.fsdecode(members.names[rows[again]])
        raise unreadable(path, f"{twice!r} is there twice, or differs from another name only in case; rename it")

    if video is None:
        is_kind = [f".{name}".endswith(VIDEO_EXTENSIONS) for name in kind_names]
    else:
        is_kind = [name == video.lower() for name in kind_names]
    found = np.flatnonzero(np.array(is_kind, bool)[kind])
    found = found[np.argsort(sample[found], kind="stable")]
    if len(several := np.flatnonzero(np.bincount(sample[found]) > 1)):
        choice = [kind_names[kind[i]] for i in found if sample[i] == several[0]]
        raise unreadable(
            path,
            f"sample {os.fsdecode(samples.dictionary[int(several[0])].as_py())!r} has {len(choice)} videos ({', '.join(choice)}), since a "
            f"sample's name ends at the first dot; choose one with video={choice[0]!r}, or write names without further dots",
        )
    _refuse_dotted_labels(path, names, sample, kind, kind_names, found)
    sizes = [members.sizes[rows[i]] for i in found]
    table: dict[str, list[Any]] = {
        "name": [names[i] for i in found],
        "offset": [members.offsets[rows[i]] for i in found],
        "size": sizes,
    }
    if 0 in sizes:
        empty = os.fsdecode(names[found[sizes.index(0)]])
        raise unreadable(path, f"{empty!r} is empty; write the shard without it")
    for label in ("cls", "json"):
        has_it = np.flatnonzero(kind == kind_names.index(label)) if label in kind_names else np.zeros(0, np.int64)
        row_of = dict(zip(sample[has_it].tolist(), (rows[i] for i in has_it), strict=True))
        label_rows = [row_of.get(number) for number in sample[found].tolist()]
        table[label] = [None if row is None else _label_bytes(path, source, members, row) for row in label_rows]
    source.check_unchanged()
    return Shard(path, source.stamp, pa.table(table, _VIDEOS))


def _refuse_dotted_labels(
    path: str,
    names: Sequence[bytes],
    sample: NDArray[np.int64],
    kind: NDArray[np.int64],
    kind_names: Sequence[str],
    videos: NDArray[np.int64],
) -> None:
    """Raises ValueError for a video without a label beside a file that looks like one: "v.1.cls" is no label of the sample "v".

    names, sample, kind: of all members. videos: the members that are videos.
    """
    dotted = np.flatnonzero(np.array([name.endswith((".cls", ".json")) for name in kind_names], bool)[kind])
    if not len(dotted):
        return
    has_label = set(sample[np.array([name in ("cls", "json") for name in kind_names], bool)[kind]].tolist())
    video_of = {int(sample[i]): i for i in videos.tolist() if sample[i] not in has_label}
    for i in dotted.tolist():
        stem, _, ending = kind_names[kind[i]].rpartition(".")
        video = video_of.get(int(sample[i]))
        if video is not None and (ending == "cls" or stem == kind_names[kind[video]].rpartition(".")[0]):
            raise unreadable(
                path,
                f"{os.fsdecode(names[video])!r} has no label: a sample's name ends at the first dot, so {os.fsdecode(names[i])!r} is not "
                "taken for one; write names without further dots",
            )


def _tidied(name: bytes) -> bytes:
    """Index files know a video by its tidied path: two names that become one must not pass for one video."""
    if name[:1] in (b"/", b".") or b"//" in name or b"/." in name or name[-1:] == b"/":
        return posixpath.normpath(name).lstrip(b"/") if b"\0" not in name else name
    return name


def _label_bytes(path: str, source: _core.ByteSource, members: Members, row: int) -> bytes:
    if row in members.data:
        return members.data[row]
    if members.sizes[row] > _LABEL_BYTES:
        name = os.fsdecode(members.names[row])
        raise unreadable(path, f"{name!r} has {members.sizes[row]} bytes, more than a label's {_LABEL_BYTES}")
    return source.read(members.offsets[row], members.sizes[row])


def shard_annotations(shards: Sequence[Shard], label: str = "label") -> Annotations:
    """What read_shards makes of shards."""
    num_videos = [len(shard.videos) for shard in shards]
    if not any(num_videos):
        raise ValueError(
            f"{shards[0].path}: no videos in {len(shards)} shards (looked for {', '.join(VIDEO_EXTENSIONS)})"
        )
    names = pa.concat_arrays(
        [
            pc.binary_join_element_wise(os.fsencode(shard.path), chunk, b"/")
            for shard in shards
            for chunk in shard.videos["name"].chunks
        ]
    )
    with suppress(pa.ArrowInvalid):  # where a name is not UTF-8
        names = names.cast(pa.string())
    videos = pa.concat_tables([shard.videos for shard in shards])
    parts = Parts(
        tuple(shard.path for shard in shards),
        np.repeat(np.arange(len(shards), dtype=np.int32), num_videos),
        videos["offset"].to_numpy(),
        videos["size"].to_numpy(),
        np.array([shard.stamp for shard in shards], np.int64),
    )
    return Annotations(names, _labels(videos, names, label), parts=parts)


def _labels(videos: pa.Table, names: pa.Array, field: str) -> Column:
    classes = videos["cls"]
    is_usual = pc.match_substring_regex(classes, r"^\s*-?[0-9]{1,18}\s*$")
    if videos["json"].null_count == len(videos) and pc.all(pc.fill_null(is_usual, True)).as_py():
        numbers = pc.ascii_trim_whitespace(classes.cast(pa.string())).cast(pa.int64())
        return np.array(pc.fill_null(numbers, -1).to_numpy())
    labels: list[Any] = []
    for batch in videos.select(["cls", "json"]).to_batches(max_chunksize=10_000):
        for cls, text in zip(*(batch.column(name).to_pylist() for name in ("cls", "json")), strict=True):
            labels.append(_label(names, len(labels), cls, text, field))
    return column_of(labels, name_of=lambda row: os.fsdecode(names[row].as_py()))


def _label(names: pa.Array, row: int, cls: bytes | None, text: bytes | None, field: str) -> Any:
    if cls is None and text is None:
        return -1
    try:
        found = int(cls) if cls is not None else json.loads(text or b"")
    except ValueError as error:
        name = os.fsdecode(names[row].as_py())
        if cls is not None:
            raise ValueError(f"{name}: its .cls file says {cls[:40]!r}, which is not an integer") from None
        raise ValueError(f"{name}: its .json file is not JSON ({error})") from None
    if not isinstance(found, dict):
        return found
    if field not in found:
        raise ValueError(
            f"{os.fsdecode(names[row].as_py())}: its .json file has no {field!r}, "
            + (f"only {', '.join(map(repr, found))}; name one with label=" if found else "nor any other field")
        )
    return found[field]


# --- the list beside an index file


def keep_shards(shards: Sequence[Shard], index: str | os.PathLike[str]) -> Path:
    """Writes the list of members beside an index file, where read_shards finds it."""
    path = Path(f"{os.fspath(index)}{MEMBERS_SUFFIX}")
    folder = absolute(os.fspath(path.parent)) + os.sep
    listed = [(os.fsencode(absolute(shard.path).removeprefix(folder)).hex(), *shard.stamp) for shard in shards]
    number = np.repeat(np.arange(len(shards), dtype=np.int32), [len(shard.videos) for shard in shards])
    videos = pa.concat_tables([shard.videos for shard in shards])
    table = pa.table([pa.array(number), *videos.columns], schema=_SCHEMA)
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
        shard, offset, size = (table[name].to_numpy() for name in ("shard", "offset", "size"))
        if any(table[name].null_count for name in ("shard", "name", "offset", "size")):
            return {}
        if len(table) and not (shard[0] >= 0 and shard[-1] < len(names) and offset.min() >= 0 and size.min() >= 1):
            return {}
        if np.any(np.diff(shard) < 0):
            return {}
        starts = np.searchsorted(shard, np.arange(len(names) + 1)).tolist()
        videos = table.drop_columns(["shard"]).replace_schema_metadata()
        kept = {}
        for number, (name, stamp) in enumerate(names):
            known = name if is_url(name) else os.path.join(absolute(os.fspath(path.parent)), name)
            rows = videos.slice(starts[number], starts[number + 1] - starts[number])
            kept[known] = Shard(known, stamp, rows)
        return kept
    except (OSError, ValueError, KeyError, TypeError, pa.ArrowException):
        return {}
