"""ClipDataset: what the datasets of clips share, and the request behind a sample.

In: annotations, a clip spec, a spatial transform. Out: ``dataset[i]`` = (clip, label) or (clip, label, fields), and for the loader the
request behind it: which frames, which boxes. Everything random about sample i is a pure function of (seed, epoch, i), and of how often i was
drawn before in the epoch (``dataset[i]`` is the first draw). The classes of vidload.dataset say where the pixels come from, vidload.loading
makes batches of samples, and the core decodes.
"""

from __future__ import annotations

import contextlib
import math
import operator
import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import Dataset, default_collate

from vidload import _core, describe, joining
from vidload.annotations import Annotations, missing_files
from vidload.batch import Batch, Drawn, Request, strides_of, views_of
from vidload.crops import SpatialTransform
from vidload.draw_rules import draw_rules
from vidload.errors import ClipTransformError, FrameIndexError, IndexMismatchError, VideoError
from vidload.fields import FIELDS, FRAME_FIELDS, FieldRow, checked_fields, field_row, sample_fields
from vidload.labels import check_classes, label_at, labels_at
from vidload.sampler_options import (
    argument_names,
    pixel_aspect,
    sampler_of,
    segment_frames,
    segment_seconds,
    shown_seconds,
)
from vidload.sampling import ClipSpec, Sampler, clips_per_video
from vidload.system.clock import now
from vidload.system.random import rekey, sample_rng, transform_rng
from vidload.varying_clips import VaryingClip, checked_frames

_DTYPES = {
    torch.float32: "float32",
    torch.float16: "float16",
    torch.bfloat16: "bfloat16",
    torch.uint8: "uint8",
}
_FIRST_CLIP = np.zeros(1, np.int64)
_LAYOUTS = ("NCTHW", "NVCTHW", "NTHWC", "NVTHWC", "NTCHW", "NVTCHW")

ClipTransform = Callable[..., Any]

_this_thread = threading.local()  # a core pool without threads, for dataset[i], and a random generator


class IndexBatch(list[int]):
    """The indices of a batch, with what else their random numbers depend on; `__getitems__` uses it."""

    epoch: int
    draws: Sequence[int]  # how often each index was drawn before in the epoch


class SampleBatch(list[tuple[Any, ...]]):
    """What `__getitems__` returns for an IndexBatch."""


