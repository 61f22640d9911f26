"""The dataset's index file: the packet index of every video, written once and read by every process that trains.

One Arrow IPC file with a row per video: path (bytes if one of them is not UTF-8), size and mtime_ns (if either has changed, the video is
scanned again), facts for people and tools (num_frames, width, height, average_fps, duration_seconds, codec), reason (why a file could not
be read, else null) and packets (the packet index with its checksum, opaque to all but the core). An index file is input: what it says is
checked before it is used, and an entry that is damaged or belongs to another file only costs a scan of its video. Paths below the index
file's folder are stored relative to it, so the two may move together.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from vidload import _core
from vidload.sources import URL_PATTERN, absolute, is_url

SCHEMA = pa.schema(
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


class DatasetIndex:
    """An index file, opened for reading.

    Args:
        path: what `build_index` wrote.
        is_cut_short: whether it may end anywhere: what is whole before is read.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not an index of this version.
    """

    def __init__(self, path: str | os.PathLike[str], *, is_cut_short: bool = False) -> None:
        if is_url(os.fspath(path)):
            raise ValueError(f"{os.fspath(path)}: index files are read from a disk; copy it to one")
        self.path = Path(path)
        try:
            mapped = pa.memory_map(os.fspath(path)).read_buffer()
            table = (
                pa.Table.from_batches(_whole_batches(mapped)) if is_cut_short else pa.ipc.open_file(mapped).read_all()
            )
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
        if version != SCHEMA.metadata[b"vidload_index"]:
            what = "not an index of vidload's" if version is None else "an index of another version"
            raise ValueError(f"{self.path}: {what}; write it again with 'vidload index'")

    def _check_columns(self, schema: pa.Schema) -> None:
        for field in SCHEMA:
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


def whole_batches(path: Path) -> list[pa.RecordBatch]:
    """The rows of an index file that may end anywhere, as far as they are whole."""
    with pa.memory_map(os.fspath(path)) as file:
        return _whole_batches(file.read_buffer())


def _whole_batches(mapped: pa.Buffer) -> list[pa.RecordBatch]:
    """A file of Arrow's is a stream of batches behind 8 bytes; a table of them follows, which is missing where it was not closed."""
    batches = []
    try:
        with pa.ipc.open_stream(mapped.slice(8)) as stream:
            for batch in stream:
                batch.validate(full=True)
                batches.append(batch)
    except (pa.ArrowException, OSError, IndexError):
        pass
    return batches


def _packed(table: pa.Table, compression: str | None) -> pa.Buffer:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(compression=compression)) as writer:
        writer.write_table(table)
    return sink.getvalue()


def _unpacked(packed: pa.Buffer) -> pa.Table:
    return pa.ipc.open_stream(packed).read_all()


def _absolute_array(paths: pa.Array | pa.ChunkedArray, folder: Path) -> pa.ChunkedArray:
    """Absolute and tidied names, URLs as they are, in large_binary. Names that hold nothing to tidy are joined by Arrow, without an object of Python's for each."""
    names = (paths if isinstance(paths, pa.ChunkedArray) else pa.chunked_array([paths])).cast(pa.large_binary())
    base = os.path.join(os.fsencode(absolute(os.fspath(folder))), b"")
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
    tidied = [os.fsencode(absolute(os.fsdecode(path))) for path in joined.filter(is_untidy).to_pylist()]
    return pa.chunked_array(
        [pc.replace_with_mask(joined.combine_chunks(), is_untidy.combine_chunks(), pa.array(tidied, joined.type))]
    )
