"""dali_pipeline: a DALI pipeline of a dataset's samples, for those who run DALI pipelines themselves.

In: a dataset and the order of its samples, as VideoLoader takes them. Out: the pipeline, for which samples are drawn, read and decoded ahead.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy.typing as npt
import torch
from torch.utils.data import BatchSampler, Dataset, SequentialSampler

from vidload import _core
from vidload.clip_dataset import ClipDataset
from vidload.combined import base_dataset, check_for_dali
from vidload.dali.graph import Augment, build_pipeline
from vidload.dali.samples import CODECS, Sample, inputs_of
from vidload.loading.epochs import DrawCounter, Epochs, EpochSampler, samplers_of
from vidload.system.cores import available_cores


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

    Frames, boxes, flips, order and epochs are those of VideoLoader. Each run returns a batch; after the last batch of an epoch, which may be
    smaller, a run raises StopIteration. `reset()` starts the next epoch, as DALI's own iterators do when they reset.

    Args:
        dataset: a VideoDataset or FrameFolderDataset, or a torch Subset of one.
        device: "cpu", or "gpu": NVDEC decodes and the clips are on the GPU `device_id`.
        num_threads: of DALI, and again as many for reading and decoding; None = the cores this process may use.
        shuffle: whether to use the order of VideoLoader(shuffle=True).
        sampler: the order of samples, as for DataLoader; if it has a set_epoch, that is called, and the epoch may be set on it.
        augment: your own DALI operators, from cropped uint8 RGB clips [F, H, W, 3] (layout "FHWC") to clips of that shape, which are then
            flipped and normalized. F counts the frames of all clips that share a crop.
        prefetch_queue_depth: batches prefetched in the pipeline; as many again are read and decoded ahead of it.

    Raises:
        ValueError: an argument makes no sense, or dataset.dtype is bfloat16, which DALI does not have; or the dataset has several parts, a
            clip_transform, or labels that are not integers.
        VideoError: (by a run) a video is missing or cannot be decoded. VideoLoader can skip or substitute it instead.
    """
    base, _ = base_dataset(dataset)
    if not isinstance(base, ClipDataset):
        raise ValueError("DALI loads one dataset; a ConcatDataset of several needs VideoLoader with another decoder")
    check_for_dali(base)
    if base.clip_transform is not None:
        raise ValueError(
            "a clip_transform is not run in a DALI pipeline; give dali_pipeline an augment of DALI operators"
        )
    if not isinstance(base.label(0), int | list):
        raise ValueError(f"labels of a DALI pipeline are integers or lists of them, got {base.label(0)!r}")
    if device not in CODECS:
        raise ValueError(f"device {device!r} is not one of {', '.join(CODECS)}")
    if base.dtype == torch.bfloat16:
        raise ValueError("DALI has no bfloat16; use float16, float32 or uint8, or VideoLoader(decoder='dali')")
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
        started: deque[list[Sample]] = deque()
        for indices in BatchSampler(sampler, batch_size, drop_last=False):
            places, draws = counter.draws(indices)
            started.append([Sample(base, pool, place) for place in places])
            for index, draw, sample in zip(places, draws, started[-1], strict=True):
                sample.wait()
                if sample.info is not None:
                    sample.start(base.request(index, epoch, sample.info, draw), device, readers)
            if len(started) > prefetch_queue_depth:
                yield inputs_of(started.popleft())
        while started:
            yield inputs_of(started.popleft())

    return build_pipeline(
        base,
        batch_size,
        device,
        device_id,
        num_threads,
        augment,
        source=epoch_of_batches,
        prefetch_queue_depth=prefetch_queue_depth,
    )
