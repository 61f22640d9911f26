"""R(2+1)D (Tran et al., CVPR 2018, arXiv:1711.11248), on ResNet-34.

In: [N, 3, 8, H, W] (8x8x1). Weights: state-dict keys of MMAction2; trained from scratch.

    conv1 3x7x7 -> maxpool -> layer1 -> layer2 -> layer3 -> layer4 -> average -> dropout -> linear
    block: 3x3x3 -> 3x3x3; T, H and W are halved at layers 2, 3 and 4
    every t x d x d convolution is factorized: 1 x d x d -> batch norm -> ReLU -> t x 1 x 1, with as many
    channels in between as give it about the parameters of the whole one
"""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from .layers.conv_unit import Conv3d, ConvUnit
from .layers.residual import BasicBlock
from .layers.resnet import Trunk
from .recipe import Training, clip_recipe
from .recognizer import Recognizer
from .variant import Variant


class FactorizedConv(nn.Module):
    """`kernel` and `stride` are (temporal, spatial)."""

    def __init__(self, in_channels: int, out_channels: int, kernel: tuple[int, int], stride: tuple[int, int]) -> None:
        super().__init__()
        area = kernel[1] ** 2
        # of a whole convolution with 3 frames; the reference keeps the 3 in the 1x1x1 shortcuts too
        middle = 3 * in_channels * out_channels * area // (in_channels * area + 3 * out_channels)
        self.conv_s = Conv3d(in_channels, middle, (1, kernel[1]), (1, stride[1]))
        self.bn_s = nn.BatchNorm3d(middle)
        self.conv_t = Conv3d(middle, out_channels, (kernel[0], 1), (stride[0], 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.conv_t(F.relu(self.bn_s(self.conv_s(x)), inplace=True))  # type: ignore[no-any-return]


def factorized_unit(
    in_channels: int,
    out_channels: int,
    kernel: tuple[int, int],
    stride: tuple[int, int] = (1, 1),
    relu: bool = True,
) -> ConvUnit:
    """A ConvUnit around a FactorizedConv; `kernel` and `stride` are (temporal, spatial)."""
    conv = FactorizedConv(in_channels, out_channels, kernel, stride)
    return ConvUnit(conv, nn.BatchNorm3d(out_channels, eps=1e-3), relu)


class R2Plus1DBackbone(Trunk):
    """[N, 3, T, H, W] -> [N, 8 * width, T / 8, H / 32, W / 32]."""

    def __init__(self, depths: Sequence[int], width: int) -> None:
        super().__init__()
        self.conv1 = factorized_unit(3, width, (3, 7), (1, 2))
        self.maxpool = nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1))
        channels = width
        for stage in range(4):
            planes = width * 2**stage
            blocks = []
            for block in range(depths[stage]):
                stride = (2, 2) if stage > 0 and block == 0 else (1, 1)
                downsample = None
                if stride != (1, 1):
                    downsample = factorized_unit(channels, planes, (1, 1), stride, relu=False)
                conv1 = factorized_unit(channels, planes, (3, 3), stride)
                conv2 = factorized_unit(planes, planes, (3, 3), relu=False)
                blocks.append(BasicBlock(conv1, conv2, downsample))
                channels = planes
            self.add_module(f"layer{stage + 1}", nn.Sequential(*blocks))
        self.pool2 = None
        self.out_channels = channels


class R2Plus1D(Recognizer):
    """`depths`: blocks per stage; `width`: channels of the first."""

    def __init__(
        self,
        num_classes: int = 400,
        *,
        depths: Sequence[int] = (3, 4, 6, 3),
        width: int = 64,
        dropout: float = 0.5,
    ) -> None:
        backbone = R2Plus1DBackbone(depths, width)
        super().__init__(backbone, backbone.out_channels, num_classes, dropout=dropout)


VARIANTS = {
    "r2plus1d_r34_8x8x1": Variant(R2Plus1D, clip_recipe("8x8x1", Training(lr=0.01, batch_size=8, epochs=180))),
}
