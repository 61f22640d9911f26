"""ConvUnit: convolution, batch norm, ReLU; the brick of every network here, in 2D and in 3D.

In: feature maps [N, C, H, W] or [N, C, T, H, W]. Out: the same with new channels and strides applied.
Kernels are odd and padded to keep the size. What a block does with its units is residual.py's business.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Conv3d(nn.Conv3d):
    """`nn.Conv3d` without bias, with odd kernels and padding to keep the size, which runs as a 2D convolution
    where that is a matter of strides: see Note [3D convolutions as 2D].
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel: tuple[int, int], stride: tuple[int, int] = (1, 1)
    ) -> None:
        """`kernel` and `stride` are (temporal, spatial)."""
        (kt, ks), (st, ss) = kernel, stride
        padding = (kt // 2, ks // 2, ks // 2)
        super().__init__(in_channels, out_channels, (kt, ks, ks), (st, ss, ss), padding, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        (kt, kh, kw), (st, sh, sw) = self.kernel_size, self.stride
        if kh == kw == sh == sw == 1:
            y = F.conv2d(x.flatten(3), self.weight.squeeze(4), None, (st, 1), (kt // 2, 0))
            return y.view(*y.shape[:3], *x.shape[3:])  # [N, C, T, H * W] -> [N, C, T, H, W]
        if kt == st == 1 and x.is_contiguous(memory_format=torch.channels_last_3d):
            n, _, t, _, _ = x.shape
            frames = x.transpose(1, 2).flatten(0, 1)  # [N * T, C, H, W]
            y = F.conv2d(frames, self.weight.squeeze(2), None, (sh, sw), (kh // 2, kw // 2))
            return y.view(n, t, *y.shape[1:]).transpose(1, 2)
        return super().forward(x)


class ConvUnit(nn.Module):
    """conv -> batch norm -> ReLU; the last two may be absent. State-dict keys: `conv.*`, `bn.*`."""

    def __init__(self, conv: nn.Module, bn: nn.Module | None, relu: bool = True) -> None:
        super().__init__()
        self.conv = conv
        self.bn = bn
        self.relu = relu

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        if self.bn is not None:
            x = self.bn(x)
        return F.relu(x, inplace=True) if self.relu else x  # in place: batch norm's backward reads its input only


def conv_unit(
    in_channels: int,
    out_channels: int,
    kernel: int,
    stride: int = 1,
    *,
    temporal_kernel: int | None = None,
    temporal_stride: int = 1,
    norm: bool = True,
    relu: bool = True,
) -> ConvUnit:
    """A unit with a `kernel` x `kernel` convolution, or `temporal_kernel` x `kernel` x `kernel` where
    that is given.
    """
    if temporal_kernel is None:
        conv: nn.Module = nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, bias=False)
        return ConvUnit(conv, nn.BatchNorm2d(out_channels) if norm else None, relu)
    conv = Conv3d(in_channels, out_channels, (temporal_kernel, kernel), (temporal_stride, stride))
    return ConvUnit(conv, nn.BatchNorm3d(out_channels) if norm else None, relu)


# Note [3D convolutions as 2D]
# All but the stems of these networks are t x 1 x 1 or 1 x k x k convolutions, and libraries run 2D kernels
# better than 3D ones. A t x 1 x 1 convolution never mixes positions of a frame, so H and W can be one axis:
# [N, C, T, H * W], a view in both memory formats. A 1 x k x k convolution never mixes frames, so N and T can be
# one axis; that is a view only when C is the fastest axis (channels_last_3d), which the 3D kernels of PyTorch's
# CPU backend moreover lose on the way. The parameter keeps its five axes, so checkpoints do not notice.
# On one core of an AMD EPYC, float32, a training step takes 0.88 (I3D), 0.87 (SlowFast) and 0.83 (R(2+1)D) of
# the time with nn.Conv3d (bench/stage_models.py).
