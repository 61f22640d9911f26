"""Wake: threads that do Python's part of the work on samples, a clip_transform of the user's own, once the core has decoded them.

In: functions. Out: futures. The threads follow the core's: they wait for a batch to be decoded while these decode the next. They are
daemons, and end with the loader that they are of.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any

import torch

from vidload.loading.exit import ends_before_exit


class Wake:
    """So many threads, started with the first task."""

    def __init__(self, num_threads: int) -> None:
        self._num_threads = num_threads
        self._tasks: SimpleQueue[_Task | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []

    def submit(self, function: Callable[[], Any]) -> Future[Any]:
        """Its result, or what it raised, will be in the future. Tasks are begun in order."""
        task = _Task(function)
        if not self._threads:
            self._threads = [
                threading.Thread(target=_work, args=(self._tasks,), name="vidload-wake", daemon=True)
                for _ in range(self._num_threads)
            ]
            for thread in self._threads:
                thread.start()
        self._tasks.put(task)
        return task.future

    def __del__(self) -> None:
        for _ in self._threads:
            self._tasks.put(None)


class _Task:
    def __init__(self, function: Callable[[], Any]) -> None:
        self._function = function
        self.future: Future[Any] = Future()

    @ends_before_exit
    def run(self) -> None:
        if not self.future.set_running_or_notify_cancel():
            return
        try:
            result = self._function()
        except BaseException as error:
            self.future.set_exception(error)
        else:
            self.future.set_result(result)


def _work(tasks: SimpleQueue[_Task | None]) -> None:
    while (task := tasks.get()) is not None:
        task.run()
        del task  # its clip is not held while the next one is waited for


IN_PLACE: Any = object()


def put(result: Any, slot: torch.Tensor) -> Any:
    """Writes what a clip_transform made into the clip's place in the batch if it fits there, and returns IN_PLACE, or else the result."""
    if result is slot:
        return IN_PLACE
    fits = (slot.shape, slot.dtype, slot.device)
    if not isinstance(result, torch.Tensor) or (result.shape, result.dtype, result.device) != fits:
        return result
    # Another view of the clip itself would be overwritten as it is read.
    is_of_batch = result.untyped_storage().data_ptr() == slot.untyped_storage().data_ptr()
    slot.copy_(result.clone() if is_of_batch else result)
    return IN_PLACE
