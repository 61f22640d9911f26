"""Waiting for what happens a moment later, such as the end of a thread that has been joined already."""

from __future__ import annotations

import os
import time
from collections.abc import Callable


def becomes_true(condition: Callable[[], bool], seconds: float = 20) -> bool:
    """Whether `condition` is true by then."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def num_threads() -> int:
    """Threads of this process. A joined one may be among them for a moment: the kernel removes it after it has woken who waits."""
    return len(os.listdir("/proc/self/task"))
