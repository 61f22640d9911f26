"""DALI pipelines with VideoLoader's contract: the dataset says which frames, boxes and flips, NVIDIA DALI makes the pixels.

In: a dataset's requests (vidload.dataset). Out: `dali_pipeline`, for those who run DALI pipelines themselves, and for
VideoLoader(decoder="dali") batches that pass for the core's. A video that DALI would get wrong, or not at all (`unsupported_reason`),
is decoded by the core to RGB and joins the same pipeline: bad files must be found before DALI sees them, as one bad sample destroys a
pipeline. Random numbers, labels and the handling of errors stay with dataset and loader. Needs nvidia-dali.
"""

from __future__ import annotations

import ctypes
import os
import threading
import time
import warnings
import weakref
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import wait as wait_for_futures
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import BatchSampler, Dataset, SequentialSampler

from vidload import _core
from vidload.clip_dataset import ClipDataset, Request, base_dataset
from vidload.errors import (
    FrameIndexError,
    UnreadableVideoError,
    UnsupportedVideoError,
    VideoError,
    VideoNotFoundError,
)
from vidload.loading.epochs import DrawCounter, Epochs, EpochSampler, samplers_of
from vidload.system.cores import available_cores

try:
    from nvidia.dali import fn, pipeline_def, types
except ImportError as error:
    raise ImportError(
        "vidload.dali needs NVIDIA DALI, which is not installed: pip install nvidia-dali-cuda130 (or -cuda120)"
    ) from error

_CODECS = {"cpu": ("vp8", "vp9", "mjpeg"), "gpu": ("vp8", "vp9", "mjpeg", "av1", "mpeg4", "h264", "hevc")}
_PIXEL_FORMATS = {
    "cpu": ("yuv420p", "yuv422p", "yuv444p", "yuvj420p", "yuvj422p", "yuvj444p"),
    "gpu": ("yuv420p", "yuvj420p"),
}
_BT601 = (2, 5, 6)  # H.273 numbers; 2 is "not stated", which all take for BT.601
_HIDDEN_OR_DISCARDED, _DAMAGED = 4 | 8, 64  # packet flags of the core
_NUM_IN_PIPELINE = 2  # batches

Graph = Any  # a nvidia.dali.data_node.DataNode
Augment = Callable[[Graph], Graph]


def unsupported_reason(index: _core.PacketIndex | None, device: str = "cpu") -> str | None:
    """Why DALI on `device` ("cpu" or "gpu") cannot decode this video to the right frames and colors; None if it can.

    DALI decodes VP8, VP9 and MJPEG on the CPU and more with NVDEC, takes every stream for BT.601, leaves rotation out, chooses
    a stream itself, and numbers frames by counting the packets whose pts is not negative. `index` None is a folder of extracted frames.
    """
    if index is None:
        return "extracted frames"
    if index.stream_number != 0:
        return "a stream that is not the first"
    if index.codec not in _CODECS[device]:
        return f"codec {index.codec}"
    if index.pixel_format not in _PIXEL_FORMATS[device]:
        return f"pixel format {index.pixel_format}"
    if index.color_space not in _BT601:
        return "colors other than BT.601"
    if index.rotation != 0 or index.is_mirrored:
        return "rotation"
    if (index.packet_flags & _DAMAGED).any():
        return "packets that fail their checksum"
    if not index.is_regular:
        return "frames that only a decode tells"
    has_extra_packets = index.num_packets != index.num_frames or (index.packet_flags & _HIDDEN_OR_DISCARDED).any()
    if has_extra_packets or index.frame_pts[0] < 0:
        return "packets that show no frame"
    return None


