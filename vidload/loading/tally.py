"""Tally: what a loader counts from its first pass to its last, beside what the core counts.

In: each batch, each sample that failed. Out: their part of `VideoLoader.stats()`; and warnings (logger "vidload"), one per bad file.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

from vidload import _core
from vidload.combined import Clips
from vidload.errors import Failure, VideoError

_MAX_FAILURES_KEPT = 1000

_log = logging.getLogger("vidload")
_logged: set[str] = set()  # bad files, each logged once in the life of the process


@dataclass
class Tally:
    """Counts of a loader: batches handed out, seconds that the caller waited for them, samples that failed."""

    num_batches: int = 0
    wait_seconds: float = 0.0
    num_failures: int = 0
    failures: list[Failure] = field(default_factory=list)  # the first ones
    has_warned_of_index: bool = False

    def note_failure(self, index: int, error: VideoError, on_error: str) -> None:
        """Counts and lists a failed sample; logs it unless it is raised."""
        self.num_failures += 1
        if len(self.failures) < _MAX_FAILURES_KEPT:
            self.failures.append(Failure(index, error.path, error.reason, error.frame, error.kind))
        if on_error != "raise" and error.path not in _logged:
            _logged.add(error.path)
            _log.warning("%s (%s)", error, "left out" if on_error == "skip" else "replaced by another video")

    def warn_of_refused_entries(self, pool: _core.LoaderPool, dataset: Clips) -> None:
        """Logs, once, that entries of the index file could not be used."""
        count = pool.stats()["num_entries_refused"]
        if count > 0 and not self.has_warned_of_index:
            self.has_warned_of_index = True
            index = getattr(dataset, "index", None)
            _log.warning(
                "%s: %d entries are damaged or belong to other files; their videos were scanned instead. Write it again with 'vidload index'",
                getattr(index, "path", "the index"),
                count,
            )
