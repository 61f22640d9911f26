"""Keeps daemon threads out of torch while the interpreter exits.

A daemon thread that returns to Python at that time is ended by pthread_exit (up to Python 3.13), whose unwinding through the C++ of torch
aborts the process. So before that, threads inside a loader are let out, and stopped for good as they leave. GilRelease (csrc/bindings) does
the same for threads that wait in the core.
"""

from __future__ import annotations

import atexit
import functools
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any, TypeVar

_PATIENCE_SECONDS = 1.0

_is_near = False
_threads_inside: set[int] = set()
_to_cancel: weakref.WeakSet[Any] = weakref.WeakSet()

Method = TypeVar("Method", bound=Callable[..., Any])


def cancel_at_exit(what: Any) -> None:
    """Has its cancel() called when the interpreter is about to exit, by another thread than the one that may be using it."""
    _to_cancel.add(what)


def ends_before_exit(method: Method) -> Method:
    """Decorates methods that take time and call torch."""

    @functools.wraps(method)
    def run(self: Any) -> Any:
        thread = threading.get_ident()
        _stop_if_near()
        _threads_inside.add(thread)
        try:
            return method(self)
        finally:
            _stop_if_near()
            _threads_inside.discard(thread)

    return run  # type: ignore[return-value]


def _stop_if_near() -> None:
    if _is_near and threading.current_thread() is not threading.main_thread():
        _threads_inside.discard(threading.get_ident())
        threading.Event().wait()


@atexit.register
def _let_out() -> None:
    global _is_near
    _is_near = True
    for what in list(_to_cancel):
        what.cancel()
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while _threads_inside - {threading.get_ident()} and time.monotonic() < deadline:
        time.sleep(0.001)
