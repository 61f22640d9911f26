"""VideoLoader: how batches are made. A torch.utils.data.DataLoader by class, signature and behavior; inside, threads of the core decode
each sample straight into its place in the batch.

A batch takes three steps: its videos' packet indexes are found (by threads), its frames and boxes are drawn (here, from counter-based
random numbers), its samples are decoded (by threads). While the caller works on one batch, so many more are on their way that every
thread has work. What a sample is, is the dataset's business; which epoch it is, that of vidload.epochs.
"""

from __future__ import annotations

import copy
import inspect
import logging
import math
import os
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.data import DataLoader, Dataset

from vidload import _core
from vidload.clip_dataset import ClipDataset, base_dataset
from vidload.epochs import DrawCounter, EpochBatchSampler, Epochs, EpochSampler, samplers_of
from vidload.errors import Failure, IndexMismatchError, TooManyFailuresError, VideoError
from vidload.exit import cancel_at_exit, ends_before_exit
from vidload.system import cuda
from vidload.system.cores import available_cores
from vidload.system.cuda import cuda_device
from vidload.system.random import sample_rng
from vidload.trainers import AccelerateState, Collate, is_prepared

if TYPE_CHECKING:
    from vidload.dali import DaliBatch, DaliDecoder  # nvidia-dali is an extra

_ON_ERROR = ("raise", "skip", "substitute")
_DECODERS = ("auto", "cpu", "nvdec", "dali")
_MAX_SUBSTITUTES = 10
_MAX_FAILURES_KEPT = 1000
_ALWAYS_ALLOWED_FAILURES = 20  # where max_failures is a share: a few bad files at the start of an epoch are no sign of anything
_STATE_VERSION = 1
# What is on its way if prefetch_factor is None: at least so many batches, and so many samples per thread as fit into so much memory,
# whichever of the two is more. Where samples are small, a slow one in front of many does not leave the threads without work.
_MIN_BATCHES_AHEAD = 2
_SAMPLES_AHEAD = ((4, 2 << 30), (16, 256 << 20))
_SAMPLES_AHEAD_ON_GPU = ((4, 1 << 30), (16, 128 << 20))

_log = logging.getLogger("vidload")
_logged: set[str] = set()  # bad files, each said once in the life of the process


