"""BMN, boundary-matching network (Lin et al., ICCV 2019, arXiv:1907.09702), for temporal action proposals.

    features [N,400,T] ─ base ┬─ start [N,T]
                              ├─ end   [N,T]
                              └─ boundary matching, conv3d [N,512,D,S] ─ conv2d x4 ─> confidence [N,2,D,S]
In: snippet features. Out: boundary probabilities and a confidence for every segment [s/T, (s+d+1)/T] (d
duration index, s start index; channel 0 regression, 1 classification); labels, loss, proposals of a video.
Parameter names follow MMAction2's checkpoints. Soft-NMS and result files are in localization.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike
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

BMN_SOFT_NMS = SoftNMS(alpha=0.4, low=0.5, high=0.9)


def boundary_matching_mask(temporal_dim: int = 100, num_samples: int = 32, num_samples_per_bin: int = 3) -> Tensor:
    """Weights of the positions t in every sample n of every segment (d, s): float32 [T, num_samples, D, S]
    with D = S = T.

    A segment covers q = d + 1 positions from s; it is sampled over [s - q/2, s + d + q/2], half its length
    beyond on both sides, at num_samples * num_samples_per_bin equally spaced points, of which each sample
    averages num_samples_per_bin in a row. A point v reads positions trunc(v) and ceil(v) linearly; positions
    outside 0..T-1 count as zero. Segments beyond the end (s + d >= T) are all zero. BMN, section 3.2.
    """
    duration = np.arange(temporal_dim)[:, None, None]
    start = np.arange(temporal_dim)[None, :, None]
    num_points = num_samples * num_samples_per_bin
    point = np.arange(num_points)[None, None, :]
    length = duration + 1.0
    first, last = start - 0.5 * length, start + duration + 0.5 * length
    positions = first + point * (last - first) / (num_points - 1)  # [D, S, points]
    fraction = positions - np.trunc(positions)  # negative where the position is
    inside = np.broadcast_to(start + duration < temporal_dim, positions.shape)
    d, s, p = np.broadcast_arrays(duration, start, point)
    mask = np.zeros((temporal_dim, num_samples, temporal_dim, temporal_dim))
    for row, weight in ((np.trunc(positions), 1.0 - fraction), (np.ceil(positions), fraction)):
        read = inside & (row >= 0) & (row < temporal_dim)
        cell = (row[read].astype(np.intp), p[read] // num_samples_per_bin, d[read], s[read])
        np.add.at(mask, cell, weight[read] / num_samples_per_bin)
    return torch.from_numpy(mask.astype(np.float32))


class SparseMatrix(nn.Module):
    """A constant sparse matrix [R, C] to multiply dense ones by; see Note [Boundary matching].

    Kept as buffers that `.to()` moves and no state dict holds: compressed rows of the matrix, and of its
    transpose for the gradient.
    """

    offsets: Tensor
    columns: Tensor
    values: Tensor
    transposed_offsets: Tensor
    transposed_columns: Tensor
    transposed_values: Tensor

    def __init__(self, matrix: Tensor) -> None:
        super().__init__()
        for prefix, dense in (("", matrix), ("transposed_", matrix.t())):
            rows, columns = dense.nonzero(as_tuple=True)
            counts = torch.bincount(rows, minlength=len(dense))
            offsets = nn.functional.pad(counts.cumsum(0), (1, 0))
            self.register_buffer(f"{prefix}offsets", offsets.int(), persistent=False)
            self.register_buffer(f"{prefix}columns", columns.int(), persistent=False)
            self.register_buffer(f"{prefix}values", dense[rows, columns], persistent=False)

    def forward(self, dense: Tensor) -> Tensor:
        """[N, C, K] to [N, R, K], in the dtype of `dense`."""
        matrix = (self.offsets, self.columns, self.values)
        transposed = (self.transposed_offsets, self.transposed_columns, self.transposed_values)
        product: Tensor = _SparseProduct.apply(dense, *matrix, *transposed)  # type: ignore[no-untyped-call]
        return product


class _SparseProduct(torch.autograd.Function):
    """Each row is a weighted sum of rows of the dense factor, which is what embedding_bag computes."""

    @staticmethod
    def forward(ctx: Any, dense: Tensor, *matrices: Tensor) -> Tensor:
        ctx.save_for_backward(*matrices)
        offsets, columns, values = matrices[:3]
        values = values.to(dense.dtype)
        product = dense.new_empty(dense.shape[0], len(offsets) - 1, dense.shape[2])
        for i, sample in enumerate(dense.detach().contiguous()):  # one sample's rows fit the cache
            product[i] = nn.functional.embedding_bag(
                columns, sample, offsets, mode="sum", per_sample_weights=values, include_last_offset=True
            )
        return product

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        matrix, transposed = ctx.saved_tensors[:3], ctx.saved_tensors[3:]
        product = _SparseProduct.apply(gradient, *transposed, *matrix)  # type: ignore[no-untyped-call]
        return product, None, None, None, None, None, None


class BoundaryMatchingConv(nn.Conv3d):
    """Boundary matching and the convolution over its samples in one: [N, C, T] to [N, out, D, S].

    Equal to `conv3d((features @ mask).view(N, C, num_samples, D, S)).squeeze(2)`, without ever holding the
    inner tensor: Note [Boundary matching]. The output has channels-last memory. `index_mask` must follow any
    change of the mask.
    """

    def __init__(self, in_channels: int, out_channels: int, num_samples: int, mask: Tensor) -> None:
        super().__init__(in_channels, out_channels, kernel_size=(num_samples, 1, 1))
        self.index_mask(mask)

    def index_mask(self, mask: Tensor) -> None:
        """Takes `mask` [T, num_samples * D * S] (or with these axes apart) into use."""
        num_positions = mask.shape[0]
        num_samples = self.kernel_size[0]
        mask = mask.detach().reshape(num_positions * num_samples, num_positions**2)  # [(t, n), (d, s)]
        self.mask = SparseMatrix(mask.t())

    def forward(self, features: Tensor) -> Tensor:
        batch, channels, num_positions = features.shape
        num_samples = self.kernel_size[0]
        weight = self.weight.view(self.out_channels, channels, num_samples)
        weight = weight.permute(1, 2, 0).reshape(channels, num_samples * self.out_channels)
        mixed = features.transpose(1, 2) @ weight  # [N, t, (n, out)]
        mixed = mixed.view(batch, num_positions * num_samples, self.out_channels)  # [N, (t, n), out]
        cells: Tensor = self.mask(mixed)  # [N, (d, s), out]
        if self.bias is not None:
            cells += self.bias  # in place: this is the largest tensor of the network
        cells = cells.view(batch, num_positions, num_positions, self.out_channels)
        return cells.permute(0, 3, 1, 2)  # [N, out, D, S]


class BMN(nn.Module):
    """Features [N, feat_dim, T] to probabilities (confidence map [N, 2, D, S], start [N, T], end [N, T]).

    D = S = T. Map axes are duration index d, then start index s: a cell is the segment [s/T, (s+d+1)/T], and
    those with s + d >= T mean nothing. T must be `temporal_dim`. `sample_mask` is a constant kept as a
    parameter without gradient, as published checkpoints have it (128 MB at T = 100); the forward pass uses
    its few nonzero entries. 4,978,564 trainable parameters as published.
    """

    recipe = LocalizerRecipe(lr=1e-3, weight_decay=1e-4, milestones=(7,), epochs=9, batch_size=8, num_gpus=2)

    sample_mask: nn.Parameter
    bm_mask: Tensor

    def __init__(
        self,
        temporal_dim: int = 100,
        num_samples: int = 32,
        num_samples_per_bin: int = 3,
        feat_dim: int = 400,
        hidden_1d: int = 256,
        hidden_2d: int = 128,
        hidden_3d: int = 512,
    ) -> None:
        super().__init__()
        self.temporal_dim = temporal_dim
        mask = boundary_matching_mask(temporal_dim, num_samples, num_samples_per_bin).view(temporal_dim, -1)
        self.sample_mask = nn.Parameter(mask, requires_grad=False)
        self.register_buffer("bm_mask", valid_cells(temporal_dim).float())

        def conv1d(in_channels: int, out_channels: int, groups: int = 4) -> nn.Conv1d:
            return nn.Conv1d(in_channels, out_channels, kernel_size=3, padding=1, groups=groups)

        def boundary_branch() -> nn.Sequential:
            last = nn.Conv1d(hidden_1d, 1, kernel_size=1)
            return nn.Sequential(conv1d(hidden_1d, hidden_1d), nn.ReLU(), last, nn.Sigmoid())

        self.x_1d_b = nn.Sequential(conv1d(feat_dim, hidden_1d), nn.ReLU(), conv1d(hidden_1d, hidden_1d), nn.ReLU())
        self.x_1d_s = boundary_branch()
        self.x_1d_e = boundary_branch()
        self.x_1d_p = nn.Sequential(conv1d(hidden_1d, hidden_1d, groups=1), nn.ReLU())
        self.x_3d_p = nn.Sequential(
            BoundaryMatchingConv(hidden_1d, hidden_3d, num_samples, self.sample_mask), nn.ReLU()
        )
        self.x_2d_p = nn.Sequential(
            nn.Conv2d(hidden_3d, hidden_2d, kernel_size=1), nn.ReLU(inplace=True),
            nn.Conv2d(hidden_2d, hidden_2d, kernel_size=3, padding=1), nn.ReLU(inplace=True),
            nn.Conv2d(hidden_2d, hidden_2d, kernel_size=3, padding=1), nn.ReLU(inplace=True),
            nn.Conv2d(hidden_2d, 2, kernel_size=1), nn.Sigmoid(),
        )  # fmt: skip

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        if features.dim() != 3 or features.shape[2] != self.temporal_dim:
            need = f"[N, {self.x_1d_b[0].in_channels}, {self.temporal_dim}]"
            raise ValueError(f"BMN: features have shape {tuple(features.shape)}; need {need}")
        base = self.x_1d_b(features)  # [N, hidden_1d, T]
        start = self.x_1d_s(base).squeeze(1)  # [N, T]
        end = self.x_1d_e(base).squeeze(1)
        cells = self.x_3d_p(self.x_1d_p(base))  # [N, hidden_3d, D, S]
        return self.x_2d_p(cells), start, end

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *args: Any) -> None:
        # A checkpoint's own mask is what its network was trained with.
        mask = state_dict.get(f"{prefix}sample_mask", self.sample_mask)
        same = mask is self.sample_mask or torch.equal(mask.to(self.sample_mask), self.sample_mask)
        super()._load_from_state_dict(state_dict, prefix, *args)
        if not same:
            layer = self.x_3d_p[0]
            assert isinstance(layer, BoundaryMatchingConv)
            layer.index_mask(self.sample_mask)


class BMNLabels(NamedTuple):
    """float32: best IoU [N, D, S] of each cell's segment; shares of start and of end regions [N, T]."""

    iou: Tensor
    start: Tensor
    end: Tensor


