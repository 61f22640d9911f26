"""What the temporal localizers share: overlaps, a weighted loss, boundary peaks, soft-NMS, result files.

In: segments and scores of one video as NumPy arrays, in units of the covered part of the video (0..1). Out:
detections in seconds, in the form that ActivityNet's evaluation reads. The networks, their labels and losses
are in bsn.py and bmn.py, the metrics in localization_metrics.py, feature and annotation files in
vidload.FeatureDataset.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypedDict

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from vidload.system.files import written_aside

Floats = NDArray[np.float64]


class Detection(TypedDict):
    """One entry of a result file: `segment` is [start, end] in seconds; a higher `score` is more certain."""

    score: float
    segment: list[float]


@dataclass(frozen=True)
class LocalizerRecipe:
    """How MMAction2 1.2.0 trains on ActivityNet 1.3: Adam, `lr` times 0.1 at each of `milestones` (epochs).

    `batch_size` is for each of `num_gpus`; the gradient's L2 norm is limited to `max_grad_norm`.
    """

    lr: float
    weight_decay: float
    milestones: tuple[int, ...]
    epochs: int
    batch_size: int
    num_gpus: int = 1
    max_grad_norm: float = 40.0


class SoftNMS(NamedTuple):
    """Constants of `soft_nms`; the overlap that it tolerates grows from `low` to `high` with the width."""

    alpha: float
    low: float
    high: float


def as_segments(segments: ArrayLike) -> Floats:
    """`segments` as float64 [G, 2] of (start, end), empty ones as [0, 2]. Raises ValueError for other shapes."""
    array = np.asarray(segments, dtype=np.float64)
    if array.size == 0:
        return np.zeros((0, 2))
    if array.ndim != 2 or array.shape[1] != 2:
        raise ValueError(f"segments have shape {array.shape}; need [number of segments, 2] with columns start, end")
    return array


def _intersection(anchors: Floats, segments: Floats) -> Floats:
    stop = np.minimum(anchors[:, None, 1], segments[None, :, 1])
    start = np.maximum(anchors[:, None, 0], segments[None, :, 0])
    return np.asarray(np.maximum(stop - start, 0.0))  # [A, G]


def segment_iou(anchors: ArrayLike, segments: ArrayLike) -> Floats:
    """IoU of anchors [A, 2] with segments [G, 2]: float64 [A, G]; 0 where both are empty."""
    a, g = as_segments(anchors), as_segments(segments)
    shared = _intersection(a, g)
    union = (a[:, 1] - a[:, 0])[:, None] + (g[:, 1] - g[:, 0])[None, :] - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)


def segment_iop(anchors: ArrayLike, segments: ArrayLike) -> Floats:
    """Share of each anchor [A, 2] that lies in each segment [G, 2]: float64 [A, G]; 0 for an empty anchor."""
    a, g = as_segments(anchors), as_segments(segments)
    shared = _intersection(a, g)
    width = np.broadcast_to((a[:, 1] - a[:, 0])[:, None], shared.shape)
    return np.divide(shared, width, out=np.zeros_like(shared), where=width > 0)


def best_over_segments(overlaps: Floats) -> Floats:
    """Maximum over the last axis of [A, G] overlaps; 0 where there is no segment."""
    return np.asarray(overlaps.max(axis=-1, initial=0.0))


def weighted_logistic_loss(scores: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Logistic loss with positives (`labels` > 0.5) and negatives weighted to count alike: a 0-d tensor.

    `scores` in (0, 1) and `labels` have the same shape, over the whole of which the balance is taken. With n
    entries, n+ of them positive, r = clamp(n / max(n+, 1), 1.05, 21): positives weigh r/2, negatives
    (r/2)/(r - 1). Computed in float32. BSN (Lin et al. 2018), section 3.4.
    """
    scores = scores.float()
    positive = (labels > 0.5).float()
    ratio = (positive.numel() / positive.sum().clamp(min=1.0)).clamp(1.05, 21.0)
    positive_weight = 0.5 * ratio
    negative_weight = positive_weight / (ratio - 1.0)
    if_positive = positive_weight * torch.log(scores + 1e-5)
    if_negative = negative_weight * torch.log(1.0 - scores + 1e-5)
    return -(positive * if_positive + (1.0 - positive) * if_negative).mean()


