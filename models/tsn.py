"""TSN, Temporal Segment Networks (Wang et al., ECCV 2016, arXiv:1608.00859), on ResNet-50.

In: [N, V, 3, 1, H, W], one frame from each of V equal parts of the video (or [N, 3, T, H, W] with the
frames along T). Weights: state-dict keys of MMAction2; trained from ImageNet weights.

    frames -> ResNet-50 each -> global average -> mean over all frames -> dropout -> linear
"""

from collections.abc import Sequence

from torch import Tensor

from .layers.resnet import ResNet
from .recipe import Training, frame_recipe
from .recognizer import FrameRecognizer
from .variant import Variant


class TSN(FrameRecognizer):
    """`depths`: blocks per stage; `width`: channels of the first."""

    def __init__(
        self,
        num_classes: int = 400,
        *,
        depths: Sequence[int] = (3, 4, 6, 3),
        width: int = 64,
        dropout: float = 0.4,
    ) -> None:
        backbone = ResNet(depths, width)
        super().__init__(backbone, backbone.out_channels, num_classes, dropout=dropout)

    def view_logits(self, features: Tensor) -> Tensor:
        """[N, frames, num_features] -> [N, 1, num_classes]: the features are averaged, in training and at
        test time.
        """
        return self.cls_head(features.mean(dim=1, keepdim=True))  # type: ignore[no-any-return]


VARIANTS = {
    "tsn_r50_1x1x3": Variant(
        TSN,
        frame_recipe(
            "1x1x3",
            Training(lr=0.01, batch_size=32, epochs=100, milestones=(40, 80), pretrained="imagenet"),
            positions=5,
            test_clip="1x1x25",
            batch_size=32,
        ),
    )
}
