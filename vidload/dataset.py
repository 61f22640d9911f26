"""VideoDataset and FrameFolderDataset: where the clips come from, video files or folders of extracted frames.

In: a list of videos with labels. Out: the dataset, and for the loader one of the core's batches for any of its samples. What they share is in
vidload.clip_dataset.
"""

from __future__ import annotations

import operator
import os
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from vidload import _core
from vidload.annotations import (
    Annotations,
    from_items,
    read_folder,
    read_frame_list,
    read_kinetics_csv,
    read_list,
)
from vidload.clip_dataset import ClipDataset
from vidload.index import DatasetIndex
from vidload.shards import read_shards


class IndexedDataset(ClipDataset):
    """What datasets of video files share: an index file, if there is one, and where the packet indexes of some rows come from.

    items: a row for each file.
    index: as for VideoDataset.
    """

    def __init__(
        self, items: Annotations, *, index: str | os.PathLike[str] | DatasetIndex | None = None, **options: Any
    ) -> None:
        super().__init__(items, **options)
        if index is None or isinstance(index, DatasetIndex):
            self.index = index
        else:
            self.index = DatasetIndex(index)
        self._videos = self._video_list()

    def _video_list(self) -> _core.VideoList:
        """The videos as the core takes them, each with its entry in the index file."""
        rows, index = self.annotations, self.index
        stored = None if index is None else index.lookup(rows.paths)
        return rows.video_list(stored, None if index is None else index.file)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in super().__getstate__().items() if name != "_videos"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._videos = self._video_list()

    def start_indexing(
        self,
        pool: _core.LoaderPool,
        indices: Sequence[int],
        needs_whole_indexes: bool = False,
        waits_for_draw: bool = False,
    ) -> Any:
        return _core.Batch.of_videos(pool, self._videos, indices, needs_whole_indexes, waits_for_draw)


class VideoDataset(IndexedDataset):
    """Clips from video files.

    Args:
        items: a sequence of (path, label[, start_seconds, end_seconds[, stream]]), or Annotations; see also `from_list`, `from_csv`,
            `from_folder` and `from_shards`. A path may be a URL that fsspec knows ("s3://bucket/name.mp4"), or (path, offset, size) for a
            video that is a part of a file, in bytes. Labels may be of any kind that vidload.labels describes. Seconds count from the
            video's first frame; None means from the start, or to the end. `stream` is the number of a video stream within its container,
            for files that hold several (`vidload.streams`); None = FFmpeg's choice.
        clip: "clip_len x frame_interval x num_clips", such as "32x2x1"; or a VaryingClip of vidload.sampling, such as FramesByTime(fps=2),
            whose length depends on the video: then VideoLoader's `batch_as` decides what batches are, and `sampling`, `out_of_bound` and
            `num_repeats` are not used.
        transform: a policy of vidload.transforms.
        sampling: "segments", "dense", "uniform", "slowfast", or a function (num_frames, fps, spec, rng) -> int64 [num_clips, clip_len], such
            as those of vidload.published_samplers; it may take further arguments (vidload.sampler_options).
        training: True for random clips, False for the fixed ones of evaluation; None = random if the transform is.
        out_of_bound: "loop" or "repeat_last", for videos shorter than a clip.
        num_repeats: how many times a video is sampled and cropped from one decode (repeated augmentation); repeats are views.
        dtype: of the clips: float32, float16 or bfloat16 (normalized), or uint8 (RGB 0-255, not normalized).
        layout: "NCTHW", "NTCHW" or "NTHWC" for one view per video, "NVCTHW", "NVTCHW" or "NVTHWC" for several; None = NCTHW or NVCTHW,
            whichever fits, and NTCHW for a VaryingClip.
        seed: decides, together with the epoch and the index, everything random.
        fields: names of what samples contain besides clip and label, in a dict that comes third (vidload.fields).
        num_classes: labels that are lists of classes become multi-hot vectors of this length; a class that is not below it is an error.
        clip_transform: your own function of each decoded clip, a tensor of `dtype` and `sample_shape`; what it returns replaces the clip.
            If it has an argument `rng`, it gets a NumPy Generator that depends only on seed, epoch, index and draw. A loader runs
            it in threads that follow the decoding ones. See vidload.augment and docs/training.md.
        index: an index file (`vidload index`), so that no video is scanned; videos not in it, or changed since, are scanned as usual.

    Raises:
        ValueError, TypeError: an argument or an item makes no sense; the message names it.
        FileNotFoundError: there is no such index file.
    """

    def __init__(
        self,
        items: Annotations | Sequence[Any],
        *,
        index: str | os.PathLike[str] | DatasetIndex | None = None,
        **options: Any,
    ) -> None:
        super().__init__(items if isinstance(items, Annotations) else from_items(items), index=index, **options)

    @classmethod
    def from_list(
        cls,
        path: str | os.PathLike[str],
        root: str | os.PathLike[str] = "",
        *,
        delimiter: str | None = None,
        multi_label: bool = False,
        **options: Any,
    ) -> VideoDataset:
        """From lines "path label" (MMAction2, PySlowFast, PyTorchVideo); see vidload.annotations.read_list."""
        return cls(read_list(path, root, delimiter, multi_label), **options)

    @classmethod
    def from_csv(
        cls,
        path: str | os.PathLike[str],
        root: str | os.PathLike[str] = "",
        *,
        classes: Sequence[str] | None = None,
        **options: Any,
    ) -> VideoDataset:
        """From a Kinetics CSV; see vidload.annotations.read_kinetics_csv."""
        return cls(read_kinetics_csv(path, root, classes), **options)

    @classmethod
    def from_folder(cls, root: str | os.PathLike[str], **options: Any) -> VideoDataset:
        """From one folder per class; see vidload.annotations.read_folder."""
        return cls(read_folder(root), **options)

    @classmethod
    def from_shards(
        cls,
        shards: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
        *,
        index: str | os.PathLike[str] | DatasetIndex | None = None,
        video: str | None = None,
        label: str = "label",
        **options: Any,
    ) -> VideoDataset:
        """From tar shards in WebDataset's layout, local or at URLs, which are read with random access and never unpacked:
        "train-{000..099}.tar", or several such names; see vidload.shards.read_shards. With the index file that `vidload index` wrote for
        the shards, none of them is listed or scanned again."""
        where = index.path if isinstance(index, DatasetIndex) else index
        return cls(read_shards(shards, index=where, video=video, label=label), index=index, **options)


