"""DaliDecoder: runs a VideoLoader's batches through a DALI pipeline instead of the core's transform.

In: batches of samples of a dataset. Out: DaliBatch, a batch as the loader knows it (vidload.batch). A pipeline that breaks costs no batch:
the core decodes the videos that were in it.
"""

from __future__ import annotations

import ctypes
import os
import threading
import time
import warnings
import weakref
from collections import Counter, deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from vidload import _core
from vidload.batch import Request
from vidload.clip_dataset import ClipDataset
from vidload.dali.graph import INPUTS, LABEL, Augment, build_pipeline
from vidload.dali.samples import Sample
from vidload.errors import VideoError

_NUM_IN_PIPELINE = 2  # batches


class DaliDecoder:
    """Runs a VideoLoader's batches through a pipeline instead of the core's transform.

    fallbacks: how many samples the core decoded to RGB because DALI could not, by reason.
    """

    def __init__(
        self,
        dataset: ClipDataset,
        pool: _core.LoaderPool,
        *,
        batch_size: int,
        num_threads: int,
        device: torch.device,
        augment: Augment | None = None,
        is_strict: bool = False,
    ) -> None:
        self.fallbacks: Counter[str] = Counter()
        self._dataset = dataset
        self._pool = pool
        self._max_batch_size = batch_size
        self._num_threads = max(num_threads, 1)
        self._device = device
        self._kind = "gpu" if device.type == "cuda" else "cpu"
        self._augment = augment
        self._is_strict = is_strict
        self._readers = ThreadPoolExecutor(self._num_threads, thread_name_prefix="vidload-read")
        self._pipeline: Any = None
        self._waiting: deque[DaliBatch] = deque()  # being read and decoded
        self._fed: deque[DaliBatch] = deque()  # in the pipeline, in this order
        self._lock = threading.RLock()
        _decoders.add(self)

    def __del__(self) -> None:
        self._pipeline = None  # waits for what is running; only then may its inputs go
        self._fed.clear()
        self._readers.shutdown(wait=False, cancel_futures=True)

    def abandon(self) -> None:
        """In a forked child: drops a pipeline whose threads were not forked with it, without the destructor that would join them."""
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._pipeline))
        self._pipeline = None

    def start_indexing(self, indices: Sequence[int]) -> DaliBatch:
        """Starts finding the packet indexes of the samples' videos, as ClipDataset.start_indexing does."""
        return DaliBatch(self, [Sample(self._dataset, self._pool, index) for index in indices])

    def _start(self, batch: DaliBatch) -> None:
        for sample, request in zip(batch.samples, batch.requests, strict=True):
            if request is not None:
                reason = sample.start(request, self._kind, self._readers, self._is_strict)
                if reason is not None and not self._is_strict:
                    self.fallbacks[reason] += 1
        with self._lock:
            self._waiting.append(batch)

    def _cancel(self, batch: DaliBatch) -> None:
        with self._lock:
            if batch in self._waiting:
                self._waiting.remove(batch)

    def _finish(self, batch: DaliBatch) -> None:
        """Takes a batch that has been read and decoded through the pipeline, and feeds the pipeline others meanwhile."""
        with self._lock:
            if batch in self._waiting:
                self._waiting.remove(batch)
                self._feed(batch)
            while self._waiting and len(self._fed) < _NUM_IN_PIPELINE and self._waiting[0].is_ready():
                self._feed(self._waiting.popleft())
            while batch in self._fed:
                self._collect()

    def _feed(self, batch: DaliBatch) -> None:
        batch.places = [place for place, sample in enumerate(batch.samples) if sample.is_wanted]
        if not batch.places:
            return
        if len(batch.places) > self._max_batch_size:
            while self._fed:
                self._collect()
            self._pipeline = None
            self._max_batch_size = len(batch.places)
        if self._pipeline is None:
            self._pipeline = build_pipeline(
                self._dataset,
                self._max_batch_size,
                self._kind,
                self._device.index or 0,
                self._num_threads,
                self._augment,
                source=None,
                prefetch_queue_depth=1,  # schedule_run runs this many batches when first called; later ones queue up all the same
            )
            self._pipeline.build()
        batch.inputs = list(zip(*(batch.samples[place].inputs() for place in batch.places), strict=True))
        self._fed.append(batch)
        try:
            for name, arrays in zip((*(name for name, *_ in INPUTS), LABEL), batch.inputs, strict=True):
                self._pipeline.feed_input(name, list(arrays))
            self._pipeline.schedule_run()
        except RuntimeError as error:
            self._start_again(error)

    def _collect(self) -> None:
        """Takes the oldest batch out of the pipeline."""
        batch = self._fed[0]
        try:
            clips, _ = self._pipeline.share_outputs()
        except RuntimeError as error:
            self._start_again(error)
            return
        if batch.out is not None:
            for place, clip in zip(batch.places, clips, strict=True):
                batch.out[place].copy_(torch.utils.dlpack.from_dlpack(clip), non_blocking=True)
            if batch.out.device.type == "cuda":
                # DALI uses the memory again, on its own stream.
                torch.cuda.current_stream(batch.out.device).synchronize()
        self._pipeline.release_outputs()
        self._fed.popleft()
        batch.inputs = []

    def _start_again(self, error: RuntimeError) -> None:
        """The pipeline broke, and with it all batches in it: the core decodes their videos, and finds out which one is bad."""
        batches = [batch for batch in self._fed if batch.out is not None]
        broken = [sample for batch in batches for sample in batch.samples if sample.is_encoded and sample.is_wanted]
        self._pipeline = None
        self._fed.clear()
        if self._is_strict or not broken:
            raise error
        warnings.warn(
            f"DALI failed on one of {len(broken)} videos, which are decoded again without it: {error}", stacklevel=2
        )
        self.fallbacks["DALI failed"] += len(broken)
        for sample in broken:
            sample.start_again()
        for batch in batches:
            for sample in batch.samples:
                sample.wait()
            self._feed(batch)


