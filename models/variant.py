"""Variants: the entries of the registry.

In: a model's class and its recipe. Out: one record for both, so that a recipe need not know about models nor
a model about the registry. The entries themselves are in the model files.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .recipe import Recipe
from .recognizer import Recognizer


@dataclass(frozen=True)
class Variant:
    """The class, what it is called with, and the recipe."""

    model: type[Recognizer]
    recipe: Recipe
    options: Mapping[str, Any] = field(default_factory=dict)