class FrameFolderDataset(ClipDataset):
    """Clips from extracted frames: one folder of JPEG files per video, the counterpart of VideoDataset.

    JPEGs are decoded to their YUV planes by libjpeg-turbo and go through the same transform. EXIF orientation is ignored.

    Args:
        items: a sequence of (folder, num_frames, label), or Annotations with num_frames; see also `from_list`.
        name_format: file names, printf-style with one integer: "img_%05d.jpg", "%d.jpg"; "%%" is a percent sign.
        first_number: the number of a folder's first frame (added to an annotation's own offset).
        average_fps: frames per second, for samplers that need it.
        options: clip, transform, sampling, ... as for VideoDataset; there is no index file.

    Raises:
        ValueError, TypeError: an argument or an item makes no sense; the message names it.
    """

    def __init__(
        self,
        items: Annotations | Sequence[tuple[str, int, Any]],
        *,
        name_format: str = "img_%05d.jpg",
        first_number: int = 1,
        average_fps: float = 30.0,
        **options: Any,
    ) -> None:
        if not isinstance(items, Annotations):
            rows = [_folder_row(i, item) for i, item in enumerate(items)]
            listed = from_items([(folder, label) for folder, _, label in rows])
            num_frames = np.array([count for _, count, _ in rows], np.int64)
            items = Annotations(listed.paths, listed.labels, num_frames=num_frames)
        if items.num_frames is None:
            raise ValueError("items: a folder of frames needs its num_frames; give (folder, num_frames, label)")
        _core.frame_name(name_format, first_number)  # raises for a format that makes no sense
        super().__init__(items, **options)
        self.name_format = name_format
        self.first_number = first_number
        self.average_fps = self._fps = average_fps

    @classmethod
    def from_list(
        cls,
        path: str | os.PathLike[str],
        root: str | os.PathLike[str] = "",
        *,
        delimiter: str | None = None,
        with_offset: bool = False,
        **options: Any,
    ) -> FrameFolderDataset:
        """From lines "folder num_frames label" (MMAction2); see vidload.annotations.read_frame_list."""
        return cls(read_frame_list(path, root, delimiter, with_offset), **options)

    def start_indexing(
        self,
        pool: _core.LoaderPool,
        indices: Sequence[int],
        needs_whole_indexes: bool = False,
        waits_for_draw: bool = False,
    ) -> _core.Batch:
        rows = self.annotations
        assert rows.num_frames is not None
        folders = rows.names(indices)
        offsets = [0 if rows.offsets is None else int(rows.offsets[index]) for index in indices]
        return _core.Batch.of_frames(
            pool,
            folders,
            self.name_format,
            [self.first_number + offset for offset in offsets],
            [int(rows.num_frames[index]) for index in indices],
            waits_for_draw,
        )

    def _known(self, info: _core.SampleInfo) -> _core.SampleInfo:
        return _core.SampleInfo(
            num_frames=info.num_frames, average_fps=self.average_fps, height=info.height, width=info.width
        )


def _folder_row(i: int, item: Any) -> tuple[Any, int, Any]:
    try:
        folder, num_frames, label = item
        if 1 <= operator.index(num_frames) < 2**63:
            return folder, operator.index(num_frames), label
    except (TypeError, ValueError):
        pass
    raise ValueError(f"item {i}: expected (folder, num_frames, label), num_frames at least 1, got {item!r}")
