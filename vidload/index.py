"""The dataset's index file: the packet index of every video, written once and read by every process that trains.

One Arrow IPC file with a row per video: path (bytes if one of them is not UTF-8), size and mtime_ns (if either has changed, the video is
scanned again), facts for people and tools (num_frames, width, height, average_fps, duration_seconds, codec), reason (why a file could not
be read, else null) and packets (the packet index with its checksum, opaque to all but the core). An index file is input: what it says is
checked before it is used, and an entry that is damaged or belongs to another file only costs a scan of its video. Paths below the index
file's folder are stored relative to it, so the two may move together.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from tqdm import tqdm

from vidload import _core
from vidload.annotations import Annotations, path_array
from vidload.sources import URL_PATTERN, Source, is_url
from vidload.system.cores import available_cores
from vidload.system.files import written_aside

_SCHEMA = pa.schema(
    [
        ("path", pa.string()),
        ("size", pa.int64()),
        ("mtime_ns", pa.int64()),
        ("num_frames", pa.int64()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("average_fps", pa.float64()),
        ("duration_seconds", pa.float64()),
        ("codec", pa.string()),
        ("reason", pa.string()),
        ("packets", pa.large_binary()),
    ],
    metadata={"vidload_index": "2"},
)
_FILES_PER_STEP = 64
_BYTES_PER_BATCH = 8 << 20  # rows are written in parts of this size: each has a cost of its own when the file is opened


class DatasetIndex:
    """An index file, opened for reading.

    Args:
        path: what `build_index` wrote.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not an index of this version.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        try:
            mapped = pa.memory_map(os.fspath(path)).read_buffer()
            table = pa.ipc.open_file(mapped).read_all()
            self._check_version(table.schema)
            self._check_columns(table.schema)
            table.validate(full=True)  # offsets and text: what is read below must not lead out of the file
            self._stored: npt.NDArray[np.int64] = self._places(table, mapped)
            # A copy: a mapped file that is cut short, or whose disk fails, ends the process at the next access.
            self._paths = _unpacked(_packed(table.select(["path"]), None)).column("path")
            self._facts = _packed(table.drop_columns(["path", "size", "mtime_ns", "packets"]), "lz4")
            del table, mapped
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno is not None):
                raise
            raise ValueError(f"{path}: not an index file ({error}); write it with 'vidload index'") from None
        self.file = _core.IndexFile(os.fspath(path))

    def _check_version(self, schema: pa.Schema) -> None:
        version = (schema.metadata or {}).get(b"vidload_index")
        if version != _SCHEMA.metadata[b"vidload_index"]:
            what = "not an index of vidload's" if version is None else "an index of another version"
            raise ValueError(f"{self.path}: {what}; write it again with 'vidload index'")

    def _check_columns(self, schema: pa.Schema) -> None:
        for field in _SCHEMA:
            places = schema.get_all_field_indices(field.name)
            types = (field.type, pa.binary()) if field.name == "path" else (field.type,)
            if len(places) != 1 or schema.field(places[0]).type not in types:
                found = "missing" if not places else f"{schema.field(places[0]).type}, not {field.type}"
                raise ValueError(f"{self.path}: column {field.name!r} is {found}; write it again with 'vidload index'")

    def __len__(self) -> int:
        return len(self._paths)

    def __getstate__(self) -> dict[str, Path]:
        return {"path": self.path}

    def __setstate__(self, state: dict[str, Path]) -> None:
        self.__init__(state["path"])  # type: ignore[misc]

    @property
    def table(self) -> pa.Table:
        """All columns but `packets`."""
        facts = _unpacked(self._facts)
        columns = [self._paths, pa.array(self._stored[:, 2]), pa.array(self._stored[:, 3]), *facts.columns]
        return pa.table(columns, names=["path", "size", "mtime_ns", *facts.column_names])

    def _places(self, table: pa.Table, mapped: pa.Buffer) -> npt.NDArray[np.int64]:
        """int64 [N, 4]: where in the file a row's packets are, how many bytes (0 if the video failed), size and mtime of the video."""
        columns = ("path", "size", "mtime_ns", "packets")
        if empty := [name for name in columns if table.column(name).null_count > 0]:
            raise ValueError(f"{self.path}: column {empty[0]!r} has nulls; write it again with 'vidload index'")
        rows = []
        for chunk in table.column("packets").chunks:
            if len(chunk) == 0:
                continue
            _, offsets, data = chunk.buffers()
            ends = np.frombuffer(offsets, np.int64)[chunk.offset : chunk.offset + len(chunk) + 1]
            start = 0 if data is None else data.address - mapped.address
            if not 0 <= start <= mapped.size:  # Arrow has unpacked it: this file was not written by build_index
                raise ValueError(f"{self.path}: its packets are compressed; write it again with 'vidload index'")
            rows.append(np.stack([start + ends[:-1], np.diff(ends)], axis=1))
        places = np.concatenate(rows) if rows else np.zeros((0, 2), np.int64)
        size, mtime = (table.column(name).to_numpy() for name in ("size", "mtime_ns"))
        return np.column_stack([places, size, mtime]).astype(np.int64)

    def lookup(self, paths: pa.StringArray | pa.BinaryArray) -> npt.NDArray[np.int64]:
        """Where the core finds each path's entry in `file`: int64 [len(paths), 4], rows of zeros for paths that are not in the index."""
        known, wanted = _absolute_array(self._paths, self.path.parent), _absolute_array(paths, Path.cwd())
        if known.equals(wanted):  # as mostly where both were made from one list
            return np.array(self._stored)
        row = pc.fill_null(pc.index_in(wanted, value_set=known), -1).to_numpy()
        stored = np.zeros((len(row), 4), np.int64)
        stored[row >= 0] = self._stored[row[row >= 0]]
        return stored


