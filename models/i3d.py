"""I3D, Inflated 3D ConvNet (Carreira and Zisserman, CVPR 2017, arXiv:1705.07750), on ResNet-50.

In: [N, 3, 32, H, W] (32x2x1), or [N, 3, 8, H, W] (heavy, 8x8x1). Weights: state-dict keys of MMAction2;
trained from ImageNet weights with every 2D kernel repeated over time and divided by its temporal size.

    conv1 5x7x7 -> maxpool -> layer1 -> pool2 (T / 2) -> layer2 -> layer3 -> layer4
          -> global average -> dropout -> linear
    block: (3 or 1)x1x1 -> 1x3x3 -> 1x1x1
"""

from collections.abc import Sequence

from vidload.transforms import multi_scale_crop

from .layers.resnet import ResNet
from .recipe import Training, clip_recipe
from .recognizer import Recognizer
from .variant import Variant


class I3D(Recognizer):
    """`inflate`: which blocks of a stage begin with a 3x1x1 convolution (see ResNet). `stem_stride`: the
    temporal stride of conv1 and again of maxpool; maxpool's is by a kernel of 1, so that it keeps every
    other frame.
    """

    def __init__(
        self,
        num_classes: int = 400,
        *,
        inflate: Sequence[Sequence[int]] = ((1,), (1, 0), (1, 0), (0, 1)),
        stem_stride: int = 2,
        depths: Sequence[int] = (3, 4, 6, 3),
        width: int = 64,
        dropout: float = 0.5,
    ) -> None:
        backbone = ResNet(
            depths,
            width,
            inflate=inflate,
            stem_kernel=5,
            stem_stride=stem_stride,
            pool_stride=stem_stride,
            pool2=True,
        )
        super().__init__(backbone, backbone.out_channels, num_classes, dropout=dropout)


_TRAINING = Training(lr=0.01, batch_size=8, epochs=100, milestones=(40, 80), pretrained="imagenet")
_CROP = multi_scale_crop(224, (1, 0.8), max_wh_scale_gap=0)

VARIANTS = {
    "i3d_r50_32x2x1": Variant(I3D, clip_recipe("32x2x1", _TRAINING, _CROP)),
    "i3d_r50_heavy_8x8x1": Variant(
        I3D,
        clip_recipe("8x8x1", _TRAINING, _CROP),
        {"inflate": ((1,), (1,), (1,), (1,)), "stem_stride": 1},
    ),
}
