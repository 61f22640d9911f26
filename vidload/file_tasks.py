"""One piece of work for each video of a dataset, on all cores or on a cluster: resumable, and no failure stops the rest.

In: a folder or annotation list, and a function `work(source, destination, settings)` that makes one output from one
video, whole or not at all. Out: the outputs under the names of the videos, `<log>.jsonl` with what is known of
each, `failed.jsonl` with the reasons of those that failed, and the list again with the new names. What the work is,
is said by vidload.prepare and vidload.frames.
"""

from __future__ import annotations

import ctypes
import dataclasses
import fcntl
import importlib
import json
import logging
import math
import multiprocessing
import os
import signal
import sys
import typing
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from tqdm import tqdm

from vidload.annotations import VIDEO_EXTENSIONS, Annotations
from vidload.cli._videos import read_videos
from vidload.encode import PART_PREFIX, PART_SUFFIX
from vidload.errors import VideoError
from vidload.system.cores import available_cores

FAILED_NAME = "failed.jsonl"
_LOCK_NAME = ".vidload-lock"
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_log = logging.getLogger("vidload")

# (source, destination, settings) -> a dataclass of JSON values, among them num_bytes, source_bytes and source_mtime_ns.
# It raises VideoError for what is wrong with the source, OSError for what is wrong with the destination.
Work = Callable[[str, str, Any], Any]


class DestinationError(OSError):
    """The output folder cannot be written; what is finished stays."""

    def __str__(self) -> str:
        return str(self.args[-1])  # the message says it; no "[Errno 28]" in front


@dataclass(frozen=True)
class Task:
    source: str
    name: str  # of the output, relative to the destination


@dataclass(frozen=True, eq=False)
class SourceList:
    """The videos of a dataset.

    Attributes:
        annotations: paths and labels, as they are listed.
        tasks: one for each video, in order, each once.
        rows: the task number of each row of `annotations`.
        list_name: file name of the annotation list; None for a folder or a single video.
        lines: (line, path as written in it) for each row of the list; no path in a Kinetics CSV.
        header: of a Kinetics CSV.
    """

    annotations: Annotations
    tasks: tuple[Task, ...]
    rows: tuple[int, ...]
    list_name: str | None = None
    lines: tuple[tuple[str, str], ...] = ()
    header: str | None = None

    @classmethod
    def read(cls, source: str | os.PathLike[str], root: str = "", suffix: str = "") -> SourceList:
        """Reads a folder (all videos at any depth), a list ("path label" lines, or "path" alone), a Kinetics CSV or
        one video. Outputs are named as the videos are under `root`, with `suffix` for their ending.

        Raises:
            FileNotFoundError, ValueError: there is nothing there, or nothing that can be read.
        """
        source = os.fspath(source)
        annotations = read_videos(source, root)
        is_list = os.path.isfile(source) and not source.lower().endswith(VIDEO_EXTENSIONS)
        if not is_list:
            root = source if os.path.isdir(source) else os.path.dirname(source)
        paths = annotations.path_list()
        tasks = _tasks(paths, root, suffix)
        number = {task.source: i for i, task in enumerate(tasks)}
        rows = tuple(number[path] for path in paths)
        if not is_list:
            return cls(annotations, tasks, rows)
        with open(source, encoding="utf-8-sig") as file:
            lines = [line.strip() for line in file if line.strip()]
        header = None
        if "youtube_id" in lines[0]:
            header, *lines = lines
        prefix = os.path.join(root, "")
        written = [
            "" if header else path if line.startswith(path) else path.removeprefix(prefix)
            for line, path in zip(lines, paths, strict=True)
        ]
        pairs = tuple(zip(lines, written, strict=True))
        return cls(annotations, tasks, rows, os.path.basename(source), pairs, header)

    def write_list(self, folder: Path, failed: Collection[str]) -> Path:
        """Writes the list into `folder` with the outputs' names for paths, without the videos that `failed` names."""
        assert self.list_name is not None
        kept = [] if self.header is None else [self.header]
        for (line, written), row in zip(self.lines, self.rows, strict=True):
            task = self.tasks[row]
            if task.source not in failed:
                kept.append(line if self.header else task.name + line[len(written) :])
        path = folder / self.list_name
        write_whole(path, "".join(f"{line}\n" for line in kept))
        return path


