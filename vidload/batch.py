"""Batch: a batch of samples on its way, as the dataset and the loader know it, whoever makes its pixels.

In: the videos, by whoever makes the batch. Out: what is known of each, then the clips in a tensor of the caller's. The core's own is
`_core.Batch`; vidload.dali's is `DaliBatch`.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch

from vidload import _core
from vidload.errors import VideoError


class Batch(Protocol):
    """It is found first (its videos' packet indexes), by threads that start with it; then decoded, once `decode` has been called. All
    lists have an entry for each sample, in the order of the batch."""

    def wait(self, timeout_seconds: float = -1.0, /) -> bool:
        """Whether all that was started is done; waits for it so long at most. Negative: no limit."""
        ...

    def infos(self) -> list[_core.SampleInfo | None]:
        """What is known of each video, None where `errors` says why not. Valid once `wait` gave True."""
        ...

    def errors(self) -> list[VideoError | None]:
        """What became of each sample so far. Valid once `wait` gave True."""
        ...

    def decode(
        self,
        spec: _core.TransformSpec,
        clip_len: int,
        frames: list[npt.NDArray[np.int64] | None],
        views: list[npt.NDArray[np.float64] | None],
        out: int,
        strides: tuple[int, int, int, int, int, int],
        memory: torch.Tensor,
        /,
    ) -> None:
        """Starts decoding into `memory` [N, *sample_shape], whose address is `out` and whose strides, in elements, are those of sample,
        view, frame, channel, row and column.

        frames, views: of each sample, as a Request has them; None leaves it out.
        """
        ...

    def cancel(self) -> None:
        """Gives up what has not been decoded yet. May be called by any thread, more than once."""
        ...
