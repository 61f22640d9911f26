"""info(): what this build of vidload, this FFmpeg and this machine can do, as a dict of plain values."""

from __future__ import annotations

import math
import platform
from importlib import metadata
from typing import Any

from vidload import _core
from vidload.system.cores import affinity_cores, available_cores, cgroup_cores

PACKAGES = ("torch", "numpy", "pyarrow", "av", "nvidia-dali-cuda130", "nvidia-dali-cuda120")


def info() -> dict[str, Any]:
    """What this build and this machine can do. If there is a CUDA driver, this starts it, and the process should not be forked afterwards.

    Returns:
        vidload, python, platform: versions, as text.
        packages: {name: version} of those installed among torch, numpy, pyarrow, av and DALI.
        ffmpeg: {"version", "libavcodec", "libavformat", "decoders": {codec: decoder or None}}.
        simd: {"level", "supported"}: the transform's vector instructions.
        cores: {"available", "affinity", "cgroup"}: for this rank; by affinity; by the cgroup's quota (None: no quota).
        cuda: {"built": kernels are in this build, "problem": why no GPU can be used (None if one can), "driver": the CUDA version it
            supports (None), "devices": [{"name", "compute_capability", "memory_bytes", "nvdec": {codec: {kind: limits}}}]}.
        dali: its version, or None.
    """
    versions = dict(_core.versions())
    packages = {name: version for name in PACKAGES if (version := _version(name)) is not None}
    quota = cgroup_cores()
    return {
        "vidload": _version("vidload"),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": packages,
        "ffmpeg": {"version": versions.pop("ffmpeg"), **versions},
        "simd": {"level": _core.cpu_level(), "supported": _core.supported_cpu_levels()},
        "cores": {
            "available": available_cores(),
            "affinity": affinity_cores(),
            "cgroup": None if math.isinf(quota) else quota,
        },
        "cuda": _cuda(),
        "dali": next((version for name, version in packages.items() if name.startswith("nvidia-dali")), None),
    }


def _cuda() -> dict[str, Any]:
    result: dict[str, Any] = {"built": _core.has_cuda_kernels(), "problem": None, "driver": None, "devices": []}
    problem = _core.why_no_cuda_driver()
    if not result["built"]:
        result["problem"] = "this build has no CUDA kernels; rebuild it where nvcc is installed"
    elif problem:
        result["problem"] = problem
    else:
        try:
            version, devices = _core.cuda_devices()
            result["driver"] = f"{version // 1000}.{version % 1000 // 10}"
            result["devices"] = [{**device, "nvdec": _core.nvdec_capabilities(i)} for i, device in enumerate(devices)]
        except RuntimeError as error:
            result["problem"] = str(error)
    return result


def cuda_summary(cuda: dict[str, Any]) -> str:
    """info()["cuda"] in one line for people."""
    if cuda["problem"]:
        return str(cuda["problem"])
    devices = [
        f"{device['name']} ({device['compute_capability']}, {device['memory_bytes'] / 2**30:.0f} GiB, "
        f"NVDEC: {', '.join(device['nvdec']) or 'none'})"
        for device in cuda["devices"]
    ]
    return f"driver for CUDA {cuda['driver']}; " + "; ".join(devices)


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