_decoders: weakref.WeakSet[DaliDecoder] = weakref.WeakSet()


def _abandon_pipelines() -> None:
    for decoder in list(_decoders):
        decoder.abandon()


os.register_at_fork(after_in_child=_abandon_pipelines)


class DaliBatch:
    """A vidload.batch.Batch whose pixels DALI makes; methods without a docstring are as there."""

    def __init__(self, decoder: DaliDecoder, samples: list[Sample]) -> None:
        self.samples = samples
        self.requests: list[Request | None] = []
        self.out: torch.Tensor | None = None  # [N, *sample_shape]; None before decode() and after cancel()
        self.places: list[int] = []  # of the samples that went into the pipeline
        self.inputs: list[Any] = []  # not copied by the pipeline, so kept until it is done with them
        self._decoder = decoder

    def wait(self, timeout_seconds: float = -1.0) -> bool:
        """Whether everything was done before the time was up (negative: no limit). The time that DALI takes is not limited."""
        deadline = None if timeout_seconds < 0 else time.monotonic() + timeout_seconds
        if not all(sample.wait(deadline) for sample in self.samples):
            return False
        if self.out is not None:
            self._decoder._finish(self)
        return True

    def is_ready(self) -> bool:
        """Whether all samples have been read and decoded."""
        now = time.monotonic()
        return all(sample.wait(now) for sample in self.samples)

    def infos(self) -> list[_core.SampleInfo | None]:
        return [sample.info for sample in self.samples]

    def errors(self) -> list[VideoError | None]:
        return [sample.error for sample in self.samples]

    def decode(
        self,
        spec: _core.TransformSpec,
        clip_len: int,
        frames: list[npt.NDArray[np.int64] | None],
        views: list[npt.NDArray[np.void] | None],
        out: int,
        strides: _core.Strides,
        memory: torch.Tensor,
    ) -> None:
        """As _core.Batch's, into `memory` of the dataset's dtype and layout; spec, clip_len and strides are the dataset's, known already."""
        self.requests = [
            None if wanted is None or boxes is None else Request(wanted, boxes)
            for wanted, boxes in zip(frames, views, strict=True)
        ]
        self.out = memory
        self._decoder._start(self)

    def cancel(self) -> None:
        for sample in self.samples:
            sample.cancel()
        self.out = None  # it may be in the pipeline: then its clips are thrown away there
        self._decoder._cancel(self)