class BMNLoss(NamedTuple):
    """0-d tensors; `total` = boundary + 10 * regression + classification."""

    total: Tensor
    boundary: Tensor
    regression: Tensor
    classification: Tensor


def valid_cells(temporal_dim: int, device: torch.device | None = None) -> Tensor:
    """Which cells [D, S] of the map are segments within the video: bool, True where s + d < T."""
    index = torch.arange(temporal_dim, device=device)
    return index[:, None] + index[None, :] < temporal_dim


def bmn_labels(segments: Sequence[ArrayLike], temporal_dim: int = 100) -> BMNLabels:
    """Labels of N videos from their segments [G_i, 2], in units of the video (0..1); zeros without segments.

    `iou` covers cells beyond the end of the video too. A boundary label is the largest share of [(t -
    0.5)/T, (t + 1.5)/T] that lies within 1.5/T of any true start (or end).
    """
    index = np.arange(temporal_dim)
    duration, start = np.meshgrid(index, index, indexing="ij")
    cells = np.stack([start.ravel(), (start + duration + 1).ravel()], axis=1) / temporal_dim  # [(d, s), 2]
    anchors = np.stack([index - 0.5, index + 1.5], axis=1) / temporal_dim  # [T, 2]
    iou = np.zeros((len(segments), temporal_dim, temporal_dim), dtype=np.float32)
    boundaries = np.zeros((2, len(segments), temporal_dim), dtype=np.float32)
    for i, ground_truth in enumerate(segments):
        g = as_segments(ground_truth)
        iou[i] = best_over_segments(segment_iou(cells, g)).reshape(duration.shape)
        for label, boundary in zip(boundaries, g.T, strict=True):
            regions = boundary[:, None] + np.array([-1.5, 1.5]) / temporal_dim
            label[i] = best_over_segments(segment_iop(anchors, regions))
    return BMNLabels(torch.from_numpy(iou), torch.from_numpy(boundaries[0]), torch.from_numpy(boundaries[1]))