def boundary_candidates(scores: ArrayLike) -> NDArray[np.bool_]:
    """Which positions of `scores` [T] may be a boundary: bool [T]. Raises ValueError for other shapes.

    Inner positions above both neighbors, or above half the maximum. The first and the last position are
    False here: BSN adds both, BMN one of them.
    """
    values = np.asarray(scores)
    if values.ndim != 1:
        raise ValueError(f"boundary scores have shape {values.shape}; need the scores [T] of one video")
    candidates = np.zeros(values.shape, dtype=bool)
    inner = values[1:-1]
    is_peak = (inner > values[:-2]) & (inner > values[2:])
    candidates[1:-1] = is_peak | (inner > 0.5 * values.max(initial=0.0))
    return candidates


def soft_nms(proposals: ArrayLike, settings: SoftNMS, *, max_proposals: int = 100) -> Floats:
    """The best of proposals [P, 3] (start, end, score), chosen one by one while the scores of their rivals decay.

    start and end are in 0..1. The best remaining proposal, of width w, is taken; then the score of each other
    one whose IoU with it exceeds low + (high - low) * w is multiplied by exp(-IoU^2 / alpha); and so on until
    `max_proposals` are taken. Of equal scores the earlier row wins. Returns float64 [min(P, max_proposals),
    3] by descending score. Bodla et al. 2017, with BSN's threshold. Raises ValueError for other shapes.
    """
    rows = np.array(proposals, dtype=np.float64)
    if rows.size == 0:
        return np.zeros((0, 3))
    if rows.ndim != 2 or rows.shape[1] != 3:
        raise ValueError(
            f"proposals have shape {rows.shape}; need [number of proposals, 3] with columns start, end, score"
        )
    start, end, score = np.ascontiguousarray(rows.T)
    width = end - start
    chosen = np.empty((min(len(rows), max_proposals), 3))
    for k in range(len(chosen)):
        best = int(np.argmax(score))
        chosen[k] = start[best], end[best], score[best]
        score[best] = -np.inf
        shared = np.minimum(end, end[best]) - np.maximum(start, start[best])
        threshold = settings.low + (settings.high - settings.low) * width[best]
        # IoU > threshold needs shared > threshold * width[best], which leaves a few rows to work out.
        near = np.flatnonzero(shared > threshold * width[best])
        iou = shared[near] / (width[near] + width[best] - shared[near])
        decays = iou > threshold
        score[near[decays]] *= np.exp(-(iou[decays] ** 2) / settings.alpha)
    return chosen


def covered_seconds(num_frames: int, duration_seconds: float, *, feature_interval: int = 16) -> float:
    """Length of the part of a video that whole feature snippets cover; what 1.0 means in a proposal.

    (num_frames // feature_interval * feature_interval) / num_frames * duration_seconds. A video shorter than
    one snippet counts in full. Raises ValueError unless both lengths are positive.
    """
    if num_frames < 1 or duration_seconds <= 0:
        raise ValueError(f"covered part of {num_frames} frames, {duration_seconds} s: both must be positive")
    whole = num_frames // feature_interval * feature_interval
    return (whole / num_frames if whole else 1.0) * duration_seconds


def detections(proposals: ArrayLike, seconds: float, settings: SoftNMS, *, top_k: int = 100) -> list[Detection]:
    """Result entries of one video: the best `top_k` of proposals [P, 3] (start, end, score) by `soft_nms`.

    Segments are clipped to 0..1 and multiplied by `seconds`, which 1.0 stands for (`covered_seconds`).
    """
    kept = soft_nms(proposals, settings, max_proposals=top_k)
    segments = np.clip(kept[:, :2], 0.0, 1.0) * seconds
    return [
        {"score": float(score), "segment": [float(start), float(end)]}
        for (start, end), score in zip(segments, kept[:, 2], strict=True)
    ]


def write_results(path: str | os.PathLike[str], results: Mapping[str, Sequence[Detection]]) -> None:
    """Writes `{video: [{"score", "segment"}]}` as ActivityNet's evaluation reads it; aside, then renamed."""
    path = Path(path)
    text = json.dumps({"version": "VERSION 1.3", "results": results, "external_data": {}})
    with written_aside(path) as part:
        part.write_text(text)


def read_results(path: str | os.PathLike[str]) -> dict[str, list[Detection]]:
    """Reads a result file, ActivityNet's or the bare `{video: [{"score", "segment"}]}`. Raises ValueError for anything else."""
    with open(path) as file:
        try:
            document = json.load(file)
        except ValueError as error:
            raise ValueError(f"{path}: not a result file: {error}") from error
    results = document.get("results", document) if isinstance(document, dict) else None
    if not isinstance(results, dict) or not all(isinstance(entries, list) for entries in results.values()):
        need = '{"results": {video: [{"score": number, "segment": [start, end]}]}}'
        raise ValueError(f"{path}: not a result file; need {need}")
    return results
