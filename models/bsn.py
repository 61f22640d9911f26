"""BSN, boundary-sensitive network (Lin et al., ECCV 2018, arXiv:1806.02964): TEM, PGM and PEM.

    features [N,400,100] ─ TEM ─> action, start, end [N,3,100] ─ generate_proposals ─> proposals [P,5]
                                     └─ proposal_features [P,32] ─ PEM ─> pem_scores ─ detections ─> results
In: snippet features, or their TEM scores. Out: probabilities, proposals, losses. Parameter names follow
MMAction2's checkpoints. The recipe trains TEM first, then PEM on the proposals of the trained TEM. Soft-NMS
and result files are in localization.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from .localization import (
    Floats,
    LocalizerRecipe,
    SoftNMS,
    as_segments,
    best_over_segments,
    boundary_candidates,
    segment_iop,
    segment_iou,
    weighted_logistic_loss,
)

BSN_SOFT_NMS = SoftNMS(alpha=0.75, low=0.65, high=0.9)


class TEM(nn.Module):
    """Features [N, feat_dim, T] to probabilities [N, 3, T] of action, start and end at each position.

    Three 1D convolutions: feat_dim -> hidden (k3) -> ReLU -> hidden (k3) -> ReLU -> 3 (k1) -> times 0.01 ->
    sigmoid. Any T; 1,403,395 parameters as published.
    """

    recipe = LocalizerRecipe(lr=1e-3, weight_decay=1e-4, milestones=(7, 14), epochs=20, batch_size=16)

    def __init__(self, feat_dim: int = 400, hidden: int = 512) -> None:
        super().__init__()
        self.conv1 = nn.Conv1d(feat_dim, hidden, kernel_size=3, padding=1)
        self.conv2 = nn.Conv1d(hidden, hidden, kernel_size=3, padding=1)
        self.conv3 = nn.Conv1d(hidden, 3, kernel_size=1)

    def forward(self, features: Tensor) -> Tensor:
        x = torch.relu(self.conv1(features))  # [N, hidden, T]
        x = torch.relu(self.conv2(x))
        return torch.sigmoid(0.01 * self.conv3(x))  # [N, 3, T]


class TEMLabels(NamedTuple):
    """float32 [N, T] each: the share of a position that lies in an action, a start region, an end region."""

    action: Tensor
    start: Tensor
    end: Tensor


class TEMLoss(NamedTuple):
    """0-d tensors; `total` = 2 * action + start + end, and `action` is the value before it is doubled."""

    total: Tensor
    action: Tensor
    start: Tensor
    end: Tensor


def tem_labels(segments: Sequence[ArrayLike], temporal_dim: int = 100, boundary_ratio: float = 0.1) -> TEMLabels:
    """Labels of N videos from their segments [G_i, 2], in units of the video (0..1); zeros without segments.

    Position t stands for [t/T, (t+1)/T]; its label is the largest share of it inside any segment (action), or
    inside a region of width max(1/T, boundary_ratio * length) around a segment's start or end. Section 3.4.
    """
    anchors = temporal_anchors(temporal_dim)
    labels = np.zeros((3, len(segments), temporal_dim), dtype=np.float32)
    for i, ground_truth in enumerate(segments):
        g = as_segments(ground_truth)
        half = 0.5 * np.maximum(1.0 / temporal_dim, boundary_ratio * (g[:, 1] - g[:, 0]))
        starts, ends = (np.stack([boundary - half, boundary + half], axis=1) for boundary in g.T)
        for label, regions in zip(labels, (g, starts, ends), strict=True):
            label[i] = best_over_segments(segment_iop(anchors, regions))
    return TEMLabels(*torch.from_numpy(labels))


def tem_loss(output: Tensor, labels: TEMLabels) -> TEMLoss:
    """Loss of TEM's `output` [N, 3, T]: weighted logistic losses of action (counted twice), start and end."""
    action, start, end = (
        weighted_logistic_loss(output[:, k], label.to(output.device)) for k, label in enumerate(labels)
    )
    return TEMLoss(2.0 * action + start + end, action, start, end)


def temporal_anchors(temporal_dim: int = 100) -> Floats:
    """[t/T, (t+1)/T] for every position: float64 [T, 2]."""
    edges = np.arange(temporal_dim + 1) / temporal_dim
    return np.stack([edges[:-1], edges[1:]], axis=1)


