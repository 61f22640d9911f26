"""Snippet features of untrimmed video: a window slides over all its frames, a recognizer sees each window.

In: a recognizer of vidload.models and a video file. Out: one row of numbers per snippet, as FeatureDataset
reads them. A video is decoded once, however many snippets overlap: whole GOPs in order, some at a time in
parallel, only the frames that a snippet shows. vidload.prepare.feature_files writes the files and resumes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from vidload import _core
from vidload.batch import views_of
from vidload.reader import VideoReader
from vidload.system.cores import available_cores

_FRAMES_PER_RUN = 32  # at least; a run is whole GOPs


class VideoFeatures(NamedTuple):
    """features: float32 [snippets, channels]. feature_frames: how many of the num_frames, from the first on, they cover."""

    features: NDArray[np.float32]
    num_frames: int
    feature_frames: int
    duration_seconds: float


class FeatureExtractor:
    """Features of videos by a recognizer.

    Snippet k represents frames [k * stride, (k + 1) * stride). The recognizer sees as many frames as its
    clips have, equally spaced over the `window` frames around the middle of these; beyond the ends of
    the video the first or last frame is repeated. A video has num_frames // stride snippets, at least one. The
    picture is cropped and normalized as in the model's validation.

    Memory: 150 kB per frame (at 224 x 224) for twice `num_workers` runs of a GOP, or of 32 wanted frames.

    Args:
        model: made by `vidload.models.create`, with trained weights; it is moved to `device` and put in evaluation mode.
        window, stride: in frames.
        channels: "logits", one channel per class, or "pooled", the features before the classifier.
        batch_size: snippets that go through the model at once.
        device: of the model; decoding is on the CPU.
        num_workers: decoding threads; None = the cores this process may use, 0 = the calling thread.

    Raises:
        TypeError: the model was not made by `vidload.models.create`.
        ValueError: another argument makes no sense.
    """

    def __init__(
        self,
        model: Any,
        *,
        window: int = 16,
        stride: int = 16,
        channels: Literal["logits", "pooled"] = "logits",
        batch_size: int = 8,
        device: str | torch.device = "cpu",
        num_workers: int | None = None,
    ) -> None:
        if getattr(model, "recipe", None) is None or not hasattr(model, "forward_features"):
            raise TypeError(f"features need a recognizer made by vidload.models.create, got {type(model).__name__}")
        for name, value in (("window", window), ("stride", stride), ("batch_size", batch_size)):
            if value < 1:
                raise ValueError(f"{name} is {value}, must be at least 1")
        if channels not in ("logits", "pooled"):
            raise ValueError(f'channels is {channels!r}, must be "logits" or "pooled"')
        self.model = model.to(device).eval()
        self.window = window
        self.stride = stride
        self.channels = channels
        self.batch_size = batch_size
        self.device = torch.device(device)
        self._num_runs = max(1, available_cores() if num_workers is None else num_workers)
        self._pool = _core.LoaderPool(available_cores() if num_workers is None else num_workers)
        recipe = model.recipe
        self._frames_per_snippet = recipe.clip.clip_len * recipe.clip.num_clips
        self._is_by_frame = recipe.layout == "NVCTHW"
        self._transform = recipe.val_transform
        self._mean = torch.tensor(recipe.mean, device=self.device).view(3, 1, 1)
        self._std = torch.tensor(recipe.std, device=self.device).view(3, 1, 1)

    def stats(self) -> dict[str, Any]:
        """Counters of the decoding so far, as VideoLoader.stats() has them."""
        return dict(self._pool.stats())

    def extract(self, path: str) -> VideoFeatures:
        """Features of the video at `path`. Raises VideoError if it cannot be read or a frame is damaged."""
        with VideoReader(path) as reader:
            num_frames, duration = reader.num_frames, reader.duration_seconds
            keyframes = reader.keyframe_indices
            boxes = self._transform.boxes(
                reader.height, reader.width, sample_aspect_ratio=float(reader.sample_aspect_ratio)
            )
        snippets = snippet_frames(num_frames, self._frames_per_snippet, self.window, self.stride)
        rows = []
        held = np.zeros(0, np.int64)  # frame indices, rising, of `pixels`
        pixels = torch.empty(0, dtype=torch.uint8)
        done = 0
        for frames, decoded in self._decoded_runs(path, np.unique(snippets), keyframes, boxes[0]):
            held, pixels = (
                np.concatenate([held, frames]),
                torch.cat([pixels, decoded]) if len(held) else decoded,
            )
            ready = int(np.searchsorted(snippets[:, -1], held[-1], side="right"))
            is_last = ready == len(snippets)
            while ready - done >= self.batch_size or (is_last and done < ready):
                batch = snippets[done : min(done + self.batch_size, ready)]
                rows.append(self._features(pixels[np.searchsorted(held, batch)]))
                done += len(batch)
            if not is_last:  # keep what a later snippet shows
                first = int(np.searchsorted(held, snippets[done, 0]))
                held, pixels = held[first:], pixels[first:]
        features = np.concatenate(rows)
        return VideoFeatures(features, num_frames, min(len(snippets) * self.stride, num_frames), duration)

    @torch.inference_mode()
    def _features(self, pixels: torch.Tensor) -> NDArray[np.float32]:
        """uint8 [N, frames, 3, H, W] to float32 [N, channels]."""
        clips = (pixels.to(self.device, non_blocking=True).float() - self._mean) / self._std
        clips = clips.unsqueeze(3) if self._is_by_frame else clips.transpose(1, 2)  # NVCTHW with T = 1, or NCTHW
        features = self.model.forward_features(clips)
        features = self.model.forward_head(features, pre_logits=self.channels == "pooled")
        return np.asarray(features.float().cpu().numpy())

    def _decoded_runs(
        self, path: str, wanted: NDArray[np.int64], keyframes: NDArray[np.int64], box: NDArray[np.float64]
    ) -> Iterator[tuple[NDArray[np.int64], torch.Tensor]]:
        """Yields the wanted frames in order, as (indices [n], uint8 [n, 3, H, W]), while the next ones are decoded."""
        runs = _whole_gops(wanted, keyframes)
        groups = [runs[i : i + self._num_runs] for i in range(0, len(runs), self._num_runs)]
        ahead = self._start(path, groups[0], box)
        for group, following in zip(groups, [*groups[1:], None], strict=True):
            batch, out = ahead
            batch.wait()
            for error in batch.errors():
                if error is not None:
                    raise error
            if following is not None:
                ahead = self._start(path, following, box)
            for run, decoded in zip(group, out, strict=True):
                yield run, decoded[: len(run)]

    def _start(
        self, path: str, runs: list[NDArray[np.int64]], box: NDArray[np.float64]
    ) -> tuple[_core.Batch, torch.Tensor]:
        transform = self._transform
        height, width = transform.size
        out = torch.empty(len(runs), max(map(len, runs)), 3, height, width, dtype=torch.uint8)
        # Each frame is a clip of its own with one view.
        views = [views_of(np.arange(len(run)), np.tile(box, (len(run), 1))) for run in runs]
        spec = _core.TransformSpec(height, width, "uint8", transform.antialias, None, None)
        sample, frame, channel, row, column = out.stride()
        batch = _core.Batch(self._pool, [path] * len(runs), needs_whole_indexes=True)
        batch.wait()
        for error in batch.errors():
            if error is not None:
                raise error
        strides = _core.Strides(sample=sample, view=frame, frame=frame, channel=channel, row=row, column=column)
        batch.decode(spec, 1, [*runs], [*views], out.data_ptr(), strides, out)
        return batch, out


def snippet_frames(num_frames: int, clip_len: int, window: int, stride: int) -> NDArray[np.int64]:
    """Frames of every snippet, int64 [max(1, num_frames // stride), clip_len], increasing along both axes.

    Snippet k takes the middles of `clip_len` equal parts of a window of `window` frames around the middle of
    frames [k * stride, (k + 1) * stride); indices are clamped to the video.
    """
    first = np.arange(max(1, num_frames // stride))[:, None] * stride + (stride - window) // 2
    within = ((2 * np.arange(clip_len) + 1) * window) // (2 * clip_len)
    return np.asarray(np.clip(first + within, 0, num_frames - 1))


def _whole_gops(wanted: NDArray[np.int64], keyframes: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """`wanted` (rising) cut at keyframes into runs of at least _FRAMES_PER_RUN frames, except the last."""
    gop = np.searchsorted(keyframes, wanted, side="right")
    starts = np.flatnonzero(np.diff(gop, prepend=-1))
    cuts = [0]
    for start in starts:
        if start - cuts[-1] >= _FRAMES_PER_RUN:
            cuts.append(int(start))
    return [wanted[a:b] for a, b in zip(cuts, [*cuts[1:], len(wanted)], strict=True)]
