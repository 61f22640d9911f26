"""VideoLoader: how batches are made. A torch.utils.data.DataLoader by class, signature and behavior; inside, threads of the core decode
each sample straight into its place in the batch.

A batch takes three steps: its videos' packet indexes are found (by threads), its frames and boxes are drawn (here, from counter-based
random numbers), its samples are decoded (by threads). While the caller works on one batch, `prefetch_factor` more are being decoded and
the indexes of the one after are being found. What a sample is, is the dataset's business.
"""

from __future__ import annotations

import inspect
import math
import os
import sys
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, RandomSampler, Subset, default_collate

from vidload import _core, cuda
from vidload.cores import available_cores
from vidload.cuda import cuda_device
from vidload.dataset import ClipDataset
from vidload.errors import VideoError
from vidload.random import sample_rng

if TYPE_CHECKING:
    from vidload.dali import DaliBatch, DaliDecoder  # nvidia-dali is an extra

_ON_ERROR = ("raise", "skip", "substitute")
_DECODERS = ("auto", "cpu", "nvdec", "dali")
_MAX_SUBSTITUTES = 10
_MAX_FAILURES_KEPT = 1000
_STATE_VERSION = 1


class VideoLoader(DataLoader[Any]):
    """Loads batches of clips; a drop-in for ``torch.utils.data.DataLoader``.

    Args:
        dataset: a VideoDataset or FrameFolderDataset, or a torch Subset of one.
        batch_size, shuffle, sampler, batch_sampler, collate_fn, pin_memory, drop_last, timeout, generator: as DataLoader's. Without a
            `generator`, shuffle=True orders an epoch by the dataset's seed and the epoch's number alone.
        num_workers: decoding threads. None = the cores this process may use (affinity, cgroup quota, divided by LOCAL_WORLD_SIZE);
            0 = the calling thread decodes, nothing runs ahead.
        prefetch_factor: batches decoded ahead, in all (not for each worker); 2 if None.
        worker_init_fn, multiprocessing_context, persistent_workers, pin_memory_device, in_order: accepted for compatibility. There are no
            worker processes, threads always persist, and batches always come in order.
        on_error: what a video that cannot be decoded does. "raise": its VideoError is raised when its batch is due. "skip": the batch is
            smaller by it (not for several ranks: they would get out of step). "substitute": another video, chosen by (seed, epoch, index)
            alone, takes its place. Either way it is counted and listed in stats().
        device: where the clips shall be: "cpu" (or None), or a GPU such as "cuda" or "cuda:1". On a GPU, batches are ordered with the
            work of the caller's current stream, before and after; the host does not wait.
        strict: for a GPU, and for decoder="dali": a video that `decoder` cannot decode there fails, in place of being decoded on the CPU.
            stats() counts such videos by reason.
        decoder: what makes the pixels. "cpu": libavcodec and the core's transform. "dali": NVIDIA DALI, of the same frames, boxes and
            flips; videos that it cannot decode are decoded by libavcodec and resized by DALI (see vidload.dali). "nvdec", for a
            GPU: its decoding engines. "auto": "cpu"; for a GPU "nvdec" from 1280x720 pixels on, else "cpu". See docs/gpu.md.
        augment: for decoder="dali": the caller's own DALI operators on the cropped clips; see vidload.dali.dali_pipeline.

    Yields:
        (clips, labels) as default_collate would give them: clips [N, *dataset.sample_shape] of dataset.dtype, labels int64 [N].

    Each iteration is one epoch and draws new random numbers; epochs count from 0, or from `set_epoch`. `stats()` tells where the time
    went, `state_dict()` and `load_state_dict()` go on in the middle of an epoch.
    """

    def __init__(
        self,
        dataset: Dataset[Any],
        batch_size: int | None = 1,
        shuffle: bool | None = None,
        sampler: Any = None,
        batch_sampler: Any = None,
        num_workers: int | None = None,
        collate_fn: Callable[[list[Any]], Any] | None = None,
        pin_memory: bool = False,
        drop_last: bool = False,
        timeout: float = 0,
        worker_init_fn: Callable[[int], None] | None = None,
        multiprocessing_context: Any = None,
        generator: torch.Generator | None = None,
        *,
        prefetch_factor: int | None = None,
        persistent_workers: bool = False,
        pin_memory_device: str = "",
        in_order: bool = True,
        on_error: str = "raise",
        device: str | int | torch.device | None = None,
        decoder: str = "auto",
        strict: bool = False,
        augment: Callable[[Any], Any] | None = None,
    ) -> None:
        _base_dataset(dataset)
        if on_error not in _ON_ERROR:
            raise ValueError(f"on_error {on_error!r} is not one of {', '.join(_ON_ERROR)}")
        if decoder not in _DECODERS:
            raise ValueError(f"decoder {decoder!r} is not one of {', '.join(_DECODERS)}")
        gpu = cuda_device(device)
        if decoder == "nvdec" and gpu is None:
            raise ValueError("decoder 'nvdec' leaves its frames on the GPU, which needs device='cuda'")
        if decoder == "dali":
            import vidload.dali  # noqa: F401  tells what to install before any batch is wanted
        elif augment is not None:
            raise ValueError(f"augment holds DALI operators, which need decoder='dali', not {decoder!r}")
        if worker_init_fn is not None:
            warnings.warn("worker_init_fn is not called: VideoLoader decodes in threads", stacklevel=2)
        self.on_error = on_error
        self.device = torch.device("cpu") if gpu is None else gpu
        self.decoder = decoder
        self.strict = strict
        self.augment = augment
        self._dali: DaliDecoder | None = None
        self.shuffle = shuffle
        if shuffle and sampler is None and batch_sampler is None and generator is None:
            sampler, shuffle = EpochSampler(dataset), None
        self._collates = collate_fn is None
        self._pool: _core.LoaderPool | None = None
        self._next_epoch: int | None = None  # None: the dataset's
        self._resume: dict[str, Any] | None = None
        self._position: dict[str, Any] = {}
        self._iterator_of_position: int | None = None
        self._wait_seconds = 0.0
        self._num_batches = 0
        self._failures: list[tuple[int, str, str]] = []
        self._num_failures = 0
        self._memory = _Memory(gpu)
        options: dict[str, Any] = {
            "prefetch_factor": prefetch_factor,
            "persistent_workers": persistent_workers,
            "pin_memory_device": pin_memory_device,
            "in_order": in_order,
        }
        known = inspect.signature(DataLoader.__init__).parameters  # in_order came with torch 2.6
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="This DataLoader will create")  # threads, and as many as were asked for
            super().__init__(
                dataset,
                batch_size,
                shuffle,
                sampler,
                batch_sampler,
                available_cores() if num_workers is None else num_workers,
                collate_fn,
                pin_memory,
                drop_last,
                timeout,
                worker_init_fn,
                multiprocessing_context,
                generator,
                **{name: value for name, value in options.items() if name in known},
            )

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        base, _ = _base_dataset(self.dataset)
        if self._pool is None or not self._pool.is_usable:
            ordinal = self.device.index if self.device.type == "cuda" and self.decoder != "dali" else -1
            decoder = self.decoder if ordinal >= 0 else "cpu"
            self._pool = _core.LoaderPool(self.num_workers, ordinal, decoder, self.strict)
            self._dali = self._dali_decoder(base, self._pool) if self.decoder == "dali" else None
        state, self._resume = self._resume, None
        epoch = base.epoch if self._next_epoch is None else self._next_epoch
        first_sample = first_batch = 0
        if state is not None:
            epoch, first_sample, first_batch = state["epoch"], state["next_sample"], state["next_batch"]
            if state["generator"] is not None and self.generator is not None:
                self.generator.set_state(torch.tensor(state["generator"], dtype=torch.uint8))
        self._next_epoch = epoch + 1
        return _Iterator(self, self._pool, epoch, first_sample, first_batch)

    def _dali_decoder(self, dataset: ClipDataset, pool: _core.LoaderPool) -> DaliDecoder:
        from vidload.dali import DaliDecoder

        return DaliDecoder(
            dataset,
            pool,
            batch_size=self.batch_size or 1,
            num_threads=self.num_workers,
            device=self.device,
            augment=self.augment,
            is_strict=self.strict,
        )

    def set_epoch(self, epoch: int) -> None:
        """The next iteration's epoch: sets the random numbers, and the order where the sampler has a set_epoch."""
        self._next_epoch = epoch
        self._resume = None
        _base_dataset(self.dataset)[0].set_epoch(epoch)

    # --- where the time went

    def stats(self) -> dict[str, Any]:
        """What has been done since the loader was made, over all epochs.

        Counts: num_batches, num_samples, num_frames (pictures written), num_failed, num_files_scanned, num_packets_decoded,
        num_packets_dropped (within what was decoded, by the plan), num_packets_skipped, num_decoders_opened, bytes_read.
        Seconds summed over threads: index_seconds, read_seconds, decode_seconds, transform_seconds. wait_seconds: how long the caller
        waited for batches. memory_bytes: held for batches. failures: (dataset index, path, reason) of the first 1000 samples that failed.
        For a GPU: num_nvdec_samples (decoded by NVDEC), num_nvdec_creations (NVDEC decoders made), fallbacks (samples that the CPU
        decoded though "nvdec" or "auto" was asked for, by reason; see docs/gpu.md), staging_bytes: (device, pinned) bytes of the process.
        dali_fallbacks: with decoder="dali", samples that libavcodec decoded for it, by reason.
        """
        stats = dict(_core.LoaderPool(0).stats() if self._pool is None else self._pool.stats())
        stats["num_batches"] = self._num_batches
        stats["num_failed"] = self._num_failures
        stats["wait_seconds"] = self._wait_seconds
        stats["memory_bytes"] = self._memory.num_bytes
        stats["failures"] = list(self._failures)
        stats["staging_bytes"] = _core.cuda_memory_held()
        if self.decoder == "dali":
            stats["dali_fallbacks"] = {} if self._dali is None else dict(self._dali.fallbacks)
        return stats

    def _note_failure(self, index: int, error: VideoError) -> None:
        self._num_failures += 1
        if len(self._failures) < _MAX_FAILURES_KEPT:
            self._failures.append((index, error.path, str(error)))

    # --- going on where one stopped

    def state_dict(self) -> dict[str, Any]:
        """Where the newest iteration is, as plain numbers: what `load_state_dict` needs to go on with the next batch.

        Counts what was handed out, not what was prefetched. After the last batch of an epoch it is the start of the next epoch.
        """
        base, _ = _base_dataset(self.dataset)
        position = self._resume or self._position
        if not position:
            position = {"epoch": base.epoch if self._next_epoch is None else self._next_epoch}
        return {
            "version": _STATE_VERSION,
            "epoch": position["epoch"],
            "next_sample": position.get("next_sample", 0),
            "next_batch": position.get("next_batch", 0),
            "num_replicas": _num_replicas(self),
            "num_samples": len(self.dataset),  # type: ignore[arg-type]
            "seed": base.seed,
            "generator": position.get("generator"),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The next iteration goes on where `state` was taken: same epoch, same random numbers, next batch.

        The number of threads may differ, the batch size too (samples are counted, unless a batch_sampler was given), and so may the number
        of ranks: what all ranks had used together is split anew, rounded down, so that at most one sample a rank comes twice.

        Raises:
            ValueError: the state is of another dataset (length or seed), or of another version.
        """
        base, _ = _base_dataset(self.dataset)
        if state.get("version") != _STATE_VERSION:
            raise ValueError(f"loader state: version {state.get('version')}, this vidload reads {_STATE_VERSION}")
        for name, here in (("num_samples", len(self.dataset)), ("seed", base.seed)):  # type: ignore[arg-type]
            if state[name] != here:
                raise ValueError(f"loader state: {name} is {state[name]} there and {here} here; it is of another dataset")
        next_sample = state["next_sample"] * state["num_replicas"] // _num_replicas(self)
        self._resume = {**state, "next_sample": next_sample}
        self._next_epoch = None
        self._position = {}


class EpochSampler(RandomSampler):
    """A random order without replacement that depends on nothing but the dataset's seed and the epoch."""

    def __init__(self, dataset: Dataset[Any]) -> None:
        super().__init__(dataset)  # type: ignore[arg-type]
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        base, _ = _base_dataset(self.data_source)  # type: ignore[arg-type]
        # A stream of its own: samples count their indices from 0, so the last one is never theirs.
        rng = sample_rng(base.seed, self.epoch, -1)
        yield from rng.permutation(len(self.data_source)).tolist()


def _base_dataset(dataset: Dataset[Any]) -> tuple[ClipDataset, Callable[[int], int]]:
    """The ClipDataset under any Subsets, and the map from outer to its own indices."""
    if isinstance(dataset, ClipDataset):
        return dataset, int
    if isinstance(dataset, Subset):
        base, inner = _base_dataset(dataset.dataset)
        indices = dataset.indices
        return base, lambda index: inner(indices[index])
    raise TypeError(
        f"VideoLoader loads a VideoDataset, a FrameFolderDataset or a Subset of one, got {type(dataset).__name__}; "
        "for other datasets use torch.utils.data.DataLoader"
    )


def _num_replicas(loader: VideoLoader) -> int:
    samplers: tuple[Any, Any] = (loader.sampler, loader.batch_sampler)
    return next((int(sampler.num_replicas) for sampler in samplers if hasattr(sampler, "num_replicas")), 1)


class _Pending:
    """A batch on its way."""

    def __init__(self, indices: list[int], batch: _core.Batch | DaliBatch, next_sample: int, next_batch: int) -> None:
        self.indices = indices
        self.batch = batch
        self.next_sample = next_sample  # samples and batches of the epoch handed out once this one is
        self.next_batch = next_batch
        self.clips: torch.Tensor | None = None  # set once decoding has started
        self.errors: list[VideoError | None] = []


class _Iterator:
    """One pass over an epoch."""

    def __init__(
        self, loader: VideoLoader, pool: _core.LoaderPool, epoch: int, first_sample: int, first_batch: int
    ) -> None:
        self._loader = loader
        self._pool = pool
        self._epoch = epoch
        self._process = os.getpid()
        self._dataset, self._base_index = _base_dataset(loader.dataset)
        self._dataset.set_epoch(epoch)
        samplers: tuple[Any, ...] = (
            loader.sampler,
            loader.batch_sampler,
            getattr(loader.batch_sampler, "sampler", None),
        )
        for sampler in samplers:
            if hasattr(sampler, "set_epoch"):
                sampler.set_epoch(epoch)
        generator = loader.generator
        self._generator = None if generator is None else generator.get_state().tolist()
        if generator is not None:
            torch.empty((), dtype=torch.int64).random_(generator=generator)  # DataLoader draws a seed for its workers first
        self._num_ahead = 0 if loader.num_workers == 0 else int(loader.prefetch_factor or 0)
        self._index_batches = _index_batches(loader, first_sample, first_batch)
        self._next_sample, self._next_batch = first_sample, first_batch
        self._indexing: deque[_Pending] = deque()
        self._decoding: deque[_Pending] = deque()
        self._is_ended = False
        self._note_position(first_sample, first_batch)

    def __iter__(self) -> _Iterator:
        return self

    def __len__(self) -> int:
        return len(self._loader)

    def __next__(self) -> Any:
        if os.getpid() != self._process:
            raise RuntimeError("this iterator was forked with its process; call iter(loader) in the child")
        started = time.perf_counter()
        try:
            while True:
                self._fill(self._num_ahead)
                if not self._decoding:
                    self._fill(1)  # nothing runs ahead: start this one now
                if not self._decoding:
                    self._note_end()
                    raise StopIteration
                pending = self._decoding[0]
                timeout = self._loader.timeout
                self._name_consumer()
                if not pending.batch.wait(timeout if timeout > 0 else -1.0):
                    raise RuntimeError(f"VideoLoader timed out: a batch was not ready after {timeout} seconds")
                self._decoding.popleft()
                self._fill(self._num_ahead)  # keep the threads busy while the caller works
                result = self._finish(pending)
                self._note_position(pending.next_sample, pending.next_batch)
                if result is not None:
                    self._loader._num_batches += 1
                    return result
        except BaseException as error:
            if not isinstance(error, StopIteration):
                self.close()
            raise
        finally:
            self._loader._wait_seconds += time.perf_counter() - started

    def close(self) -> None:
        """Gives up what is on its way; the threads stop decoding it at the next packet."""
        self._is_ended = True
        for queue in (self._indexing, self._decoding):
            for pending in queue:
                pending.batch.cancel()
            queue.clear()

    def __del__(self) -> None:
        if os.getpid() == self._process:
            self.close()

    # --- the three steps

    def _fill(self, num_decoding: int) -> None:
        while not self._is_ended and len(self._decoding) < num_decoding:
            if not self._indexing and not self._start_indexing():
                return
            pending = self._indexing.popleft()
            if not pending.batch.wait(self._loader.timeout if self._loader.timeout > 0 else -1.0):
                raise RuntimeError(
                    f"VideoLoader timed out: videos were not indexed after {self._loader.timeout} seconds"
                )
            self._start_decoding(pending)
            self._decoding.append(pending)
            if self._num_ahead > 0:
                self._start_indexing()

    def _start_indexing(self) -> bool:
        indices = next(self._index_batches, None)
        if indices is None:
            return False
        indices = [self._base_index(index) for index in indices]
        self._next_sample += len(indices)
        self._next_batch += 1
        self._indexing.append(_Pending(indices, self._new_batch(indices), self._next_sample, self._next_batch))
        return True

    def _new_batch(self, indices: list[int]) -> _core.Batch | DaliBatch:
        if self._loader._dali is not None:
            return self._loader._dali.batch(indices)
        return self._dataset.core_batch(self._pool, indices)

    def _name_consumer(self) -> None:
        """Tells the core which stream's work batches are ordered with."""
        device = self._loader.device
        if device.type == "cuda":
            self._pool.set_consumer(cuda.current_stream(device))

    def _start_decoding(self, pending: _Pending) -> None:
        dataset = self._dataset
        self._name_consumer()
        shape = (len(pending.indices), *dataset.sample_shape)
        pending.clips = self._loader._memory.take(shape, dataset.dtype, self._loader.pin_memory)
        pending.errors = dataset.decode(pending.batch, pending.indices, self._epoch, pending.clips)

    def _finish(self, pending: _Pending) -> Any:
        clips = pending.clips
        assert clips is not None
        indices = list(pending.indices)
        errors = [
            sampling if sampling is not None else decoding
            for sampling, decoding in zip(pending.errors, pending.batch.errors(), strict=True)
        ]
        kept = list(range(len(indices)))
        for place, error in enumerate(errors):
            if error is None:
                continue
            self._loader._note_failure(indices[place], error)
            if self._loader.on_error == "raise":
                raise error
            if self._loader.on_error == "skip":
                kept.remove(place)
            else:
                indices[place] = self._substitute(indices[place], clips[place], error)
        if not kept:
            return None  # every sample was skipped, and with them the batch
        if len(kept) < len(indices):
            clips = clips[kept]
            indices = [indices[place] for place in kept]
        labels = [self._dataset.label(index) for index in indices]
        if self._loader.batch_sampler is None:  # batch_size=None: samples as they are
            sample = (clips[0], labels[0])
            return sample if self._loader._collates else self._loader.collate_fn(sample)  # type: ignore[arg-type]
        if self._loader._collates:
            return [clips, default_collate(labels)]
        return self._loader.collate_fn(list(zip(clips, labels, strict=True)))

    def _substitute(self, index: int, out: torch.Tensor, error: VideoError) -> int:
        """Loads another sample, a pure function of (seed, epoch, index), into `out`; returns its index."""
        dataset = self._dataset
        rng = sample_rng(dataset.seed, self._epoch, -2 - index)
        for _ in range(_MAX_SUBSTITUTES):
            other = int(rng.random() * len(dataset))
            try:
                dataset.load_one(self._new_batch([other]), other, self._epoch, out)
                return other
            except VideoError as failed:
                self._loader._note_failure(other, failed)
        raise VideoError(
            error.path, error.frame, f"{error.reason} (and {_MAX_SUBSTITUTES} substitutes failed too)"
        ) from error

    # --- where this pass is

    def _note_position(self, next_sample: int, next_batch: int) -> None:
        self._loader._position = {
            "epoch": self._epoch,
            "next_sample": next_sample,
            "next_batch": next_batch,
            "generator": self._generator,
        }

    def _note_end(self) -> None:
        if not self._is_ended:
            self._is_ended = True
            self._loader._position = {"epoch": self._epoch + 1}


def _index_batches(loader: VideoLoader, first_sample: int, first_batch: int) -> Iterator[Sequence[int]]:
    """The index lists of the batches from there on."""
    if loader.batch_sampler is None:
        for place, index in enumerate(loader.sampler):
            if place >= first_sample:
                yield [index]
    elif type(loader.batch_sampler) is torch.utils.data.BatchSampler and loader.batch_size is not None:
        batch: list[int] = []
        for place, index in enumerate(loader.sampler):
            if place < first_sample:
                continue
            batch.append(index)
            if len(batch) == loader.batch_size:
                yield batch
                batch = []
        if batch and not loader.drop_last:
            yield batch
    else:
        for place, indices in enumerate(loader.batch_sampler):
            if place >= first_batch:
                yield list(indices)


class _Memory:
    """Batch buffers, used again once nobody holds a tensor in them: fresh memory of this size costs more than writing it.

    A buffer is a NumPy array, or a cuda.DeviceBuffer; the tensors made from it hold a reference to it, so its reference count tells when
    the last one is gone.
    """

    _NUM_OWN_REFERENCES = 3  # the list's, the loop variable's, and getrefcount's argument

    def __init__(self, gpu: torch.device | None = None) -> None:
        self._gpu = gpu
        self._buffers: list[np.ndarray[Any, np.dtype[np.uint8]] | cuda.DeviceBuffer] = []

    @property
    def num_bytes(self) -> int:
        return sum(buffer.nbytes for buffer in self._buffers)

    def take(self, shape: tuple[int, ...], dtype: torch.dtype, pinned: bool) -> torch.Tensor:
        if pinned and self._gpu is None and torch.cuda.is_available():
            return torch.empty(shape, dtype=dtype, pin_memory=True)  # torch keeps a cache of its own for these
        size = math.prod(shape) * dtype.itemsize
        for buffer in self._buffers:
            if buffer.nbytes >= size and sys.getrefcount(buffer) == self._NUM_OWN_REFERENCES:
                return _tensor_of(buffer)[:size].view(dtype).view(shape)
        # Buffers too small for this batch and free are of no more use.
        self._buffers = [
            buffer
            for buffer in self._buffers
            if buffer.nbytes >= size or sys.getrefcount(buffer) > self._NUM_OWN_REFERENCES
        ]
        fresh = np.empty(size, np.uint8) if self._gpu is None else cuda.DeviceBuffer(size, self._gpu)
        self._buffers.append(fresh)
        return _tensor_of(fresh).view(dtype).view(shape)


def _tensor_of(buffer: np.ndarray[Any, np.dtype[np.uint8]] | cuda.DeviceBuffer) -> torch.Tensor:
    return torch.from_numpy(buffer) if isinstance(buffer, np.ndarray) else buffer.tensor()