class ClipDataset(Dataset[tuple[Any, ...]]):
    """What VideoDataset and FrameFolderDataset share: sampling, shapes, and one sample at a time.

    Attributes:
        annotations: paths and labels.
        clip, transform, sampling, training, out_of_bound, num_repeats, dtype, layout, seed, fields, num_classes, clip_transform: as given
            to the constructor.
        is_varying: whether samples differ in shape, by a `clip` or a `transform` that depends on the video.
        num_views: V = num_repeats x num_crops x clips; a view is one clip with one crop; views are ordered by repeat, then crop, then clip.
        sample_shape, sample_bytes: of one clip, in `layout` without N, before `clip_transform`; None and 0 for what varies.
    """

    _known_fields: tuple[str, ...] = FIELDS

    def __init__(
        self,
        items: Annotations,
        *,
        clip: str | ClipSpec | VaryingClip,
        transform: SpatialTransform,
        sampling: str | Sampler = "segments",
        training: bool | None = None,
        out_of_bound: str = "loop",
        num_repeats: int = 1,
        dtype: torch.dtype = torch.float32,
        layout: str | None = None,
        seed: int = 0,
        fields: Sequence[str] = (),
        num_classes: int | None = None,
        clip_transform: ClipTransform | None = None,
    ) -> None:
        if not isinstance(transform, SpatialTransform):
            raise TypeError(
                f"transform must be one of vidload.transforms, such as random_resized_crop(224), got {transform!r}"
            )
        if dtype not in _DTYPES:
            raise ValueError(f"dtype {dtype} is not one of {', '.join(map(str, _DTYPES))}")
        if num_repeats < 1:
            raise ValueError(f"num_repeats is {num_repeats}, must be at least 1")
        self.annotations = items
        self.clip = clip if isinstance(clip, VaryingClip) else ClipSpec.parse(clip)
        self.transform = transform
        self.sampling = sampling
        self.training = transform.is_random if training is None else training
        self.out_of_bound = out_of_bound
        self.num_repeats = num_repeats
        self.dtype = dtype
        self.seed = seed
        self.fields = checked_fields(fields, self._known_fields)
        if num_classes is not None:
            check_classes(items.labels, num_classes)
        self.num_classes = num_classes
        self.clip_transform = clip_transform
        self._transform_takes_rng = clip_transform is not None and "rng" in argument_names(clip_transform)
        self._sampler, self._sampler_takes = sampler_of(sampling)
        self._epoch = torch.zeros((), dtype=torch.int64)
        self._share_epoch()
        # When set_epoch was last called, and with what: loaders look at it (see vidload.loading.epochs).
        self._told_epoch = (0, 0)

        clip_len: int | None = None
        if isinstance(self.clip, VaryingClip):
            if sampling != "segments" or num_repeats != 1:
                raise ValueError(
                    f"clip {self.clip} chooses the frames itself, once: leave out sampling and num_repeats"
                )
            if transform.num_crops != 1:
                raise ValueError(
                    f"clip {self.clip}: clips of varying length have one view each, but the transform has {transform.num_crops} crops"
                )
            self._num_clips = 1
        else:
            self._num_clips = clips_per_video(self._sampler, self.clip, self.training, self._sampler_takes)
            clip_len = self.clip.clip_len
        self.num_views = num_repeats * transform.num_crops * self._num_clips
        if layout is None:
            layout = "NTCHW" if clip_len is None else "NCTHW" if self.num_views == 1 else "NVCTHW"
        if layout not in _LAYOUTS:
            raise ValueError(f"layout {layout!r} is not one of {', '.join(_LAYOUTS)}")
        if "V" not in layout and self.num_views > 1:
            raise ValueError(
                f"layout {layout!r} has no place for the {self.num_views} views of a sample (repeats x crops x clips); "
                f"use 'NV{layout[1:]}'"
            )
        self.layout = layout
        if "V" in layout and clip_len is None:
            raise ValueError(f"layout {layout!r}: clips of varying length have one view each; use 'N{layout[2:]}'")
        height, width = transform.size if transform.size[0] > 0 else (None, None)
        sizes = {"V": self.num_views, "C": 3, "T": clip_len, "H": height, "W": width}
        self.sample_shape: tuple[Any, ...] = tuple(sizes[axis] for axis in layout[1:])
        self.is_varying = None in self.sample_shape
        self._fps = 0.0  # of all videos; 0: each its own
        self.sample_bytes = 0 if self.is_varying else math.prod(self.sample_shape) * dtype.itemsize
        self._make_core_parts()

    def __getstate__(self) -> dict[str, Any]:
        state = self.__dict__.copy()
        del state["_specs"], state["_rules"], state["_strides"]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        now(after=self._told_epoch[0])  # what this process is told comes after what the other one was
        self._share_epoch()  # a copy's is its own
        self._make_core_parts()

    def _share_epoch(self) -> None:
        """Lets persistent workers of an ordinary DataLoader see set_epoch; without /dev/shm there are none."""
        with contextlib.suppress(RuntimeError):
            self._epoch.share_memory_()

    def _make_core_parts(self) -> None:
        self._rules: _core.DrawRules | None = None
        self._strides: _core.Strides | None = None
        self._specs: dict[tuple[int, int], _core.TransformSpec] = {}  # by output size
        if self.is_varying:
            return
        contiguous = torch.empty(self.sample_shape, device="meta").stride()
        self._strides = strides_of(self.layout[1:], contiguous, math.prod(self.sample_shape))
        # Python alone knows a request of the user's own, and segments in seconds.
        has_rules = type(self).request is ClipDataset.request and self.annotations.start_seconds is None
        if has_rules and isinstance(self.clip, ClipSpec):
            self._rules = draw_rules(
                self.sampling,
                self.clip,
                self.transform,
                num_repeats=self.num_repeats,
                is_training=self.training,
                out_of_bound=self.out_of_bound,
            )

    def _spec(self, size: tuple[int, int]) -> _core.TransformSpec:
        if size not in self._specs:
            self._specs[size] = _core.TransformSpec(
                *size,
                _DTYPES[self.dtype],
                self.transform.antialias,
                None if self.transform.mean is None else list(self.transform.mean),
                None if self.transform.std is None else list(self.transform.std),
            )
        return self._specs[size]

    @property
    def draws_in_core(self) -> bool:
        """Whether all that is drawn of a sample is named by rules that the core knows too."""
        return self._rules is not None

    def __len__(self) -> int:
        return len(self.annotations)

    def __repr__(self) -> str:
        return describe.as_text(describe.dataset_title(self), describe.dataset_rows(self))

    def _repr_html_(self) -> str:
        return describe.as_html(describe.dataset_title(self), describe.dataset_rows(self))

    @property
    def epoch(self) -> int:
        """The epoch whose random numbers samples have now."""
        return int(self._epoch)

    def set_epoch(self, epoch: int) -> None:
        """Chooses the random numbers of all samples; call it before each epoch of a plain DataLoader.

        A VideoLoader counts epochs itself, and continues from this one once it is set.
        """
        self._told_epoch = (now(), int(epoch))
        self._epoch.fill_(epoch)

    def _follow_epoch(self, epoch: int) -> None:
        """As a loader sets it."""
        self._epoch.fill_(epoch)

    def label(self, index: int) -> Any:
        """The label of sample `index`, of a kind that vidload.labels describes. An override may return anything that default_collate takes."""
        return label_at(self.annotations.labels, index, self.num_classes)

    @property
    def has_stored_labels(self) -> bool:
        """Whether labels are the annotations' own, so that `labels_of` runs none of the user's code."""
        return type(self).label is ClipDataset.label

    def labels_of(self, indices: Sequence[int]) -> Any:
        """As default_collate of `label` gives them."""
        if self.has_stored_labels:
            return labels_at(self.annotations.labels, indices, self.num_classes)
        labels: Any = tuple(self.label(index) for index in indices)
        return default_collate(labels)

    def missing_files(self) -> list[str]:
        """Paths that do not exist, in list order. Asks the file system once per path, which takes a while for a large dataset."""
        return [self.annotations.path(int(row)) for row in missing_files(self.annotations)]

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        """(clip, label), or (clip, label, fields) if the dataset has `fields`, a dict (see vidload.fields): clip of `dtype` and
        `sample_shape`, or what `clip_transform` makes of it. Within an epoch, an index always gives the same clip.

        Raises:
            IndexError: there is no such sample.
            TypeError: `index` is not an integer.
            VideoError: the video is missing, damaged or not supported.
            OSError: the file cannot be read.
            ClipTransformError: `clip_transform` raised.
        """
        return self._sample(index, self.epoch, 0)

    def __getitems__(self, indices: Sequence[int]) -> list[tuple[Any, ...]]:
        if isinstance(indices, IndexBatch):
            return SampleBatch(map(self._sample, indices, (indices.epoch,) * len(indices), indices.draws))
        return [self[index] for index in indices]

    def _sample(self, index: int, epoch: int, draw: int) -> tuple[Any, ...]:
        try:
            index = operator.index(index)
        except TypeError:
            raise TypeError(
                f"a dataset is indexed by one integer, got {index!r}; for a part of it, use torch.utils.data.Subset(dataset, range(0, 2))"
            ) from None
        if not -len(self) <= index < len(self):
            raise IndexError(f"sample {index} is out of range [0, {len(self)})")
        index %= len(self)
        if not hasattr(_this_thread, "pool"):
            _this_thread.pool = _core.LoaderPool(0)
        start_indexing = partial(self.start_indexing, _this_thread.pool, [index])
        clip, row = self.load_one(start_indexing, index, epoch, partial(torch.empty, dtype=self.dtype), draw)
        result = clip if self.clip_transform is None else self.transformed(clip, index, epoch, draw)
        return (result, self.label(index)) if row is None else (result, self.label(index), sample_fields(row))

    def collate(self, samples: Sequence[Any], batch_as: str = "list") -> list[Any]:
        """Makes a batch of samples that differ in shape, as VideoLoader does: a plain DataLoader's `collate_fn`. See vidload.joining."""
        return joining.collate(samples, batch_as, self.time_axis)

    def _path(self, index: int) -> str:
        return self.annotations.path(index)

    # --- for the loader

    @property
    def time_axis(self) -> int:
        """Where T is in `sample_shape`."""
        return self.layout.index("T") - 1

    def transformed(self, clip: torch.Tensor, index: int, epoch: int, draw: int, stands_for: int = -1) -> Any:
        """What `clip_transform` makes of the clip of sample `index`.

        draw, stands_for: as of vidload.system.random.sample_rng.
        """
        assert self.clip_transform is not None
        try:
            if not self._transform_takes_rng:
                return self.clip_transform(clip)
            return self.clip_transform(clip, rng=transform_rng(self.seed, epoch, index, draw, stands_for))
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            raise ClipTransformError(self._path(index), index, reason) from error

    def load_one(
        self,
        start_indexing: Callable[[], Batch],
        index: int,
        epoch: int,
        take: Callable[[tuple[int, ...]], torch.Tensor],
        draw: int = 0,
        stands_for: int = -1,
    ) -> tuple[torch.Tensor, FieldRow | None]:
        """Decodes sample `index` of `epoch`; returns its clip, and its fields, None if the dataset has none.

        start_indexing: starts a batch of this sample alone. take: gives memory for a clip of a shape, a contiguous tensor of `dtype`.
        draw, stands_for: as in vidload.system.random.sample_rng. Raises VideoError.
        """
        tries_left = 3  # an index from the container's tables, from all packets, from a decode
        while True:
            batch = start_indexing()
            batch.wait()
            clip: torch.Tensor | None = None
            if self.is_varying:
                drawn = self.draw(batch, [index], epoch, [draw], stands_for)
                clip = next((take(shape) for shape in drawn.shapes if shape is not None), None)
                self.decode_each(batch, drawn, [clip])
            else:
                clip = take(self.sample_shape)
                drawn = self.start_decoding(batch, [index], epoch, clip.unsqueeze(0), [draw], stands_for)
            batch.wait()
            error = next((error for error in (*drawn.errors, *batch.errors()) if error is not None), None)
            if error is None:
                assert clip is not None
                rows = self.field_rows(batch, drawn, [index], epoch, [draw], stands_for) if self.fields else [None]
                return clip, rows[0]
            # The file's frames are not those that its headers promised. The core knows them now, and the sample is drawn again from them.
            tries_left -= 1
            if tries_left == 0 or not isinstance(error, IndexMismatchError):
                raise error

    def field_rows(
        self,
        batch: Batch,
        drawn: Drawn,
        indices: Sequence[int],
        epoch: int,
        draws: Sequence[int],
        stands_for: int = -1,
    ) -> list[FieldRow | None]:
        """The fields of each sample of a batch that `start_decoding` drew and that has been decoded; None where it failed."""
        rows: list[FieldRow | None] = []
        needs_frames = not FRAME_FIELDS.isdisjoint(self.fields)
        drawn_frames: list[npt.NDArray[np.int64]] = []
        if needs_frames and drawn.requests is None:
            assert isinstance(batch, _core.Batch)
            drawn_frames = batch.drawn_frames()
        for place, (index, info, error) in enumerate(zip(indices, batch.infos(), batch.errors(), strict=True)):
            if info is None or error is not None or drawn.errors[place] is not None:
                rows.append(None)
                continue
            frames = None
            if needs_frames:
                request = None if drawn.requests is None else drawn.requests[place]
                frames = self._frames_of_views(drawn_frames[place] if request is None else request.frames)
            path = self.annotations.path(index) if "path" in self.fields else ""
            rows.append(field_row(self.fields, index, path, frames, self._known(info)))
        return rows

    def _frames_of_views(self, frames: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Of a request's frames, clip by clip: [T], or [V, T] where the layout has views; each crop has the clips of its repeat."""
        if "V" not in self.layout or isinstance(self.clip, VaryingClip):
            return frames
        clips = frames.reshape(self.num_repeats, 1, self._num_clips, self.clip.clip_len)
        return np.repeat(clips, self.transform.num_crops, 1).reshape(self.num_views, self.clip.clip_len)

    def start_indexing(
        self,
        pool: _core.LoaderPool,
        indices: Sequence[int],
        needs_whole_indexes: bool = False,
        waits_for_draw: bool = False,
    ) -> _core.Batch:
        """Starts finding the packet indexes of the samples' videos; returns the batch that `start_decoding` takes once they are found.

        waits_for_draw: nothing starts yet, where `draws_in_core`: `start_decoding` starts it all, and threads take a sample in one go.
        """
        raise NotImplementedError

    def start_decoding(
        self,
        batch: Batch,
        indices: Sequence[int],
        epoch: int,
        out: torch.Tensor,
        draws: Sequence[int],
        stands_for: int = -1,
    ) -> Drawn:
        """Samples each video of an indexed `batch`, and starts decoding into `out` [N, *sample_shape]. Where `draws_in_core`, there is no need
        to wait for the indexes of a _core.Batch.

        draws: how often each index was drawn before in the epoch. Returns what was drawn, with an error for each sample that could not be
        sampled; errors found while decoding are in batch.errors().
        """
        if self._rules is not None and isinstance(batch, _core.Batch):
            assert self._strides is not None
            seed = self.seed & 0xFFFF_FFFF_FFFF_FFFF
            batch.draw(
                self._spec(self.transform.size),
                self._rules,
                seed,
                epoch,
                indices,
                draws,
                stands_for,
                self._fps,
                out.data_ptr(),
                self._strides,
                out,
            )
            return Drawn([None] * len(indices), None)
        drawn = self.draw(batch, indices, epoch, draws, stands_for)
        assert isinstance(self.clip, ClipSpec) and self._strides is not None
        spec = self._spec(self.transform.size)
        batch.decode(spec, self.clip.clip_len, drawn.frames, drawn.views, out.data_ptr(), self._strides, out)
        return drawn

    def draw(
        self, batch: Batch, indices: Sequence[int], epoch: int, draws: Sequence[int], stands_for: int = -1
    ) -> Drawn:
        """The first half of `start_decoding`, in Python; for samples that vary in shape, `decode_each` is the second."""
        requests: list[Request | None] = []
        errors: list[VideoError | None] = []
        for index, draw, info in zip(indices, draws, batch.infos(), strict=True):
            error = None
            request = None
            if info is not None:
                try:
                    request = self.request(index, epoch, info, draw, stands_for)
                except VideoError as raised:
                    error = raised
            requests.append(request)
            errors.append(error)
        return Drawn(errors, requests)

    def decode_each(self, batch: Any, drawn: Drawn, slots: Sequence[torch.Tensor | None]) -> None:
        """Starts decoding each sample that was drawn into its own slot, a tensor of its shape; None for those that were not."""
        axes = self.layout[1:]
        of_core: list[tuple[_core.TransformSpec, int, int, _core.Strides] | None] = []
        for request, slot in zip(drawn.requests or (), slots, strict=True):
            if request is None or slot is None:
                of_core.append(None)
                continue
            sizes = dict(zip(axes, slot.shape, strict=True))
            spec = self._spec((sizes["H"], sizes["W"]))
            of_core.append((spec, sizes["T"], slot.data_ptr(), strides_of(axes, slot.stride())))
        batch.decode_each(drawn.frames, drawn.views, of_core, slots)

    def request(self, index: int, epoch: int, info: _core.SampleInfo, draw: int = 0, stands_for: int = -1) -> Request:
        """Which frames and boxes sample `index` has in `epoch`; `info` is what the core knows about the video.

        draw, stands_for: as in vidload.system.random.sample_rng.

        Raises:
            FrameIndexError: the annotated segment contains no frame.
            ValueError: the crop does not fit the picture, or a user's sampler returned something else than frame indices.
        """
        info = self._known(info)
        first, num_frames, packet_index = 0, info.num_frames, info.index
        has_segment = self.annotations.start_seconds is not None and "segment_seconds" not in self._sampler_takes
        if has_segment:
            first, num_frames = self._segment(index, packet_index)
        options: dict[str, Any] = {}
        if "out_of_bound" in self._sampler_takes:
            options["out_of_bound"] = self.out_of_bound
        if "shown_seconds" in self._sampler_takes:
            options["shown_seconds"] = shown_seconds(packet_index, first, num_frames, info.average_fps)
        if "segment_seconds" in self._sampler_takes:
            options["segment_seconds"] = segment_seconds(
                self.annotations, index, packet_index, num_frames, info.average_fps
            )
        rng = self._rng(epoch, index, draw, stands_for) if self.training or self.transform.is_random else None
        temporal_rng = rng if self.training else None
        aspect_ratio = pixel_aspect(packet_index)
        if isinstance(self.clip, VaryingClip):
            frames = self._varying_frames(self.clip, index, first, num_frames, info, temporal_rng)
            boxes = self.transform.boxes(info.height, info.width, rng, aspect_ratio)
            return Request(frames, views_of(_FIRST_CLIP, boxes), self._shape(len(frames), info, aspect_ratio))
        shape = self._shape(self.sample_shape[self.time_axis], info, aspect_ratio) if self.is_varying else ()
        repeats = [
            (
                self._sampled_frames(index, num_frames, info.average_fps, temporal_rng, options),
                self.transform.boxes(info.height, info.width, rng, aspect_ratio),
            )
            for _ in range(self.num_repeats)
        ]
        if self.num_views == 1:  # nothing to order
            frames, boxes = repeats[0]
            frames = frames.reshape(-1) + first if first else frames.reshape(-1)
            return Request(frames, views_of(_FIRST_CLIP, boxes), shape)
        clips = np.arange(self.num_repeats * self._num_clips).reshape(self.num_repeats, 1, self._num_clips)
        of_each = np.broadcast_to(clips, (self.num_repeats, self.transform.num_crops, self._num_clips)).reshape(-1)
        all_boxes = np.concatenate([boxes for _, boxes in repeats]).repeat(self._num_clips, axis=0)
        all_frames = np.concatenate([frames.reshape(-1) for frames, _ in repeats])
        return Request(all_frames + first, views_of(of_each, all_boxes), shape)

    def _known(self, info: _core.SampleInfo) -> _core.SampleInfo:
        """`info`, corrected where the dataset itself knows better."""
        return info

    def _sampled_frames(
        self, index: int, num_frames: int, fps: float, rng: np.random.Generator | None, options: dict[str, Any]
    ) -> npt.NDArray[np.int64]:
        """What the sampler gives, checked: a function of the user's own may give anything."""
        try:
            frames: Any = self._sampler(num_frames, fps, self.clip, rng, **options)
        except ValueError as error:
            raise ValueError(f"{self.annotations.path(index)}: {error}") from error
        shape = (self._num_clips, self.sample_shape[self.time_axis])
        if not isinstance(frames, np.ndarray) or frames.shape != shape or frames.dtype.kind not in "iu":
            found = f"{frames.dtype} {list(frames.shape)}" if isinstance(frames, np.ndarray) else type(frames).__name__
            raise ValueError(
                f"sampling {self.sampling!r} returned {found} for {self.annotations.path(index)}; it must return integers of shape {list(shape)}"
            )
        return frames

    def _shape(self, clip_len: int, info: _core.SampleInfo, aspect_ratio: float) -> tuple[int, ...]:
        """Of a clip of this video."""
        height, width = self.transform.output_size(info.height, info.width, aspect_ratio)
        sizes = {"V": self.num_views, "C": 3, "T": clip_len, "H": height, "W": width}
        return tuple(sizes[axis] for axis in self.layout[1:])

    def _varying_frames(
        self,
        clip: VaryingClip,
        index: int,
        first: int,
        num_frames: int,
        info: _core.SampleInfo,
        rng: np.random.Generator | None,
    ) -> npt.NDArray[np.int64]:
        """What `clip` gives of a segment that begins with frame `first`."""
        shown = shown_seconds(info.index, first, num_frames, info.average_fps)
        start, end = segment_seconds(self.annotations, index, info.index, info.num_frames, info.average_fps)
        last_end = shown_seconds(info.index, info.num_frames - 1, 1, info.average_fps)[1]
        path = self.annotations.path(index)
        return checked_frames(clip, path, shown, (start, min(end, float(last_end))), rng) + first

    def _rng(self, epoch: int, index: int, draw: int, stands_for: int) -> np.random.Generator:
        """This thread's generator, at the start of the sample's stream; making one per sample would cost as much as the sampling."""
        if not hasattr(_this_thread, "rng"):
            _this_thread.rng = sample_rng(0, 0, 0)
        rekey(_this_thread.rng, self.seed, epoch, index, draw, stands_for)
        rng: np.random.Generator = _this_thread.rng
        return rng

    def _segment(self, index: int, packet_index: _core.PacketIndex | None) -> tuple[int, int]:
        """(first frame, number of frames) shown within [start_seconds, end_seconds), counted from the first frame's pts."""
        assert self.annotations.start_seconds is not None and self.annotations.end_seconds is not None
        assert packet_index is not None
        start, end = float(self.annotations.start_seconds[index]), float(self.annotations.end_seconds[index])
        num, den = packet_index.time_base
        pts = packet_index.frame_pts
        first, stop = segment_frames((pts - pts[0]) * (num / den), start, end)
        if first >= stop:
            raise FrameIndexError(
                self.annotations.path(index),
                None,
                f"no frame is shown within [{start:g}, {end:g}) seconds; the video lasts {packet_index.duration_seconds:g} seconds",
            )
        return first, stop - first
