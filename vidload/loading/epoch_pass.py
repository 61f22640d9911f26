"""One pass over an epoch: batches in order, with enough of the next ones under way to keep every thread busy.

In: the parts of a loader that a pass needs. Out: the batches. Each takes three steps: its videos' packet indexes are found, its frames and
boxes are drawn from counter-based random numbers, its samples are decoded. Threads take all three, one sample after the other; where a
function of Python's draws, it is called here between the first and the third. A clip_transform of the user's own is a fourth step, by
threads of Python's that follow (vidload.loading.wake).
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from vidload import _core
from vidload.batch import Drawn
from vidload.combined import Clips, base_dataset
from vidload.errors import IndexMismatchError, TooManyFailuresError, VideoError
from vidload.fields import FieldRow
from vidload.joining import slots
from vidload.loading.collating import collated, joins_labels
from vidload.loading.epochs import Epochs
from vidload.loading.exit import cancel_at_exit, ends_before_exit
from vidload.loading.memory import Memory
from vidload.loading.order import Order, Place
from vidload.loading.progress import Progress
from vidload.loading.tally import Tally
from vidload.loading.trainers import AccelerateState
from vidload.loading.wake import IN_PLACE, Wake, put
from vidload.sampler_options import argument_names
from vidload.system import cuda
from vidload.system.random import batch_rng, sample_rng

_MAX_SUBSTITUTES = 10
# Where max_failures is a share: a few bad files at the start of an epoch mean nothing.
_ALWAYS_ALLOWED_FAILURES = 20
# What is under way if prefetch_factor is None: a number of batches at least, and a number of samples per thread within a number of bytes,
# by whichever of the two pairs allows more. So a slow sample in front of many small ones does not leave the threads without work.
_MIN_BATCHES_AHEAD = 2
_SAMPLES_AHEAD = ((4, 2 << 30), (32, 256 << 20))
_SAMPLES_AHEAD_ON_GPU = ((4, 1 << 30), (32, 128 << 20))
# The most batches that are started in one go: from the second on, what starts them is in the processor's caches, which the decoding
# has taken from the first.
_BATCHES_AT_ONCE = 4


@dataclass(frozen=True)
class PassParts:
    """What a pass needs from its loader. It changes `place` and `tally`, and nothing else of the loader's.

    dataset: the clips behind order.dataset.
    start_indexing: starts a batch of the samples with these indices; see ClipDataset.start_indexing.
    needs_indexes: whether batches can be drawn only when their indexes have been found; they are then found ahead.
    wake: what runs the dataset's clip_transform; None: the pass itself.
    accelerate: where the pass reports its end; None if Accelerate is not in use.
    num_batches: len() of the loader; a batch sampler may not know it.
    batch_as: how clips that differ in shape make a batch, of vidload.joining.
    others: the loader's arguments of the same names.
    """

    dataset: Clips
    order: Order
    epochs: Epochs
    place: Place
    pool: _core.LoaderPool
    start_indexing: Callable[[Sequence[int]], Any]
    needs_indexes: bool
    memory: Memory
    wake: Wake | None
    tally: Tally
    accelerate: AccelerateState | None
    num_batches: Callable[[], int]
    device: torch.device
    num_workers: int
    prefetch_factor: int | None
    pin_memory: bool
    timeout: float
    on_error: str
    max_failures: float | None
    collate_fn: Callable[[list[Any]], Any]
    batch_transform: Callable[..., Any] | None
    batch_as: str
    progress: bool


class _Pending:
    """A batch under way."""

    def __init__(
        self,
        indices: list[int],
        draws: list[int],
        batch: Any,
        next_sample: int,
        next_batch: int,
    ) -> None:
        self.indices = indices
        self.draws = draws
        self.batch = batch
        self.next_sample = next_sample  # samples and batches of the epoch that have been handed out once this one has
        self.next_batch = next_batch
        # Set once decoding has started.
        # A tensor, or a list of tensors that differ in shape (None for samples that could not be drawn).
        self.clips: Any = None
        self.whole: torch.Tensor | None = None  # the memory of that list
        self.labels: Any = None  # of all samples, where the pass takes them so early
        self.drawn = Drawn([], None)
        self.results: list[Future[Any]] | None = None  # of clip_transform, where the wake's threads run it
        self.is_given_up = False
        self.error: Exception | None = None  # why it could not be drawn


class EpochPass:
    """The iterator of a loader. It begins when the first batch is asked for; until then the epoch can still be set."""

    def __init__(self, parts: PassParts) -> None:
        self._parts = parts
        self._process = os.getpid()
        self._dataset = parts.dataset
        _, self._base_index = base_dataset(parts.order.dataset)
        num_threads = parts.num_workers
        self._batches_ahead = 0 if num_threads == 0 else parts.prefetch_factor
        # Where samples vary in size, by those under way.
        self._samples_ahead = _samples_ahead(num_threads, max(self._dataset.sample_bytes, 1), parts.device)
        self._samples_indexing = max(num_threads, 1)
        self._indexing: deque[_Pending] = deque()
        self._decoding: deque[_Pending] = deque()
        self._is_on_gpu = parts.device.type == "cuda"
        self._num_indexing = self._num_decoding = 0  # samples
        self._has_begun = self._is_ended = False
        self._ended_by: BaseException | None = None
        self._no_more: Exception | None = None  # why no batch can come after those under way
        self._accelerate: AccelerateState | None = None
        self._progress: Progress | None = None
        # Made right after the clips' tensor, whose making has brought torch's code back into the processor's caches.
        is_batch = parts.order.batch_sampler is not None
        self._takes_labels_early = self._dataset.has_stored_labels and joins_labels(parts.collate_fn, is_batch)
        self._wake = None if self._dataset.clip_transform is None else parts.wake
        transform = parts.batch_transform
        self._batch_transform_takes_rng = transform is not None and "rng" in argument_names(transform)
        self._num_seen = self._num_failed = 0  # samples of this pass
        cancel_at_exit(self)

    def __iter__(self) -> EpochPass:
        return self

    def __len__(self) -> int:
        return self._parts.num_batches()

    @ends_before_exit
    def __next__(self) -> Any:
        if os.getpid() != self._process:
            raise RuntimeError("this iterator was made before its process forked; call iter(loader) in the child")
        if self._ended_by is not None:
            raise RuntimeError(
                f"this pass over the epoch was ended by {self._ended_by!r}. To go on with the batch that was due, call "
                "loader.load_state_dict(loader.state_dict()) and iterate over the loader again"
            ) from self._ended_by
        started = time.perf_counter()
        try:
            if not self._has_begun:
                self._begin()
            while True:
                self._fill()
                if not self._decoding:
                    if self._no_more is not None:
                        raise self._no_more
                    self._note_end()
                    raise StopIteration
                pending = self._decoding[0]
                self._name_consumer()
                if pending.error is None:
                    self._wait(pending)
                self._decoding.popleft()
                self._num_decoding -= len(pending.indices)
                if self._batches_ahead != 0:
                    self._fill()  # keep the threads busy while the caller works
                try:
                    result = self._finish(pending)
                except Exception:
                    # The batch is lost; the next one is not.
                    self._note_position(pending.next_sample, pending.next_batch)
                    raise
                self._note_position(pending.next_sample, pending.next_batch)
                if self._progress is not None:
                    self._progress.show(time.perf_counter() - started, self._num_failed)
                if result is not None:
                    self._parts.tally.num_batches += 1
                    if self._accelerate is not None:
                        self._accelerate.set_whether_last(self._is_last())
                    return result
        except BaseException as error:
            # Of a batch alone, or a timeout: the next call goes on with the batch that is due then.
            can_go_on = isinstance(error, Exception) and self._has_begun and error is not self._no_more
            if not can_go_on:
                self._ended_by = error
                self.close()
            raise
        finally:
            self._parts.tally.wait_seconds += time.perf_counter() - started

    def _wait(self, pending: _Pending) -> None:
        timeout = self._parts.timeout
        try:
            is_done = pending.batch.wait(timeout if timeout > 0 else -1.0)
        except Exception as error:
            self._no_more = error  # the machine's: other batches would meet it, too
            raise
        if not is_done:
            raise RuntimeError(f"VideoLoader timed out: a batch was not ready after {timeout} seconds")

    def close(self) -> None:
        """Gives up what is under way; the threads stop decoding it at the next packet."""
        self.cancel()
        self._indexing.clear()
        self._decoding.clear()
        if self._progress is not None:
            self._progress.close()
            self._progress = None
        if self._accelerate is not None:
            self._accelerate.end()
            self._accelerate = None

    def cancel(self) -> None:
        """Like `close`, but for a thread other than the one inside __next__."""
        self._is_ended = True
        for pending in (*self._indexing, *self._decoding):
            pending.is_given_up = True
            pending.batch.cancel()

    def __del__(self) -> None:
        if os.getpid() == self._process:
            self.close()

    # --- the three steps

    def _begin(self) -> None:
        order, place = self._parts.order, self._parts.place
        self._stats_before, self._waited_before = self._parts.pool.stats(), self._parts.tally.wait_seconds
        self._began = time.perf_counter()
        self._epoch = self._parts.epochs.begin()
        state, place.resume = place.resume, None
        if state is not None and state["epoch"] != self._epoch:
            state = None  # somebody has chosen another epoch since
        if state is not None:
            order.restore(state["of_samplers"])
        self._state_of_samplers = order.state()
        if order.generator is not None:
            # DataLoader draws a seed for its workers first.
            torch.empty((), dtype=torch.int64).random_(generator=order.generator)
        self._next_sample = 0 if state is None else state["next_sample"]
        self._next_batch = 0 if state is None else state["next_batch"]
        self._index_batches = order.batches(self._next_sample, self._next_batch)
        self._note_position(self._next_sample, self._next_batch)
        self._accelerate = self._parts.accelerate
        if self._accelerate is not None:
            self._accelerate.begin()
        if self._parts.progress:
            self._progress = Progress(self._epoch, self._num_batches(), self._next_batch_of_epoch())
        self._has_begun = True

    def _fill(self) -> None:
        """Starts all that may be under way by now; if nothing is, waits until one batch is."""
        if self._parts.needs_indexes:
            self._fill_from_indexes()
            return
        if self._decoding and not self._has_room():
            return
        while not self._is_ended and not self._is_far_ahead() and (pending := self._started()) is not None:
            self._start_decoding(pending)

    def _fill_from_indexes(self) -> None:
        most_indexing = self._samples_indexing if self._batches_ahead != 0 else 1
        while not self._is_ended:
            while self._num_indexing < most_indexing and (pending := self._started()) is not None:
                self._num_indexing += len(pending.indices)
                self._indexing.append(pending)
            if not self._indexing or self._is_far_ahead():
                return
            pending = self._indexing[0]
            timeout = self._parts.timeout if self._parts.timeout > 0 else -1.0
            if not pending.batch.wait(0.0 if self._decoding else timeout):
                if self._decoding:
                    return
                raise RuntimeError(
                    f"VideoLoader timed out: videos were not indexed after {self._parts.timeout} seconds"
                )
            self._indexing.popleft()
            self._num_indexing -= len(pending.indices)
            self._start_decoding(pending)

    def _has_room(self) -> bool:
        """Whether as many batches may be started as are started at once."""
        if self._batches_ahead is not None or self._dataset.is_varying or len(self._decoding) < _MIN_BATCHES_AHEAD:
            return True
        batch_size = len(self._decoding[-1].indices)
        at_once = min(_BATCHES_AT_ONCE, self._samples_ahead // (2 * batch_size))
        return self._num_decoding + (at_once - 1) * batch_size < self._samples_ahead

    def _is_far_ahead(self) -> bool:
        if self._batches_ahead is not None:
            return len(self._decoding) >= max(self._batches_ahead, 1)
        if len(self._decoding) < _MIN_BATCHES_AHEAD:
            return False
        if self._dataset.is_varying:
            num_bytes = sum(pending.whole.nbytes for pending in self._decoding if pending.whole is not None)
            sample_bytes = max(num_bytes // max(self._num_decoding, 1), 1)
            return self._num_decoding >= _samples_ahead(self._parts.num_workers, sample_bytes, self._parts.device)
        return self._num_decoding >= self._samples_ahead

    def _is_last(self) -> bool:
        """Whether no batch follows the one just taken."""
        if self._decoding or self._indexing:
            return False
        pending = self._started()
        if pending is None:
            return True
        if self._parts.needs_indexes:
            self._num_indexing += len(pending.indices)
            self._indexing.append(pending)
        else:
            self._start_decoding(pending)
        return False

    def _started(self) -> _Pending | None:
        """The next batch, whose indexes are being found; None if there is none."""
        if self._no_more is not None:
            return None
        try:
            drawn = next(self._index_batches, None)
            if drawn is None:
                return None
            indices, draws = drawn
            batch = self._parts.start_indexing(indices)
        except Exception as error:
            self._no_more = error  # raised once the batches before have come
            return None
        self._next_sample += len(indices)
        self._next_batch += 1
        return _Pending(indices, draws, batch, self._next_sample, self._next_batch)

    def _name_consumer(self) -> None:
        """Gives the core the stream whose work batches are ordered with."""
        if self._is_on_gpu:
            self._parts.pool.set_consumer(cuda.current_stream(self._parts.device))

    def _start_decoding(self, pending: _Pending) -> None:
        self._name_consumer()
        try:
            self._draw(pending)
        except Exception as error:
            pending.error = error  # raised when the batch is due
            pending.batch.cancel()
            if self._is_on_gpu and isinstance(error, RuntimeError):
                self._no_more = error  # the GPU's, as in _wait
        self._decoding.append(pending)
        self._num_decoding += len(pending.indices)
        if self._wake is not None and pending.error is None:
            submit, dataset, epoch = self._wake.submit, self._dataset, self._epoch
            pending.results = [
                submit(partial(_transform_in_wake, dataset, pending, place, epoch))
                for place in range(len(pending.indices))
            ]

    def _draw(self, pending: _Pending) -> None:
        """Draws a batch's samples, and starts decoding them."""
        dataset = self._dataset
        indices, draws = pending.indices, pending.draws
        if dataset.is_varying:
            pending.drawn = dataset.draw(pending.batch, indices, self._epoch, draws)
            batch_as, shapes = self._parts.batch_as, pending.drawn.shapes
            pending.whole, pending.clips = slots(batch_as, shapes, dataset.time_axis, self._take)
            dataset.decode_each(pending.batch, pending.drawn, pending.clips)
        else:
            pending.clips = self._take((len(indices), *dataset.sample_shape))
            pending.labels = dataset.labels_of(indices) if self._takes_labels_early else None
            pending.drawn = dataset.start_decoding(pending.batch, indices, self._epoch, pending.clips, draws)

    def _take(self, shape: tuple[int, ...]) -> torch.Tensor:
        """Memory for clips of this shape."""
        return self._parts.memory.take(shape, self._dataset.dtype, self._parts.pin_memory)

    def _finish(self, pending: _Pending) -> Any:
        if pending.error is not None:
            raise pending.error
        dataset, parts = self._dataset, self._parts
        clips = pending.clips
        indices = list(pending.indices)
        rows: list[Any] = []
        if dataset.fields:
            rows = dataset.field_rows(pending.batch, pending.drawn, indices, self._epoch, pending.draws)
        failed: list[int] = []  # places
        # Of samples loaded again here: place -> the index that it is a substitute of, or -1.
        settled: dict[int, int] = {}
        self._num_seen += len(indices)
        errors = zip(pending.drawn.errors, pending.batch.errors(), strict=True)
        for place, (sampling, decoding) in enumerate(errors):
            error = decoding if sampling is None else sampling
            if error is None:
                continue
            row = None
            if isinstance(error, IndexMismatchError):
                error, row = self._draw_again(pending, place)
                settled[place] = -1
            if error is not None:
                parts.tally.note_failure(indices[place], error, parts.on_error)
                if parts.on_error == "raise":
                    raise error
                self._num_failed += 1
                self._check_failures(error)
                if parts.on_error == "skip":
                    failed.append(place)
                    continue
                settled[place] = indices[place]
                indices[place], row = self._substitute(pending, place, error)
            if rows:
                rows[place] = row
        kept = [place for place in range(len(indices)) if place not in failed] if failed else range(len(indices))
        if not kept:
            return None  # every sample was skipped, and with them the batch
        results: Any = clips
        if dataset.clip_transform is not None:
            results = [self._transformed(pending, place, indices[place], settled.get(place)) for place in kept]
            if all(result is IN_PLACE for result in results):
                results = clips
            else:
                of_slots = zip(results, kept, strict=True)
                results = [clips[place] if result is IN_PLACE else result for result, place in of_slots]
        if failed:
            if results is clips:
                results = [clips[place] for place in kept] if dataset.is_varying else clips[kept]
            indices = [indices[place] for place in kept]
            rows = [rows[place] for place in kept] if rows else rows
        is_batch = parts.order.batch_sampler is not None
        labels = pending.labels if indices == pending.indices else None
        whole = pending.whole if results is clips and not settled else None  # every clip was decoded into its place
        batch = collated(dataset, results, indices, rows, parts.collate_fn, is_batch, parts.batch_as, whole, labels)
        if parts.batch_transform is None:
            return batch
        if not self._batch_transform_takes_rng:
            return parts.batch_transform(batch)
        rng = batch_rng(dataset.seed, self._epoch, pending.indices[0], pending.draws[0])
        return parts.batch_transform(batch, rng=rng)

    def _transformed(self, pending: _Pending, place: int, index: int, stands_for: int | None) -> Any:
        """What clip_transform makes of a sample; IN_PLACE if it is in the batch now. stands_for: None of one that was loaded in time."""
        if stands_for is None and pending.results is not None:
            timeout = self._parts.timeout if self._parts.timeout > 0 else None
            try:
                return pending.results[place].result(timeout)
            except TimeoutError:
                raise RuntimeError(
                    f"VideoLoader timed out: a clip_transform took more than {timeout} seconds"
                ) from None
        clip, draw = pending.clips[place], pending.draws[place]
        stands_for = -1 if stands_for is None else stands_for
        return put(self._dataset.transformed(clip, index, self._epoch, draw, stands_for), clip)

    def _load(self, pending: _Pending, place: int, index: int, draw: int, stands_for: int = -1) -> FieldRow | None:
        """Loads one sample of a batch by itself; returns its fields."""
        take = self._take if self._dataset.is_varying else (lambda shape: pending.clips[place])
        start_indexing = partial(self._parts.start_indexing, [index])
        clip, row = self._dataset.load_one(start_indexing, index, self._epoch, take, draw, stands_for)
        if self._dataset.is_varying:
            pending.clips[place] = clip
        return row

    def _draw_again(self, pending: _Pending, place: int) -> tuple[VideoError | None, FieldRow | None]:
        """Loads a sample whose file turned out to have other frames than those it was drawn from; returns an error if it cannot be, and
        its fields."""
        try:
            return None, self._load(pending, place, pending.indices[place], pending.draws[place])
        except VideoError as error:
            return error, None

    def _check_failures(self, last: VideoError) -> None:
        limit = self._parts.max_failures
        if limit is None:
            return
        allowed = max(limit * self._num_seen, _ALWAYS_ALLOWED_FAILURES) if isinstance(limit, float) else limit
        if self._num_failed > allowed:
            raise TooManyFailuresError(
                f"{self._num_failed} of the first {self._num_seen} samples of epoch {self._epoch} failed, more than "
                f"max_failures={limit} allows; is a folder not mounted, or the list's root wrong? The last failure: {last}"
            ) from last

    def _check_that_something_came(self) -> None:
        if 0 < self._num_seen == self._num_failed and self._parts.on_error == "skip":
            raise TooManyFailuresError(
                f"no sample of epoch {self._epoch} could be loaded: all {self._num_seen} failed; is a folder not mounted, or the "
                f"list's root wrong? The last failure: {self._parts.tally.failures[-1]}"
            )

    def _substitute(self, pending: _Pending, place: int, error: VideoError) -> tuple[int, FieldRow | None]:
        """Loads another sample of the loader's dataset, a pure function of (seed, epoch, index, draw), in place of one; returns its index
        and its fields."""
        dataset, index, draw = self._dataset, pending.indices[place], pending.draws[place]
        num_samples = len(self._parts.order.dataset)  # type: ignore[arg-type]
        rng = sample_rng(dataset.seed, self._epoch, -2 - index, draw)
        for _ in range(_MAX_SUBSTITUTES):
            other = self._base_index(int(rng.random() * num_samples))
            try:
                # Its clip is its own too: the epoch may hold the other video beside it.
                return other, self._load(pending, place, other, draw, stands_for=index)
            except VideoError as failed:
                self._parts.tally.note_failure(other, failed, self._parts.on_error)
        raise VideoError(
            error.path, error.frame, f"{error.reason} (and {_MAX_SUBSTITUTES} substitutes failed too)"
        ) from error

    # --- where this pass is

    def _note_position(self, next_sample: int, next_batch: int) -> None:
        self._parts.place.position = {
            "epoch": self._epoch,
            "next_sample": next_sample,
            "next_batch": next_batch,
            "of_samplers": self._state_of_samplers,
        }

    def _num_batches(self) -> int | None:
        try:
            return self._parts.num_batches()
        except TypeError:  # a batch sampler without a length
            return None

    def _next_batch_of_epoch(self) -> int:
        size = self._parts.order.batch_size
        return self._next_batch if size is None else -(-self._next_sample // size)

    def _note_end(self) -> None:
        if not self._is_ended:
            tally, pool = self._parts.tally, self._parts.pool
            tally.warn_of_refused_entries(pool, self._dataset)
            waited, elapsed = tally.wait_seconds - self._waited_before, time.perf_counter() - self._began
            tally.warn_of_indexing(self._stats_before, pool.stats(), waited, elapsed)
            self.close()
            self._parts.place.position = {}
            self._check_that_something_came()


def _transform_in_wake(dataset: Clips, pending: _Pending, place: int, epoch: int) -> Any:
    pending.batch.wait()
    has_failed = pending.drawn.errors[place] is not None or pending.batch.errors()[place] is not None
    if pending.is_given_up or has_failed:
        return None  # the pass sees to it
    clip = pending.clips[place]
    return put(dataset.transformed(clip, pending.indices[place], epoch, pending.draws[place]), clip)


def _samples_ahead(num_threads: int, sample_bytes: int, device: torch.device) -> int:
    """How many samples may be under way: enough that a slow one does not leave the threads without work, within bounded memory."""
    limits = _SAMPLES_AHEAD if device.type == "cpu" else _SAMPLES_AHEAD_ON_GPU
    return max(min(per_thread * num_threads, most_bytes // sample_bytes) for per_thread, most_bytes in limits)
