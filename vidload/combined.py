"""What a loader loads: a ClipDataset, several under torch's ConcatDataset, or parts of them under torch's Subset (random_split's too).

In: the dataset that a loader was given. Out: the clips behind it as one sequence, and the map from the dataset's own indices to places in
it. Several ClipDatasets follow each other there, each once; a sample is drawn by its own dataset's rules, seed and index.
"""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any

import torch
from torch.utils.data import ConcatDataset, Dataset, Subset, default_collate

from vidload import _core, joining
from vidload.batch import Batch, Drawn, Request
from vidload.clip_dataset import ClipDataset
from vidload.errors import VideoError
from vidload.fields import FieldRow
from vidload.multi_video import MultiVideoDataset

_ONE_BATCH = ("sample_shape", "dtype", "layout", "fields")  # what all samples of a batch must share


class CombinedClips:
    """Several ClipDatasets in a row, as a loader needs them; of its samples and of itself it tells what a ClipDataset does.

    Attributes:
        parts: the datasets.
        starts: where each begins, and where the last one ends.
        seed: the first part's, for what is random about the whole: a shuffled order, the choice of substitutes.
        others: as of ClipDataset; the same for all parts.

    Raises:
        ValueError: their samples do not fit into one batch.
    """

    def __init__(self, parts: Sequence[ClipDataset]) -> None:
        first = parts[0]
        for number, part in enumerate(parts):
            for name in _ONE_BATCH:
                here, there = getattr(part, name), getattr(first, name)
                if here != there:
                    raise ValueError(
                        f"datasets of one loader must give samples of one kind: {name} is {there} in the first and {here} in "
                        f"number {number} ({part.annotations.path(0)}, ...)"
                    )
        self.parts = tuple(parts)
        self.starts = tuple(accumulate(map(len, parts), initial=0))
        self.sample_shape, self.sample_bytes = first.sample_shape, first.sample_bytes
        self.is_varying, self.layout, self.time_axis = first.is_varying, first.layout, first.time_axis
        self.dtype, self.fields, self.seed = first.dtype, first.fields, first.seed

    def __len__(self) -> int:
        return self.starts[-1]

    def _locate(self, index: int) -> tuple[ClipDataset, int]:
        number = bisect_right(self.starts, index) - 1
        return self.parts[number], index - self.starts[number]

    @property
    def draws_in_core(self) -> bool:
        """As of ClipDataset."""
        return all(part.draws_in_core for part in self.parts)

    @property
    def clip_transform(self) -> bool | None:
        """Whether any part has one."""
        return any(part.clip_transform is not None for part in self.parts) or None

    def transformed(self, clip: torch.Tensor, index: int, epoch: int, draw: int, stands_for: int = -1) -> Any:
        part, own = self._locate(index)
        return clip if part.clip_transform is None else part.transformed(clip, own, epoch, draw, stands_for)

    def label(self, index: int) -> Any:
        part, own = self._locate(index)
        return part.label(own)

    @property
    def has_stored_labels(self) -> bool:
        """As of ClipDataset."""
        return all(part.has_stored_labels for part in self.parts)

    def labels_of(self, indices: Sequence[int]) -> Any:
        labels: Any = tuple(self.label(index) for index in indices)
        return default_collate(labels)

    def collate(self, samples: Sequence[Any], batch_as: str = "list") -> list[Any]:
        return joining.collate(samples, batch_as, self.time_axis)

    # --- epochs

    @property
    def _told_epoch(self) -> tuple[int, int]:
        return max(part._told_epoch for part in self.parts)

    def _follow_epoch(self, epoch: int) -> None:
        for part in self.parts:
            part._follow_epoch(epoch)

    # --- batches

    def start_indexing(
        self, pool: _core.LoaderPool, indices: Sequence[int], waits_for_draw: bool = False
    ) -> CombinedBatch:
        """As ClipDataset.start_indexing."""
        runs: list[Run] = []
        for place, index in enumerate(indices):
            part, own = self._locate(index)
            if not runs or runs[-1].part is not part:
                runs.append(Run(part, place))
            runs[-1].indices.append(own)
        for run in runs:
            run.batch = run.part.start_indexing(pool, run.indices, waits_for_draw=waits_for_draw)
        return CombinedBatch(runs)

    def start_decoding(
        self,
        batch: Any,
        indices: Sequence[int],
        epoch: int,
        out: torch.Tensor,
        draws: Sequence[int],
        stands_for: int = -1,
    ) -> Drawn:
        """As ClipDataset.start_decoding."""
        errors: list[VideoError | None] = []
        for run in batch.runs:
            run.drawn = run.part.start_decoding(
                run.batch, run.indices, epoch, out[run.places], draws[run.places], stands_for
            )
            errors += run.drawn.errors
        return Drawn(errors, None)

    def draw(self, batch: Any, indices: Sequence[int], epoch: int, draws: Sequence[int]) -> Drawn:
        """As ClipDataset.draw."""
        errors: list[VideoError | None] = []
        requests: list[Request | None] = []
        for run in batch.runs:
            run.drawn = run.part.draw(run.batch, run.indices, epoch, draws[run.places])
            errors += run.drawn.errors
            requests += run.drawn.requests
        return Drawn(errors, requests)

    def decode_each(self, batch: Any, drawn: Drawn, slots: Sequence[torch.Tensor | None]) -> None:
        """As ClipDataset.decode_each."""
        for run in batch.runs:
            run.part.decode_each(run.batch, run.drawn, slots[run.places])

    def field_rows(
        self, batch: Any, drawn: Drawn, indices: Sequence[int], epoch: int, draws: Sequence[int]
    ) -> list[FieldRow | None]:
        """As ClipDataset.field_rows."""
        rows: list[FieldRow | None] = []
        for run in batch.runs:
            rows += run.part.field_rows(run.batch, run.drawn, run.indices, epoch, draws[run.places])
        return rows

    def load_one(
        self,
        start_indexing: Callable[[], Any],
        index: int,
        epoch: int,
        take: Callable[[tuple[int, ...]], torch.Tensor],
        draw: int = 0,
        stands_for: int = -1,
    ) -> tuple[torch.Tensor, FieldRow | None]:
        """As ClipDataset.load_one."""
        part, own = self._locate(index)
        return part.load_one(lambda: start_indexing().runs[0].batch, own, epoch, take, draw, stands_for)