def dali_pipeline(
    dataset: Dataset[Any],
    batch_size: int = 1,
    *,
    device: str = "cpu",
    device_id: int = 0,
    num_threads: int | None = None,
    shuffle: bool = False,
    sampler: Any = None,
    augment: Augment | None = None,
    prefetch_queue_depth: int = 2,
) -> Any:
    """A DALI pipeline of (clips, labels): [N, *dataset.sample_shape] of dataset.dtype, and int64 labels.

    Frames, boxes, flips and order are those of VideoLoader. A run gives a batch, the last one of an epoch may be smaller, then comes
    StopIteration; `reset()` starts the next epoch (which that is: as with VideoLoader), as DALI's own iterators do when they reset.

    Args:
        dataset: a VideoDataset or FrameFolderDataset, or a torch Subset of one.
        device: "cpu", or "gpu": NVDEC decodes and the clips are on the GPU `device_id`.
        num_threads: DALI's and the core's, each; None = the cores this process may use.
        shuffle: in the order of VideoLoader(shuffle=True).
        sampler: the order of samples, as DataLoader's; its set_epoch is called where it has one, and heard.
        augment: the caller's own DALI operators: from cropped uint8 RGB clips [F, H, W, 3] (layout "FHWC") to clips of that shape; then
            they are mirrored and normalized. F counts the frames of all clips that share a crop.
        prefetch_queue_depth: batches that run ahead in the pipeline; as many again are read and decoded ahead of it.

    Raises:
        ValueError: dataset.dtype is bfloat16, which DALI does not know.
        VideoError: (by a run) a video is missing or cannot be decoded. VideoLoader can skip or substitute it instead.
    """
    base, _ = base_dataset(dataset)
    if device not in _CODECS:
        raise ValueError(f"device {device!r} is not one of {', '.join(_CODECS)}")
    if base.dtype == torch.bfloat16:
        raise ValueError("dtype bfloat16 is unknown to DALI; use float16, float32 or uint8, or VideoLoader(decoder='dali')")
    if shuffle and sampler is not None:
        raise ValueError("sampler is given, so shuffle must be False: the sampler decides the order")
    num_threads = available_cores() if num_threads is None else max(num_threads, 1)
    sampler = EpochSampler(dataset) if shuffle else SequentialSampler(dataset) if sampler is None else sampler  # type: ignore[arg-type]
    pool = _core.LoaderPool(num_threads)
    readers = ThreadPoolExecutor(num_threads, thread_name_prefix="vidload-read")
    epochs = Epochs(dataset, samplers_of(sampler))

    def epoch_of_batches() -> Iterator[tuple[list[npt.NDArray[Any]], ...]]:
        epoch = epochs.begin()
        counter = DrawCounter(dataset, sampler)
        started: deque[list[_Sample]] = deque()
        for indices in BatchSampler(sampler, batch_size, drop_last=False):
            drawn = [counter.draw(index) for index in indices]
            started.append([_Sample(base, pool, index) for index, _ in drawn])
            for (index, draw), sample in zip(drawn, started[-1], strict=True):
                sample.wait()
                if sample.info is not None:
                    sample.start(base.request(index, epoch, sample.info, draw), device, readers)
            if len(started) > prefetch_queue_depth:
                yield _inputs_of(started.popleft())
        while started:
            yield _inputs_of(started.popleft())

    return _build(
        base,
        batch_size,
        device,
        device_id,
        num_threads,
        augment,
        source=epoch_of_batches,
        prefetch_queue_depth=prefetch_queue_depth,
    )


# --- the graph

# Name, type, number of axes and layout of a sample's inputs. R repeats, K crops, F frames in all clips of a repeat, U different frames.
_INPUTS = (
    ("encoded", types.UINT8, 1, ""),  # the file, if DALI decodes it
    ("frames", types.INT32, 1, ""),  # [U], rising
    ("pixels", types.UINT8, 4, "FHWC"),  # [U, H, W, 3], if the core decoded it
    ("is_encoded", types.BOOL, 0, ""),
    ("order", types.INT32, 2, ""),  # [R, F]: which of the U frames
    ("boxes", types.FLOAT, 2, ""),  # [R * K, 4]: top, left, bottom, right
    ("flips", types.INT32, 1, ""),  # [R * K]
)
_LABEL = "label"
_DTYPES = {
    torch.float32: types.FLOAT,
    torch.float16: types.FLOAT16,
    torch.bfloat16: types.FLOAT,  # DALI has none: converted where the loader copies
    torch.uint8: types.UINT8,
}