def bmn_loss(
    output: tuple[Tensor, Tensor, Tensor],
    labels: BMNLabels,
    *,
    sampling: Literal["reference", "intended"] = "reference",
    draws: tuple[Tensor, Tensor] | None = None,
    generator: torch.Generator | None = None,
) -> BMNLoss:
    """Loss of BMN's output (confidence map [N, 2, D, S], start [N, T], end [N, T]), in float32.

    Boundary: weighted logistic loss of start and end. Classification: the same on cells with IoU > 0.9
    against the others. Regression: squared error over cells with IoU > 0.7 and random draws of about as many
    in (0.3, 0.7] and (0, 0.3]. `draws` are the two uniform tensors [N, D, S] that decide (middle, then low),
    made when not given by `generator`, on the device of `output`. BMN, section 3.4.

    sampling="reference" does what the published code does: its shares are not limited to 1, so if high cells
    outnumber the middle (or low) ones every cell of the map counts once more, and with no high cell in the
    batch the loss is NaN. "intended" limits them, and gives a regression loss of 0 if nothing is high. Raises
    ValueError for any other `sampling`.
    """
    if sampling not in ("reference", "intended"):
        raise ValueError(f"bmn_loss: sampling={sampling!r}; need 'reference' or 'intended'")
    confidence, start, end = (part.float() for part in output)
    device = confidence.device
    start_loss = weighted_logistic_loss(start, labels.start.to(device))
    boundary = start_loss + weighted_logistic_loss(end, labels.end.to(device))

    valid = valid_cells(confidence.shape[-1], device)
    iou = labels.iou.to(device) * valid  # [N, D, S]
    high, low = iou > 0.7, (iou > 0) & (iou <= 0.3)
    middle = (iou > 0.3) & ~high
    if draws is None:
        middle_draw, low_draw = torch.rand(2, *iou.shape, generator=generator, device=device)
        draws = (middle_draw, low_draw)
    num_high = high.sum()
    weights = high.float()
    for group, draw in zip((middle, low), draws, strict=True):
        share = num_high / group.sum()
        if sampling == "reference":
            weights = weights + (group * draw.to(device) > 1.0 - share)
        else:
            weights = weights + (group & (draw.to(device) >= 1.0 - share.clamp(max=1.0)))
    total_weight = weights.sum()
    if sampling == "intended":
        total_weight = total_weight.clamp(min=1.0)
    regression = 0.5 * (weights * (confidence[:, 0] - iou)).square().sum() / total_weight

    positive = (iou > 0.9).float()
    negative = (iou <= 0.9) * valid
    num_positive = positive.sum().clamp(min=1.0)
    num_cells = num_positive + negative.sum()
    ratio = (num_cells / num_positive).clamp(1.05, 21.0)
    positive_weight = 0.5 * ratio
    negative_weight = positive_weight / (ratio - 1.0)
    if_positive = positive_weight * torch.log(confidence[:, 1] + 1e-5)
    if_negative = negative_weight * torch.log(1.0 - confidence[:, 1] + 1e-5)
    classification = -(positive * if_positive + negative * if_negative).sum() / num_cells
    return BMNLoss(boundary + 10.0 * regression + classification, boundary, regression, classification)


