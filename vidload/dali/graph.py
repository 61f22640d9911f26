"""The graph of a DALI pipeline: from a sample's file or pixels to its clips.

In: a dataset. Out: the pipeline of (clips, labels), fed by a source or by name with INPUTS and LABEL.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from nvidia.dali import fn, pipeline_def, types

from vidload.clip_dataset import ClipDataset

Graph = Any  # a nvidia.dali.data_node.DataNode
Augment = Callable[[Graph], Graph]

# Name, type, number of axes and layout of a sample's inputs. R repeats, K crops, F frames in all clips of a repeat, U different frames.
INPUTS = (
    ("encoded", types.UINT8, 1, ""),  # the file, if DALI decodes it
    ("frames", types.INT32, 1, ""),  # [U], rising
    ("pixels", types.UINT8, 4, "FHWC"),  # [U, H, W, 3], if the core decoded it
    ("is_encoded", types.BOOL, 0, ""),
    ("order", types.INT32, 2, ""),  # [R, F]: which of the U frames
    ("boxes", types.FLOAT, 2, ""),  # [R * K, 4]: top, left, bottom, right
    ("flips", types.INT32, 1, ""),  # [R * K]
)
LABEL = "label"
_DTYPES = {
    torch.float32: types.FLOAT,
    torch.float16: types.FLOAT16,
    torch.bfloat16: types.FLOAT,  # DALI has no bfloat16: converted when the loader copies
    torch.uint8: types.UINT8,
}


def build_pipeline(
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
        (*INPUTS, (LABEL, types.INT64, label_ndim, "")),
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
    # DALI rewrites the source of this function and all it calls, so that `if` works on graphs; it does not understand all of Python.
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
        _crop(dataset, video, order[repeat], boxes[crop], flips[crop], augment) for repeat, crop in _crops(dataset)
    ]
    clips = crops[0] if len(crops) == 1 else fn.stack(*crops)
    return fn.reshape(clips, shape=list(dataset.sample_shape)), labels


def _crops(dataset: ClipDataset) -> list[tuple[int, int]]:
    """(repeat, place among all crops of the sample) of each crop, which shows all clips of its repeat."""
    num_crops = dataset.transform.num_crops
    return [(repeat, repeat * num_crops + crop) for repeat in range(dataset.num_repeats) for crop in range(num_crops)]


def _crop(dataset: ClipDataset, video: Graph, order: Graph, box: Graph, flip: Graph, augment: Augment | None) -> Graph:
    """video [U, H, W, 3] -> the clips of one crop, with the axes in the order of dataset.layout without N, such as [clips, C, T, h, w]."""
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
    clip_len = dataset.sample_shape[dataset.time_axis]
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
