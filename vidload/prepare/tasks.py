"""One piece of work for each video of a dataset: resumable, and no failure stops the rest.

In: tasks (vidload.prepare.sources) and a function `work(source, destination, settings)` that makes one output from one
video, whole or not at all; or, for `resume`, whatever does the work of tasks. Out: the outputs under their names, `<log>.jsonl`
with what is known about each, and `failed.jsonl` with those that failed and why. vidload.prepare.engines spreads the work; the
other files of vidload.prepare do it.
"""

from __future__ import annotations

import dataclasses
import fcntl
import json
import logging
import math
import os
import time
import typing
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol

from tqdm import tqdm

from vidload.errors import LostWorkError, VideoError
from vidload.prepare.engines import ENGINES, Work
from vidload.prepare.sources import Task, folders_above
from vidload.sources import exists, is_url, size_and_mtime
from vidload.system.files import PART_PREFIX, PART_SUFFIX, errors_named, remove, written_aside

FAILED_NAME = "failed.jsonl"
_LOCK_NAME = ".vidload-lock"
_MOST_LOST = 3  # tasks, before the run ends
_log = logging.getLogger("vidload")


class DestinationError(OSError):
    """The output folder cannot be written; what is finished stays there."""

    def __str__(self) -> str:
        return str(self.args[-1])  # the message says it; no "[Errno 28]" in front


class Record(Protocol):
    """What is known about the outputs, from one run to the next: a .jsonl file with a line per output."""

    path: Path

    def is_done(self, task: Task) -> bool:
        """Whether its output is there, made from the same file with the same settings."""
        ...

    def add(self, task: Task, outcome: dict[str, Any]) -> dict[str, Any]:
        """Notes an output that was made now; returns its line."""
        ...

    def rows(self) -> Iterable[dict[str, Any]]:
        """All lines that belong in the file: what was cut off or superseded is left out."""
        ...


def resume(
    tasks: Sequence[Task],
    record: Record,
    outcomes: Callable[[Sequence[Task]], Iterator[tuple[Task, Any]]],
    *,
    progress: bool = False,
) -> tuple[int, tuple[tuple[str, str], ...]]:
    """Resumes where an earlier run stopped, and keeps the record, so that a run that is killed at any moment costs only the work in hand.

    outcomes: does the work of tasks and yields (task, dict of the result | exception). An OSError that is not a VideoError, or a
        MemoryError, ends the run; a LostWorkError does when the others are done, or with the third.
    Returns how many outputs were made now, and (source, reason) of the videos that failed, which failed.jsonl beside the record lists too.
    """
    todo = [task for task in tasks if not record.is_done(task)]
    failures: list[tuple[str, str]] = []
    _write_rows(record.path, record.rows())
    start, num_bytes = time.perf_counter(), 0
    lost: list[LostWorkError] = []
    with tqdm(total=len(todo), unit="video", disable=not progress, smoothing=0.05) as bar:
        for task, outcome in outcomes(todo):
            if isinstance(outcome, OSError | MemoryError) and not isinstance(outcome, VideoError):
                raise outcome
            if isinstance(
                outcome, LostWorkError
            ):  # what takes its worker with it each time must not keep the others from being done
                lost.append(outcome)
                if len(lost) == _MOST_LOST:
                    break
            elif isinstance(outcome, BaseException):
                failures.append((task.source, _reason(outcome)))
            else:
                row = record.add(task, outcome)
                with errors_named(record.path), record.path.open("a", encoding="utf-8") as log:
                    log.write(json.dumps(row) + "\n")
                num_bytes += outcome.get("source_bytes", 0)
            speed = {"MB/s": f"{num_bytes / 1e6 / (time.perf_counter() - start):.1f}"} if num_bytes else {}
            bar.set_postfix(failed=len(failures), **speed, refresh=False)
            bar.update()
    if lost:
        raise lost[0]
    _write_rows(record.path, record.rows())
    _write_failures(record.path.parent, tasks, failures)
    return len(todo) - len(failures), tuple(failures)


