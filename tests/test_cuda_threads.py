"""The GPU path under ThreadSanitizer, on the stub driver. Compiling the core anew takes minutes: only with VIDLOAD_TEST_TSAN=1."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from vidload import _core

sys.path.insert(0, str(Path(__file__).parent / "stub_driver"))
from stub import CSRC, HERE

STAGES = ("base", "source", "index", "picture", "plan", "decode", "transform", "device", "nvdec", "batch")


@pytest.mark.skipif(os.environ.get("VIDLOAD_TEST_TSAN") != "1", reason="takes minutes: set VIDLOAD_TEST_TSAN=1")
def test_threads_that_load_to_the_gpu_do_not_race(video, tmp_path):
    if not _core.has_cuda_kernels() or shutil.which("cmake") is None:
        pytest.skip("needs nvcc and cmake")
    build = Path(os.environ.get("VIDLOAD_TSAN_BUILD", tmp_path / "build"))
    options = [
        "-DVIDLOAD_SANITIZE=thread",
        "-DCMAKE_BUILD_TYPE=RelWithDebInfo",
        f"-DPython_EXECUTABLE={sys.executable}",
    ]
    if shutil.which("ninja"):
        options += ["-G", "Ninja"]
    pybind11 = subprocess.run(
        [sys.executable, "-m", "pybind11", "--cmakedir"], capture_output=True, text=True, check=True
    )
    options.append(f"-Dpybind11_DIR={pybind11.stdout.strip()}")
    subprocess.run(["cmake", "-S", str(CSRC.parent), "-B", str(build), *options], check=True, capture_output=True)
    subprocess.run(["cmake", "--build", str(build), "--target", "vidload_batch"], check=True, capture_output=True)
    packages = ["libavformat", "libavcodec", "libavutil", "libturbojpeg"]
    found = subprocess.run(["pkg-config", "--cflags", "--libs", *packages], capture_output=True, text=True, check=True)
    flags = ["-std=c++17", "-O1", "-g", "-fPIC", "-fsanitize=thread", f"-I{CSRC}"]
    for library, source, more in (
        ("libcuda.so.1", "cuda_stub.cpp", []),
        ("libnvcuvid.so.1", "nvcuvid_stub.cpp", [str(build / "libcuda.so.1"), *found.stdout.split()]),
    ):
        command = [
            "g++",
            *flags,
            "-shared",
            f"-Wl,-soname,{library}",
            "-o",
            str(build / library),
            str(HERE / source),
            *more,
        ]
        subprocess.run(command, check=True)
    program = build / "thread_check"
    libraries = [str(build / f"csrc/{stage}/libvidload_{stage}.a") for stage in reversed(STAGES)]
    command = [
        "g++",
        *flags,
        "-o",
        str(program),
        str(HERE / "thread_check.cpp"),
        "-Wl,--start-group",
        *libraries,
        "-Wl,--end-group",
    ]
    command += [
        str(build / "libcuda.so.1"),
        str(build / "libnvcuvid.so.1"),
        f"-Wl,-rpath,{build}",
        *found.stdout.split(),
        "-lpthread",
        "-ldl",
    ]
    subprocess.run(command, check=True)
    videos = [video(name) for name in ("h264", "h264_b_pyramid_normal", "hevc", "vp9")]
    environment = os.environ | {"TSAN_OPTIONS": "halt_on_error=0 exitcode=66"}
    done = subprocess.run([str(program), *videos], capture_output=True, text=True, env=environment, timeout=500)
    assert done.returncode == 0, (done.stdout + done.stderr)[-6000:]
    assert done.stdout.startswith("0 wrong batches")