def _packed(table: pa.Table, compression: str | None) -> pa.Buffer:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(compression=compression)) as writer:
        writer.write_table(table)
    return sink.getvalue()


def _unpacked(packed: pa.Buffer) -> pa.Table:
    return pa.ipc.open_stream(packed).read_all()


def _absolute_array(paths: pa.Array | pa.ChunkedArray, folder: Path) -> pa.ChunkedArray:
    """As `_absolute`, in large_binary. Names that hold nothing to tidy are joined by Arrow, without an object of Python's for each."""
    names = (paths if isinstance(paths, pa.ChunkedArray) else pa.chunked_array([paths])).cast(pa.large_binary())
    base = os.path.join(os.path.abspath(os.fsencode(folder)), b"")
    is_whole = pc.starts_with(names, "/")
    is_remote = pc.match_substring_regex(names, URL_PATTERN)
    joined = pc.if_else(
        pc.or_(is_whole, is_remote),
        names,
        pc.binary_join_element_wise(pa.scalar(base, names.type), names, pa.scalar(b"", names.type)),
    )
    is_untidy = pc.and_not(pc.match_substring_regex(joined, r"/\.{0,2}(/|$)"), is_remote)
    if not pc.any(is_untidy).as_py():
        return joined
    tidied = [os.path.normpath(path) for path in joined.filter(is_untidy).to_pylist()]
    return pa.chunked_array(
        [pc.replace_with_mask(joined.combine_chunks(), is_untidy.combine_chunks(), pa.array(tidied, joined.type))]
    )


def _absolute(paths: Iterable[str | bytes], folder: Path) -> list[bytes]:
    base = os.path.abspath(os.fsencode(folder))
    return [
        os.fsencode(path) if is_url(path) else os.path.normpath(os.path.join(base, os.fsencode(path))) for path in paths
    ]


@dataclass(frozen=True)
class IndexSummary:
    """What `build_index` did.

    Attributes:
        num_files: files in the index.
        num_scanned: how many of them were read; the others were indexed before and have not changed.
        failures: (path, reason) of the files that cannot be read.
    """

    num_files: int
    num_scanned: int
    failures: tuple[tuple[str, str], ...]


