"""SlowFast (Feichtenhofer, Fan, Malik, He, ICCV 2019, arXiv:1812.03982), on ResNet-50.

In: [N, 3, 32, H, W], clips of 32x2: the fast pathway sees every frame, the slow one frames 0, alpha, 2 *
alpha, ...; "4x16" and "8x8" in the names are what that leaves to the slow pathway. Weights: state-dict
keys of MMAction2; trained from scratch.

    slow: conv1 -> maxpool ─ + -> layer1 ─ + -> layer2 ─ + -> layer3 ─ + -> layer4 ─> average ─┐
                             ↑             ↑             ↑             ↑              dropout -> linear
    fast: conv1 -> maxpool ──┴──> layer1 ──┴──> layer2 ──┴──> layer3 ──┴──> layer4 ─> average ─┘

    "↑" is a lateral, a k x 1 x 1 convolution with temporal stride alpha that doubles the channels; "+"
    concatenates. The fast pathway has 1/8 of the slow one's channels.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .layers.conv_unit import conv_unit
from .layers.resnet import ResNet
from .recipe import Training, clip_recipe
from .recognizer import Recognizer
from .variant import Variant


class SlowPath(ResNet):
    """The slow pathway together with the laterals that feed it. Keys: a ResNet's, then `conv1_lateral.*`,
    `layer1_lateral.*`, ...
    """

    def __init__(self, depths: Sequence[int], width: int, fast_width: int, alpha: int, kernel: int, norm: bool) -> None:
        fast_channels = [fast_width] + [fast_width * 4 * 2**stage for stage in range(3)]
        super().__init__(
            depths,
            width,
            inflate=((0,), (0,), (1,), (1,)),
            lateral_channels=[2 * channels for channels in fast_channels],
        )
        for name, channels in zip(("conv1", "layer1", "layer2", "layer3"), fast_channels, strict=True):
            lateral = conv_unit(
                channels, 2 * channels, 1, temporal_kernel=kernel, temporal_stride=alpha, norm=norm, relu=norm
            )
            self.add_module(f"{name}_lateral", lateral)

    @property
    def laterals(self) -> list[nn.Module]:
        return [self.conv1_lateral, self.layer1_lateral, self.layer2_lateral, self.layer3_lateral]  # type: ignore[list-item]


class SlowFastBackbone(nn.Module):
    def __init__(self, depths: Sequence[int], width: int, alpha: int, lateral_kernel: int, lateral_norm: bool) -> None:
        super().__init__()
        self.alpha = alpha
        fast_width = width // 8
        self.slow_path = SlowPath(depths, width, fast_width, alpha, lateral_kernel, lateral_norm)
        self.fast_path = ResNet(depths, fast_width, inflate=((1,), (1,), (1,), (1,)), stem_kernel=5)
        self.out_channels = self.fast_path.out_channels + self.slow_path.out_channels

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """[N, 3, T, H, W] -> fast [N, 4 * width, T, h, w] and slow [N, 32 * width, T / alpha, h, w]."""
        slow = self.slow_path.run_stem(x[:, :, :: self.alpha])
        fast = self.fast_path.run_stem(x)
        for stage, lateral in enumerate(self.slow_path.laterals):
            # a copy, but all four together are 0.1 % of a training step on a CPU (bench/stage_models.py)
            slow = self.slow_path.run_stage(stage, torch.cat([slow, lateral(fast)], dim=1))
            fast = self.fast_path.run_stage(stage, fast)
        return fast, slow


class SlowFast(Recognizer):
    """`lateral_norm`: batch norm and ReLU after the laterals, which PySlowFast's checkpoints have and
    MMAction2's do not.
    """

    def __init__(
        self,
        num_classes: int = 400,
        *,
        alpha: int = 8,
        lateral_kernel: int = 5,
        lateral_norm: bool = False,
        depths: Sequence[int] = (3, 4, 6, 3),
        width: int = 64,
        dropout: float = 0.5,
    ) -> None:
        backbone = SlowFastBackbone(depths, width, alpha, lateral_kernel, lateral_norm)
        super().__init__(backbone, backbone.out_channels, num_classes, dropout=dropout, zero_init=True)
        self.alpha = alpha
        self.fast_channels = backbone.fast_path.out_channels

    def merge_views(self, clips: Tensor) -> Tensor:
        if clips.shape[3] % self.alpha:
            raise ValueError(
                f"SlowFast got clips of {clips.shape[3]} frames; it takes multiples of alpha = {self.alpha}"
            )
        return super().merge_views(clips)

    def pool(self, features: tuple[Tensor, Tensor]) -> Tensor:
        return torch.cat([path.flatten(2).mean(dim=2) for path in features], dim=1)


_RECIPE = clip_recipe("32x2x1", Training(lr=0.1, batch_size=8, epochs=256, warmup_epochs=34))

VARIANTS = {
    "slowfast_r50_4x16x1": Variant(SlowFast, _RECIPE, {"alpha": 8, "lateral_kernel": 5}),
    "slowfast_r50_8x8x1": Variant(SlowFast, _RECIPE, {"alpha": 4, "lateral_kernel": 7}),
}