def tem_table(output: ArrayLike) -> Floats:
    """A video's output [3, T] as BSN keeps it: float64 [T, 5] of action, start, end, tmin, tmax. Raises ValueError for other shapes."""
    scores = np.asarray(output, dtype=np.float64)
    if scores.ndim != 2 or scores.shape[0] != 3:
        raise ValueError(f"TEM output has shape {scores.shape}; need [3, T], one video's")
    return np.concatenate([scores.T, temporal_anchors(scores.shape[1])], axis=1)


def generate_proposals(start_scores: ArrayLike, end_scores: ArrayLike, *, top_k: int = 1000) -> Floats:
    """Every candidate start with every later candidate end: float64 [P, 5], the best `top_k`, best first.

    From the start and end scores [T] of one video. Columns: tmin, tmax (candidate positions t as (t +
    0.5)/T), tmin_score, tmax_score, score = tmin_score * tmax_score. Candidates are `boundary_candidates` and
    both ends of the video. The published recipe keeps 500 for training PEM and 1000 for testing. Raises
    ValueError if the two have different shapes.
    """
    start_scores, end_scores = np.asarray(start_scores, np.float64), np.asarray(end_scores, np.float64)
    if start_scores.shape != end_scores.shape:
        raise ValueError(f"start and end scores have shapes {start_scores.shape}, {end_scores.shape}; need [T]")
    starts, ends = boundary_candidates(start_scores), boundary_candidates(end_scores)
    for candidates in (starts, ends):
        candidates[[0, -1]] = True
    # End by end, each with its starts in order: among equal scores the first of these comes first.
    e, s = np.nonzero(np.tril(ends[:, None] & starts[None, :], k=-1))
    score = start_scores[s] * end_scores[e]
    best = np.argsort(-score, kind="stable")[:top_k]
    s, e = s[best], e[best]
    num_positions = len(start_scores)
    columns = (
        (s + 0.5) / num_positions,
        (e + 0.5) / num_positions,
        start_scores[s],
        end_scores[e],
        score[best],
    )
    return np.stack(columns, axis=1)


def proposal_overlaps(proposals: ArrayLike, segments: ArrayLike) -> Floats:
    """Best IoU (PEM's target) and IoP of each proposal [P, >=2] with the segments [G, 2]: float64 [P, 2]."""
    spans = np.asarray(proposals)[:, :2]
    iou, iop = segment_iou(spans, segments), segment_iop(spans, segments)
    return np.stack([best_over_segments(iou), best_over_segments(iop)], axis=1)


def proposal_features(
    actionness: ArrayLike,
    proposals: ArrayLike,
    *,
    num_samples: tuple[int, int, int] = (16, 8, 8),
    boundary_width: float = 0.2,
) -> NDArray[np.float32]:
    """Actionness [T] sampled in and around each proposal [P, >=2] (tmin, tmax): float32 [P, 32], PEM's input.

    `num_samples` values: within [tmin, tmax], around tmin and around tmax, up to `boundary_width` of the
    length to both sides. Actionness is linear between the centers of positions and falls to zero beyond the
    video. BSN, section 3.3 (boundary-sensitive proposal feature). See Note [BSP sampling].
    """
    values = np.asarray(actionness, dtype=np.float64)
    # In float32, like the files that the published code keeps between its steps.
    tmin, tmax = np.asarray(proposals, dtype=np.float32)[:, :2].T
    num_positions = len(values)
    pad = num_positions // 4 + 10
    times = (np.arange(-pad, num_positions + pad) + 0.5) / num_positions
    curve = np.pad(values, pad)
    margin = boundary_width * (tmax - tmin)
    regions = ((tmin, tmax), (tmin - margin, tmin + margin), (tmax - margin, tmax + margin))
    samples = [
        _region_samples(times, curve, start, stop, count)
        for (start, stop), count in zip(regions, num_samples, strict=True)
    ]
    return np.concatenate(samples, axis=1).astype(np.float32)


