"""A Ray cluster for the work of a command."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from vidload.errors import LostWorkError


@contextmanager
def ray_cluster(num_cpus: int | None) -> Iterator[Any]:
    """Gives the module `ray`, connected: to the cluster named by RAY_ADDRESS, or already connected to, else to one of this machine alone
    with `num_cpus`.

    Raises:
        ModuleNotFoundError: Ray is not installed.
    """
    try:
        ray: Any = importlib.import_module("ray")
    except ImportError:
        raise ModuleNotFoundError("engine 'ray' needs Ray; install it with: pip install 'vidload[ray]'") from None
    is_ours = not ray.is_initialized()
    if is_ours:
        is_local = "RAY_ADDRESS" not in os.environ
        ray.init(log_to_driver=False, **({"num_cpus": num_cpus, "include_dashboard": False} if is_local else {}))
    try:
        yield ray
    finally:
        if is_ours:
            ray.shutdown()


def ray_result(ray: Any, reference: Any, what: str) -> Any:
    """The result of a task, which `what` describes.

    Raises:
        LostWorkError: its worker or node died, each time that Ray tried it again; or the task raised, which the tasks of vidload do not do
            for what is wrong with a video.
    """
    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        raise LostWorkError(what, f"{type(error.cause).__name__}: {error.cause}") from error
    except ray.exceptions.RayError as error:
        raise LostWorkError(what, f"{type(error).__name__}: {error}") from error
