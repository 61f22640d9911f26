"""What the core needs to draw samples itself, a whole batch at once.

In: a sampling, a clip spec, a policy of vidload.transforms. Out: the core's DrawRules, by which it draws the very frames and boxes that
vidload.sampling, vidload.crops and ClipDataset.request define (csrc/plan/sample_draw.h), or None where only Python can.
"""

from __future__ import annotations

import math

from vidload import _core, crops
from vidload.crops import SpatialTransform
from vidload.sampling import ClipSpec, Sampler

_ONE_SHORT_SIDE = (crops.MultiScaleCrop, crops.CenterCrop, crops.ThreeCrop, crops.TenCrop)
_KNOWN_TRANSFORMS = (crops.RandomResizedCrop, crops.RandomCrop, *_ONE_SHORT_SIDE)


def draw_rules(
    sampling: str | Sampler,
    clip: ClipSpec,
    transform: SpatialTransform,
    *,
    num_repeats: int,
    is_training: bool,
    out_of_bound: str,
) -> _core.DrawRules | None:
    """The rules; None for a user's own function or policy."""
    if not isinstance(sampling, str) or type(transform) not in _KNOWN_TRANSFORMS:
        return None
    if isinstance(transform, crops.ThreeCrop) and transform.order != "mmaction2":
        return None  # the core knows that one alone
    rules = _core.DrawRules(
        sampling=sampling,
        clip=(clip.clip_len, clip.frame_interval, clip.num_clips),
        num_repeats=num_repeats,
        is_training=is_training,
        repeats_last=out_of_bound == "repeat_last",
        crop=transform._name,
        size=transform.size,
        flip=transform.flip,
        square_pixels=transform.square_pixels,
    )
    if isinstance(transform, crops.RandomResizedCrop):
        rules.area_and_log_ratio = (*transform.area, math.log(transform.ratio[0]), math.log(transform.ratio[1]))
    elif isinstance(transform, crops.RandomCrop):
        rules.short_side = transform.short_side
    elif isinstance(transform, _ONE_SHORT_SIDE):
        rules.short_side = (transform.short_side, transform.short_side)
    if isinstance(transform, crops.MultiScaleCrop):
        rules.num_positions = transform.positions
        rules.crop_sizes = transform.crop_sizes
    return rules
