"""Recognizer: what all action-recognition models share. Clips in, one row of logits per video out.

In: clips as VideoLoader yields them, float, normalized: [N, C, T, H, W], or [N, V, C, T, H, W] with V
views per video (segments, clips and crops alike; crops are the outer axis, clips the inner one). Out:
logits [N, num_classes]. The model files have the trunks; each model's `view_logits` makes one answer of
the views of a video.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from .layers.residual import Bottleneck
from .layers.resnet import Trunk
from .recipe import Recipe


class Head(nn.Module):
    """dropout -> linear on the last axis. With `num_classes` 0, returns the features."""

    def __init__(self, num_features: int, num_classes: int, dropout: float, init_std: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.fc_cls: nn.Module = nn.Identity()
        if num_classes > 0:
            self.fc_cls = nn.Linear(num_features, num_classes)
            nn.init.normal_(self.fc_cls.weight, std=init_std)
            nn.init.zeros_(self.fc_cls.bias)

    def forward(self, features: Tensor) -> Tensor:
        return self.fc_cls(self.dropout(features))  # type: ignore[no-any-return]


class Recognizer(nn.Module):
    """State-dict keys: `backbone.*` and `cls_head.fc_cls.*`. `recipe` says which clips the model expects
    and how it is trained; it is None for a model that was not made by `vidload.models.create`. Clips of any
    other shape raise ValueError.
    """

    recipe: Recipe | None = None

    def __init__(
        self,
        backbone: nn.Module,
        num_features: int,
        num_classes: int,
        *,
        dropout: float = 0.5,
        head_std: float = 0.01,
        zero_init: bool = False,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.cls_head = Head(num_features, num_classes, dropout, head_std)
        self.num_features = num_features
        self.num_classes = num_classes
        self._head_std = head_std
        self._frozen_norms: list[_BatchNorm] = []
        _init_backbone(backbone, zero_init)

    def forward(self, clips: Tensor) -> Tensor:
        """Logits [N, num_classes], averaged over the views of a video."""
        return self.forward_head(self.forward_features(clips))

    @torch.no_grad()
    def predict(self, clips: Tensor, max_views: int | None = None) -> Tensor:
        """Class probabilities [N, num_classes], float32, as the papers test: the mean over views of each
        view's softmax (TSN: the softmax of the mean over views). Call `eval()` first. `max_views` bounds
        how many views go through the trunk at once.
        """
        clips = _with_views(clips)
        parts = torch.split(clips, max_views or clips.shape[1], dim=1)
        features = torch.cat([self.forward_features(part) for part in parts], dim=1)
        return self.view_logits(features).float().softmax(dim=2).mean(dim=1)

    def forward_features(self, clips: Tensor) -> Tensor:
        """Globally pooled features [N, views, num_features]; a view is a clip for 3D models, a frame for
        2D ones.
        """
        clips = _with_views(clips)
        features = self.pool(self.backbone(self.merge_views(clips)))
        return features.view(clips.shape[0], -1, self.num_features)

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        """Features of `forward_features` -> logits [N, num_classes], or [N, num_features] with
        `pre_logits`.
        """
        return features.mean(dim=1) if pre_logits else self.view_logits(features).mean(dim=1)

    def view_logits(self, features: Tensor) -> Tensor:
        """[N, views, num_features] -> [N, views, num_classes]: here every view is classified by itself."""
        return self.cls_head(features)  # type: ignore[no-any-return]

    def merge_views(self, clips: Tensor) -> Tensor:
        """[N, V, C, T, H, W] -> [N * V, C, T, H, W]."""
        return clips.flatten(0, 1)

    def pool(self, features: Any) -> Tensor:
        """The trunk's output -> [N * views, num_features]."""
        return features.flatten(2).mean(dim=2)  # type: ignore[no-any-return]

    def reset_classifier(self, num_classes: int) -> None:
        """A fresh classifier for `num_classes` classes; 0 removes it, so that the model yields features."""
        old = next(self.backbone.parameters())
        head = Head(self.num_features, num_classes, self.cls_head.dropout.p, self._head_std)
        self.cls_head = head.to(old.device, old.dtype).train(self.training)
        self.num_classes = num_classes

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Keeps only what goes into each residual block, and computes the rest again in the backward pass:
        same values, less memory.
        """
        for trunk in self.modules():
            if isinstance(trunk, Trunk):
                trunk.grad_checkpointing = enable

    def freeze_bn(self, partial: bool = True) -> None:
        """Fixes statistics, weights and biases of the batch norms, through later `train()` calls too: of
        all of them, or with `partial` of all but the first, as the TSN paper trains from ImageNet
        weights.
        """
        norms = [m for m in self.modules() if isinstance(m, _BatchNorm)]
        self._frozen_norms = norms[1:] if partial else norms
        for norm in self._frozen_norms:
            norm.requires_grad_(False)
        self.train(self.training)

    def train(self, mode: bool = True) -> "Recognizer":
        """As nn.Module.train; frozen batch norms stay in evaluation mode."""
        super().train(mode)
        for norm in self._frozen_norms:
            norm.eval()
        return self

    def param_groups(self, lr: float, weight_decay: float) -> list[dict[str, Any]]:
        """Parameter groups for `torch.optim.SGD`; one, unless the paper has more (TSM)."""
        return [{"params": list(self._trained()), "lr": lr, "weight_decay": weight_decay}]

    def _trained(self) -> Iterator[nn.Parameter]:
        return (p for p in self.parameters() if p.requires_grad)


class FrameRecognizer(Recognizer):
    """A recognizer with a 2D trunk: every frame of every view is an image. State-dict keys as for
    Recognizer.
    """

    def merge_views(self, clips: Tensor) -> Tensor:
        """[N, V, C, T, H, W] -> [N * V * T, C, H, W]; no copy when T = 1."""
        return clips.transpose(2, 3).flatten(0, 2)


def _with_views(clips: Tensor) -> Tensor:
    views = clips.unsqueeze(1) if clips.ndim == 5 else clips
    if views.ndim != 6 or views.shape[2] != 3:
        raise ValueError(
            f"the model got clips of shape {list(clips.shape)}; it takes [N, 3, T, H, W] (layout NCTHW) or "
            "[N, V, 3, T, H, W] (layout NVCTHW)"
        )
    return views


def _init_backbone(backbone: nn.Module, zero_init: bool) -> None:
    for module in backbone.modules():
        if isinstance(module, nn.Conv2d | nn.Conv3d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    if zero_init:  # every residual block starts as the identity
        for module in backbone.modules():
            if isinstance(module, Bottleneck) and isinstance(module.conv3.bn, _BatchNorm):
                nn.init.zeros_(module.conv3.bn.weight)