def _build(
    dataset: ClipDataset,
    batch_size: int,
    device: str,
    device_id: int,
    num_threads: int,
    augment: Augment | None,
    source: Callable[[], Iterator[Any]] | None,
    prefetch_queue_depth: int,
) -> Any:
    """The pipeline of (clips, labels). Without a source, its inputs are fed by name."""
    label_ndim = 0 if isinstance(dataset.annotations.labels, np.ndarray) else 1
    return pipeline_def(enable_conditionals=True)(_graph)(
        dataset,
        device,
        augment,
        source,
        (*_INPUTS, (_LABEL, types.INT64, label_ndim, "")),
        batch_size=batch_size,
        num_threads=num_threads,
        device_id=None if device == "cpu" else device_id,
        prefetch_queue_depth=prefetch_queue_depth,
    )


def _graph(
    dataset: ClipDataset,
    device: str,
    augment: Augment | None,
    source: Any,
    inputs: Sequence[tuple[str, Any, int, str]],
) -> tuple[Graph, Graph]:
    # DALI rewrites the source of this function and all it calls, so that `if` works on graphs; it does not know all of Python.
    nodes: Any
    if source is None:
        nodes = [
            fn.external_source(name=name, dtype=kind, ndim=ndim, layout=layout, no_copy=True)
            for name, kind, ndim, layout in inputs
        ]
    else:
        _, kinds, ndims, layouts = [list(column) for column in zip(*inputs)]  # noqa: B905
        nodes = fn.external_source(
            source=source, num_outputs=len(inputs), dtype=kinds, ndim=ndims, layout=layouts, cycle="raise"
        )
    encoded, frames, pixels, is_encoded, order, boxes, flips, labels = nodes
    if is_encoded:
        video = fn.decoders.video(
            encoded,
            frames=frames,
            pad_mode="none",  # a frame that is not there is an error, not a black picture
            device="mixed" if device == "gpu" else "cpu",
        )
    else:
        video = pixels.gpu() if device == "gpu" else pixels
    crops = [
        _crop(dataset, video, order[repeat], boxes[crop], flips[crop], augment)
        for repeat, crop in _crops(dataset)
    ]
    clips = crops[0] if len(crops) == 1 else fn.stack(*crops)
    return fn.reshape(clips, shape=list(dataset.sample_shape)), labels


def _crops(dataset: ClipDataset) -> list[tuple[int, int]]:
    """(repeat, place among all crops of the sample) of each crop; it holds all clips of its repeat."""
    num_crops = dataset.transform.num_crops
    return [(repeat, repeat * num_crops + crop) for repeat in range(dataset.num_repeats) for crop in range(num_crops)]


def _crop(
    dataset: ClipDataset, video: Graph, order: Graph, box: Graph, flip: Graph, augment: Augment | None
) -> Graph:
    """video [U, H, W, 3] -> the clips of one crop, in the order of axes of dataset.layout without N: [clips, C, T, h, w] or so."""
    transform = dataset.transform
    height, width = transform.size
    resize = {
        "size": [height, width],
        "roi_start": box[0:2],
        "roi_end": box[2:4],
        "interp_type": types.INTERP_LINEAR,
        "antialias": transform.antialias,
    }
    if dataset.num_repeats == 1:  # every frame is wanted, so the small ones are put in order
        clips = fn.sequence_rearrange(fn.resize(video, **resize), new_order=order)
    else:
        clips = fn.resize(fn.sequence_rearrange(video, new_order=order), **resize)
    if augment is not None:
        clips = augment(clips)
    clip_len = dataset.clip.clip_len
    num_clips = dataset.num_views // (dataset.num_repeats * transform.num_crops)
    is_planar = dataset.layout.endswith("CTHW")
    is_transposed = is_planar and num_clips > 1 and clip_len > 1  # crop_mirror_normalize knows no axis for clips
    mean, std = transform.mean, transform.std
    if mean is None or std is None or dataset.dtype == torch.uint8:
        mean, std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    clips = fn.crop_mirror_normalize(
        clips,
        dtype=_DTYPES[dataset.dtype],
        output_layout="FHWC" if not is_planar else "FCHW" if is_transposed or clip_len == 1 else "CFHW",
        mirror=flip,
        mean=list(mean),
        std=list(std),
    )
    if is_transposed:
        clips = fn.reshape(clips, shape=[num_clips, clip_len, 3, height, width], layout="VFCHW")
        clips = fn.transpose(clips, perm=[0, 2, 1, 3, 4])
    return clips


