"""SlowOnly: the slow pathway of SlowFast by itself (Feichtenhofer et al., ICCV 2019, arXiv:1812.03982),
on ResNet-50.

In: [N, 3, 4, H, W] (4x16x1) or [N, 3, 8, H, W] (8x8x1). Weights: state-dict keys of MMAction2; trained
from scratch.

    conv1 1x7x7 -> maxpool -> layer1 -> layer2 -> layer3 -> layer4 -> global average -> dropout -> linear
    block: 1x1x1 (layers 1, 2) or 3x1x1 (layers 3, 4) -> 1x3x3 -> 1x1x1; T stays the same throughout
"""

from collections.abc import Sequence

from .layers.resnet import ResNet
from .recipe import Training, clip_recipe
from .recognizer import Recognizer
from .variant import Variant


class SlowOnly(Recognizer):
    """`depths`: blocks per stage; `width`: channels of the first."""

    def __init__(
        self,
        num_classes: int = 400,
        *,
        depths: Sequence[int] = (3, 4, 6, 3),
        width: int = 64,
        dropout: float = 0.5,
    ) -> None:
        backbone = ResNet(depths, width, inflate=((0,), (0,), (1,), (1,)))
        super().__init__(backbone, backbone.out_channels, num_classes, dropout=dropout, zero_init=True)


_TRAINING = Training(lr=0.2, batch_size=16, epochs=256, warmup_epochs=34, cosine_start=34)

VARIANTS = {
    "slowonly_r50_4x16x1": Variant(SlowOnly, clip_recipe("4x16x1", _TRAINING)),
    "slowonly_r50_8x8x1": Variant(SlowOnly, clip_recipe("8x8x1", _TRAINING)),
}
