"""Attributes under the names that they had before: each still works, and warns."""

from __future__ import annotations

import warnings
from typing import Any


class Renamed:
    """The old name of an attribute, property or method of a class; gives what the new one gives, with a DeprecationWarning.

    Args:
        new_name: of the attribute, in the same class.
    """

    def __init__(self, new_name: str) -> None:
        self._new_name = new_name

    def __set_name__(self, owner: type, name: str) -> None:
        self._message = f"{owner.__name__}.{name} is now called {self._new_name}; the old name will be removed in 0.2"

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        if instance is None:
            return self
        warnings.warn(self._message, DeprecationWarning, stacklevel=2)
        return getattr(instance, self._new_name)
