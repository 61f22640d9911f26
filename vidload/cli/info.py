"""`vidload info`: versions, decoders and machine, to look at and for bug reports."""

from __future__ import annotations

import argparse
import platform
from collections.abc import Iterator
from importlib import metadata

import vidload
from vidload import _core
from vidload.system.cores import affinity_cores, available_cores
from vidload.system.info import cuda_summary, nvdec_verdict


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "info",
        help="print versions, decoders and machine, for bug reports",
        description="Prints what vidload found here: versions, FFmpeg's decoders, the processor, GPUs. "
        "Paste it into a bug report.",
        epilog="example: vidload info",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    for name, value in facts():
        print(f"{name:<10} {value}")
    return 0


def facts() -> Iterator[tuple[str, str]]:
    """(name, value) of everything worth knowing if something does not work."""
    versions = _core.versions()
    facts_of_machine = vidload.info()
    yield "vidload", vidload.__version__
    yield "python", f"{platform.python_version()}, {platform.platform()}"
    yield "packages", ", ".join(f"{name} {_version(name)}" for name in ("torch", "numpy", "pyarrow", "av"))
    kernels = "with" if facts_of_machine["cuda"]["built"] else "without"
    yield (
        "build",
        f"{versions['build']}, {kernels} CUDA kernels, FFmpeg {'bundled' if versions['is_bundled'] else 'of the system'}",
    )
    yield (
        "ffmpeg",
        f"{versions['ffmpeg']} (libavcodec {versions['libavcodec']}, libavformat {versions['libavformat']}), "
        f"built with NVDEC for {', '.join(facts_of_machine['ffmpeg']['nvdec']) or 'no codec'}",
    )
    yield (
        "decoders",
        ", ".join(
            codec + ("" if name == codec else f" by {name}" if name else " none")
            for codec, name in versions["decoders"].items()
        ),
    )
    yield (
        "processor",
        f"{_core.cpu_level()} (of {', '.join(_core.supported_cpu_levels())}), {available_cores()} cores for "
        f"this process ({affinity_cores()} by affinity)",
    )
    yield "gpu", cuda_summary(facts_of_machine["cuda"])
    for device in facts_of_machine["cuda"]["devices"]:
        for codec, kinds in device["nvdec"].items():
            sizes = [f"{kind} to {limits['max_width']}x{limits['max_height']}" for kind, limits in kinds.items()]
            yield "", f"{codec}: {', '.join(sizes)}"
    yield "nvdec", nvdec_verdict(facts_of_machine)
    yield "dali", facts_of_machine["dali"] or "not installed"
    for sentence in facts_of_machine["advice"]:
        yield "better", sentence


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"