class VideoLoader(DataLoader[Any]):
    """Loads batches of clips; a drop-in for ``torch.utils.data.DataLoader``.

    Args:
        dataset: a VideoDataset or FrameFolderDataset, or a torch Subset of one.
        batch_size, shuffle, sampler, batch_sampler, collate_fn, pin_memory, drop_last, timeout, generator: as DataLoader's. Without a
            `generator`, shuffle=True orders an epoch by the dataset's seed and the epoch's number alone.
        num_workers: decoding threads. None = the cores this process may use (affinity, cgroup quota, divided by LOCAL_WORLD_SIZE);
            0 = the calling thread decodes, nothing runs ahead.
        prefetch_factor: batches on their way, in all (not for each worker). None: as many as hold 4 samples per thread within 2 GiB of
            memory, or 16 per thread within 256 MiB if that is more (half as much memory on a GPU), and 2 batches at least.
        worker_init_fn, multiprocessing_context, persistent_workers, pin_memory_device, in_order: accepted for compatibility. There are no
            worker processes, threads always persist, and batches always come in order.
        on_error: what a video that cannot be decoded does. "raise": its VideoError is raised when its batch is due. "skip": the batch is
            smaller by it (not for several ranks: they would get out of step). "substitute": another video, chosen by (seed, epoch, index)
            alone, takes its place. Either way it is counted, listed in stats(), and logged (logger "vidload"), each file once. What no
            video is to blame for (no memory, a read error, a lost GPU, a thread that cannot start) is never skipped: it raises
            MemoryError, OSError or RuntimeError.
        max_failures: how many samples of one pass over the epoch may fail under "skip" and "substitute": a share of those seen so far (a
            float below 1; 20 always may), a number (an int), or None for all of them. More, or a pass of which nothing comes, raise
            TooManyFailuresError.
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

    Each iteration is one epoch and draws new random numbers. Epochs count on from the last pass over the dataset, from 0 at first; whoever
    sets one (the loader, the dataset, a sampler or batch sampler that has a set_epoch) before the first batch is drawn is heard. A video
    that is drawn again in an epoch gives another clip. `stats()` tells where the time went, `state_dict()` and `load_state_dict()` go on in
    the middle of an epoch. See docs/migrating.md for Lightning, Fabric, Accelerate, Transformers and Ray.
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
        max_failures: float | None = 0.05,
        device: str | int | torch.device | None = None,
        decoder: str = "auto",
        strict: bool = False,
        augment: Callable[[Any], Any] | None = None,
    ) -> None:
        base_dataset(dataset)
        if on_error not in _ON_ERROR:
            raise ValueError(f"on_error {on_error!r} is not one of {', '.join(_ON_ERROR)}")
        if max_failures is not None and not (
            0 <= max_failures < 1 if isinstance(max_failures, float) else max_failures >= 0
        ):
            raise ValueError(
                f"max_failures is {max_failures}, must be a share in [0, 1), a number of samples as an int, or None"
            )
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
        self.max_failures = max_failures
        self.device = torch.device("cpu") if gpu is None else gpu
        self.decoder = decoder
        self.strict = strict
        self.augment = augment
        self._dali: DaliDecoder | None = None
        self.shuffle = shuffle
        if shuffle and sampler is None and batch_sampler is None and generator is None:
            sampler, shuffle = EpochSampler(dataset), None
        if isinstance(batch_sampler, EpochBatchSampler) and sampler is None:  # another loader's: Lightning rebuilds with it
            sampler, batch_size, drop_last = batch_sampler.sampler, batch_sampler.batch_size, batch_sampler.drop_last
            batch_sampler = None
        if isinstance(collate_fn, Collate):
            collate_fn = None if collate_fn.is_default else collate_fn.function
        self.end_of_dataloader, self.remainder = False, -1  # as Accelerate's own loaders have them
        self._is_of_accelerate = False
        self._pool: _core.LoaderPool | None = None
        self._resume: dict[str, Any] | None = None
        self._position: dict[str, Any] = {}
        self._wait_seconds = 0.0
        self._num_batches = 0
        self._failures: list[Failure] = []
        self._num_failures = 0
        self._is_index_told = False
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
        self.prefetch_factor = prefetch_factor
        self._epochs = Epochs(dataset, samplers_of(self.sampler, self.batch_sampler))
        if self.batch_size is not None:
            own = EpochBatchSampler(self.sampler, self.batch_size, self.drop_last)
            own.epochs = self._epochs
            self.__dict__["batch_sampler"] = own  # DataLoader lets nobody set it
        keeps = on_error == "raise" and self.device.type == "cpu" and decoder in ("auto", "cpu")
        self.collate_fn = Collate(self.collate_fn, collate_fn is None, keeps)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_pool": None, "_dali": None, "_memory": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._memory = _Memory(self.device if self.device.type == "cuda" else None)

    @ends_before_exit
    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        base, _ = base_dataset(self.dataset)
        if self._pool is None or not self._pool.is_usable:
            ordinal = self.device.index if self.device.type == "cuda" and self.decoder != "dali" else -1
            decoder = self.decoder if ordinal >= 0 else "cpu"
            self._pool = _core.LoaderPool(self.num_workers, ordinal, decoder, self.strict)
            self._dali = self._dali_decoder(base, self._pool) if self.decoder == "dali" else None
        return _Iterator(self, self._pool)

    def _get_iterator(self) -> Iterator[Any]:  # type: ignore[override]
        return iter(self)

    @property
    def _is_accelerate_prepared(self) -> bool:
        """Accelerate asks this of what it is to prepare. Raises RuntimeError if the loader does not fit its processes."""
        self._is_of_accelerate = is_prepared(self, _num_replicas(self))
        return self._is_of_accelerate

    @_is_accelerate_prepared.setter
    def _is_accelerate_prepared(self, value: bool) -> None:
        pass  # what it says, the loader has said

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
        """The next iteration's epoch: sets the random numbers, and the order where the sampler has a set_epoch.

        In the epoch of a state that was loaded, the next iteration goes on where the state was taken.
        """
        self._epochs.set(epoch)
        self._position = {}
        if self._resume is not None and self._resume["epoch"] != epoch:
            self._resume = None

    # --- where the time went

    def stats(self) -> dict[str, Any]:
        """What has been done since the loader was made, over all epochs.

        Counts: num_batches, num_samples, num_frames (pictures written), num_failed, num_files_scanned, num_entries_refused (of an index
        file: damaged, or of another file or version, so that the video was scanned), num_packets_decoded,
        num_packets_dropped (within what was decoded, by the plan), num_packets_skipped, num_decoders_opened, bytes_read.
        Seconds summed over threads: index_seconds, read_seconds, decode_seconds, transform_seconds. wait_seconds: how long the caller
        waited for batches. memory_bytes: held for batches. failures: a vidload.errors.Failure
        (sample, path, reason, frame, kind) for each of the first 1000 samples that failed.
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
            self._failures.append(Failure(index, error.path, error.reason, error.frame, error.kind))
        if self.on_error != "raise" and error.path not in _logged:
            _logged.add(error.path)
            _log.warning("%s (%s)", error, "left out" if self.on_error == "skip" else "replaced by another video")

    def _tell_of_refused_entries(self) -> None:
        count = 0 if self._pool is None else self._pool.stats()["num_entries_refused"]
        if count > 0 and not self._is_index_told:
            self._is_index_told = True
            index = getattr(base_dataset(self.dataset)[0], "index", None)
            _log.warning(
                "%s: %d entries are damaged, or of other files; their videos were scanned instead. Write it again with 'vidload index'",
                getattr(index, "path", "the index"),
                count,
            )

    # --- going on where one stopped

    def state_dict(self) -> dict[str, Any]:
        """Where the newest iteration is, as plain numbers: what `load_state_dict` needs to go on with the next batch.

        With it go the states of the loader's and the samplers' own generators, and of samplers that have a state_dict, as they were when the
        epoch began. (A sampler that draws from torch's global generator repeats its order only where that is restored too.)

        Counts what was handed out, not what was prefetched. After the last batch of an epoch it is the start of the next epoch.
        """
        base, _ = base_dataset(self.dataset)
        position = self._resume or self._position or {"epoch": self._epochs.peek()}
        return {
            "version": _STATE_VERSION,
            "epoch": position["epoch"],
            "next_sample": position.get("next_sample", 0),
            "next_batch": position.get("next_batch", 0),
            "num_replicas": _num_replicas(self),
            "num_samples": len(self.dataset),  # type: ignore[arg-type]
            "seed": base.seed,
            **position.get("of_samplers", {"generators": [], "samplers": []}),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The next iteration goes on where `state` was taken: same epoch, same random numbers, next batch.

        The number of threads may differ, the batch size too (samples are counted, unless a batch_sampler was given), and so may the number
        of ranks: what all ranks had used together is split anew, rounded down, so that at most one sample a rank comes twice.

        Raises:
            ValueError: the state is of another dataset (length or seed), or of another version.
        """
        base, _ = base_dataset(self.dataset)
        _check_state(state, _generators(self, samplers_of(self.sampler, self.batch_sampler)))
        for name, here in (("num_samples", len(self.dataset)), ("seed", base.seed)):  # type: ignore[arg-type]
            if state[name] != here:
                raise ValueError(f"loader state: {name} is {state[name]} there and {here} here; it is of another dataset")
        next_sample = state["next_sample"] * state["num_replicas"] // _num_replicas(self)
        of_samplers = {name: state[name] for name in ("generators", "samplers")}
        self._resume = {**state, "next_sample": next_sample, "of_samplers": of_samplers}
        self._epochs.set(state["epoch"])
        self._position = {}


def _check_state(state: Any, generators: list[torch.Generator]) -> None:
    """A state may come from a file; ValueError says what makes no sense in it."""
    if not isinstance(state, Mapping):
        raise ValueError(f"loader state: a {type(state).__name__}, not what state_dict() gave")
    if state.get("version") != _STATE_VERSION:
        raise ValueError(f"loader state: version {state.get('version')}, this vidload reads {_STATE_VERSION}")
    least = {"epoch": 0, "next_sample": 0, "next_batch": 0, "num_replicas": 1, "num_samples": 0, "seed": -(2**63)}
    for name, minimum in least.items():
        if name not in state:
            raise ValueError(f"loader state: {name} is missing")
        value = state[name]
        if type(value) is not int or not minimum <= value < 2**63:
            raise ValueError(f"loader state: {name} is {value!r}, must be an integer of at least {minimum}")
    for name in ("generators", "samplers"):
        if not isinstance(state.get(name), list):
            raise ValueError(f"loader state: {name} is {state.get(name)!r}, must be a list")
    for generator, numbers in zip(generators, state["generators"], strict=False):
        try:
            torch.Generator(generator.device).set_state(torch.tensor(numbers, dtype=torch.uint8))
        except (TypeError, ValueError, RuntimeError, OverflowError) as error:
            raise ValueError(f"loader state: generators hold one that is no state of the loader's ({error})") from None


def _num_replicas(loader: VideoLoader) -> int:
    samplers: tuple[Any, Any] = (loader.sampler, loader.batch_sampler)
    return next((int(sampler.num_replicas) for sampler in samplers if hasattr(sampler, "num_replicas")), 1)


class _Pending:
    """A batch on its way."""

    def __init__(
        self,
        indices: list[int],
        draws: list[int],
        batch: _core.Batch | DaliBatch,
        next_sample: int,
        next_batch: int,
    ) -> None:
        self.indices = indices
        self.draws = draws
        self.batch = batch
        self.next_sample = next_sample  # samples and batches of the epoch handed out once this one is
        self.next_batch = next_batch
        self.clips: torch.Tensor | None = None  # set once decoding has started
        self.errors: list[VideoError | None] = []


class _Iterator:
    """One pass over an epoch. It begins with the first batch asked for: until then the epoch can be set."""

    def __init__(self, loader: VideoLoader, pool: _core.LoaderPool) -> None:
        self._loader = loader
        self._pool = pool
        self._process = os.getpid()
        self._dataset, _ = base_dataset(loader.dataset)
        num_threads = loader.num_workers
        self._batches_ahead = 0 if num_threads == 0 else loader.prefetch_factor
        self._samples_ahead = _samples_ahead(num_threads, self._dataset.sample_bytes, loader.device)
        self._samples_indexing = max(num_threads, 1)
        self._indexing: deque[_Pending] = deque()
        self._decoding: deque[_Pending] = deque()
        self._is_on_gpu = loader.device.type == "cuda"
        self._num_indexing = self._num_decoding = 0  # samples
        self._has_begun = self._is_ended = False
        self._accelerate: AccelerateState | None = None
        self._num_seen = self._num_failed = 0  # samples of this pass
        cancel_at_exit(self)

    def __iter__(self) -> _Iterator:
        return self

    def __len__(self) -> int:
        return len(self._loader)

    @ends_before_exit
    def __next__(self) -> Any:
        if os.getpid() != self._process:
            raise RuntimeError("this iterator was forked with its process; call iter(loader) in the child")
        started = time.perf_counter()
        try:
            if not self._has_begun:
                self._begin()
            while True:
                self._fill()
                if not self._decoding:
                    self._check_that_something_came()
                    self._note_end()
                    raise StopIteration
                pending = self._decoding[0]
                timeout = self._loader.timeout
                self._name_consumer()
                if not pending.batch.wait(timeout if timeout > 0 else -1.0):
                    raise RuntimeError(f"VideoLoader timed out: a batch was not ready after {timeout} seconds")
                self._decoding.popleft()
                self._num_decoding -= len(pending.indices)
                if self._batches_ahead != 0:
                    self._fill()  # keep the threads busy while the caller works
                result = self._finish(pending)
                self._note_position(pending.next_sample, pending.next_batch)
                if result is not None:
                    self._loader._num_batches += 1
                    if self._accelerate is not None:
                        self._loader.end_of_dataloader = self._is_last()
                    return result
        except BaseException as error:
            if not isinstance(error, StopIteration):
                self.close()
            raise
        finally:
            self._loader._wait_seconds += time.perf_counter() - started

    def close(self) -> None:
        """Gives up what is on its way; the threads stop decoding it at the next packet."""
        self.cancel()
        self._indexing.clear()
        self._decoding.clear()
        if self._accelerate is not None:
            self._accelerate.end(self._loader)
            self._accelerate = None

    def cancel(self) -> None:
        """As close, for another thread than the one that is in __next__."""
        self._is_ended = True
        for pending in (*self._indexing, *self._decoding):
            pending.batch.cancel()

    def __del__(self) -> None:
        if os.getpid() == self._process:
            self.close()

    # --- the three steps

    def _begin(self) -> None:
        loader = self._loader
        self._has_begun = True
        self._epoch = loader._epochs.begin()
        state, loader._resume = loader._resume, None
        if state is not None and state["epoch"] != self._epoch:
            state = None  # somebody has chosen another epoch since
        samplers = samplers_of(loader.sampler, loader.batch_sampler)
        if state is not None:
            _restore_samplers(loader, samplers, state["of_samplers"])
        self._samplers = _state_of_samplers(loader, samplers)
        if loader.generator is not None:
            torch.empty((), dtype=torch.int64).random_(generator=loader.generator)  # DataLoader draws a seed for its workers first
        self._next_sample = 0 if state is None else state["next_sample"]
        self._next_batch = 0 if state is None else state["next_batch"]
        self._index_batches = _index_batches(loader, self._next_sample, self._next_batch)
        self._note_position(self._next_sample, self._next_batch)
        if loader._is_of_accelerate:
            self._accelerate = AccelerateState()
            self._accelerate.begin(loader)

    def _fill(self) -> None:
        """Starts what may be on its way by now; if nothing is, waits until one batch is."""
        while not self._is_ended:
            while self._num_indexing < (self._samples_indexing if self._batches_ahead != 0 else 1) and self._start_indexing():
                pass
            if not self._indexing or self._is_far_ahead():
                return
            pending = self._indexing[0]
            timeout = self._loader.timeout if self._loader.timeout > 0 else -1.0
            if not pending.batch.wait(0.0 if self._decoding else timeout):
                if self._decoding:
                    return
                raise RuntimeError(
                    f"VideoLoader timed out: videos were not indexed after {self._loader.timeout} seconds"
                )
            self._indexing.popleft()
            self._num_indexing -= len(pending.indices)
            self._start_decoding(pending)
            self._decoding.append(pending)
            self._num_decoding += len(pending.indices)

    def _is_far_ahead(self) -> bool:
        if self._batches_ahead is not None:
            return len(self._decoding) >= max(self._batches_ahead, 1)
        return len(self._decoding) >= _MIN_BATCHES_AHEAD and self._num_decoding >= self._samples_ahead

    def _is_last(self) -> bool:
        """Whether no batch follows the one just taken."""
        return not self._decoding and not self._indexing and not self._start_indexing()

    def _start_indexing(self) -> bool:
        drawn = next(self._index_batches, None)
        if drawn is None:
            return False
        indices, draws = [index for index, _ in drawn], [draw for _, draw in drawn]
        self._num_indexing += len(indices)
        self._next_sample += len(indices)
        self._next_batch += 1
        self._indexing.append(_Pending(indices, draws, self._new_batch(indices), self._next_sample, self._next_batch))
        return True

    def _new_batch(self, indices: list[int]) -> _core.Batch | DaliBatch:
        if self._loader._dali is not None:
            return self._loader._dali.batch(indices)
        return self._dataset.core_batch(self._pool, indices)

    def _name_consumer(self) -> None:
        """Tells the core which stream's work batches are ordered with."""
        if self._is_on_gpu:
            self._pool.set_consumer(cuda.current_stream(self._loader.device))

    def _start_decoding(self, pending: _Pending) -> None:
        dataset = self._dataset
        self._name_consumer()
        shape = (len(pending.indices), *dataset.sample_shape)
        pending.clips = self._loader._memory.take(shape, dataset.dtype, self._loader.pin_memory)
        pending.errors = dataset.decode(pending.batch, pending.indices, self._epoch, pending.clips, pending.draws)

    def _finish(self, pending: _Pending) -> Any:
        clips = pending.clips
        assert clips is not None
        indices = list(pending.indices)
        kept = list(range(len(indices)))
        self._num_seen += len(indices)
        errors = zip(pending.errors, pending.batch.errors(), strict=True)
        for place, (sampling, decoding) in enumerate(errors):
            error = decoding if sampling is None else sampling
            if isinstance(error, IndexMismatchError):
                error = self._draw_again(indices[place], pending.draws[place], clips[place])
            if error is None:
                continue
            self._loader._note_failure(indices[place], error)
            if self._loader.on_error == "raise":
                raise error
            self._num_failed += 1
            self._check_failures(error)
            if self._loader.on_error == "skip":
                kept.remove(place)
            else:
                indices[place] = self._substitute(indices[place], pending.draws[place], clips[place], error)
        if not kept:
            return None  # every sample was skipped, and with them the batch
        if len(kept) < len(indices):
            clips = clips[kept]
            indices = [indices[place] for place in kept]
        collate = self._loader.collate_fn
        is_default = isinstance(collate, Collate) and collate.is_default
        if is_default and self._loader.batch_sampler is not None:
            return [clips, self._dataset._labels(indices)]
        function = collate.function if isinstance(collate, Collate) else collate
        labels = [self._dataset.label(index) for index in indices]
        if self._loader.batch_sampler is None:  # batch_size=None: samples as they are
            sample = (clips[0], labels[0])
            return sample if is_default else function(sample)  # type: ignore[arg-type]
        return function(list(zip(clips, labels, strict=True)))

    def _draw_again(self, index: int, draw: int, out: torch.Tensor) -> VideoError | None:
        """Loads a sample whose file turned out to have other frames than those it was drawn from; returns an error if it cannot be."""
        try:
            self._dataset.load_one(partial(self._new_batch, [index]), index, self._epoch, out, draw)
        except VideoError as error:
            return error
        return None

    def _check_failures(self, last: VideoError) -> None:
        limit = self._loader.max_failures
        if limit is None:
            return
        allowed = max(limit * self._num_seen, _ALWAYS_ALLOWED_FAILURES) if isinstance(limit, float) else limit
        if self._num_failed > allowed:
            raise TooManyFailuresError(
                f"{self._num_failed} of the first {self._num_seen} samples of epoch {self._epoch} failed, more than "
                f"max_failures={limit} allows; is a folder not mounted, or the list's root another? The last one: {last}"
            ) from last

    def _check_that_something_came(self) -> None:
        if not self._is_ended and 0 < self._num_seen == self._num_failed and self._loader.on_error == "skip":
            raise TooManyFailuresError(
                f"nothing came of epoch {self._epoch}: all {self._num_seen} samples failed; is a folder not mounted, or the "
                f"list's root another? The last one: {self._loader._failures[-1]}"
            )

    def _substitute(self, index: int, draw: int, out: torch.Tensor, error: VideoError) -> int:
        """Loads another sample, a pure function of (seed, epoch, index, draw), into `out`; returns its index."""
        dataset = self._dataset
        rng = sample_rng(dataset.seed, self._epoch, -2 - index, draw)
        for _ in range(_MAX_SUBSTITUTES):
            other = int(rng.random() * len(dataset))
            try:
                # Its clip is its own too: the epoch may hold the other video beside it.
                dataset.load_one(partial(self._new_batch, [other]), other, self._epoch, out, draw, stands_for=index)
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
            "of_samplers": self._samplers,
        }

    def _note_end(self) -> None:
        if not self._is_ended:
            self._loader._tell_of_refused_entries()
            self.close()
            self._loader._position = {"epoch": self._epoch + 1}


