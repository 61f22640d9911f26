"""Memory: the buffers that batches are written into, reused once nobody holds them any more.

In: shapes. Out: tensors, on the CPU or on a GPU, that own their part of a pool (csrc/base): it goes back with the last tensor, view or
array in it.
"""

from __future__ import annotations

import math
from functools import partial

import torch
from torch.utils.dlpack import from_dlpack

from vidload import _core
from vidload.system import cuda

# DLPack's code of a type, and its bits.
_DLPACK_TYPES = {torch.uint8: (1, 8), torch.float16: (2, 16), torch.bfloat16: (4, 16), torch.float32: (2, 32)}


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
        if self._gpu is None:
            return from_dlpack(self._pool.take_tensor(shape, *_DLPACK_TYPES[dtype]))
        buffer = self._pool.take(math.prod(shape) * dtype.itemsize)
        return cuda.tensor_of(buffer.address, buffer.nbytes, buffer, self._gpu).view(dtype).view(shape)