Clips = ClipDataset | CombinedClips


class Run:
    """Neighbors in a batch that are of one dataset."""

    batch: Batch
    drawn: Drawn

    def __init__(self, part: ClipDataset, first: int) -> None:
        self.part = part
        self.indices: list[int] = []
        self._first = first

    @property
    def places(self) -> slice:
        return slice(self._first, self._first + len(self.indices))


class CombinedBatch:
    """A batch (vidload.batch) of several datasets; CombinedClips decodes it run by run."""

    def __init__(self, runs: list[Run]) -> None:
        self.runs = runs

    def wait(self, timeout_seconds: float = -1.0) -> bool:
        deadline = time.monotonic() + timeout_seconds
        for run in self.runs:
            left = timeout_seconds if timeout_seconds <= 0 else max(deadline - time.monotonic(), 0.0)
            if not run.batch.wait(left):
                return False
        return True

    def infos(self) -> list[_core.SampleInfo | None]:
        return [info for run in self.runs for info in run.batch.infos()]

    def errors(self) -> list[VideoError | None]:
        return [error for run in self.runs for error in run.batch.errors()]

    def cancel(self) -> None:
        for run in self.runs:
            run.batch.cancel()


def base_dataset(dataset: Dataset[Any]) -> tuple[Clips, Callable[[int], int]]:
    """The clips behind a dataset, and the map from its indices to theirs.

    Raises:
        TypeError: there are none, or a subclass makes its samples in a way of its own, which no loader of this package would call.
        ValueError: they do not fit into one batch.
    """
    parts = list(dict.fromkeys(_parts(dataset)))  # one that is there twice counts its draws once
    clips: Clips = parts[0] if len(parts) == 1 else CombinedClips(parts)
    starts = {parts[0]: 0} if isinstance(clips, ClipDataset) else dict(zip(parts, clips.starts, strict=False))
    return clips, _place_in(dataset, starts)


def check_for_dali(clips: Clips) -> None:
    """Raises ValueError for samples that DALI does not make."""
    parts = clips.parts if isinstance(clips, CombinedClips) else (clips,)
    if any(isinstance(part, MultiVideoDataset) for part in parts):
        raise ValueError("DALI loads one video per sample; use VideoLoader with decoder='auto' for a MultiVideoDataset")
    if clips.is_varying or clips.layout.endswith("TCHW"):
        raise ValueError(
            "DALI makes clips of one shape, with the axes CTHW or THWC: no clip of varying length, no fit_pixels, no layout 'NTCHW'; "
            "use VideoLoader with decoder='auto'"
        )


def _parts(dataset: Dataset[Any]) -> list[ClipDataset]:
    """The ClipDatasets under a dataset, in order."""
    kinds = (ClipDataset, Subset, ConcatDataset)
    kind = next((kind for kind in kinds if isinstance(dataset, kind)), None)
    if kind is None:
        raise TypeError(
            f"VideoLoader loads a VideoDataset, a FrameFolderDataset, a MultiVideoDataset, a Subset or a ConcatDataset of these, got {type(dataset).__name__}; "
            "for other datasets use torch.utils.data.DataLoader"
        )
    for name in ("__getitem__", "__getitems__"):
        if getattr(type(dataset), name, None) is not getattr(kind, name, None):
            raise TypeError(
                f"{type(dataset).__name__} overrides {name}, which VideoLoader would not call: it decodes whole batches itself. "
                "For more than a class number, override label(index), which may return anything that default_collate accepts; for another "
                "kind of sample or batch, give the dataset fields= or a clip_transform=, or VideoLoader a collate_fn; or use "
                "torch.utils.data.DataLoader. See docs/training.md"
            )
    if isinstance(dataset, ClipDataset):
        return [dataset]
    if isinstance(dataset, Subset):
        return _parts(dataset.dataset)
    assert isinstance(dataset, ConcatDataset)
    return [part for inner in dataset.datasets for part in _parts(inner)]


def _place_in(dataset: Dataset[Any], starts: dict[ClipDataset, int]) -> Callable[[int], int]:
    if isinstance(dataset, Subset):
        inner, indices = _place_in(dataset.dataset, starts), dataset.indices
        return lambda index: inner(indices[index])
    if isinstance(dataset, ConcatDataset):
        inners, ends = [_place_in(inner, starts) for inner in dataset.datasets], dataset.cumulative_sizes

        def place(index: int) -> int:
            if not 0 <= index < ends[-1]:
                raise IndexError(f"the sampler drew {index}, which is out of range [0, {ends[-1]})")
            number = bisect_right(ends, index)
            return inners[number](index - (ends[number - 1] if number else 0))

        return place
    assert isinstance(dataset, ClipDataset)
    start = starts[dataset]
    if start == 0 and len(starts) == 1:
        return int

    def shifted(index: int) -> int:
        if not 0 <= index < len(dataset):
            raise IndexError(f"sample {index} is out of range [0, {len(dataset)})")
        return start + int(index)

    return shifted
