"""Residual blocks of ResNet, for images [N, C, H, W] and for clips [N, C, T, H, W].

In: a feature map. Out: relu(branch(x) + shortcut(x)). Stacking them is resnet.py's business.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from .conv_unit import ConvUnit, conv_unit


class Bottleneck(nn.Module):
    """1x1 -> 3x3 -> 1x1, four times as wide at the end; the stride is in the 3x3.

    `temporal_kernel` None: images. 1 or 3: clips, and the first convolution is temporal_kernel x 1 x 1.
    """

    expansion = 4

    def __init__(self, in_channels: int, planes: int, stride: int = 1, temporal_kernel: int | None = None) -> None:
        super().__init__()
        out_channels = planes * self.expansion
        flat = None if temporal_kernel is None else 1
        self.conv1 = conv_unit(in_channels, planes, 1, temporal_kernel=temporal_kernel)
        self.conv2 = conv_unit(planes, planes, 3, stride, temporal_kernel=flat)
        self.conv3 = conv_unit(planes, out_channels, 1, temporal_kernel=flat, relu=False)
        self.downsample: ConvUnit | None = None
        if stride != 1 or in_channels != out_channels:
            self.downsample = conv_unit(in_channels, out_channels, 1, stride, temporal_kernel=flat, relu=False)

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        return F.relu(self.conv3(self.conv2(self.conv1(x))).add_(shortcut), inplace=True)


class BasicBlock(nn.Module):
    """Two units of the same width. The units come ready made: R(2+1)D gives factorized ones."""

    def __init__(self, conv1: ConvUnit, conv2: ConvUnit, downsample: ConvUnit | None = None) -> None:
        super().__init__()
        self.conv1 = conv1
        self.conv2 = conv2
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        return F.relu(self.conv2(self.conv1(x)).add_(shortcut), inplace=True)
