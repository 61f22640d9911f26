"""TSM, Temporal Shift Module (Lin, Gan, Han, ICCV 2019, arXiv:1811.08383), on ResNet-50.

In: [N, V, 3, 1, H, W] with V a multiple of 8: one frame from each of 8 equal parts of the video, for each
crop (or [N, 3, T, H, W] with the frames along T). Weights: state-dict keys of MMAction2; trained from
ImageNet weights.

    frames -> ResNet-50 each, but the first convolution of every residual branch sees shifted channels:
                  x ─┬─ shift -> 1x1 -> 3x3 -> 1x1 ─ + -> ReLU
                     └───────── shortcut ────────────┘
           -> global average -> dropout -> linear -> mean over the 8 frames of a view
"""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from .layers.residual import Bottleneck
from .layers.resnet import ResNet
from .layers.temporal_shift import TemporalShift
from .recipe import Training, frame_recipe
from .recognizer import FrameRecognizer
from .variant import Variant


class TSM(FrameRecognizer):
    """`num_segments`: frames of a view, among which channels are shifted."""

    def __init__(
        self,
        num_classes: int = 400,
        *,
        depths: Sequence[int] = (3, 4, 6, 3),
        width: int = 64,
        dropout: float = 0.5,
        num_segments: int = 8,
    ) -> None:
        backbone = ResNet(depths, width)
        for block in backbone.modules():
            if isinstance(block, Bottleneck):
                block.conv1.conv = TemporalShift(block.conv1.conv, num_segments)
        super().__init__(backbone, backbone.out_channels, num_classes, dropout=dropout, head_std=0.001)
        self.num_segments = num_segments

    def merge_views(self, clips: Tensor) -> Tensor:
        num_frames = clips.shape[1] * clips.shape[3]
        if num_frames % self.num_segments:
            raise ValueError(
                f"TSM got {num_frames} frames per video (clips of shape {list(clips.shape)}); it takes "
                f'multiples of {self.num_segments}, as clip="1x1x{self.num_segments}" gives'
            )
        return super().merge_views(clips)

    def view_logits(self, features: Tensor) -> Tensor:
        """[N, frames, num_features] -> [N, frames / 8, num_classes]."""
        scores: Tensor = self.cls_head(features)
        return scores.view(scores.shape[0], -1, self.num_segments, scores.shape[2]).mean(dim=2)

    def param_groups(self, lr: float, weight_decay: float) -> list[dict[str, Any]]:
        """Weights of convolutions: lr. Batch norm: lr, no decay. Classifier: weight 5 lr, bias 10 lr and
        no decay.
        """
        norms = {id(p) for m in self.modules() if isinstance(m, _BatchNorm) for p in m.parameters()}
        head = {id(p) for p in self.cls_head.parameters()}
        groups: dict[tuple[float, float], list[nn.Parameter]] = {}
        for p in self._trained():
            is_weight = p.ndim > 1
            if id(p) in norms:
                scales = (1.0, 0.0)
            elif id(p) in head:
                scales = (5.0, 1.0) if is_weight else (10.0, 0.0)
            else:
                scales = (1.0, 1.0) if is_weight else (2.0, 0.0)
            groups.setdefault(scales, []).append(p)
        return [
            {"params": params, "lr": lr * lr_scale, "weight_decay": weight_decay * decay_scale}
            for (lr_scale, decay_scale), params in groups.items()
        ]


VARIANTS = {
    "tsm_r50_1x1x8": Variant(
        TSM,
        frame_recipe(
            "1x1x8",
            Training(
                lr=0.02,
                batch_size=16,
                epochs=50,
                milestones=(25, 45),
                warmup_epochs=5,
                max_grad_norm=20.0,
                pretrained="imagenet",
            ),
            positions=13,
            test_clip="1x1x8",
            batch_size=8,
            channels_last_on=("cpu",),
        ),
    )
}