def _write_rows(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    with written_aside(path, is_durable=True) as part, part.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


@dataclass(frozen=True)
class Results:
    """What `run_tasks` did.

    Attributes:
        entries: what is known about each finished output, by name (those of earlier runs too).
        failures: (source, reason) of the videos that failed now.
        num_done: outputs made now.
        num_kept: outputs that were there already.
    """

    entries: dict[str, dict[str, Any]]
    failures: tuple[tuple[str, str], ...]
    num_done: int
    num_kept: int


def run_tasks(
    tasks: Sequence[Task],
    work: Work,
    settings: Any,
    destination: str | os.PathLike[str],
    *,
    log_name: str,
    jobs: int | None = None,
    engine: str = "local",
    progress: bool = False,
) -> Results:
    """Makes the output of every task under `destination`, except those that an earlier run has made from the same file
    with the same settings.

    Args:
        tasks: what to do.
        work: the function that does it, importable by name.
        settings: a dataclass, the same for all.
        destination: the output folder.
        log_name: file name of the record of what is done.
        jobs: processes; None = the cores this process may use (for "ray": as many as the cluster has).
        engine: "local" or "ray".
        progress: whether to show a progress bar on stderr.

    Raises:
        DestinationError: `destination` cannot be written, or another run is writing it.
        LostWorkError, MemoryError, OSError: the machine failed, not a video; what is finished stays.
        ValueError: an argument makes no sense, or two videos would have the same output.
        ModuleNotFoundError: `engine` is "ray", which is not installed.
    """
    if engine not in ENGINES:
        raise ValueError(f"engine {engine!r} is not one of {', '.join(ENGINES)}")
    if jobs is not None and jobs < 1:
        raise ValueError(f"jobs is {jobs}, must be at least 1")
    folder = Path(destination)
    sources = {os.path.realpath(task.source) for task in tasks}
    _refuse_shared_outputs(tasks, folder)
    for task in tasks:
        if os.path.realpath(folder / task.name) in sources:
            raise ValueError(f"{folder / task.name} is itself one of the videos; choose another destination")

    def outcomes(todo: Sequence[Task]) -> Iterator[tuple[Task, Any]]:
        for parent in {(folder / task.name).parent for task in todo}:
            parent.mkdir(parents=True, exist_ok=True)
        return ENGINES[engine](todo, work, settings, folder, jobs)

    with locked(folder):
        record = _Entries(folder, log_name, work, settings)
        record.refuse_outputs_of_others(tasks)
        _sweep(folder, tasks)
        try:
            num_done, failures = resume(tasks, record, outcomes, progress=progress)
        except OSError as error:
            if isinstance(error.filename, str) and os.path.realpath(error.filename) in sources:
                raise  # it cannot be read
            raise DestinationError(
                error.errno,
                f"{folder}: cannot be written ({error.strerror or error}); what is finished stays there: "
                "make room or choose another folder, and run the same command again",
            ) from error
        finally:
            _sweep(folder, tasks)
    num_kept = len(tasks) - num_done - len(failures)
    return Results(record.entries, failures, num_done, num_kept)


class _Entries:
    """The record of `run_tasks`.

    entries: by the name of the output.
    """

    def __init__(self, folder: Path, log_name: str, work: Work, settings: Any) -> None:
        self.path = folder / log_name
        self.entries = {entry["name"]: entry for entry in _read_entries(self.path, work)}
        self._folder = folder
        self._settings = _settings_text(settings)

    def refuse_outputs_of_others(self, tasks: Sequence[Task]) -> None:
        """Raises ValueError for an output that an earlier run made from another video, which is still there."""
        listed = {task.source for task in tasks}
        for task in tasks:
            entry = self.entries.get(task.name)
            if entry is None or (other := entry["source"]) == task.source or _file(other) == _file(task.source):
                continue
            if other in listed or (not self.is_done(task) and exists(other)):
                raise ValueError(
                    f"{self._folder / task.name} was made from {other}, and {task.source} would replace it; choose another folder"
                )

    def is_done(self, task: Task) -> bool:
        entry = self.entries.get(task.name)
        if entry is None or entry["settings"] != self._settings:
            return False
        output = self._folder / task.name
        if not output.exists() or (output.is_file() and output.stat().st_size != entry["num_bytes"]):
            return False
        try:
            stamp = size_and_mtime(task.source)
        except OSError:
            return True  # the source is gone, but was there when the output was made
        return (entry["source_bytes"], entry["source_mtime_ns"]) == stamp

    def add(self, task: Task, outcome: dict[str, Any]) -> dict[str, Any]:
        entry = {"name": task.name, "source": task.source, "settings": self._settings, **outcome}
        self.entries[task.name] = entry
        return entry

    def rows(self) -> Iterable[dict[str, Any]]:
        return [self.entries[name] for name in sorted(self.entries)]


def _file(source: str) -> str:
    return source if is_url(source) else os.path.realpath(source)


def _refuse_shared_outputs(tasks: Sequence[Task], folder: Path) -> None:
    """Raises ValueError where two videos have one output, or the output of one is in the way of another's folder."""
    first: dict[str, Task] = {}
    above = folders_above(task.name for task in tasks)
    for task in tasks:
        other = first.setdefault(task.name, task)
        if task.name in above:
            other = next(below for below in tasks if below.name.startswith(task.name + os.sep))
        if other is not task and _file(other.source) != _file(task.source):
            raise ValueError(
                f"{folder}: {other.source} and {task.source} cannot both be written there, as {other.name} and {task.name}; "
                "rename one of the two, or write them to different folders"
            )


def _settings_text(settings: Any) -> str:
    fields = {field.name: getattr(settings, field.name) for field in dataclasses.fields(settings)}
    return json.dumps({name: str(value) if isinstance(value, Fraction) else value for name, value in fields.items()})


def _reason(error: BaseException) -> str:
    if not isinstance(error, VideoError):
        return str(error)
    return error.reason if error.frame is None else f"frame {error.frame}: {error.reason}"


def _read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The entries of a .jsonl file, without lines that a killed run has left unfinished."""
    if not path.exists():
        return
    with open(path, encoding="utf-8", errors="replace") as file:
        for line in file:
            try:
                entry = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(entry, dict):
                yield entry


def _read_entries(path: Path, work: Work) -> Iterator[dict[str, Any]]:
    """The lines that `run_tasks` has written for this work. Any other is passed over, and its output made again."""
    result = typing.get_type_hints(work).get("return")
    numbers = [field.name for field in dataclasses.fields(result)] if dataclasses.is_dataclass(result) else []
    num_passed_over = 0
    for entry in _read_lines(path):
        name = entry.get("name")
        texts = (name, entry.get("source"), entry.get("settings"))
        values: list[Any] = [entry.get(key) for key in {*numbers, "num_bytes", "source_bytes", "source_mtime_ns"}]
        if (
            all(isinstance(text, str) for text in texts)
            and not os.path.isabs(name or "")
            and os.pardir not in Path(name or "").parts
            and all(type(value) in (int, float) and math.isfinite(value) for value in values)
        ):
            yield entry
        else:
            num_passed_over += 1
    if num_passed_over:
        _log.warning("%s: %d lines make no sense and are ignored", path, num_passed_over)


def _write_failures(folder: Path, tasks: Sequence[Task], failures: Sequence[tuple[str, str]]) -> None:
    """Lists the failures of this run, and earlier ones of videos that were not in it; no file if there are none."""
    path = folder / FAILED_NAME
    now = {task.source for task in tasks}
    rows = [entry for entry in _read_lines(path) if isinstance(entry.get("source"), str) and entry["source"] not in now]
    rows += [{"source": source, "reason": reason} for source, reason in sorted(failures)]
    if rows:
        _write_rows(path, rows)
    else:
        path.unlink(missing_ok=True)


def _sweep(folder: Path, tasks: Sequence[Task]) -> None:
    """Removes what killed runs have left half-written. Nobody else writes here: the folder is locked."""
    for parent in {folder, *((folder / task.name).parent for task in tasks)}:
        for path in parent.glob(f"{PART_PREFIX}*{PART_SUFFIX}"):
            remove(path)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Holds the exclusive right to write into `folder`, which the system takes back from a killed process."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = open(folder / _LOCK_NAME, "w")  # noqa: SIM115
    except OSError as error:
        raise DestinationError(
            error.errno,
            f"{folder}: cannot be written ({error.strerror}); choose another folder or change its permissions",
        ) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DestinationError(f"{folder}: another run is writing to it; wait for it to end, or stop it") from None
        yield  # the file stays: another process may have opened it already
