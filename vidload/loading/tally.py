"""Tally: what a loader counts from its first pass to its last, beside what the core counts.

In: each batch, each sample that failed. Out: their part of `VideoLoader.stats()`; and warnings (logger "vidload"), one per bad file.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from vidload import _core
from vidload.combined import Clips
from vidload.errors import Failure, VideoError

_MAX_FAILURES_KEPT = 1000
WORK_SECONDS = ("index_seconds", "read_seconds", "decode_seconds", "transform_seconds")  # what threads do, in stats()

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
    has_warned_of_indexing: bool = False

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

    def warn_of_indexing(
        self, before: Mapping[str, Any], after: Mapping[str, Any], waited: float, elapsed: float
    ) -> None:
        """Logs, once, that with an index file this pass would have taken half the time: the threads spent most of theirs on indexing, and
        the caller waited for them.

        before, after: the pool's stats when the pass began and when it ended. waited, elapsed: seconds of the pass.
        """
        seconds = {name: after[name] - before[name] for name in WORK_SECONDS}
        indexing, work = seconds["index_seconds"], sum(seconds.values())
        if self.has_warned_of_indexing or waited < elapsed / 2 or waited < 1 or indexing < work / 2:
            return
        self.has_warned_of_indexing = True
        _log.warning(
            "threads spent %.0f%% of this epoch on finding out which packets the videos have; write an index file with 'vidload index' "
            "and pass it as index=",
            100 * indexing / work,
        )


def index_wait_seconds(stats: Mapping[str, Any], wait_seconds: float) -> float:
    """How much of `wait_seconds` was spent on indexing, as far as the threads' shares of work tell."""
    work = sum(stats[name] for name in WORK_SECONDS)
    return float(wait_seconds * stats["index_seconds"] / work) if work > 0 else 0.0
