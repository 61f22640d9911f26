"""Writes the index file of a dataset: reads every video that no earlier index has, here or on a Ray cluster.

In: videos, and what an index under the same name, or a run that was killed, has of them already. Out: the file (vidload.index), whole or
not at all.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from tqdm import tqdm

from vidload import _core
from vidload.annotations import Annotations, path_array
from vidload.errors import LostWorkError, VideoError
from vidload.index import SCHEMA, DatasetIndex, whole_batches
from vidload.sources import Source, absolute, is_url
from vidload.system.cores import available_cores
from vidload.system.files import PART_PREFIX, PART_SUFFIX, errors_named, remove
from vidload.system.ray_cluster import ray_cluster, ray_result

_FILES_PER_STEP = 64
# Rows are written in parts: each has a cost of its own when the file is opened, and a run that is killed loses the last one.
_BYTES_PER_BATCH = 8 << 20
_SECONDS_PER_BATCH = 60.0

_Row = dict[str, Any]


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
    engine: str = "local",
    progress: bool = False,
) -> IndexSummary:
    """Indexes videos and writes the index file, either completely or not at all. If there is an index at `output` already, or a run that was
    to write it was killed, files that it has read and that have not changed since are not read again.

    A file that cannot be read does not stop the run: it is listed with its reason, in the file and in the result.

    Args:
        paths: video files or URLs, or annotations; a path given twice is indexed once.
        output: the file to write.
        num_workers: threads; None = the cores this process may use. With "ray": tasks at a time; None = two for each core of the cluster.
        engine: "local" or "ray": a Ray cluster, of which all nodes need vidload and the same paths.
        progress: whether to show a progress bar on stderr.

    Raises:
        OSError: `output` cannot be written, or another run is writing it.
        ValueError: an argument makes no sense.
        LostWorkError: a task on the cluster was lost; what was read so far is kept for the next run.
        ModuleNotFoundError: `engine` is "ray", which is not installed.
    """
    if is_url(os.fspath(output)):
        raise ValueError(f"{os.fspath(output)}: index files are written to and read from a disk; name a local file")
    if engine not in ("local", "ray"):
        raise ValueError(f"engine {engine!r} is not one of local, ray")
    target = Path(output)
    target.parent.mkdir(parents=True, exist_ok=True)
    with _resumable(target) as (part, left_over):
        earlier = [index for index in (left_over, _earlier_index(target)) if index is not None]
        sources = _unique_sources(paths)
        reading = _Reading(sources, target.parent, earlier)
        steps = reading.rows_here(num_workers) if engine == "local" else reading.rows_on_ray(num_workers)
        with errors_named(target):
            failures = _write(part, steps, reading, progress)
    return IndexSummary(len(sources), reading.num_scanned + len(failures), failures)


def _write(part: Path, steps: Iterator[list[_Row]], reading: _Reading, progress: bool) -> tuple[tuple[str, str], ...]:
    """Writes all rows; returns (path, reason) of the files that cannot be read."""
    schema = SCHEMA.set(0, pa.field("path", reading.names.type))
    failures: list[tuple[str, str]] = []
    rows: list[_Row] = []
    num_done = num_bytes = 0
    start = last_written = time.monotonic()
    with (
        pa.OSFile(os.fspath(part), "wb") as file,
        pa.ipc.new_file(file, schema) as writer,
        tqdm(total=len(reading.names), unit="file", desc="indexing", disable=not progress, smoothing=0.05) as bar,
    ):
        try:
            for step in steps:
                for path, row in zip(reading.paths[num_done : num_done + len(step)], step, strict=True):
                    if row["reason"] is not None:
                        failures.append((path, row["reason"]))
                rows += step
                num_done += len(step)
                num_bytes += sum(max(row["size"], 0) for row in step)
                is_late = time.monotonic() - last_written >= _SECONDS_PER_BATCH
                if is_late or sum(len(row["packets"]) for row in rows) >= _BYTES_PER_BATCH:
                    writer.write_batch(pa.RecordBatch.from_pylist(rows, schema=schema))
                    rows, last_written = [], time.monotonic()
                speed = num_bytes / 1e6 / max(time.monotonic() - start, 1e-9)
                bar.set_postfix({"failed": len(failures), "MB/s": f"{speed:.0f}"}, refresh=False)
                bar.update(len(step))
        except LostWorkError:
            writer.write_batch(pa.RecordBatch.from_pylist(rows, schema=schema))  # kept for the next run
            raise
        if rows:
            writer.write_batch(pa.RecordBatch.from_pylist(rows, schema=schema))
    return tuple(failures)


class _Reading:
    """The rows of videos, in order, a list for each step: from the first of the earlier indexes that has a video, if it has not changed,
    else by reading it.

    paths, names: of the videos, absolute; as a list, and as Arrow has them. num_scanned: how many were read well so far.
    """

    def __init__(self, sources: dict[str, Source], folder: Path, earlier: Sequence[DatasetIndex]) -> None:
        self.paths = list(sources)
        self.names = path_array(self.paths)
        self.num_scanned = 0
        self._sources = sources
        self._folder = absolute(os.fspath(folder)) + os.sep
        self._earlier = earlier
        self._stored: npt.NDArray[np.int64] = np.zeros((len(self.paths), 4), np.int64)
        self._origin = np.full(len(self.paths), -1)  # the number of the earlier index that has it
        for number, index in reversed(list(enumerate(earlier))):
            found = index.lookup(self.names)
            is_known = found[:, 1] > 0
            self._stored[is_known] = found[is_known]
            self._origin[is_known] = number

    def rows_here(self, num_threads: int | None) -> Iterator[list[_Row]]:
        pool = _core.LoaderPool(available_cores() if num_threads is None else num_threads)
        for step in self._steps():
            yield self._started(pool, step)()
            self.num_scanned = pool.stats()["num_files_scanned"]

    def rows_on_ray(self, most_at_once: int | None) -> Iterator[list[_Row]]:
        pool = _core.LoaderPool(available_cores())  # reads what earlier indexes have
        with ray_cluster(most_at_once) as ray:
            read = ray.remote(num_cpus=1)(read_rows)
            most = most_at_once or 2 * max(int(ray.cluster_resources().get("CPU", 1)), 1)
            waiting: deque[tuple[range, list[int], Callable[[], list[_Row]], Any]] = deque()

            def first_rows() -> list[_Row]:
                step, unknown, known_rows, reference = waiting.popleft()
                rows = dict(zip((place for place in step if place not in unknown), known_rows(), strict=True))
                if unknown:
                    first = self.paths[unknown[0]]
                    what = f"the Ray task that read {first}" + f" and {len(unknown) - 1} more" * (len(unknown) > 1)
                    rows.update(zip(unknown, ray_result(ray, reference, what), strict=True))
                self.num_scanned += sum(rows[place]["reason"] is None for place in unknown)
                return [rows[place] for place in step]

            for step in self._steps():
                unknown = [place for place in step if not self._is_unchanged(place)]
                known = [place for place in step if place not in unknown]
                there = [(self._name(place), self._sources[self.paths[place]]) for place in unknown]
                waiting.append((step, unknown, self._started(pool, known), read.remote(there) if there else None))
                if len(waiting) >= most:
                    yield first_rows()
            while waiting:
                yield first_rows()

    def _steps(self) -> Iterator[range]:
        for start in range(0, len(self.paths), _FILES_PER_STEP):
            yield range(start, min(start + _FILES_PER_STEP, len(self.paths)))

    def _name(self, place: int) -> str | bytes:
        """As the index file has it: relative if the video lies below its folder."""
        name = self.paths[place].removeprefix(self._folder)
        return name if pa.types.is_string(self.names.type) else os.fsencode(name)

    def _is_unchanged(self, place: int) -> bool:
        if self._origin[place] < 0:
            return False
        source = self._sources[self.paths[place]]
        try:
            return _core.stamp_of(source) == tuple(self._stored[place, 2:].tolist())
        except VideoError:
            return False

    def _started(self, pool: _core.LoaderPool, places: Sequence[int]) -> Callable[[], list[_Row]]:
        """Begins to find the rows of these videos; what it returns waits for them."""
        batches = []
        for origin in np.unique(self._origin[list(places)]).tolist():
            group = [place for place in places if self._origin[place] == origin]
            file = None if origin < 0 else self._earlier[origin].file
            stored = None if origin < 0 else self._stored[group]
            of_group = [self._sources[self.paths[place]] for place in group]
            batches.append((group, _core.Batch(pool, of_group, stored, file, needs_whole_indexes=True)))

        def finish() -> list[_Row]:
            rows: dict[int, _Row] = {}
            for group, batch in batches:
                batch.wait()
                for place, info, error in zip(group, batch.infos(), batch.errors(), strict=True):
                    rows[place] = _row(self._name(place), info, error)
            return [rows[place] for place in places]

        return finish


def read_rows(videos: Sequence[tuple[str | bytes, Source]]) -> list[_Row]:
    """The rows of videos, given as (name, source), read by one thread: the work of a task on a cluster."""
    batch = _core.Batch(_core.LoaderPool(1), [source for _, source in videos], needs_whole_indexes=True)
    batch.wait()
    results = zip(videos, batch.infos(), batch.errors(), strict=True)
    return [_row(name, info, error) for (name, _), info, error in results]


def _row(name: str | bytes, info: _core.SampleInfo | None, error: Exception | None) -> _Row:
    if error is not None or info is None:
        return _failed_row(name, getattr(error, "reason", str(error)))
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


def _failed_row(name: str | bytes, reason: str) -> _Row:
    return {"path": name, "size": -1, "mtime_ns": -1, "reason": reason, "packets": b""}


def _unique_sources(paths: Sequence[str] | Annotations) -> dict[str, Source]:
    """Where each video is, by its name as an absolute path."""
    if not isinstance(paths, Annotations):
        return {(name := absolute(os.fsdecode(path))): name for path in paths}
    names = map(absolute, paths.path_list())
    if paths.parts is None:
        return {name: name for name in names}
    return {name: paths.parts.source(row, os.fsencode(name)) for row, name in enumerate(names)}


def _earlier_index(path: Path, is_cut_short: bool = False) -> DatasetIndex | None:
    try:
        return DatasetIndex(path, is_cut_short=is_cut_short)
    except (OSError, ValueError):
        return None  # there is none that this version can read: all files are scanned


@contextmanager
def _resumable(target: Path) -> Iterator[tuple[Path, DatasetIndex | None]]:
    """Gives a file to write to, which takes the name `target` if the block ends well, and what the last run has left in its own, if it was
    killed or failed.

    There are two such files: of the rows that both hold the longer one has all, and the other is written anew.
    """
    names = [target.with_name(f"{PART_PREFIX}{number}-{target.name}{PART_SUFFIX}") for number in (1, 2)]
    with ExitStack() as stack:
        files = [stack.enter_context(open(name, "ab")) for name in names]
        for file in files:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise OSError(
                    errno.EBUSY, "another run is writing it; wait for it to end, or stop it", target
                ) from None
        part, kept = sorted(names, key=lambda name: name.stat().st_size)
        try:
            yield part, _earlier_index(kept, is_cut_short=True)
            os.replace(part, target)
            remove(kept)
        finally:
            for name in names:
                if name.exists() and not whole_batches(name):
                    remove(name)
