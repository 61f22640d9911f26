"""VideoLoader: how batches are made. A torch.utils.data.DataLoader by class, signature and behavior; inside, the core's threads decode
each sample straight into its place in the batch.

In: a dataset and DataLoader's arguments. Out: an iterator over an epoch (vidload.loading.epoch_pass), statistics, and a
state to resume from. The dataset says what a sample is, vidload.loading.epochs which epoch it is.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.data import DataLoader, Dataset

from vidload import _core, describe
from vidload.clip_dataset import ClipDataset
from vidload.combined import base_dataset, check_for_dali
from vidload.loading.collating import check_batch_as
from vidload.loading.epoch_pass import EpochPass, PassParts
from vidload.loading.epochs import EpochBatchSampler, Epochs, EpochSampler, samplers_of
from vidload.loading.exit import ends_before_exit
from vidload.loading.memory import Memory
from vidload.loading.order import STATE_VERSION, Order, Place
from vidload.loading.tally import Tally, index_wait_seconds
from vidload.loading.trainers import AccelerateState, Collate, is_prepared
from vidload.loading.wake import Wake
from vidload.system.cores import available_cores
from vidload.system.cuda import cuda_device

if TYPE_CHECKING:
    from vidload.dali import DaliDecoder  # nvidia-dali is an extra

_ON_ERROR = ("raise", "skip", "substitute")
_DECODERS = ("auto", "cpu", "nvdec", "dali")


class VideoLoader(DataLoader[Any]):
    """Loads batches of clips; a drop-in for ``torch.utils.data.DataLoader``.

    Args:
        dataset: a VideoDataset, FrameFolderDataset or MultiVideoDataset, or a torch Subset (random_split) or ConcatDataset of these.
        batch_size, shuffle, sampler, batch_sampler, collate_fn, pin_memory, drop_last, timeout, generator: as DataLoader's. Without a
            `generator`, shuffle=True orders an epoch by the dataset's seed and the epoch's number alone.
        num_workers: decoding threads. None = the cores this process may use (affinity, cgroup quota, divided by LOCAL_WORLD_SIZE);
            0 = the calling thread decodes, and nothing is prefetched.
        prefetch_factor: batches in flight in total (not per worker). None: enough for 4 samples per thread within 2 GiB of memory, or for
            32 per thread within 256 MiB if that is more (half as much memory on a GPU), and at least 2 batches.
        worker_init_fn, multiprocessing_context, persistent_workers, pin_memory_device, in_order: accepted for compatibility. There are no
            worker processes, threads always persist, and batches always come in order.
        on_error: what to do about a video that cannot be decoded. "raise": its VideoError is raised when its batch is due; next(iterator)
            then goes on with the batch after it. "skip": the batch has one sample fewer (do not use this with several ranks: they would
            get out of step). "substitute": another video, chosen only by (seed, epoch, index), takes its place. Both count the sample, list
            it in stats(), and log each file once (logger "vidload"). Failures of the machine (no memory, a read error, a lost GPU, a thread
            that cannot start) are never skipped: they raise MemoryError, OSError or RuntimeError.
        max_failures: how many samples of one pass over the epoch may fail under "skip" and "substitute": a share of those seen so far (a
            float below 1; 20 failures are always allowed), a number (an int), or None for any number. More failures, or a pass in which
            every sample is skipped, raise TooManyFailuresError.
        device: where the clips go: "cpu" (or None), or a GPU such as "cuda" or "cuda:1". On a GPU, batches are ordered with the work of
            the caller's current stream, before and after; the host does not wait.
        strict: for a GPU, and for decoder="dali": a video that `decoder` cannot decode there raises an error instead of falling back to
            the CPU. (Without it, stats() counts the fallbacks by reason.)
        decoder: what makes the pixels. "cpu": libavcodec and the core's transform. "dali": NVIDIA DALI, with the same frames, boxes and
            flips; videos that it cannot decode are decoded by libavcodec and resized by DALI (see vidload.dali). "nvdec", for a
            GPU: its decoding engines. "auto": "cpu"; for a GPU "nvdec" from 1280x720 pixels on, else "cpu". See docs/gpu.md.
        augment: for decoder="dali": your own DALI operators on the cropped clips; see vidload.dali.dali_pipeline.
        batch_transform: your own function of each batch, called by the iterating thread on `device`; what it returns is yielded. If it has
            an argument `rng`, it gets a NumPy Generator whose numbers depend only on the dataset's seed, the epoch and the batch's first
            sample. See vidload.augment for MixUp and CutMix.
        batch_as: how samples that differ in shape make a batch: "list" (or None), a list of clips; if they differ only in length, also
            "padded" with zeros along T, with a mask in the fields, or "packed" along T, with offsets there. See vidload.joining.
        progress: whether to show a tqdm bar for each epoch.

    Raises:
        ValueError, TypeError: an argument makes no sense, or the dataset is not one of vidload's.
        RuntimeError: `device` is a GPU that cannot be used; ImportError: decoder="dali" without nvidia-dali.

    Yields:
        [clips, labels], or [clips, labels, fields] if the dataset has `fields`, as default_collate would return them. clips:
        [N, *dataset.sample_shape] of dataset.dtype (or as `batch_as` says), or what the dataset's clip_transform makes of them. labels:
        int64 [N], or of another kind that vidload.labels describes. fields: a dict that vidload.fields describes.

    Each iteration is one epoch and draws new random numbers. Epochs count from 0, each one more than that of the last pass over the
    dataset. Before the first batch is drawn, the epoch can be set on the loader, the dataset, or a sampler or batch sampler that has a
    set_epoch. A video that is drawn again in an epoch gives a different clip. `stats()` shows where the time went; `state_dict()` and
    `load_state_dict()` resume in the middle of an epoch. See docs/migrating.md for Lightning, Fabric, Accelerate, Transformers and Ray.
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
        batch_transform: Callable[..., Any] | None = None,
        batch_as: str | None = None,
        progress: bool = False,
    ) -> None:
        base, _ = base_dataset(dataset)
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
            check_for_dali(base)
            if not isinstance(base, ClipDataset):
                raise ValueError("decoder 'dali' loads one dataset, not a ConcatDataset of several")
            import vidload.dali  # noqa: F401  raises now, and says what to install, instead of with the first batch
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
        self.batch_transform = batch_transform
        self.batch_as = batch_as
        self.progress = progress
        self._dali: DaliDecoder | None = None
        self.shuffle = shuffle
        if shuffle and sampler is None and batch_sampler is None and generator is None:
            sampler, shuffle = EpochSampler(dataset), None
        # Another loader's: Lightning rebuilds with it.
        if isinstance(batch_sampler, EpochBatchSampler) and sampler is None:
            sampler, batch_size, drop_last = batch_sampler.sampler, batch_sampler.batch_size, batch_sampler.drop_last
            batch_sampler = None
        if isinstance(collate_fn, Collate):
            collate_fn = None if collate_fn.is_default else collate_fn.function
        self.end_of_dataloader, self.remainder = False, -1  # as Accelerate's own loaders have them
        self._is_of_accelerate = False
        self._pool: _core.LoaderPool | None = None
        self._wake: Wake | None = None
        self._place = Place()
        self._tally = Tally()
        self._memory = Memory(gpu)
        options: dict[str, Any] = {
            "prefetch_factor": prefetch_factor,
            "persistent_workers": persistent_workers,
            "pin_memory_device": pin_memory_device,
            "in_order": in_order,
        }
        known = inspect.signature(DataLoader.__init__).parameters  # in_order came with torch 2.6
        with warnings.catch_warnings():
            # Threads, and as many as were asked for.
            warnings.filterwarnings("ignore", message="This DataLoader will create")
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
            self.__dict__["batch_sampler"] = own  # DataLoader forbids to set it
        keeps = (
            on_error == "raise" and self.device.type == "cpu" and decoder in ("auto", "cpu") and batch_transform is None
        )
        is_default = collate_fn is None and self.batch_sampler is not None
        check_batch_as(base, batch_as, is_default)
        function = self.collate_fn
        if base.is_varying and is_default:
            function = partial(base.collate, batch_as=batch_as or "list")
        self.collate_fn = Collate(function, collate_fn is None, keeps)

    def __getstate__(self) -> dict[str, Any]:
        own = {"_place": replace(self._place), "_tally": replace(self._tally)}  # a copy goes its own way from here
        return {**self.__dict__, **own, "_pool": None, "_dali": None, "_memory": None, "_wake": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._memory = Memory(self.device if self.device.type == "cuda" else None)

    @ends_before_exit
    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        base, _ = base_dataset(self.dataset)
        if self._pool is None or not self._pool.is_usable:
            ordinal = self.device.index if self.device.type == "cuda" and self.decoder != "dali" else -1
            decoder = self.decoder if ordinal >= 0 else "cpu"
            self._pool = _core.LoaderPool(self.num_workers, ordinal, decoder, self.strict)
            self._dali = None
            if self.decoder == "dali" and isinstance(base, ClipDataset):
                self._dali = self._dali_decoder(base, self._pool)
            # On a GPU the work of a batch is queued in order, by the thread that uses it; and DALI's batches are waited for by one thread.
            has_wake = self.num_workers > 0 and self.device.type == "cpu" and self._dali is None
            self._wake = Wake(self.num_workers) if has_wake else None
        parts = PassParts(
            dataset=base,
            order=self._order,
            epochs=self._epochs,
            place=self._place,
            pool=self._pool,
            start_indexing=partial(base.start_indexing, self._pool, waits_for_draw=base.draws_in_core)
            if self._dali is None
            else self._dali.start_indexing,
            needs_indexes=self._dali is not None or not base.draws_in_core,
            memory=self._memory,
            wake=self._wake,
            tally=self._tally,
            accelerate=AccelerateState(self) if self._is_of_accelerate else None,
            num_batches=self.__len__,
            device=self.device,
            num_workers=self.num_workers,
            prefetch_factor=self.prefetch_factor,
            pin_memory=self.pin_memory,
            timeout=self.timeout,
            on_error=self.on_error,
            max_failures=self.max_failures,
            collate_fn=self.collate_fn,
            batch_transform=self.batch_transform,
            batch_as=self.batch_as or "list",
            progress=self.progress,
        )
        return EpochPass(parts)

    def _get_iterator(self) -> Iterator[Any]:  # type: ignore[override]
        return iter(self)

    @property
    def _is_accelerate_prepared(self) -> bool:
        """Accelerate asks this of what it is given to prepare. Raises RuntimeError if the loader does not fit its processes."""
        self._is_of_accelerate = is_prepared(self.device, self._order.num_replicas)
        return self._is_of_accelerate

    @_is_accelerate_prepared.setter
    def _is_accelerate_prepared(self, value: bool) -> None:
        pass  # Accelerate sets what it has just read

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

    @property
    def _order(self) -> Order:
        return Order(self.dataset, self.sampler, self.batch_sampler, self.batch_size, self.drop_last, self.generator)

    def set_epoch(self, epoch: int) -> None:
        """Sets the next iteration's epoch: its random numbers, and its order if the sampler has a set_epoch.

        If a state of that epoch was loaded, the next iteration resumes where the state was taken.
        """
        self._epochs.set(epoch)
        self._place.position = {}
        if self._place.resume is not None and self._place.resume["epoch"] != epoch:
            self._place.resume = None

    # --- what is in it

    def __repr__(self) -> str:
        return describe.as_text(*self._description())

    def _repr_html_(self) -> str:
        return describe.as_html(*self._description())

    def _description(self) -> tuple[str, list[describe.Row]]:
        try:
            title = f"VideoLoader: {len(self):,} batches of {self.batch_size or 1}"
        except TypeError:  # a batch sampler without a length
            title = "VideoLoader"
        return title, describe.loader_rows(self, base_dataset(self.dataset)[0])

    # --- where the time went

    def stats(self) -> dict[str, Any]:
        """What the loader has done since it was made, over all epochs; docs/performance.md explains what to do about each figure.

        Counts: num_batches, num_samples, num_frames (pictures written), num_failed, num_files_scanned, num_entries_refused (of an index
        file: damaged, or belonging to another file or version, so that the video was scanned), num_packets_decoded,
        num_packets_dropped (left out of what was decoded, since no wanted frame depends on them), num_packets_skipped (the files' other
        packets), num_decoders_opened, bytes_read.
        Seconds summed over threads: index_seconds, read_seconds, decode_seconds, transform_seconds. wait_seconds: how long the caller
        waited for batches. index_wait_seconds: about how much of that was spent on indexing (by its share of the threads' seconds; an index
        file avoids it). memory_bytes: held for batches. failures: a vidload.errors.Failure
        (sample, path, reason, frame, kind) for each of the first 1000 samples that failed.
        For a GPU: num_nvdec_samples (decoded by NVDEC), num_nvdec_creations (NVDEC decoders made), fallbacks (samples that the CPU
        decoded although "nvdec" or "auto" was asked for, by reason; see docs/gpu.md), bytes_uploaded (planes, tables and descriptors),
        staging_bytes: (device, pinned) bytes of the process.
        dali_fallbacks: with decoder="dali", samples that libavcodec decoded for it, by reason.
        """
        stats = dict(_core.LoaderPool(0).stats() if self._pool is None else self._pool.stats())
        stats["num_batches"] = self._tally.num_batches
        stats["num_failed"] = self._tally.num_failures
        stats["wait_seconds"] = self._tally.wait_seconds
        stats["index_wait_seconds"] = index_wait_seconds(stats, self._tally.wait_seconds)
        stats["memory_bytes"] = self._memory.num_bytes
        stats["failures"] = list(self._tally.failures)
        stats["staging_bytes"] = _core.cuda_memory_held()
        if self.decoder == "dali":
            stats["dali_fallbacks"] = {} if self._dali is None else dict(self._dali.fallbacks)
        return stats

    # --- resuming

    def state_dict(self) -> dict[str, Any]:
        """Where the newest iteration is, as plain numbers: what `load_state_dict` needs to resume with the next batch.

        It includes the states of the loader's and the samplers' own generators, and of samplers that have a state_dict and no set_epoch, as
        they were when the epoch began; between two epochs, as they are. (A sampler that draws from torch's global generator repeats its
        order only if you restore that generator too.)

        The position counts what was handed out, not what was prefetched. After the end of an epoch it is the start of the next one.
        """
        base, _ = base_dataset(self.dataset)
        position = self._place.resume or self._place.position or self._start_of_next()
        return {
            "version": STATE_VERSION,
            "epoch": position["epoch"],
            "next_sample": position["next_sample"],
            "next_batch": position["next_batch"],
            "num_replicas": self._order.num_replicas,
            "num_samples": len(self.dataset),  # type: ignore[arg-type]
            "seed": base.seed,
            **position["of_samplers"],
        }

    def _start_of_next(self) -> dict[str, Any]:
        return {"epoch": self._epochs.peek(), "next_sample": 0, "next_batch": 0, "of_samplers": self._order.state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Makes the next iteration resume where `state` was taken: same epoch, same random numbers, next batch.

        The number of threads may differ, and so may the batch size (samples are counted, unless a batch_sampler was given) and the number
        of ranks: the samples that all ranks had used together are split among the new ranks, rounded down, so that at most one sample per
        rank comes twice.

        Raises:
            ValueError: the state belongs to another dataset (length or seed), to other samplers or generators (their number) or to another
                version, or makes no sense.
        """
        base, _ = base_dataset(self.dataset)
        self._order.check_state(state)
        for name, here in (("num_samples", len(self.dataset)), ("seed", base.seed)):  # type: ignore[arg-type]
            if state[name] != here:
                raise ValueError(
                    f"loader state: {name} is {state[name]}, but {here} here; the state belongs to another dataset"
                )
        next_sample = state["next_sample"] * state["num_replicas"] // self._order.num_replicas
        of_samplers = {name: state[name] for name in ("generators", "samplers")}
        self._place.resume = {**state, "next_sample": next_sample, "of_samplers": of_samplers}
        self._epochs.set(state["epoch"])
        self._place.position = {}
