"""What trainers do to a loader: Accelerate and Ray take one apart and build a plain DataLoader from the pieces, which would lose what only a
VideoLoader has. Here is what they meet instead.

`is_prepared` answers Accelerate's question whether a loader needs anything done to it; `AccelerateState` reports the end of a pass, as
Accelerate's own loaders do; `Collate` makes a rebuilt loader raise instead of losing something silently.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import torch

from vidload.clip_dataset import SampleBatch

_RECIPE = (
    "split the samples among the ranks yourself, before preparing: VideoLoader(dataset, batch_size, "
    "sampler=DistributedSampler(dataset, num_replicas=..., rank=...), ...). See docs/migrating.md, 'Trainers'"
)


class Collate:
    """The `collate_fn` that a VideoLoader shows. The loader itself calls `function`; a plain DataLoader built from the loader's pieces
    calls this.

    keeps: whether such a DataLoader over the loader's own batch_sampler gives the same batches, that is, whether the loader has no
    arguments that it would lose.
    """

    def __init__(self, function: Callable[[list[Any]], Any], is_default: bool, keeps: bool) -> None:
        self.function = function
        self.is_default = is_default
        self.keeps = keeps

    def __call__(self, samples: list[Any]) -> Any:
        if not isinstance(samples, SampleBatch):
            raise RuntimeError(
                "a plain DataLoader was built from a VideoLoader's pieces (Accelerate and Ray do so for several ranks); it would lose the "
                f"loader's on_error, device, decoder, threads and stats, and repeat the crops of one epoch. Instead, {_RECIPE}. "
                "(If it was built by skip_first_batches: over a Subset or a ConcatDataset, resume by loader.load_state_dict instead, or load a "
                "VideoDataset of the same videos)"
            )
        if not self.keeps:
            raise RuntimeError(
                "skip_first_batches makes a plain DataLoader of a VideoLoader, which loses its on_error, device, decoder and batch_transform. "
                "Instead, keep loader.state_dict() in the checkpoint; loader.load_state_dict(state) resumes with the next batch. "
                "See docs/migrating.md, 'Trainers'"
            )
        return self.function(samples)


def is_prepared(device: torch.device, num_replicas: int) -> bool:
    """Whether Accelerate may leave a loader as it is: it gives this rank's share, on this rank's device.

    device, num_replicas: the loader's.

    Raises:
        RuntimeError: it does not; the message says how to make it.
    """
    if "accelerate" not in sys.modules:
        return False
    from accelerate import PartialState

    state = PartialState()
    if state.num_processes not in (1, num_replicas):
        raise RuntimeError(
            f"accelerate.prepare: this VideoLoader gives all samples to each of the {state.num_processes} processes; {_RECIPE}"
        )
    if state.device.type == "cuda" and device.type != "cuda":
        raise RuntimeError(
            "accelerate.prepare: this VideoLoader's clips are on the CPU and the model on a GPU; VideoLoader(..., device=accelerator.device) "
            "puts them there. See docs/migrating.md, 'Trainers'"
        )
    return True


class AccelerateState:
    """Reports a pass to Accelerate, whose gradient accumulation takes a step with the last batch (`loader.end_of_dataloader`)."""

    def __init__(self, loader: Any) -> None:
        from accelerate.state import GradientState

        self._loader = loader
        self._state = GradientState()

    def begin(self) -> None:
        self._loader.end_of_dataloader = False
        self._state._add_dataloader(self._loader)

    def set_whether_last(self, is_last: bool) -> None:
        self._loader.end_of_dataloader = is_last

    def end(self) -> None:
        self._state._remove_dataloader(self._loader)
