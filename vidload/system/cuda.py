"""GPU memory and streams as the loader and the reader need them: memory is allocated by torch.

The core writes to addresses that it gets from here, ordered after and before the work of a stream named here; it neither links nor imports
torch. Nothing in this file starts CUDA before the first buffer is needed.
"""

from __future__ import annotations

from typing import Any

import torch

from vidload import _core


def cuda_device(device: str | int | torch.device | None) -> torch.device | None:
    """The GPU that `device` names, with its number; None for the CPU ("cpu" or None).

    Raises:
        ValueError: `device` is neither.
        RuntimeError: this machine or this build cannot use a GPU.
    """
    if device is None:
        return None
    named = torch.device("cuda", device) if isinstance(device, int) else torch.device(device)
    if named.type == "cpu":
        return None
    if named.type != "cuda":
        raise ValueError(f"device {str(named)!r} is neither 'cpu' nor a CUDA device such as 'cuda' or 'cuda:1'")
    if not _core.has_cuda_kernels():
        raise RuntimeError(
            f"device={str(named)!r}: this build of vidload has no CUDA kernels; rebuild it where nvcc is installed"
        )
    problem = _core.why_no_cuda_driver()
    if problem:
        raise RuntimeError(f"device={str(named)!r}: {problem}")
    if named.index is None:
        named = torch.device("cuda", current_device())
    return named


def current_device() -> int:
    """The number of torch's current GPU; 0 if torch has not started CUDA."""
    return torch.cuda.current_device() if torch.cuda.is_initialized() else 0


def current_stream(device: torch.device) -> int:
    """The handle of the stream that the caller's work on `device` is queued on."""
    return int(torch.cuda.current_stream(device).cuda_stream)


def set_max_decoders(device: str | int | torch.device, count: int) -> None:
    """Sets how many NVDEC decoders this process may have open on a GPU, and use at once. Unless set here, it uses one more than
    the GPU has engines, and keeps up to four times as many open for other sizes of video. Starts CUDA.

    Raises:
        ValueError: `count` is below 1, or `device` is not a GPU.
        RuntimeError: the GPU cannot be used.
    """
    gpu = cuda_device(device)
    if gpu is None or count < 1:
        raise ValueError(f"set_max_decoders({str(device)!r}, {count}): a GPU and at least 1 decoder are needed")
    _core.set_max_nvdec_decoders(int(gpu.index), count)


def synchronize(device: torch.device) -> None:
    """Waits for all work queued on `device`."""
    torch.cuda.synchronize(device)


def to_host(tensor: torch.Tensor) -> torch.Tensor:
    """A copy of a GPU's tensor on the CPU, once the current stream has come this far."""
    return tensor.cpu()


def allocate(nbytes: int, device: torch.device) -> tuple[int, object]:
    """Address and owner of a fresh block of GPU memory."""
    memory = torch.empty(nbytes, dtype=torch.uint8, device=device)
    return memory.data_ptr(), memory


def tensor_of(address: int, nbytes: int, owner: object, device: torch.device) -> torch.Tensor:
    """uint8 [nbytes] at an address of the GPU; the tensor, its views and whoever takes them over keep `owner` alive."""
    return torch.as_tensor(_Span(address, nbytes, owner), device=device)


class _Span:
    """Memory that torch makes a tensor of without copying; the tensor holds a reference to it."""

    def __init__(self, address: int, nbytes: int, owner: object) -> None:
        self._owner = owner
        self.__cuda_array_interface__: dict[str, Any] = {
            "shape": (nbytes,),
            "typestr": "|u1",
            "data": (address, False),
            "version": 2,
        }