def _samples_ahead(num_threads: int, sample_bytes: int, device: torch.device) -> int:
    """Samples on their way at once: enough that a slow one does not leave the threads without work, in so much memory."""
    limits = _SAMPLES_AHEAD if device.type == "cpu" else _SAMPLES_AHEAD_ON_GPU
    return max(min(per_thread * num_threads, most_bytes // sample_bytes) for per_thread, most_bytes in limits)


def _index_batches(loader: VideoLoader, first_sample: int, first_batch: int) -> Iterator[list[tuple[int, int]]]:
    """The batches from there on, each a list of (index, number of the draw); what comes before is drawn too, and counted."""
    counter = DrawCounter(loader.dataset, loader.sampler if loader.batch_size is not None else loader.batch_sampler)
    if loader.batch_sampler is None:
        yield from ([sample] for sample in islice(map(counter.draw, loader.sampler), first_sample, None))
    elif isinstance(loader.batch_sampler, EpochBatchSampler) and loader.batch_size is not None:
        drawn = islice(map(counter.draw, loader.sampler), first_sample, None)
        while batch := list(islice(drawn, loader.batch_size)):
            if len(batch) == loader.batch_size or not loader.drop_last:
                yield batch
    else:
        batches = ([counter.draw(index) for index in indices] for indices in loader.batch_sampler)
        yield from islice(batches, first_batch, None)


def _generators(loader: VideoLoader, samplers: list[Any]) -> list[torch.Generator]:
    """The loader's and the samplers' own, each once."""
    found = [loader.generator, *(getattr(sampler, "generator", None) for sampler in samplers)]
    return list({id(one): one for one in found if isinstance(one, torch.Generator)}.values())


def _with_state(samplers: list[Any]) -> list[Any]:
    return [one for one in samplers if hasattr(one, "state_dict") and hasattr(one, "load_state_dict")]


def _state_of_samplers(loader: VideoLoader, samplers: list[Any]) -> dict[str, Any]:
    """As plain numbers where the samplers' own states are; to be taken at the start of a pass."""
    return {
        "generators": [one.get_state().tolist() for one in _generators(loader, samplers)],
        "samplers": [copy.deepcopy(one.state_dict()) for one in _with_state(samplers)],
    }


def _restore_samplers(loader: VideoLoader, samplers: list[Any], state: dict[str, Any]) -> None:
    for generator, numbers in zip(_generators(loader, samplers), state["generators"], strict=False):
        generator.set_state(torch.tensor(numbers, dtype=torch.uint8))
    for sampler, its_state in zip(_with_state(samplers), state["samplers"], strict=False):
        sampler.load_state_dict(copy.deepcopy(its_state))


class _Memory:
    """Batch buffers, used again once the last tensor, view or array in them is gone."""

    def __init__(self, gpu: torch.device | None) -> None:
        self._gpu = gpu
        self._pool = _core.MemoryPool(None if gpu is None else partial(cuda.allocate, device=gpu))

    @property
    def num_bytes(self) -> int:
        return self._pool.num_bytes

    def take(self, shape: tuple[int, ...], dtype: torch.dtype, pinned: bool) -> torch.Tensor:
        if pinned and self._gpu is None and torch.cuda.is_available():
            return torch.empty(shape, dtype=dtype, pin_memory=True)  # torch keeps a cache of its own for these
        count = math.prod(shape)
        buffer = self._pool.take(count * dtype.itemsize)
        if self._gpu is None:
            return torch.frombuffer(buffer, dtype=dtype, count=count).view(shape)
        return cuda.tensor_of(buffer.address, buffer.nbytes, buffer, self._gpu).view(dtype).view(shape)
