"""TemporalShift: lets a 2D convolution see the neighbouring frames by moving channels along time.

In: [N * num_segments, C, H, W], the frames of a video side by side. Out: what the wrapped convolution
makes of the shifted map. From "TSM: Temporal Shift Module for Efficient Video Understanding" (Lin, Gan,
Han; ICCV 2019), the bidirectional, residual form.
"""

from typing import Any

import torch
from torch import Tensor, nn


class TemporalShift(nn.Module):
    """Shifts 1/8 of the channels back and 1/8 forth in time, then applies `net`. State-dict keys: `net.*`."""

    def __init__(self, net: nn.Module, num_segments: int) -> None:
        super().__init__()
        self.net = net
        self.num_segments = num_segments

    def forward(self, x: Tensor) -> Tensor:
        return self.net(temporal_shift(x, self.num_segments))  # type: ignore[no-any-return]


def temporal_shift(x: Tensor, num_segments: int) -> Tensor:
    """[N * T, C, H, W] -> the same shape, T = num_segments, fold = C // 8: out[t, :fold] = x[t + 1,
    :fold], out[t, fold:2 * fold] = x[t - 1, fold:2 * fold], zero beyond either end; the rest as it is.
    """
    fold = x.shape[1] // 8
    return _Shift.apply(x, num_segments, fold)  # type: ignore[no-any-return,no-untyped-call]


class _Shift(torch.autograd.Function):
    """One pass over the map forward and one backward. Slicing and concatenating, as it is usually
    written, costs a full-size gradient for every slice. The gradient of a shift is the shift the other
    way.
    """

    @staticmethod
    def forward(x: Tensor, num_segments: int, fold: int) -> Tensor:
        return _shifted(x, num_segments, fold, first_fold_from_next=True)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, int, int], output: Tensor) -> None:
        _, ctx.num_segments, ctx.fold = inputs

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        return _shifted(grad, ctx.num_segments, ctx.fold, first_fold_from_next=False), None, None


def _shifted(x: Tensor, num_segments: int, fold: int, first_fold_from_next: bool) -> Tensor:
    out = torch.empty_like(x)  # keeps channels_last
    source = x.view(-1, num_segments, *x.shape[1:])  # [N, T, C, H, W]
    target = out.view(source.shape)
    first, second = slice(0, fold), slice(fold, 2 * fold)
    from_next, from_previous = (first, second) if first_fold_from_next else (second, first)
    target[:, :-1, from_next] = source[:, 1:, from_next]
    target[:, -1:, from_next] = 0
    target[:, 1:, from_previous] = source[:, :-1, from_previous]
    target[:, :1, from_previous] = 0
    target[:, :, 2 * fold :] = source[:, :, 2 * fold :]
    return out
