"""The models by name.

In: a name such as "i3d_r50_32x2x1". Out: the model with its recipe. The entries are in the model files;
load_checkpoint loads published weights.
"""

import difflib
from collections.abc import Callable
from typing import Any

from torch import nn

from . import bmn, bsn, i3d, r2plus1d, slowfast, slowonly, tsm, tsn
from .recipe import Recipe
from .variant import Variant

RECOGNIZERS: dict[str, Variant] = {
    name: variant
    for module in (tsn, tsm, i3d, slowonly, slowfast, r2plus1d)
    for name, variant in module.VARIANTS.items()
}

LOCALIZERS: dict[str, Callable[..., nn.Module]] = {
    "bsn_tem_400x100": bsn.TEM,
    "bsn_pem_400x100": bsn.PEM,
    "bmn_400x100": bmn.BMN,
}


def list_models(task: str = "recognition") -> list[str]:
    """Names for `create`; `task` is "recognition" or "localization". Raises ValueError for any other."""
    names = {"recognition": list(RECOGNIZERS), "localization": list(LOCALIZERS)}
    if task not in names:
        raise ValueError(f'list_models: task is {task!r}, must be "recognition" or "localization"')
    return names[task]


def create(name: str, num_classes: int | None = None, **options: Any) -> Any:
    """A model with fresh weights. A recognizer (`Recognizer`) has 400 classes unless `num_classes` is given,
    and `model.recipe` says what it expects. `options` go to the model's class: for recognizers `dropout`,
    and `depths` and `width` for smaller or larger nets. Raises ValueError for a name that `list_models`
    does not have.
    """
    if num_classes is not None:
        options["num_classes"] = num_classes
    if name in LOCALIZERS:
        return LOCALIZERS[name](**options)
    variant = _variant(name)
    model = variant.model(**{**variant.options, **options})
    model.recipe = variant.recipe
    return model


def get_recipe(name: str) -> Recipe:
    """The `create(name).recipe` of a recognizer, without making the model. Raises ValueError for any other name."""
    return _variant(name).recipe


def _variant(name: str) -> Variant:
    if name not in RECOGNIZERS:
        known = [*RECOGNIZERS, *LOCALIZERS]
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise ValueError(f"no recognizer {name!r}; {hint}The models are {', '.join(known)}")
    return RECOGNIZERS[name]