# --- samples


class _Sample:
    """One sample on its way into a pipeline: its video is found (by __init__), its frames are chosen, then it is read or decoded."""

    def __init__(self, dataset: ClipDataset, pool: _core.LoaderPool, index: int) -> None:
        self._dataset = dataset
        self._pool = pool
        self._index = index
        self._path = dataset.annotations.path(index)
        self._batch = dataset.core_batch(pool, [index])
        self._request: Request | None = None
        self._bytes: Future[npt.NDArray[np.uint8]] | None = None  # the file, if DALI decodes it
        self._pixels: torch.Tensor | None = None  # [U, H, W, 3], if the core does
        self._error: VideoError | None = None

    def wait(self, deadline: float | None = None) -> bool:
        """Whether all that was started is done; waits for it until `deadline` of time.monotonic()."""
        if not self._batch.wait(-1.0 if deadline is None else max(deadline - time.monotonic(), 0.0)):
            return False
        if self._bytes is None:
            return True
        seconds = None if deadline is None else max(deadline - time.monotonic(), 0.0)
        return not wait_for_futures([self._bytes], seconds).not_done

    # The following are valid once wait() gave True.

    @property
    def info(self) -> _core.SampleInfo | None:
        return self._batch.infos()[0]

    @property
    def error(self) -> VideoError | None:
        error = self._error or self._batch.errors()[0]
        failed = None if self._bytes is None or self._bytes.cancelled() else self._bytes.exception()
        if error is not None or failed is None:
            return error
        if isinstance(failed, FileNotFoundError):
            return VideoNotFoundError(self._path, None, "it was there a moment ago and is gone")
        return UnreadableVideoError(self._path, None, f"cannot be read: {failed}")

    @property
    def is_wanted(self) -> bool:
        return self._request is not None and self.error is None

    @property
    def is_encoded(self) -> bool:
        return self._bytes is not None

    def start(self, request: Request, device: str, readers: ThreadPoolExecutor, is_strict: bool = False) -> str | None:
        """Begins to read the file for DALI, or to decode it here; returns the reason for the latter."""
        self._request = request
        assert self.info is not None
        num_frames, *_, index = self.info
        outside = request.frames[(request.frames < 0) | (request.frames >= num_frames)]
        if len(outside) > 0:
            self._error = FrameIndexError(self._path, None, f"frame_index {outside[0]} is out of range [0, {num_frames})")
            return None
        streams = self._dataset.annotations.streams
        is_named = streams is not None and streams[self._index] >= 0
        reason = "a stream that the item names" if is_named else unsupported_reason(index, device)
        if reason is None:
            self._bytes = readers.submit(np.fromfile, self._path, np.uint8)
        elif is_strict:
            text = f"DALI cannot decode this video ({reason}), and strict=True forbids to decode it otherwise"
            self._error = UnsupportedVideoError(self._path, None, text)
        else:
            self._decode()
        return reason

    def start_again(self) -> None:
        """Decodes here what DALI failed on."""
        assert self._bytes is not None
        self._bytes = None
        self._batch = self._dataset.core_batch(self._pool, [self._index])
        self._batch.wait()
        if self.info is not None:
            self._decode()

    def cancel(self) -> None:
        self._batch.cancel()
        if self._bytes is not None:
            self._bytes.cancel()

    def _decode(self) -> None:
        """Whole pictures to RGB, each wanted frame once."""
        assert self._request is not None and self.info is not None
        frames = np.unique(self._request.frames)
        height, width = self.info[2], self.info[3]
        self._pixels = torch.empty((len(frames), height, width, 3), dtype=torch.uint8)
        self._batch.decode(
            _core.TransformSpec(height, width, "uint8", False, None, None),
            len(frames),
            [frames],
            [np.array([[0, 0, 0, height, width, 0]], np.float64)],
            self._pixels.data_ptr(),
            (0, 0, height * width * 3, 1, width * 3, 3),
            self._pixels,
        )

    def inputs(self) -> tuple[npt.NDArray[Any], ...]:
        """What the pipeline is fed, in the order of _INPUTS, and the label."""
        assert self._request is not None
        dataset = self._dataset
        frames, order = np.unique(self._request.frames, return_inverse=True)
        # Views are ordered repeat, crop, clip; the clips of a crop share its box and flip.
        crops = self._request.views.reshape(dataset.num_repeats * dataset.transform.num_crops, -1, 6)[:, 0, 1:]
        boxes = np.concatenate([crops[:, 0:2], crops[:, 0:2] + crops[:, 2:4]], axis=1)
        return (
            np.zeros(1, np.uint8) if self._bytes is None else self._bytes.result(),
            frames.astype(np.int32),
            np.zeros((1, 1, 1, 3), np.uint8) if self._pixels is None else self._pixels.numpy(),
            np.array(self.is_encoded),
            order.reshape(dataset.num_repeats, -1).astype(np.int32),
            boxes.astype(np.float32),
            crops[:, 4].astype(np.int32),
            np.array(dataset.label(self._index), np.int64),
        )