def _tasks(paths: Sequence[str], root: str, suffix: str) -> tuple[Task, ...]:
    """Names keep the folders below `root`. Where two videos differ in their ending alone, both keep it, before the new one."""
    unique = list(dict.fromkeys(paths))
    relative = [_relative(path, root) for path in unique]
    stems = [os.path.splitext(name)[0] for name in relative]
    uses = Counter(stems)
    names = [(stem if uses[stem] == 1 else name) + suffix for stem, name in zip(stems, relative, strict=True)]
    return tuple(Task(path, name) for path, name in zip(unique, names, strict=True))


def _relative(path: str, root: str) -> str:
    name = os.path.relpath(path, root or os.curdir)
    if name.startswith(os.pardir + os.sep):  # not below root: the whole path below the destination
        name = os.path.abspath(path).lstrip(os.sep)
    return name


@dataclass(frozen=True)
class Results:
    """What `run_tasks` did.

    Attributes:
        entries: what is known of each finished output, by name (those of earlier runs too).
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
    """Makes the output of every task under `destination`, except those that an earlier run has made of the same file
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
        ValueError: an argument makes no sense.
        ModuleNotFoundError: `engine` is "ray", which is not installed.
    """
    if engine not in _ENGINES:
        raise ValueError(f"engine {engine!r} is not one of {', '.join(_ENGINES)}")
    if jobs is not None and jobs < 1:
        raise ValueError(f"jobs is {jobs}, must be at least 1")
    folder = Path(destination)
    sources = {os.path.realpath(task.source) for task in tasks}
    for task in tasks:
        if os.path.realpath(folder / task.name) in sources:
            raise ValueError(f"{folder / task.name} is itself one of the videos; choose another destination")
    text = _settings_text(settings)
    with _locked(folder):
        log_path = folder / log_name
        entries = {entry["name"]: entry for entry in _read_entries(log_path, work)}
        todo = [task for task in tasks if not _is_done(task, folder, entries.get(task.name), text)]
        failures: list[tuple[str, str]] = []
        _sweep(folder, tasks)
        try:
            for parent in {(folder / task.name).parent for task in todo}:
                parent.mkdir(parents=True, exist_ok=True)
            with (
                open(log_path, "a", encoding="utf-8") as log,
                tqdm(total=len(todo), unit="video", disable=not progress, smoothing=0.05) as bar,
            ):
                log.write("" if _ends_with_newline(log_path) else "\n")  # a killed run may have left half a line
                for task, outcome in _ENGINES[engine](todo, work, settings, folder, jobs):
                    if isinstance(outcome, OSError) and not isinstance(outcome, VideoError):
                        raise outcome
                    if isinstance(outcome, BaseException):
                        failures.append((task.source, _reason(outcome)))
                    else:
                        entry = {"name": task.name, "source": task.source, "settings": text, **outcome}
                        entries[task.name] = entry
                        log.write(json.dumps(entry) + "\n")
                        log.flush()
                    bar.set_postfix(failed=len(failures), refresh=False)
                    bar.update()
            ordered = [entries[name] for name in sorted(entries)]
            write_whole(log_path, "".join(json.dumps(entry) + "\n" for entry in ordered))
            _write_failures(folder, tasks, failures)
        except OSError as error:
            raise DestinationError(
                error.errno,
                f"{folder}: cannot be written ({error.strerror or error}); what is finished stays there: "
                "make room or choose another folder, and run the same command again",
            ) from error
        finally:
            _sweep(folder, tasks)
    num_done = len(todo) - len(failures)
    return Results(entries, tuple(failures), num_done, len(tasks) - len(todo))


def write_whole(path: Path, text: str) -> None:
    """Writes a text file aside, flushes it to disk and renames it."""
    part = path.with_name(f"{PART_PREFIX}{os.getpid()}-{path.name}{PART_SUFFIX}")
    try:
        with open(part, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def _settings_text(settings: Any) -> str:
    fields = {field.name: getattr(settings, field.name) for field in dataclasses.fields(settings)}
    return json.dumps({name: str(value) if isinstance(value, Fraction) else value for name, value in fields.items()})


def _reason(error: BaseException) -> str:
    if not isinstance(error, VideoError):
        return str(error)
    return error.reason if error.frame is None else f"frame {error.frame}: {error.reason}"


def _is_done(task: Task, folder: Path, entry: dict[str, Any] | None, settings_text: str) -> bool:
    if entry is None or entry["settings"] != settings_text:
        return False
    output = folder / task.name
    if not output.exists() or (output.is_file() and output.stat().st_size != entry["num_bytes"]):
        return False
    try:
        source = os.stat(task.source)
    except OSError:
        return True  # it is gone, but was there when the output was made
    return (entry["source_bytes"], entry["source_mtime_ns"]) == (source.st_size, source.st_mtime_ns)


def _read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The entries of a .jsonl file; a line that a killed run has left unfinished is none."""
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
    """The lines that `run_tasks` has written for this work. Any other is passed over, and what it told of is made again."""
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
        _log.warning("%s: %d lines make no sense and are passed over", path, num_passed_over)


