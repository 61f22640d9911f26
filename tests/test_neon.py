"""The NEON level gives the scalar definition's bits: on AArch64, or cross-compiled and run by qemu-aarch64 where both can be had."""

from __future__ import annotations

import platform
import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent / "neon"
CSRC = HERE.parents[1] / "csrc"


def test_every_row_kernel_gives_the_scalar_bits(tmp_path: Path) -> None:
    is_here = platform.machine() in ("aarch64", "arm64")
    compiler = shutil.which("g++" if is_here else "aarch64-linux-gnu-g++")
    emulator = [] if is_here else [shutil.which("qemu-aarch64") or shutil.which("qemu-aarch64-static")]
    if compiler is None or None in emulator or not CSRC.is_dir():
        pytest.skip("needs a compiler for AArch64, and qemu-aarch64 (Debian: g++-aarch64-linux-gnu, qemu-user)")
    names = ("transform_scalar", "transform_neon", "tap_windows", "resample_taps")
    sources = [HERE / "check.cpp", *(CSRC / "transform" / f"{name}.cpp" for name in names)]
    program = tmp_path / "check"
    flags = [
        "-std=c++17",
        "-O3",
        "-ffp-contract=off",
        "-static",
        "-Wall",
        "-Wextra",
        "-I",
        CSRC,
    ]  # as CMakeLists.txt has them
    subprocess.run([compiler, *flags, "-o", program, *sources], check=True)
    done = subprocess.run([*emulator, program], capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stdout) == (0, "fine\n"), done.stdout + done.stderr
