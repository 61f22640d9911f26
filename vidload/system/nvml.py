"""NVML: what the NVIDIA driver tells about a card that CUDA does not: its version, the PCIe link, how busy the engines are.

In: the PCI address of a GPU, which CUDA tells. Out: plain numbers. libnvidia-ml.so.1 comes with the driver and is loaded at run time;
where it is absent, or does not answer a question, the answer is None.
"""

from __future__ import annotations

import ctypes
from typing import Any

_INIT, _BY_ADDRESS = "nvmlInit_v2", "nvmlDeviceGetHandleByPciBusId_v2"


class _Memory(ctypes.Structure):  # nvmlMemory_t
    _fields_ = (("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong))


class _Utilization(ctypes.Structure):  # nvmlUtilization_t
    _fields_ = (("gpu", ctypes.c_uint), ("memory", ctypes.c_uint))


_loaded: list[Any] = []  # the library, once it was started


def _library() -> Any:
    """libnvidia-ml, started; None where there is none. A failure is not kept."""
    if not _loaded:
        try:
            library = ctypes.CDLL("libnvidia-ml.so.1")
            if getattr(library, _INIT)() == 0:
                _loaded.append(library)
        except (OSError, AttributeError):
            return None
    return _loaded[0] if _loaded else None


def _ask(function: str, *arguments: Any) -> bool:
    """Whether the call succeeded; what it tells is in its arguments."""
    library = _library()
    try:
        return library is not None and getattr(library, function)(*arguments) == 0
    except AttributeError:  # an older driver
        return False


def driver_version() -> str | None:
    """Such as "580.65.06"."""
    text = ctypes.create_string_buffer(96)
    return text.value.decode() if _ask("nvmlSystemGetDriverVersion", text, 96) else None


class Gpu:
    """One card. `pci_address` as CUDA tells it, such as "0000:3b:00.0"."""

    def __init__(self, pci_address: str) -> None:
        self._handle = ctypes.c_void_p()
        self.is_known = _ask(_BY_ADDRESS, pci_address.encode(), ctypes.byref(self._handle))

    def _number(self, function: str, *more: Any) -> int | None:
        value = ctypes.c_uint()
        return value.value if self.is_known and _ask(function, self._handle, ctypes.byref(value), *more) else None

    def pcie(self) -> dict[str, int | None]:
        """The link as it is (an idle card may have slowed it down) and at its best: "generation", "width" (lanes), "max_generation",
        "max_width"."""
        return {
            "generation": self._number("nvmlDeviceGetCurrPcieLinkGeneration"),
            "width": self._number("nvmlDeviceGetCurrPcieLinkWidth"),
            "max_generation": self._number("nvmlDeviceGetMaxPcieLinkGeneration"),
            "max_width": self._number("nvmlDeviceGetMaxPcieLinkWidth"),
        }

    def decoder_percent(self) -> int | None:
        """How busy the NVDEC engines were, on average, in the driver's last sampling period (a sixth of a second to a second)."""
        period_us = ctypes.c_uint()
        return self._number("nvmlDeviceGetDecoderUtilization", ctypes.byref(period_us))

    def kernel_percent(self) -> int | None:
        """In how much of that period some kernel was running."""
        rates = _Utilization()
        is_told = self.is_known and _ask("nvmlDeviceGetUtilizationRates", self._handle, ctypes.byref(rates))
        return int(rates.gpu) if is_told else None

    def used_bytes(self) -> int | None:
        """Of the card's memory, by all processes."""
        memory = _Memory()
        is_told = self.is_known and _ask("nvmlDeviceGetMemoryInfo", self._handle, ctypes.byref(memory))
        return int(memory.used) if is_told else None
