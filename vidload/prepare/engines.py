"""Engines: what does the work of many tasks, the processes of this machine or a Ray cluster.

In: tasks and a function `work(source, destination, settings)`. Out: (task, dict of the result | exception), in any order. A failure affects
only its task, even if the video crashes the decoder. A worker that the machine takes away is no failure of a video: a LostWorkError.
"""

from __future__ import annotations

import ctypes
import dataclasses
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from vidload.errors import LostWorkError, VideoError
from vidload.prepare.sources import Task
from vidload.sources import absolute
from vidload.system.cores import available_cores
from vidload.system.ray_cluster import ray_cluster, ray_result

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
# What a process dies of by its own doing. Any other end comes from outside: SIGKILL is how the kernel gets memory back.
_CRASHES = {-number for number in (signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGFPE, signal.SIGABRT)}

# (source, destination, settings) -> a dataclass of JSON values, among them num_bytes, source_bytes and source_mtime_ns.
# It raises VideoError for what is wrong with the source, OSError for what is wrong with the destination.
Work = Callable[[str, str, Any], Any]


def _attempt(work: Work, task: Task, folder: str, settings: Any) -> dict[str, Any] | BaseException:
    """One task in a worker. A VideoError, or whatever else a strange video provokes, is the task's failure; an OSError
    that names the source concerns the machine, as a MemoryError does; others concern the destination."""
    try:
        return dataclasses.asdict(work(task.source, os.path.join(folder, task.name), settings))
    except VideoError as error:
        return error
    except OSError as error:
        named = (error.filename,) if error.filename == task.source else ()
        return OSError(error.errno, error.strerror or str(error), *named)  # without what cannot be pickled
    except MemoryError:
        return MemoryError(
            f"{task.source}: out of memory while it was worked on; what is finished is kept: run the same command again, with fewer jobs"
        )
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
    """Processes of this machine. The task of one that dies is tried once more: a video on which a decoder crashes twice has failed."""
    # A server forked before any thread exists, with the imports done once, forks the workers.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([work.__module__])
    waiting = list(reversed(tasks))
    tried: set[Task] = set()
    workers: list[_Worker] = []

    def give(worker: _Worker) -> None:
        if waiting:
            worker.task = waiting.pop()
            with suppress(BrokenPipeError):  # it died since: its end of the pipe says so below
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
                outcome: Any = None
                try:
                    outcome = worker.connection.recv()
                except (EOFError, OSError):
                    worker.process.join()
                    died = f"the process working on it died (exit code {worker.process.exitcode})"
                    if task not in tried:
                        tried.add(task)
                        waiting.append(task)
                    elif worker.process.exitcode in _CRASHES:
                        outcome = RuntimeError(f"{died}, twice")
                    else:
                        outcome = LostWorkError(task.source, f"{died}, twice")
                    workers.remove(worker)
                    worker.stop()
                    worker = _Worker(context)
                    workers.append(worker)
                give(worker)
                if outcome is not None:
                    yield task, outcome
    finally:
        for worker in workers:
            worker.stop()


def _run_ray(
    tasks: Sequence[Task], work: Work, settings: Any, folder: Path, jobs: int | None
) -> Iterator[tuple[Task, Any]]:
    """A Ray cluster, of which all nodes need vidload and the same paths."""
    with ray_cluster(jobs) as ray:
        attempt = ray.remote(num_cpus=1)(_attempt)
        # Without a limit of the user's, one running and one waiting task for every core of the cluster.
        limit = jobs or 2 * max(int(ray.cluster_resources().get("CPU", 1)), 1)
        waiting = list(reversed(tasks))
        running: dict[Any, Task] = {}
        while waiting or running:
            while waiting and len(running) < limit:
                task = waiting.pop()
                there = Task(absolute(task.source), task.name)
                running[attempt.remote(work, there, absolute(os.fspath(folder)), settings)] = task
            (reference,), _ = ray.wait(list(running))
            task = running.pop(reference)
            try:
                outcome = ray_result(ray, reference, f"the Ray task working on {task.source}")
            except LostWorkError as error:
                outcome = error
            yield task, outcome


ENGINES: dict[str, Callable[..., Iterator[tuple[Task, Any]]]] = {"local": _run_local, "ray": _run_ray}