def bmn_proposals(confidence_map: ArrayLike, start_scores: ArrayLike, end_scores: ArrayLike) -> Floats:
    """Proposals of one video, float64 [P, 3] (start, end, score), in units of the video, by descending score.

    `confidence_map` [2, D, S], `start_scores` and `end_scores` [T]. Starts are `boundary_candidates` and
    position 0, ends are those and the last position. Every cell that runs from a start to an end s + d + 1 <
    T is a proposal; its score is start * end * classification * regression. Raises ValueError for other
    shapes.
    """
    confidence = np.asarray(confidence_map, dtype=np.float64)
    start_scores, end_scores = np.asarray(start_scores, np.float64), np.asarray(end_scores, np.float64)
    num_positions = len(start_scores)
    if confidence.shape != (2, num_positions, num_positions) or end_scores.shape != start_scores.shape:
        shapes = f"{confidence.shape}, {start_scores.shape}, {end_scores.shape}"
        raise ValueError(f"map, start, end of a video have shapes {shapes}; need [2, T, T], [T], [T]")
    starts, ends = boundary_candidates(start_scores), boundary_candidates(end_scores)
    starts[0] = ends[-1] = True
    s, e = np.nonzero(np.triu(starts[:, None] & ends[None, :], k=1))
    d = e - s - 1
    score = start_scores[s] * end_scores[e] * confidence[1, d, s] * confidence[0, d, s]
    best = np.argsort(-score, kind="stable")
    return np.stack([s[best] / num_positions, e[best] / num_positions, score[best]], axis=1)


# Note [Boundary matching]
# As published, features P [C, T] are multiplied by the sample mask M [T, (n, d, s)], which gives a tensor of
# C * 32 * T * T numbers (327 MB per video at T = 100), on which the convolution W [out, C, n] works. Both steps
# are linear, so their order can change:
#
#     sum_c,n W[o,c,n] sum_t P[c,t] M[t,n,d,s] = sum_t,n (sum_c W[o,c,n] P[c,t]) M[t,n,d,s]
#
# The inner sum has out * 32 * T numbers (6.5 MB) and takes 0.4 G multiply-adds per video instead of
# 8.2 + 41.9 G; the outer one is a product with M seen as a [(d, s), (t, n)] matrix, 1.5 % of which is not zero
# (477 thousand entries): 0.24 G. Forward of one video on two free cores of an AMD EPYC, float32, PyTorch 2.13:
# as published 1520 ms; reordered and dense 375 ms (133 ms duration by duration); with torch.sparse CSR 61 ms;
# with embedding_bag 17 ms. embedding_bag also works in bfloat16 and under torch.compile. Its own
# gradient would scatter, so the gradient is the same product with the transposed matrix.
#
# `python bench/localization_step.py` measures the published form beside this one.
