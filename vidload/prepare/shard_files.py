"""Tar shards of prepared videos, in WebDataset's layout: `key.mp4`, and `key.cls` with the class or `key.json` with another label.

In: files and their labels. Out: `NAME-000000.tar` and so on, each written aside and renamed when whole, the same bytes for the same files.
"""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from vidload.index_building import build_index
from vidload.shards import keep_shards, list_shards, shard_annotations
from vidload.system.files import written_aside

_BLOCK = 512
SHARD_INDEX_SUFFIX = "-shards.vidx"


def write_shards(
    videos: Iterable[tuple[Path, str, Any]], folder: Path, name: str, max_bytes: int, *, num_workers: int | None = None
) -> tuple[list[Path], Path]:
    """Writes shards of at most `max_bytes` (more where one video alone has more), and the index file `NAME-shards.vidx` of them; shards of an
    earlier run that had more of them are removed. Returns the shards and the index file.

    Args:
        videos: (file, its name relative to the dataset, label) of each; a label of -1 is none.
    """
    shards: list[Path] = []
    for number, members in enumerate(_parted(_members(videos), max_bytes)):
        shards.append(folder / f"{name}-{number:06d}.tar")
        with written_aside(shards[-1], is_durable=True) as part, tarfile.open(part, "w") as tar:
            for member, data in members:
                if isinstance(data, Path):
                    with data.open("rb") as file:
                        tar.addfile(member, file)
                else:
                    tar.addfile(member, io.BytesIO(data))
    for stale in folder.glob(f"{name}-[0-9][0-9][0-9][0-9][0-9][0-9].tar"):
        if stale not in shards:
            stale.unlink()
    index = folder / f"{name}{SHARD_INDEX_SUFFIX}"
    listed = list_shards(shards)
    build_index(shard_annotations(listed), index, num_workers=num_workers)
    keep_shards(listed, index)
    return shards, index


_Members = list[tuple[tarfile.TarInfo, Path | bytes]]


def _members(videos: Iterable[tuple[Path, str, Any]]) -> Iterator[_Members]:
    """The members of each sample."""
    keys: set[str] = set()
    for path, name, label in videos:
        key = _key(name, keys)
        members: _Members = [(_member(f"{key}.mp4", path.stat().st_size), path)]
        if not isinstance(label, int):
            data = json.dumps({"label": label}).encode()
            members.append((_member(f"{key}.json", len(data)), data))
        elif label != -1:
            data = str(label).encode()
            members.append((_member(f"{key}.cls", len(data)), data))
        yield members


def _key(name: str, taken: set[str]) -> str:
    """A key ends at the first dot of the file's name, so that it can hold none."""
    folder, base = os.path.split(os.path.splitext(name)[0])
    stem = os.path.join(folder, base.replace(".", "_"))
    key, number = stem, 1
    while key in taken:
        number += 1
        key = f"{stem}_{number}"
    taken.add(key)
    return key


def _member(name: str, size: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size = size
    return member


def _parted(samples: Iterable[_Members], max_bytes: int) -> Iterator[_Members]:
    shard: _Members = []
    num_bytes = 0
    for sample in samples:
        size = sum(_BLOCK + -(-member.size // _BLOCK) * _BLOCK for member, _ in sample)
        if shard and num_bytes + size > max_bytes - tarfile.RECORDSIZE:
            yield shard
            shard, num_bytes = [], 0
        shard += sample
        num_bytes += size
    if shard:
        yield shard
