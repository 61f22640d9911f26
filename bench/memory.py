"""How much memory a process uses: of torch's allocator on a GPU, else of the process as Linux counts it.

In: a device. Out: bytes. Each row of a bench runs in a process of its own, so that the figures are its own.
"""

from __future__ import annotations

from pathlib import Path

import torch


def memory_now(device: torch.device) -> int:
    """Bytes in use: allocated on the GPU, or resident."""
    return torch.cuda.memory_allocated() if device.type == "cuda" else _status("VmRSS:")


def reset_peak(device: torch.device) -> None:
    """Makes `peak_memory` start again from what is in use now."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    else:
        Path("/proc/self/clear_refs").write_text("5")


def peak_memory(device: torch.device) -> int:
    """The most bytes in use since `reset_peak`."""
    return torch.cuda.max_memory_allocated() if device.type == "cuda" else _status("VmHWM:")


def _status(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    return 0
