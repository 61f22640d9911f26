"""Memory: the buffers that batches are written into, reused once nobody holds them any more.

In: shapes. Out: tensors, on the CPU or on a GPU, that own their part of a pool (csrc/batch): it goes back with the last tensor, view or
array in it.
"""

from __future__ import annotations

import math
from functools import partial

import torch

from vidload import _core
from vidload.system import cuda


class Memory:
    """Batch buffers, reused once the last tensor, view or array in them is gone."""

    def __init__(self, gpu: torch.device | None) -> None:
        self._gpu = gpu
        self._pool = _core.MemoryPool(None if gpu is None else partial(cuda.allocate, device=gpu))

    @property
    def num_bytes(self) -> int:
        """Of all buffers, in use or free."""
        return self._pool.num_bytes

    def take(self, shape: tuple[int, ...], dtype: torch.dtype, pinned: bool) -> torch.Tensor:
        """A contiguous tensor of any content; `pinned`: in page-locked memory, if it is on the CPU and there is a GPU."""
        if pinned and self._gpu is None and torch.cuda.is_available():
            return torch.empty(shape, dtype=dtype, pin_memory=True)  # torch keeps a cache of its own for these
        count = math.prod(shape)
        buffer = self._pool.take(count * dtype.itemsize)
        if self._gpu is None:
            return torch.frombuffer(buffer, dtype=dtype, count=count).view(shape)
        return cuda.tensor_of(buffer.address, buffer.nbytes, buffer, self._gpu).view(dtype).view(shape)
