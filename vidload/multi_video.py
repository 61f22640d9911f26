"""MultiVideoDataset: several synchronized videos per sample: the cameras of a robot, at times around a moment of an episode.

In: for each sample a video per camera, or a range of one, a label and a moment. Out: ``dataset[i]`` = (clip, label, fields), with a view for
each camera. A sample is one task of the core per file, which decodes the packets that several moments share once; to the loader they are
one sample.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from vidload import _core
from vidload.annotations import Annotations, from_items
from vidload.batch import Drawn, Request, strides_of, views_of
from vidload.crops import SpatialTransform
from vidload.dataset import IndexedDataset
from vidload.errors import FrameIndexError, VideoError
from vidload.fields import FIELDS, FieldRow, field_row
from vidload.labels import Column, column_of, label_at
from vidload.sampler_options import pixel_aspect, shown_seconds
from vidload.varying_clips import check_frame_choice, frames_at

_TOLERANCE_SECONDS = 5e-7  # times that went through a float once must still find their frame
_ONE_CLIP = np.zeros(1, np.int64)

Video = str | os.PathLike[str] | Sequence[Any]  # a path, or (path, start_seconds, end_seconds[, stream])


@dataclass(frozen=True, eq=False)
class Moments:
    """Samples as flat arrays, so that the many moments of an episode share its files.

    episodes: the videos of each episode, by camera.
    labels: a column of vidload.labels; label_rows: int64 [N], the row of each sample.
    episode_rows: int64 [N], the episode of each sample. seconds: float64 [N], its moment from the episode's start.
    """

    episodes: Sequence[Mapping[str, Video]]
    labels: Column
    label_rows: npt.NDArray[np.int64]
    episode_rows: npt.NDArray[np.int64]
    seconds: npt.NDArray[np.float64]


class MultiVideoDataset(IndexedDataset):
    """Frames of several videos around a moment, such as those of a robot's cameras (LeRobot's delta_timestamps).

    A sample has T = len(delta_seconds) frames of each of V cameras; camera k is view k of the clip. Frame t of a camera is the frame at the
    moment start_seconds + seconds + delta_seconds[t] (or delta_seconds[camera][t]), among the frames of its episode: those whose pts lies within [start_seconds,
    end_seconds), counted from the video's first frame. A moment outside that range gets the episode's first or last frame, and False in the
    field "mask".

    Args:
        items: a sequence of (videos, label, seconds). videos: a dict from the name of a camera to its video: a path, or (path, start_seconds,
            end_seconds[, stream]) if the episode is a range of a longer file; None = from the start, to the end, FFmpeg's choice. All
            items must have the same cameras; their order is the first item's. label: of any kind that vidload.labels describes. seconds: the
            moment, from the episode's start. See also `from_episodes`.
        delta_seconds: the moments of the frames, relative to the sample's: of all cameras, or a dict with those of each camera. T is the length
            of the longest; a camera with fewer repeats its last frame behind them, with False in the mask.
        frame: "nearest" or "played", see vidload.sampling.FramesByTime.
        tolerance_seconds: a frame whose pts is further than this from its moment raises FrameIndexError; None = any distance.
        transform: a policy of vidload.transforms with one crop. A random one draws the same numbers for each camera of a sample.
        fields: as for VideoDataset, and "mask": bool [V, T], False where a moment lies outside the episode or the camera has no more. Fields of frames are [V, T] here
            and fields of clips [V], "fps" is float64 [V], and "path" is a dict by camera.
        layout: "NVCTHW", "NVTCHW" or "NVTHWC".
        dtype, seed, clip_transform, index: as for VideoDataset.

    Attributes:
        cameras: their names, in the order of the views.
        delta_seconds: as tuples.

    Raises:
        ValueError, TypeError: an argument or an item makes no sense; the message names it.
    """

    _known_fields = (*FIELDS, "mask")

    def __init__(
        self,
        items: Moments | Sequence[Any],
        *,
        delta_seconds: Sequence[float] | Mapping[str, Sequence[float]] = (0.0,),
        transform: SpatialTransform,
        frame: str = "nearest",
        tolerance_seconds: float | None = None,
        fields: Sequence[str] = ("mask",),
        layout: str = "NVCTHW",
        dtype: torch.dtype = torch.float32,
        seed: int = 0,
        clip_transform: Any = None,
        index: Any = None,
    ) -> None:
        moments = items if isinstance(items, Moments) else _moments_of(items)
        self.cameras = tuple(moments.episodes[0])
        self.delta_seconds = _checked_deltas(delta_seconds, self.cameras)
        of_cameras = [
            self.delta_seconds[camera] if isinstance(self.delta_seconds, dict) else self.delta_seconds
            for camera in self.cameras
        ]
        most = max(map(len, of_cameras))
        self._deltas = np.array([[*deltas, *[deltas[-1]] * (most - len(deltas))] for deltas in of_cameras])  # [V, T]
        self._is_asked = np.arange(most) < np.array([[len(deltas)] for deltas in of_cameras])  # bool [V, T]
        if tolerance_seconds is not None and not tolerance_seconds >= 0:
            raise ValueError(f"tolerance_seconds is {tolerance_seconds!r}, must be at least 0, or None")
        if not layout.startswith("NV"):
            raise ValueError(f"layout {layout!r} has no place for the cameras; use 'NV{layout[1:]}'")
        check_frame_choice(frame)
        self.frame = frame
        self.tolerance_seconds = tolerance_seconds
        self.labels, self._label_rows = moments.labels, moments.label_rows
        self._episode_rows, self._seconds = moments.episode_rows, moments.seconds
        super().__init__(
            _annotations_of(moments.episodes, self.cameras),
            clip=f"{most}x1x{len(self.cameras)}",
            transform=transform,
            training=False,
            layout=layout,
            dtype=dtype,
            seed=seed,
            fields=fields,
            clip_transform=clip_transform,
            index=index,
        )
        if transform.num_crops != 1 or self.is_varying:
            raise ValueError(f"transform {transform!r}: several videos per sample need one crop of one size")

    @classmethod
    def from_episodes(cls, episodes: Sequence[Any], fps: float, **options: Any) -> MultiVideoDataset:
        """Every frame of each episode as a sample. episodes: (videos, label, num_frames) each; the moments are 0, 1 / fps, 2 / fps, ... of
        num_frames frames. fps: of the recording."""
        if not 0 < fps < math.inf:
            raise ValueError(f"fps is {fps!r}, must be a number above 0")
        if len(episodes) == 0:
            raise ValueError("episodes: none in the sequence")
        for i, episode in enumerate(episodes):
            if not isinstance(episode, Sequence) or len(episode) != 3 or not _is_count(episode[2]):
                raise ValueError(
                    f"episode {i}: expected (videos, label, num_frames), num_frames at least 1, got {episode!r}"
                )
        counts = np.array([int(count) for _, _, count in episodes], np.int64)
        rows = np.repeat(np.arange(len(counts)), counts)
        within = np.arange(counts.sum()) - np.repeat(counts.cumsum() - counts, counts)
        labels = column_of([label for _, label, _ in episodes])
        videos = [_checked_videos(i, videos, episodes[0][0]) for i, (videos, _, _) in enumerate(episodes)]
        return cls(Moments(videos, labels, rows, rows, within / fps), **options)

    def __len__(self) -> int:
        return len(self._episode_rows)

    def label(self, index: int) -> Any:
        """The label of sample `index`, of a kind that vidload.labels describes. An override may return anything that default_collate takes."""
        return label_at(self.labels, int(self._label_rows[index]))

    def _path(self, index: int) -> str:
        return self.annotations.path(self._file_rows(index)[0])

    def _file_rows(self, index: int) -> range:
        """The rows of `annotations` that sample `index` is of: one for each camera."""
        first = int(self._episode_rows[index]) * len(self.cameras)
        return range(first, first + len(self.cameras))

    # --- for the loader

    @property
    def draws_in_core(self) -> bool:
        """No: moments are found here."""
        return False

    def start_indexing(
        self,
        pool: _core.LoaderPool,
        indices: Sequence[int],
        needs_whole_indexes: bool = False,
        waits_for_draw: bool = False,
    ) -> Any:
        """As ClipDataset.start_indexing; returns a GroupedBatch."""
        rows = [row for index in indices for row in self._file_rows(index)]
        return GroupedBatch(super().start_indexing(pool, rows, needs_whole_indexes), len(self.cameras))

    def start_decoding(
        self,
        batch: Any,
        indices: Sequence[int],
        epoch: int,
        out: torch.Tensor,
        draws: Sequence[int],
        stands_for: int = -1,
    ) -> Drawn:
        """As ClipDataset.start_decoding, of each camera into its view."""
        errors: list[VideoError | None] = []
        requests: list[Request | None] = []
        batch.masks = []
        for index, draw, infos in zip(indices, draws, batch.infos(), strict=True):
            found: list[tuple[Request, npt.NDArray[np.bool_]]] = []
            error = None
            try:
                for camera, info in enumerate(infos or ()):
                    found.append(self._request(index, camera, info, epoch, draw, stands_for))
            except VideoError as raised:
                found, error = [], raised
            errors.append(error)
            requests += [request for request, _ in found] or [None] * len(self.cameras)
            batch.masks.append(np.array([mask for _, mask in found]))
        axes = self.layout[2:]
        strides = strides_of(axes, out.stride()[2:])
        spec = self._spec(self.transform.size)
        step = out.stride(1) * out.element_size()
        slots = [
            None if request is None else (spec, self._deltas.shape[1], out.data_ptr() + place * step, strides)
            for place, request in enumerate(requests)
        ]
        drawn = Drawn(errors, requests)
        batch.files.decode_each(drawn.frames, drawn.views, slots, out)
        return drawn

    def _request(
        self, index: int, camera: int, info: _core.SampleInfo, epoch: int, draw: int, stands_for: int
    ) -> tuple[Request, npt.NDArray[np.bool_]]:
        """The frames and the box of one camera, and the mask of the frames."""
        rows = self.annotations
        row = self._file_rows(index)[camera]
        first, num_frames = 0, info.num_frames
        start, end = 0.0, math.inf
        if rows.start_seconds is not None and rows.end_seconds is not None:
            first, num_frames = self._segment(row, info.index)
            start = float(np.nan_to_num(rows.start_seconds[row]))
            end = float(np.nan_to_num(rows.end_seconds[row], nan=math.inf))
        shown = shown_seconds(info.index, first, num_frames, info.average_fps)
        end = min(end, float(shown_seconds(info.index, info.num_frames - 1, 1, info.average_fps)[1]))
        moments = start + float(self._seconds[index]) + self._deltas[camera]
        mask = (moments >= start - _TOLERANCE_SECONDS) & (moments < end - _TOLERANCE_SECONDS)
        frames = frames_at(moments, shown, self.frame)
        frames = np.where(mask, frames, np.where(moments < start, 0, num_frames - 1))
        self._check_distance(row, moments, shown[frames], mask)
        rng = (
            self._rng(epoch, index, draw, stands_for) if self.transform.is_random else None
        )  # the same for each camera
        boxes = self.transform.boxes(info.height, info.width, rng, pixel_aspect(info.index))
        return Request(frames + first, views_of(_ONE_CLIP, boxes)), mask & self._is_asked[camera]

    def _check_distance(
        self,
        row: int,
        moments: npt.NDArray[np.float64],
        shown: npt.NDArray[np.float64],
        mask: npt.NDArray[np.bool_],
    ) -> None:
        if self.tolerance_seconds is None:
            return
        is_far = mask & (np.abs(shown - moments) > self.tolerance_seconds + _TOLERANCE_SECONDS)
        if is_far.any():
            place = int(is_far.argmax())
            raise FrameIndexError(
                self.annotations.path(row),
                None,
                f"the frame for {moments[place]:.6f} seconds is shown at {shown[place]:.6f}, further away than "
                f"tolerance_seconds={self.tolerance_seconds:g}; check the item's seconds, or raise tolerance_seconds",
            )

    def field_rows(
        self,
        batch: Any,
        drawn: Drawn,
        indices: Sequence[int],
        epoch: int,
        draws: Sequence[int],
        stands_for: int = -1,
    ) -> list[FieldRow | None]:
        rows: list[FieldRow | None] = []
        of_files = [name for name in self.fields if name not in ("index", "path", "mask")]
        for place, (index, infos, error) in enumerate(zip(indices, batch.infos(), batch.errors(), strict=True)):
            if infos is None or error is not None or drawn.errors[place] is not None:
                rows.append(None)
                continue
            requests = (drawn.requests or [])[place * len(self.cameras) :]
            of_cameras = [
                field_row(of_files, index, "", request.frames, info)
                for request, info in zip(requests, infos, strict=False)
                if request is not None
            ]
            known: FieldRow = {name: np.array([row[name] for row in of_cameras]) for name in of_files}
            known |= {"index": index, "mask": batch.masks[place]}
            known["path"] = {
                name: self.annotations.path(row) for name, row in zip(self.cameras, self._file_rows(index), strict=True)
            }
            rows.append({name: known[name] for name in self.fields})
        return rows


class GroupedBatch:
    """A batch (vidload.batch) whose samples are several files each; MultiVideoDataset decodes it.

    files: the core's batch, sample by sample and camera by camera.
    masks: bool [V, T] of each sample, once it is being decoded.
    """

    def __init__(self, files: _core.Batch, num_cameras: int) -> None:
        self.files = files
        self.masks: list[npt.NDArray[np.bool_]] = []
        self._num_cameras = num_cameras

    def wait(self, timeout_seconds: float = -1.0) -> bool:
        return self.files.wait(timeout_seconds)

    def infos(self) -> list[list[_core.SampleInfo] | None]:
        """Of the files of each sample, None where one of them failed."""
        groups = self._groups(self.files.infos())
        return [None if None in group else group for group in groups]

    def errors(self) -> list[VideoError | None]:
        """The first of each sample."""
        groups = self._groups(self.files.errors())
        return [next((error for error in group if error is not None), None) for group in groups]

    def cancel(self) -> None:
        self.files.cancel()

    def _groups(self, values: list[Any]) -> list[list[Any]]:
        return [values[start : start + self._num_cameras] for start in range(0, len(values), self._num_cameras)]


def _checked_deltas(deltas: Any, cameras: Sequence[str]) -> tuple[float, ...] | dict[str, tuple[float, ...]]:
    if isinstance(deltas, Mapping):
        if set(deltas) != set(cameras):
            raise ValueError(f"delta_seconds has the cameras {sorted(deltas)}, the items have {sorted(cameras)}")
        return {camera: _moments_around(deltas[camera], f"delta_seconds[{camera!r}]") for camera in cameras}
    return _moments_around(deltas, "delta_seconds")


def _moments_around(deltas: Any, what: str) -> tuple[float, ...]:
    try:
        found = tuple(map(float, deltas))
    except (TypeError, ValueError):
        found = ()
    if not found or not all(map(math.isfinite, found)):
        raise ValueError(f"{what} is {deltas!r}, must be numbers, one for each frame")
    return found


def _moments_of(items: Sequence[Any]) -> Moments:
    episodes: list[Mapping[str, Video]] = []
    rows: list[int] = []
    labels: list[Any] = []
    seconds: list[float] = []
    for i, item in enumerate(items):
        if not isinstance(item, Sequence) or isinstance(item, str) or len(item) != 3:
            raise ValueError(f"item {i}: expected (videos, label, seconds), got {item!r}")
        videos, label, moment = item
        if isinstance(moment, bool) or not isinstance(moment, int | float | np.number) or not 0 <= moment < math.inf:
            raise ValueError(f"item {i}: seconds is {moment!r}, must be a moment of the episode, 0 or later")
        videos = _checked_videos(i, videos, episodes[0] if episodes else videos)
        if not episodes or videos != episodes[-1]:  # neighbors of one episode share its files
            episodes.append(videos)
        rows.append(len(episodes) - 1)
        labels.append(label)
        seconds.append(float(moment))
    if not episodes:
        raise ValueError("items: no samples in the sequence")
    return Moments(
        episodes, column_of(labels), np.arange(len(rows)), np.array(rows, np.int64), np.array(seconds, np.float64)
    )


def _checked_videos(i: int, videos: Any, first: Any) -> Mapping[str, Video]:
    if not isinstance(videos, Mapping) or not videos:
        raise ValueError(f"item {i}: videos must be a dict from the name of a camera to its video, got {videos!r}")
    if set(videos) != set(first):
        raise ValueError(f"item {i}: cameras are {sorted(videos)}, but {sorted(first)} in the first item")
    return videos


def _annotations_of(episodes: Sequence[Mapping[str, Video]], cameras: Sequence[str]) -> Annotations:
    """A row for each file, episode by episode and camera by camera."""
    rows = [_item_of(videos[camera]) for videos in episodes for camera in cameras]
    try:
        return from_items(rows)
    except ValueError:
        for number, row in enumerate(rows):
            try:
                from_items([row])
            except ValueError as error:
                episode, camera = divmod(number, len(cameras))
                reason = str(error).removeprefix("item 0: ")
                raise ValueError(f"episode {episode}, camera {cameras[camera]!r}: {reason}") from None
        raise


def _item_of(video: Any) -> Any:
    """As vidload.annotations.from_items takes it, which checks it."""
    if isinstance(video, str | bytes | os.PathLike):
        return (video, 0)
    return (video[0], 0, *video[1:]) if isinstance(video, Sequence) and len(video) > 0 else video


def _is_count(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool) and bool(value >= 1)
