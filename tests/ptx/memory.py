"""The memory of an interpreted kernel: the caller's own arrays, at their own addresses, each access checked.

A kernel's pointers are host addresses here. Only bytes of registered arrays may be touched, writable ones written; every
access must be aligned to its size, as on a GPU. Arrays keep their own allocations, so that an overrun of one is not taken
for an access to its neighbor.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ptx.parser import PtxError


@dataclass(frozen=True)
class Buffer:
    begin: int
    end: int
    is_writable: bool
    name: str


def _extent(array: np.ndarray) -> tuple[int, int]:
    """Addresses of the array's first byte and of the one after its last."""
    begin = end = int(array.ctypes.data)
    for length, stride in zip(array.shape, array.strides, strict=True):
        reach = (length - 1) * stride
        begin, end = begin + min(reach, 0), end + max(reach, 0)
    return begin, end + array.itemsize


class _AddressSpace:
    """Tells NumPy of an array that spans all memory from `begin` on; only checked addresses are ever looked up in it."""

    def __init__(self, begin: int, end: int, dtype: np.dtype) -> None:
        count = (end - begin) // dtype.itemsize + 1
        self.__array_interface__ = {
            "data": (begin, False),
            "shape": (count,),
            "typestr": dtype.str,
            "version": 3,
        }


class Memory:
    """Arrays that a kernel may read, or read and write."""

    def __init__(self) -> None:
        self._buffers: list[Buffer] = []
        self._kept: list[np.ndarray] = []  # registered arrays must not go away
        self._spaces: dict[np.dtype, tuple[int, np.ndarray]] = {}

    def add(self, array: np.ndarray, name: str, is_writable: bool = False) -> int:
        """Registers the bytes from the array's first to its last element; returns the address of element 0."""
        begin, end = _extent(array)
        for other in self._buffers:
            if begin < other.end and other.begin < end:
                raise PtxError(f"buffer {name} overlaps {other.name}")
        self._buffers.append(Buffer(begin, end, is_writable, name))
        self._buffers.sort(key=lambda buffer: buffer.begin)
        self._begins = np.array([buffer.begin for buffer in self._buffers], np.uint64)
        self._ends = np.array([buffer.end for buffer in self._buffers], np.uint64)
        self._writable = np.array([buffer.is_writable for buffer in self._buffers])
        self._spaces.clear()
        self._kept.append(array)
        return int(array.ctypes.data)

    def load(self, addresses: np.ndarray, dtype: np.dtype, is_constant: bool = False) -> np.ndarray:
        """Values at addresses (uint64). is_constant: a `.nc` load, of memory that nothing may write during the launch."""
        buffers = self._check(addresses, dtype.itemsize, "load")
        if is_constant and self._writable[buffers].any():
            raise PtxError("non-coherent load (ld.global.nc) from a buffer that the kernel may write")
        begin, space = self._space(dtype)
        return space[(addresses - np.uint64(begin)) // np.uint64(dtype.itemsize)]

    def store(self, addresses: np.ndarray, values: np.ndarray) -> None:
        dtype = values.dtype
        buffers = self._check(addresses, dtype.itemsize, "store")
        if not self._writable[buffers].all():
            name = self._buffers[int(buffers[~self._writable[buffers]][0])].name
            raise PtxError(f"store to read-only buffer {name}")
        begin, space = self._space(dtype)
        space[(addresses - np.uint64(begin)) // np.uint64(dtype.itemsize)] = values

    def _space(self, dtype: np.dtype) -> tuple[int, np.ndarray]:
        if dtype not in self._spaces:
            begin = self._buffers[0].begin // 64 * 64
            end = self._buffers[-1].end
            self._spaces[dtype] = (begin, np.asarray(_AddressSpace(begin, end, dtype)))
        return self._spaces[dtype]

    def _check(self, addresses: np.ndarray, size: int, action: str) -> np.ndarray:
        """The index of the buffer that holds each access."""
        misaligned = addresses % np.uint64(size) != 0
        if misaligned.any():
            raise PtxError(f"misaligned {action} of {size} bytes at {int(addresses[misaligned][0]):#x}")
        buffers = np.searchsorted(self._begins, addresses, side="right") - 1
        outside = (buffers < 0) | (addresses + np.uint64(size) > self._ends[buffers])
        if outside.any():
            address, buffer = int(addresses[outside][0]), int(buffers[outside][0])
            below = self._buffers[buffer].name if buffer >= 0 else "nothing"
            raise PtxError(f"{action} of {size} bytes out of bounds at {address:#x}; the buffer below it is {below}")
        return buffers