def _ends_with_newline(path: Path) -> bool:
    text = path.read_bytes()
    return not text or text.endswith(b"\n")


def _write_failures(folder: Path, tasks: Sequence[Task], failures: Sequence[tuple[str, str]]) -> None:
    """failed.jsonl: the failures of this run, and earlier ones of videos that were not in it; no file if there are none."""
    path = folder / FAILED_NAME
    now = {task.source for task in tasks}
    rows = [entry for entry in _read_lines(path) if isinstance(entry.get("source"), str) and entry["source"] not in now]
    rows += [{"source": source, "reason": reason} for source, reason in sorted(failures)]
    if rows:
        write_whole(path, "".join(json.dumps(row) + "\n" for row in rows))
    else:
        path.unlink(missing_ok=True)


def _sweep(folder: Path, tasks: Sequence[Task]) -> None:
    """Removes what killed runs have left half-written. Nobody else writes here: the folder is locked."""
    for parent in {folder, *((folder / task.name).parent for task in tasks)}:
        for path in parent.glob(f"{PART_PREFIX}*{PART_SUFFIX}"):
            remove(path)


def remove(path: Path) -> None:
    """Removes a file or a folder of files; nothing if there is none."""
    if path.is_dir():
        for child in path.iterdir():
            child.unlink(missing_ok=True)
        path.rmdir()
    else:
        path.unlink(missing_ok=True)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Holds the only right to write into `folder`; the system takes it back from a killed process."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = open(folder / _LOCK_NAME, "w")  # noqa: SIM115
    except OSError as error:
        raise DestinationError(
            error.errno, f"{folder}: cannot be written ({error.strerror}); choose another folder or its permissions"
        ) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DestinationError(f"{folder}: another run is writing it; wait for it to end or stop it") from None
        yield  # the file stays: another process may have opened it already


# --- engines: each yields (task, dict of the result | exception) in any order


def _attempt(work: Work, task: Task, folder: str, settings: Any) -> dict[str, Any] | BaseException:
    """One task in a worker. A VideoError, or whatever else a strange video provokes, is its failure; other OSErrors concern
    the destination."""
    try:
        return dataclasses.asdict(work(task.source, os.path.join(folder, task.name), settings))
    except VideoError as error:
        return error
    except OSError as error:
        return OSError(error.errno, error.strerror or str(error))  # without what cannot be pickled
    except Exception as error:
        return RuntimeError(f"{type(error).__name__}: {error}; please report this")


