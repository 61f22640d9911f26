"""info(): what this build of vidload, this FFmpeg and this machine can do, as a dict of plain values."""

from __future__ import annotations

import math
import platform
from importlib import metadata
from typing import Any

from vidload import _core
from vidload.system import nvml
from vidload.system.cores import affinity_cores, available_cores, cgroup_cores

PACKAGES = ("torch", "numpy", "pyarrow", "av", "nvidia-dali-cuda130", "nvidia-dali-cuda120")


def info() -> dict[str, Any]:
    """What this build and this machine can do. If there is a CUDA driver, this starts it, and the process should not be forked afterwards.

    Returns:
        vidload, python, platform: versions, as text.
        packages: {name: version} of those installed among torch, numpy, pyarrow, av and DALI.
        build: {"compiler": its name, version and build type, "is_bundled": FFmpeg is inside vidload (a wheel of `make wheel`)}.
        ffmpeg: {"version", "libavcodec", "libavformat", "configuration", "decoders": {codec: decoder or None}, "nvdec": [codecs it can decode
            by NVDEC]}.
        simd: {"level", "supported"}: the transform's vector instructions.
        cores: {"available", "affinity", "cgroup"}: for this rank; by affinity; by the cgroup's quota (None: no quota).
        cuda: {"built": kernels are in this build, "has_driver": NVIDIA's is installed, "problem": why no GPU can be used (None if one can),
            "driver": the CUDA version it supports (None), "driver_version": its own, from NVML (None), "devices": [{"name", "pci_address",
            "compute_capability", "memory_bytes", "pcie": {"generation", "width", "max_generation", "max_width"} from NVML (None where it
            does not say), "nvdec": {codec: {kind: limits}}}]}.
        dali: its version, or None.
            advice: sentences on what would make vidload faster or more capable on this machine; empty if there is nothing.
    """
    versions = dict(_core.versions())
    packages = {name: version for name in PACKAGES if (version := _version(name)) is not None}
    quota = cgroup_cores()
    facts: dict[str, Any] = {
        "vidload": _version("vidload"),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": packages,
        "build": {"compiler": versions.pop("build"), "is_bundled": versions.pop("is_bundled")},
        "ffmpeg": {"version": versions.pop("ffmpeg"), **versions, "nvdec": _core.ffmpeg_nvdec_codecs()},
        "simd": {"level": _core.cpu_level(), "supported": _core.supported_cpu_levels()},
        "cores": {
            "available": available_cores(),
            "affinity": affinity_cores(),
            "cgroup": None if math.isinf(quota) else quota,
        },
        "cuda": _cuda(),
        "dali": next((version for name, version in packages.items() if name.startswith("nvidia-dali")), None),
    }
    return {**facts, "advice": advice(facts)}


def advice(facts: dict[str, Any]) -> list[str]:
    """What could be better here, of info()'s facts."""
    ffmpeg, simd, has_driver = facts["ffmpeg"], facts["simd"], facts["cuda"]["has_driver"]
    found = []
    if any(f"--disable-{part}" in ffmpeg["configuration"] for part in ("asm", "x86asm", "neon")):
        found.append("FFmpeg was built without assembly, so decoding takes much longer; use a wheel or another FFmpeg")
    if missing := [codec for codec, decoder in ffmpeg["decoders"].items() if decoder is None]:
        found.append(f"this FFmpeg cannot decode {', '.join(missing)}; use a wheel or another FFmpeg")
    if ffmpeg["decoders"]["av1"] not in (None, "libdav1d"):
        found.append(
            f"AV1 is decoded by {ffmpeg['decoders']['av1']}; libdav1d is faster: use a wheel or another FFmpeg"
        )
    if simd["level"] != simd["supported"][-1]:
        found.append(
            f"the transform runs on {simd['level']}, as VIDLOAD_CPU asks; this processor can run {simd['supported'][-1]}"
        )
    if not facts["build"]["compiler"].endswith(("Release", "RelWithDebInfo")):
        found.append(
            f"this is a build of the type {facts['build']['compiler'].rpartition(', ')[2]}; a Release build is faster"
        )
    if has_driver and not facts["cuda"]["built"]:
        found.append(
            "this machine has a CUDA driver, but the build has no CUDA kernels; rebuild it where nvcc is installed"
        )
    if has_driver and not ffmpeg["nvdec"]:
        found.append(
            "this machine has a CUDA driver, but FFmpeg was built without NVDEC: videos are decoded on the CPU"
        )
    return found


def _cuda() -> dict[str, Any]:
    problem = _core.why_no_cuda_driver()
    result: dict[str, Any] = {
        "built": _core.has_cuda_kernels(),
        "has_driver": not problem,
        "problem": None,
        "driver": None,
        "driver_version": nvml.driver_version(),
        "devices": [],
    }
    if not result["built"]:
        result["problem"] = "this build has no CUDA kernels; rebuild it where nvcc is installed"
    elif problem:
        result["problem"] = problem
    else:
        try:
            version, devices = _core.cuda_devices()
            result["driver"] = f"{version // 1000}.{version % 1000 // 10}"
            result["devices"] = [
                {**device, "pcie": nvml.Gpu(device["pci_address"]).pcie(), "nvdec": _core.nvdec_capabilities(i)}
                for i, device in enumerate(devices)
            ]
        except RuntimeError as error:
            result["problem"] = str(error)
    return result


def cuda_summary(cuda: dict[str, Any]) -> str:
    """info()["cuda"] in one line for people."""
    if cuda["problem"]:
        return str(cuda["problem"])
    driver = f"driver {cuda['driver_version']}" if cuda["driver_version"] else "driver"
    return f"{driver} for CUDA {cuda['driver']}; " + "; ".join(map(_device_summary, cuda["devices"]))


def _device_summary(device: dict[str, Any]) -> str:
    facts = [device["compute_capability"], f"{device['memory_bytes'] / 2**30:.0f} GiB"]
    if device["pcie"]["max_width"] is not None:
        facts.append(f"PCIe {device['pcie']['max_generation']} x{device['pcie']['max_width']}")
    engines = max((limits["num_engines"] for kinds in device["nvdec"].values() for limits in kinds.values()), default=0)
    facts.append(f"{engines} NVDEC engine{'s' if engines != 1 else ''}")
    return f"{device['name']} ({', '.join(facts)})"


def nvdec_verdict(facts: dict[str, Any]) -> str:
    """What NVDEC is good for here, in one line, of info(). Of several GPUs: what all of them decode."""
    cuda, by_ffmpeg = facts["cuda"], facts["ffmpeg"]["nvdec"]
    if cuda["problem"]:
        return f"NVDEC not usable: {cuda['problem']}"
    if not by_ffmpeg:
        return "NVDEC not usable: this FFmpeg was built without it; the CPU decodes"
    if not any(device["nvdec"] for device in cuda["devices"]):
        return "NVDEC not usable: the driver reports no codec (is libnvcuvid.so.1 installed?); the CPU decodes"
    usable = [codec for codec in by_ffmpeg if all(codec in device["nvdec"] for device in cuda["devices"])]
    others = [codec for codec in facts["ffmpeg"]["decoders"] if codec not in usable]
    return f"NVDEC usable for {', '.join(usable) or 'no codec'}; {', '.join(others)} fall back to the CPU"


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