def build_index(
    paths: Sequence[str] | Annotations,
    output: str | os.PathLike[str],
    *,
    num_workers: int | None = None,
    progress: bool = False,
) -> IndexSummary:
    """Indexes videos and writes the index file, either completely or not at all. If there is an index at `output` already, files that have
    not changed since are not read again.

    A file that cannot be read does not stop the run: it is listed with its reason, in the file and in the result.

    Args:
        paths: video files or URLs, or annotations; a path given twice is indexed once.
        output: the file to write.
        num_workers: threads; None = the cores this process may use.
        progress: whether to show a progress bar on stderr.

    Raises:
        OSError: `output` cannot be written.
    """
    target = Path(output)
    target.parent.mkdir(parents=True, exist_ok=True)
    sources = _unique_sources(paths)
    unique = list(sources)
    names = path_array(unique)
    schema = _SCHEMA.set(0, pa.field("path", names.type))
    earlier = _earlier_index(target)
    stored = None if earlier is None else earlier.lookup(names)
    earlier_file = None if earlier is None else earlier.file
    pool = _core.LoaderPool(available_cores() if num_workers is None else num_workers)
    folder = os.path.abspath(target.parent) + os.sep
    failures: list[tuple[str, str]] = []
    with (
        written_aside(target) as part,
        pa.OSFile(os.fspath(part), "wb") as file,
        pa.ipc.new_file(file, schema) as writer,
        tqdm(total=len(unique), unit="file", desc="indexing", disable=not progress) as bar,
    ):
        rows: list[dict[str, Any]] = []
        for start in range(0, len(unique), _FILES_PER_STEP):
            step = unique[start : start + _FILES_PER_STEP]
            rows_of_step = None if stored is None else stored[start : start + _FILES_PER_STEP]
            batch = _core.Batch(
                pool, [sources[path] for path in step], rows_of_step, earlier_file, needs_whole_indexes=True
            )
            batch.wait()
            for path, info, error in zip(step, batch.infos(), batch.errors(), strict=True):
                name = path.removeprefix(folder)
                rows.append(_row(name if pa.types.is_string(names.type) else os.fsencode(name), info, error))
                if error is not None:
                    failures.append((path, error.reason))
            num_bytes = sum(len(row["packets"]) for row in rows)
            if num_bytes >= _BYTES_PER_BATCH or start + _FILES_PER_STEP >= len(unique):
                writer.write_batch(pa.RecordBatch.from_pylist(rows, schema=schema))
                rows = []
            bar.update(len(step))
    return IndexSummary(len(unique), pool.stats()["num_files_scanned"] + len(failures), tuple(failures))


def _unique_sources(paths: Sequence[str] | Annotations) -> dict[str, Source]:
    """Where each video is, by its name as an absolute path."""
    if not isinstance(paths, Annotations):
        return {(name := os.fsdecode(path)): name for path in _absolute(paths, Path.cwd())}
    names = map(os.fsdecode, _absolute(paths.path_list(), Path.cwd()))
    if paths.parts is None:
        return {name: name for name in names}
    return {name: paths.parts.source(row, os.fsencode(name)) for row, name in enumerate(names)}


def _earlier_index(target: Path) -> DatasetIndex | None:
    try:
        return DatasetIndex(target)
    except (OSError, ValueError):
        return None  # there is none that this version can read: all files are scanned


def _row(name: str | bytes, info: _core.SampleInfo | None, error: Exception | None) -> dict[str, object]:
    if error is not None or info is None:
        reason = getattr(error, "reason", str(error))
        return {"path": name, "size": -1, "mtime_ns": -1, "reason": reason, "packets": b""}
    index = info.index
    assert index is not None  # only folders of frames have none
    size, mtime_ns = index.stamp  # of the state of the file that was read, whatever became of it since
    return {
        "path": name,
        "size": size,
        "mtime_ns": mtime_ns,
        "num_frames": info.num_frames,
        "width": info.width,
        "height": info.height,
        "average_fps": info.average_fps,
        "duration_seconds": index.duration_seconds,
        "codec": index.codec,
        "reason": None,
        "packets": index.to_bytes(),
    }