def _inputs_of(samples: Sequence[_Sample]) -> tuple[list[npt.NDArray[Any]], ...]:
    """The inputs of a batch, each a list over samples. Raises the VideoError of the first one that failed."""
    for sample in samples:
        sample.wait()
        if sample.error is not None:
            raise sample.error
    return tuple(list(arrays) for arrays in zip(*(sample.inputs() for sample in samples), strict=True))


# --- for the loader


class DaliDecoder:
    """Runs a VideoLoader's batches through a pipeline, in place of the core's transform.

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
        self._pipeline = None  # waits for what runs; only then may its inputs go
        self._fed.clear()
        self._readers.shutdown(wait=False, cancel_futures=True)

    def abandon(self) -> None:
        """In a forked child: lets go of a pipeline whose threads were not forked with it, without the destructor that would join them."""
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._pipeline))
        self._pipeline = None

    def batch(self, indices: Sequence[int]) -> DaliBatch:
        """Starts finding the videos' packet indexes."""
        return DaliBatch(self, [_Sample(self._dataset, self._pool, index) for index in indices])

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
        """Brings a batch that was read and decoded to its end, and on the way others into the pipeline."""
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
            self._pipeline = _build(
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
            for name, arrays in zip((*(name for name, *_ in _INPUTS), _LABEL), batch.inputs, strict=True):
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
                torch.cuda.current_stream(batch.out.device).synchronize()  # DALI uses the memory again, on its own stream
        self._pipeline.release_outputs()
        self._fed.popleft()
        batch.inputs = []

    def _start_again(self, error: RuntimeError) -> None:
        """The pipeline broke, and with it all batches in it: the core decodes their videos, and tells which one is bad."""
        batches = [batch for batch in self._fed if batch.out is not None]
        broken = [sample for batch in batches for sample in batch.samples if sample.is_encoded and sample.is_wanted]
        self._pipeline = None
        self._fed.clear()
        if self._is_strict or not broken:
            raise error
        warnings.warn(f"DALI failed on one of {len(broken)} videos, which are decoded again without it: {error}", stacklevel=2)
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
    """A batch on its way; to the loader it is a _core.Batch."""

    def __init__(self, decoder: DaliDecoder, samples: list[_Sample]) -> None:
        self.samples = samples
        self.requests: list[Request | None] = []
        self.out: torch.Tensor | None = None  # [N, *sample_shape]; None before decode() and after cancel()
        self.places: list[int] = []  # of the samples that went into the pipeline
        self.inputs: list[Any] = []  # not copied by the pipeline, so kept until it is done with them
        self._decoder = decoder

    def wait(self, timeout_seconds: float = -1.0) -> bool:
        """False if the time is up first. Negative: no limit. The time that DALI takes is not limited."""
        deadline = None if timeout_seconds < 0 else time.monotonic() + timeout_seconds
        if not all(sample.wait(deadline) for sample in self.samples):
            return False
        if self.out is not None:
            self._decoder._finish(self)
        return True

    def is_ready(self) -> bool:
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
        frames: Sequence[npt.NDArray[np.int64] | None],
        views: Sequence[npt.NDArray[np.float64] | None],
        out: int,
        strides: tuple[int, ...],
        memory: torch.Tensor,
    ) -> None:
        """As _core.Batch's, to `memory` of the dataset's dtype and layout; spec, clip_len and strides are the dataset's, known already."""
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
