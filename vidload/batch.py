"""Batch: a batch of samples under way, as the dataset and the loader know it, whoever makes its pixels.

In: the videos, from whoever makes the batch. Out: what is known about each, then the clips in a tensor of the caller's. The core's own is
`_core.Batch`; vidload.dali's is `DaliBatch`.

Views are arrays of the dtype `_core.VIEW`, a row each: `clip`, a number, and the box that is cut out of it, `top`, `left`, `height` and
`width` in pixels of the upright picture, and `flip`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import torch

from vidload import _core
from vidload.errors import VideoError


def views_of(clips: npt.NDArray[np.integer[Any]], boxes: npt.NDArray[np.float64]) -> npt.NDArray[np.void]:
    """Views [V] of clips [V] and boxes [V, 5] (top, left, height, width, flip), as a policy of vidload.transforms gives them."""
    views = np.empty(len(clips), _core.VIEW)
    views["clip"] = clips
    for column, name in enumerate(("top", "left", "height", "width", "flip")):
        views[name] = boxes[:, column]
    return views


def strides_of(axes: str, strides: Sequence[int], sample: int = 0) -> _core.Strides:
    """Of samples with these axes, such as "VCTHW", whose own strides are given in this order, and which lie `sample` elements apart."""
    by_axis = {"V": 0, **dict(zip(axes, strides, strict=True))}
    return _core.Strides(
        sample=sample,
        view=by_axis["V"],
        frame=by_axis["T"],
        channel=by_axis["C"],
        row=by_axis["H"],
        column=by_axis["W"],
    )


class Request(NamedTuple):
    """The pixels of one sample.

    frames: int64 [num_clips * clip_len], clip by clip.
    views: [V] of the dtype _core.VIEW; see `views_of`.
    shape: of the clip, where samples vary in shape.
    """

    frames: npt.NDArray[np.int64]
    views: npt.NDArray[np.void]
    shape: tuple[int, ...] = ()


class Drawn(NamedTuple):
    """What was drawn for a batch: of each sample an error or None, and its request; None where the core draws by itself."""

    errors: list[VideoError | None]
    requests: list[Request | None] | None

    @property
    def frames(self) -> list[npt.NDArray[np.int64] | None]:
        """Of each request, as a Batch takes them."""
        return [None if request is None else request.frames for request in self.requests or ()]

    @property
    def views(self) -> list[npt.NDArray[np.void] | None]:
        """Of each request, as a Batch takes them."""
        return [None if request is None else request.views for request in self.requests or ()]

    @property
    def shapes(self) -> list[tuple[int, ...] | None]:
        """Of each clip, where samples vary in shape."""
        return [None if request is None else request.shape for request in self.requests or ()]


class Batch(Protocol):
    """First its videos' packet indexes are found, by threads that start when it is made; then it is decoded, once `decode` has been called.
    All lists have one entry per sample, in the order of the batch."""

    def wait(self, timeout_seconds: float = -1.0, /) -> bool:
        """Waits for what was started, at most `timeout_seconds` (negative: no limit); returns whether it is done."""
        ...

    def infos(self) -> list[_core.SampleInfo | None]:
        """What is known about each video, None where `errors` says why not. Valid once `wait` has returned True."""
        ...

    def errors(self) -> list[VideoError | None]:
        """The error of each sample so far, None where there is none. Valid once `wait` has returned True."""
        ...

    def decode(
        self,
        spec: _core.TransformSpec,
        clip_len: int,
        frames: list[npt.NDArray[np.int64] | None],
        views: list[npt.NDArray[np.void] | None],
        out: int,
        strides: _core.Strides,
        memory: torch.Tensor,
        /,
    ) -> None:
        """Starts decoding into `memory` [N, *sample_shape], whose address is `out`.

        frames, views: of each sample, as a Request has them; None leaves the sample out.
        """
        ...

    def cancel(self) -> None:
        """Gives up what has not been decoded yet. Any thread may call it, more than once."""
        ...
