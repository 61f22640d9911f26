"""ResNet trunk out of bottlenecks, in 2D and 3D: what TSN, TSM, I3D, SlowOnly and both pathways of
SlowFast share.

In: [N, 3, H, W] (2D) or [N, 3, T, H, W] (3D). Out: the map after the last stage, `out_channels` wide, 32
times smaller in space.
"""

from collections.abc import Sequence

from torch import Tensor, nn

from .checkpointing import checkpointed
from .conv_unit import conv_unit
from .residual import Bottleneck


class Trunk(nn.Module):
    """conv1 -> maxpool -> layer1 -> (pool2) -> layer2 -> layer3 -> layer4, blocks checkpointed on demand."""

    conv1: nn.Module
    maxpool: nn.Module
    pool2: nn.Module | None
    out_channels: int
    grad_checkpointing = False

    @property
    def stages(self) -> list[nn.Module]:
        return [self.layer1, self.layer2, self.layer3, self.layer4]  # type: ignore[list-item]

    def run_stem(self, x: Tensor) -> Tensor:
        return self.maxpool(self.conv1(x))  # type: ignore[no-any-return]

    def run_stage(self, index: int, x: Tensor) -> Tensor:
        stage = self.stages[index]
        if self.grad_checkpointing and self.training:
            for block in stage.children():
                x = checkpointed(block, x)
        else:
            x = stage(x)
        return x if index or self.pool2 is None else self.pool2(x)

    def forward(self, x: Tensor) -> Tensor:
        x = self.run_stem(x)
        for index in range(4):
            x = self.run_stage(index, x)
        return x


class ResNet(Trunk):
    """ResNet of bottlenecks; the defaults are ResNet-50 for images.

    Args:
        depths: blocks in each of the four stages.
        width: channels after the stem.
        inflate: None for a 2D net. Else, for each stage, whether the first convolution of a block is
            3x1x1 (1) or 1x1x1 (0), repeated over the blocks as needed.
        stem_kernel, stem_stride, pool_stride: the temporal part of the stem's convolution and max-pool.
        pool2: halve T by max-pooling after the first stage.
        lateral_channels: what another pathway adds to the input of each stage.
    """

    def __init__(
        self,
        depths: Sequence[int] = (3, 4, 6, 3),
        width: int = 64,
        *,
        inflate: Sequence[Sequence[int]] | None = None,
        stem_kernel: int = 1,
        stem_stride: int = 1,
        pool_stride: int = 1,
        pool2: bool = False,
        lateral_channels: Sequence[int] = (0, 0, 0, 0),
    ) -> None:
        super().__init__()
        if inflate is None:
            self.conv1 = conv_unit(3, width, 7, 2)
            self.maxpool = nn.MaxPool2d(3, 2, 1)
        else:
            self.conv1 = conv_unit(3, width, 7, 2, temporal_kernel=stem_kernel, temporal_stride=stem_stride)
            self.maxpool = nn.MaxPool3d((1, 3, 3), (pool_stride, 2, 2), (0, 1, 1))
        channels = width
        for stage in range(4):
            planes = width * 2**stage
            channels += lateral_channels[stage]
            blocks = []
            for block in range(depths[stage]):
                temporal_kernel = None
                if inflate is not None:
                    temporal_kernel = 3 if inflate[stage][block % len(inflate[stage])] else 1
                stride = 2 if stage > 0 and block == 0 else 1
                blocks.append(Bottleneck(channels, planes, stride, temporal_kernel))
                channels = planes * Bottleneck.expansion
            self.add_module(f"layer{stage + 1}", nn.Sequential(*blocks))
        self.pool2 = nn.MaxPool3d((2, 1, 1)) if pool2 else None
        self.out_channels = channels
