"""Samples on their way into a DALI pipeline, and which of them DALI decodes, which the core.

In: a dataset, the index of a sample, its request. Out: its inputs for vidload.dali.graph, or its VideoError.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import wait as wait_for_futures
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from vidload import _core
from vidload.batch import Request, views_of
from vidload.clip_dataset import ClipDataset
from vidload.errors import (
    FrameIndexError,
    UnreadableVideoError,
    UnsupportedVideoError,
    VideoError,
    VideoNotFoundError,
)
from vidload.sources import read_array

CODECS = {"cpu": ("vp8", "vp9", "mjpeg"), "gpu": ("vp8", "vp9", "mjpeg", "av1", "mpeg4", "h264", "hevc")}
_PIXEL_FORMATS = {
    "cpu": ("yuv420p", "yuv422p", "yuv444p", "yuvj420p", "yuvj422p", "yuvj444p"),
    "gpu": ("yuv420p", "yuvj420p"),
}
# What is not stated everybody takes for BT.601.
_BT601 = (_core.COLOR_SPACE_UNSTATED, _core.COLOR_SPACE_BT470BG, _core.COLOR_SPACE_SMPTE170M)
_HIDDEN_OR_DISCARDED = _core.PACKET_HIDDEN | _core.PACKET_DISCARD


def unsupported_reason(index: _core.PacketIndex | None, device: str = "cpu") -> str | None:
    """Why DALI on `device` ("cpu" or "gpu") cannot decode this video to the right frames and colors; None if it can.

    DALI decodes VP8, VP9 and MJPEG on the CPU and more with NVDEC, takes every stream for BT.601, ignores rotation, chooses the stream
    itself, and numbers frames by counting the packets whose pts is not negative. For a folder of extracted frames `index` is None.
    """
    if index is None:
        return "extracted frames"
    if index.stream_number != 0:
        return "a stream that is not the first"
    if index.codec not in CODECS[device]:
        return f"codec {index.codec}"
    if index.pixel_format not in _PIXEL_FORMATS[device]:
        return f"pixel format {index.pixel_format}"
    if index.color_space not in _BT601:
        return "colors other than BT.601"
    if index.rotation != 0 or index.is_mirrored:
        return "rotation"
    if (index.packet_flags & _core.PACKET_DAMAGED).any():
        return "packets that fail their checksum"
    if not index.is_regular:
        return "frames that only a decode can list"
    has_extra_packets = index.num_packets != index.num_frames or (index.packet_flags & _HIDDEN_OR_DISCARDED).any()
    if has_extra_packets or index.frame_pts[0] < 0:
        return "packets that show no frame"
    return None


class Sample:
    """One sample on its way into a pipeline: __init__ starts finding its video, `start` reads or decodes the frames of its request."""

    def __init__(self, dataset: ClipDataset, pool: _core.LoaderPool, index: int) -> None:
        self._dataset = dataset
        self._pool = pool
        self._index = index
        self._path = dataset.annotations.path(index)
        self._batch = dataset.start_indexing(pool, [index], needs_whole_indexes=True)
        self._request: Request | None = None
        self._bytes: Future[npt.NDArray[np.uint8]] | None = None  # the file, if DALI decodes it
        self._pixels: torch.Tensor | None = None  # [U, H, W, 3], if the core does
        self._error: VideoError | None = None

    def wait(self, deadline: float | None = None) -> bool:
        """Waits for what was started, until `deadline` of time.monotonic() at most; returns whether it is done."""
        if not self._batch.wait(-1.0 if deadline is None else max(deadline - time.monotonic(), 0.0)):
            return False
        if self._bytes is None:
            return True
        seconds = None if deadline is None else max(deadline - time.monotonic(), 0.0)
        return not wait_for_futures([self._bytes], seconds).not_done

    # The following are valid once wait() has returned True.

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
            return VideoNotFoundError(self._path, None, "the file was there a moment ago and is gone")
        return UnreadableVideoError(self._path, None, f"cannot be read: {failed}")

    @property
    def is_wanted(self) -> bool:
        return self._request is not None and self.error is None

    @property
    def is_encoded(self) -> bool:
        return self._bytes is not None

    def start(self, request: Request, device: str, readers: ThreadPoolExecutor, is_strict: bool = False) -> str | None:
        """Starts to read the file for DALI, or to decode it here; returns the reason for the latter, else None."""
        self._request = request
        assert self.info is not None
        num_frames, index = self.info.num_frames, self.info.index
        outside = request.frames[(request.frames < 0) | (request.frames >= num_frames)]
        if len(outside) > 0:
            self._error = FrameIndexError(
                self._path, None, f"frame_index {outside[0]} is out of range [0, {num_frames})"
            )
            return None
        streams = self._dataset.annotations.streams
        is_named = streams is not None and streams[self._index] >= 0
        reason = "a stream that the item names" if is_named else unsupported_reason(index, device)
        if reason is None:
            self._bytes = readers.submit(read_array, self._dataset.annotations.source(self._index))
        elif is_strict:
            text = f"DALI cannot decode this video ({reason}), and strict=True forbids falling back to libavcodec"
            self._error = UnsupportedVideoError(self._path, None, text)
        else:
            self._decode()
        return reason

    def start_again(self) -> None:
        """Decodes the video here, after DALI failed on it."""
        assert self._bytes is not None
        self._bytes = None
        self._batch = self._dataset.start_indexing(self._pool, [self._index])
        self._batch.wait()
        if self.info is not None:
            self._decode()

    def cancel(self) -> None:
        self._batch.cancel()
        if self._bytes is not None:
            self._bytes.cancel()

    def _decode(self) -> None:
        """Starts decoding whole pictures to RGB, each wanted frame once."""
        assert self._request is not None and self.info is not None
        frames = np.unique(self._request.frames)
        height, width = self.info.height, self.info.width
        self._pixels = torch.empty((len(frames), height, width, 3), dtype=torch.uint8)
        self._batch.decode(
            _core.TransformSpec(height, width, "uint8", False, None, None),
            len(frames),
            [frames],
            [views_of(np.zeros(1, np.int64), np.array([[0, 0, height, width, 0]], np.float64))],
            self._pixels.data_ptr(),
            _core.Strides(sample=0, view=0, frame=height * width * 3, channel=1, row=width * 3, column=3),
            self._pixels,
        )

    def inputs(self) -> tuple[npt.NDArray[Any], ...]:
        """What the pipeline is fed for this sample: the INPUTS in order, then the label."""
        assert self._request is not None
        dataset = self._dataset
        label = dataset.label(self._index)
        frames, order = np.unique(self._request.frames, return_inverse=True)
        # Views are ordered repeat, crop, clip; the clips of a crop share its box and flip.
        crops = self._request.views.reshape(dataset.num_repeats * dataset.transform.num_crops, -1)[:, 0]
        top, left = crops["top"], crops["left"]
        boxes = np.stack([top, left, top + crops["height"], left + crops["width"]], axis=1)
        return (
            np.zeros(1, np.uint8) if self._bytes is None else self._bytes.result(),
            frames.astype(np.int32),
            np.zeros((1, 1, 1, 3), np.uint8) if self._pixels is None else self._pixels.numpy(),
            np.array(self.is_encoded),
            order.reshape(dataset.num_repeats, -1).astype(np.int32),
            boxes.astype(np.float32),
            crops["flip"].astype(np.int32),
            np.array(
                label if isinstance(label, int | list) else 0, np.int64
            ),  # a loader's labels are the dataset's own
        )


def inputs_of(samples: Sequence[Sample]) -> tuple[list[npt.NDArray[Any]], ...]:
    """The inputs of a batch, each a list over samples. Raises the VideoError of the first sample that failed."""
    for sample in samples:
        sample.wait()
        if sample.error is not None:
            raise sample.error
    return tuple(list(arrays) for arrays in zip(*(sample.inputs() for sample in samples), strict=True))
