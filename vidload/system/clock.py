"""The time of an event, as a number that orders events, in one process strictly."""

from __future__ import annotations

import os
import threading
import time

_newest = 0
_lock = threading.Lock()
os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release)


def now(after: int = 0) -> int:
    """Nanoseconds since 1970, or more: later than `after`, and than any time that this process was given before."""
    global _newest
    with _lock:
        _newest = max(_newest + 1, after + 1, time.time_ns())
        return _newest