def _region_samples(
    times: Floats, curve: Floats, start: NDArray[np.float32], stop: NDArray[np.float32], count: int
) -> Floats:
    spacing = (stop - start) / (count - 1)
    thirds = np.arange(3 * count + 1, dtype=np.float32)
    points = (start - 0.5 * spacing)[:, None] + (spacing / 3)[:, None] * thirds  # [P, 3n + 1]
    heights = np.interp(points.ravel(), times, curve).reshape(points.shape)
    return (heights[:, 0:-1:3] + heights[:, 1::3] + heights[:, 2::3] + heights[:, 3::3]) / 4.0  # [P, n]


class PEM(nn.Module):
    """Two linear layers: proposal features [P, feat_dim] to a confidence [P, 1] that estimates the best IoU.

    feat_dim -> hidden -> times 0.1 -> ReLU -> 1 -> times 0.1 -> sigmoid; 8,705 parameters as published.
    """

    # A sample of the batch is a video with its 500 best proposals.
    recipe = LocalizerRecipe(lr=1e-2, weight_decay=1e-5, milestones=(10,), epochs=20, batch_size=16)

    def __init__(self, feat_dim: int = 32, hidden: int = 256) -> None:
        super().__init__()
        self.fc1 = nn.Linear(feat_dim, hidden)
        self.fc2 = nn.Linear(hidden, 1)

    def forward(self, features: Tensor) -> Tensor:
        x = torch.relu(0.1 * self.fc1(features))  # [P, hidden]
        return torch.sigmoid(0.1 * self.fc2(x))  # [P, 1]


def pem_loss(
    output: Tensor,
    best_iou: Tensor,
    *,
    sampling: Literal["reference", "intended"] = "reference",
    generator: torch.Generator | None = None,
) -> Tensor:
    """Smooth-L1 (beta 1) between PEM's `output` [P, 1] and the `best_iou` [P] of the proposals; a 0-d tensor.

    "intended", as in the paper: all proposals with IoU > 0.6, of those in (0.2, 0.6] as many and of those <=
    0.2 twice as many, drawn at random (by `generator`, on the device of `output`); 0 if none is above 0.6.
    "reference", what the published code computes: its average comes before its sampling weights, which
    cancel, so it is the plain mean over all proposals, and NaN if none is above 0.6. Raises ValueError for
    any other `sampling`.
    """
    if sampling not in ("reference", "intended"):
        raise ValueError(f"pem_loss: sampling={sampling!r}; need 'reference' or 'intended'")
    target = best_iou.to(output.device).float().flatten()
    error = nn.functional.smooth_l1_loss(output.float().flatten(), target, reduction="none")  # [P]
    high = target > 0.6
    if sampling == "reference":
        return torch.where(high.any(), error.mean(), torch.nan)
    low = target <= 0.2
    middle = ~high & ~low
    draws = torch.rand(2, len(target), generator=generator, device=target.device)
    num_high = high.sum()
    keep_middle = middle & (draws[0] < num_high / middle.sum().clamp(min=1))
    keep_low = low & (draws[1] < 2 * num_high / low.sum().clamp(min=1))
    weights = (high | keep_middle | keep_low).float()
    return (error * weights).sum() / weights.sum().clamp(min=1)


def pem_scores(output: ArrayLike, proposals: ArrayLike) -> Floats:
    """Proposals as soft-NMS takes them, float64 [P, 3]: tmin, tmax, PEM confidence * tmin_score * tmax_score.

    `output` is PEM's [P, 1] or [P]; `proposals` [P, >=4] has the columns of `generate_proposals`.
    """
    rows = np.asarray(proposals, dtype=np.float64)
    confidence = np.asarray(output, dtype=np.float64).reshape(len(rows))
    return np.stack([rows[:, 0], rows[:, 1], confidence * rows[:, 2] * rows[:, 3]], axis=1)


# Note [BSP sampling]
# A region [a, b] with n samples is cut at spacing d = (b - a) / (n - 1), so that samples lie at both ends and
# the outermost cells reach d/2 beyond. The curve is read at thirds of a cell, a - d/2 + k d/3 for k = 0..3n,
# and sample j is the mean of the four points 3j..3j+3 of its cell; neighboring cells share the point between
# them. The zero samples around the video reach T/4 + 10 positions out, which holds the widest boundary region
# (0.2 of a full-length proposal, and half a cell).
