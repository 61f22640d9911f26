"""Progress: a tqdm bar of one pass over an epoch, with the share of the time that the caller waited for batches."""

from __future__ import annotations

import time
from typing import Any


class Progress:
    """total: batches of the epoch, None where nobody knows. done: those before this pass."""

    def __init__(self, epoch: int, total: int | None, done: int) -> None:
        from tqdm.auto import tqdm

        self._bar: Any = tqdm(total=total, initial=done, desc=f"epoch {epoch}", unit="batch")
        self._opened = time.perf_counter()
        self._waited = 0.0

    def show(self, waited_seconds: float, num_failed: int) -> None:
        """One batch more, which the caller waited for so long."""
        self._waited += waited_seconds
        share = min(self._waited / max(time.perf_counter() - self._opened, 1e-9), 1.0)
        failed = {"failed": num_failed} if num_failed else {}
        self._bar.set_postfix(waiting=f"{share:.0%}", **failed, refresh=False)
        self._bar.update()

    def close(self) -> None:
        self._bar.close()
