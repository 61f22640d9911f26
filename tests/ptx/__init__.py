"""An interpreter of PTX on NumPy: runs what nvcc made of a kernel where there is no GPU, one array lane a thread.

`parse` turns text into kernels, `Memory` holds the buffers that a kernel may touch, `launch` runs a grid. Straight integer
and float32 code with loops and divergence; no shared memory, barriers, shuffles or textures. Whatever is not known to be
computed exactly as a GPU would raises `PtxError`: unknown instructions, approximate ones, flush to zero.
"""

from ptx.interpreter import launch
from ptx.memory import Memory
from ptx.parser import Kernel, PtxError, parse

__all__ = ["Kernel", "Memory", "PtxError", "launch", "parse"]