def _serve(connection: Connection) -> None:
    """A worker process: answers tasks until the other end closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's business
    if sys.platform == "linux":  # a killed parent takes its workers with it
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    try:
        while True:
            work, task, folder, settings = connection.recv()
            connection.send(_attempt(work, task, folder, settings))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return


class _Worker:
    def __init__(self, context: multiprocessing.context.BaseContext) -> None:
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs,), daemon=True)  # type: ignore[attr-defined]
        self.process.start()
        theirs.close()
        self.task: Task | None = None

    def stop(self) -> None:
        self.connection.close()
        self.process.kill()
        self.process.join()


def _run_local(
    tasks: Sequence[Task], work: Work, settings: Any, folder: Path, jobs: int | None
) -> Iterator[tuple[Task, Any]]:
    """Processes of this machine. One that dies (a decoder can crash on a broken file) costs its video alone."""
    # A server forked before any thread exists, with the imports done once, forks the workers.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([work.__module__])
    waiting = list(reversed(tasks))
    workers: list[_Worker] = []

    def give(worker: _Worker) -> None:
        if waiting:
            worker.task = waiting.pop()
            worker.connection.send((work, worker.task, os.fspath(folder), settings))

    try:
        for _ in range(min(jobs or available_cores(), len(tasks))):
            workers.append(_Worker(context))
            give(workers[-1])
        while busy := {worker.connection: worker for worker in workers if worker.task is not None}:
            for connection in wait(list(busy)):
                worker = busy[connection]  # type: ignore[index]
                assert worker.task is not None
                task, worker.task = worker.task, None
                try:
                    outcome = worker.connection.recv()
                except (EOFError, OSError):
                    worker.process.join()
                    outcome = RuntimeError(f"the process at work on it died (exit code {worker.process.exitcode})")
                    workers.remove(worker)
                    worker.stop()
                    worker = _Worker(context)
                    workers.append(worker)
                give(worker)
                yield task, outcome
    finally:
        for worker in workers:
            worker.stop()


def _run_ray(
    tasks: Sequence[Task], work: Work, settings: Any, folder: Path, jobs: int | None
) -> Iterator[tuple[Task, Any]]:
    """A Ray cluster: the one named by RAY_ADDRESS or already connected to, else this machine. All nodes need vidload and
    the same paths."""
    try:
        ray: Any = importlib.import_module("ray")
    except ImportError:
        raise ModuleNotFoundError("engine 'ray' needs Ray; install it with: pip install 'vidload[ray]'") from None
    is_ours = not ray.is_initialized()
    if is_ours:
        is_local = "RAY_ADDRESS" not in os.environ
        ray.init(log_to_driver=False, **({"num_cpus": jobs, "include_dashboard": False} if is_local else {}))
    try:
        attempt = ray.remote(num_cpus=1)(_attempt)
        # Without a limit of the user's, one task at work and one on its way for every core of the cluster.
        limit = jobs or 2 * max(int(ray.cluster_resources().get("CPU", 1)), 1)
        waiting = list(reversed(tasks))
        running: dict[Any, Task] = {}
        while waiting or running:
            while waiting and len(running) < limit:
                task = waiting.pop()
                there = Task(os.path.abspath(task.source), task.name)
                running[attempt.remote(work, there, os.path.abspath(folder), settings)] = task
            (reference,), _ = ray.wait(list(running))
            task = running.pop(reference)
            try:
                outcome = ray.get(reference)
            except ray.exceptions.RayError as error:
                outcome = RuntimeError(f"the Ray task at work on it failed ({type(error).__name__})")
            yield task, outcome
    finally:
        if is_ours:
            ray.shutdown()


_ENGINES: dict[str, Callable[..., Iterator[tuple[Task, Any]]]] = {"local": _run_local, "ray": _run_ray}
