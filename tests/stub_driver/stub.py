"""Builds the stub driver and runs tests on it, each in a child process of its own.

In: the C++ beside this file. Out: ``Stub``, handles to its switches and counters, and ``on_stub_gpu``, which makes a test run in a forked
child where the stub stands in for libcuda.so.1, libnvcuvid.so.1 and libnvidia-ml.so.1 and where torch's part (allocating, naming the stream) is played by it.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import pickle
import shutil
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from vidload import _core, _testing
from vidload.system import cuda

HERE = Path(__file__).parent
CSRC = HERE.parents[1] / "csrc"
UNKNOWN = 999  # CUDA_ERROR_UNKNOWN


def build() -> Path:
    """The folder with libcuda.so.1, libnvcuvid.so.1 and libnvidia-ml.so.1, compiled on first use; skips the test where that cannot be."""
    if not _core.has_cuda_kernels():
        pytest.skip("this build has no CUDA kernels (no nvcc)")
    if shutil.which("g++") is None or not CSRC.is_dir():
        pytest.skip("the stub driver is compiled by g++ from a source checkout")
    headers = [*sorted(HERE.glob("*.h")), CSRC / "transform/transform_cuda.h", CSRC / "index/bit_reader.h"]
    sources = [*sorted(HERE.glob("*_stub.cpp")), *headers]
    key = hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()[:12]
    folder = Path(tempfile.gettempdir()) / f"vidload-stub-{os.getuid()}-{key}"
    if not (folder / "libnvcuvid.so.1").exists():
        with tempfile.TemporaryDirectory(dir=tempfile.gettempdir()) as name:
            fresh = Path(name) / "stub"
            fresh.mkdir()
            flags = [
                "-std=c++17",
                "-O1",
                "-g",
                "-fPIC",
                "-shared",
                "-fvisibility=hidden",
                "-Wall",
                "-Wextra",
                f"-I{CSRC}",
            ]
            libraries = {
                "libcuda.so.1": ("cuda_stub.cpp", []),
                "libnvcuvid.so.1": ("nvcuvid_stub.cpp", _ffmpeg_flags(fresh)),
                "libnvidia-ml.so.1": ("nvml_stub.cpp", []),
            }
            for library, (source, more) in libraries.items():
                command = [
                    "g++",
                    *flags,
                    f"-Wl,-soname,{library}",
                    "-o",
                    str(fresh / library),
                    str(HERE / source),
                    *more,
                ]
                done = subprocess.run(command, capture_output=True, text=True, timeout=300)
                assert done.returncode == 0, done.stderr
            if not folder.exists():
                fresh.rename(folder)
    return folder


def _ffmpeg_flags(folder: Path) -> list[str]:
    packages = ["libavformat", "libavcodec", "libavutil"]
    found = subprocess.run(["pkg-config", "--cflags", "--libs", *packages], capture_output=True, text=True)
    if found.returncode != 0:
        pytest.skip("FFmpeg's headers were not found")
    return [*found.stdout.split(), str(folder / "libcuda.so.1"), "-Wl,-rpath,$ORIGIN"]


class StubBuffer:
    """A block of the stub's device memory, which faults when the host touches it."""

    addresses: ClassVar[set[int]] = set()  # of those that live

    def __init__(self, nbytes: int) -> None:
        self.address = Stub.library.stub_allocate(nbytes)
        StubBuffer.addresses.add(self.address)

    def __del__(self) -> None:
        Stub.library.stub_release(self.address)
        StubBuffer.addresses.discard(self.address)


def allocate(nbytes: int, device: torch.device) -> tuple[int, object]:
    """cuda.allocate."""
    block = StubBuffer(nbytes)
    return block.address, block


class StubSpan:
    """What NumPy makes an array of, which holds a reference to it."""

    def __init__(self, address: int, nbytes: int, owner: object) -> None:
        self.owner = owner
        self.__array_interface__ = {"shape": (nbytes,), "typestr": "|u1", "data": (address, False), "version": 3}


def tensor_of(address: int, nbytes: int, owner: object, device: torch.device) -> torch.Tensor:
    """cuda.tensor_of."""
    return torch.from_numpy(np.asarray(StubSpan(address, nbytes, owner)))


class Stub:
    """The stub's switches and counters."""

    library: Any = None
    nvcuvid: Any = None
    nvml: Any = None
    _kernel: Any = None  # keeps the callback alive
    stream = 0  # the consumer's; 0 is the default stream

    @classmethod
    def load(cls, folder: Path) -> None:
        """Makes this process, for good, one where the stub is the driver."""
        cls.library = ctypes.CDLL(str(folder / "libcuda.so.1"), ctypes.RTLD_GLOBAL)
        cls.nvcuvid = ctypes.CDLL(str(folder / "libnvcuvid.so.1"), ctypes.RTLD_GLOBAL)
        cls.nvml = ctypes.CDLL(str(folder / "libnvidia-ml.so.1"), ctypes.RTLD_GLOBAL)
        size, address = ctypes.c_size_t, ctypes.c_ulonglong
        cls.library.stub_allocate.restype = address
        cls.library.stub_allocate.argtypes = [size]
        cls.library.stub_release.argtypes = [address]
        cls.library.stub_counter.restype = ctypes.c_long
        cls.library.stub_read.argtypes = [ctypes.c_void_p, address, size, ctypes.c_void_p]
        cls.library.stub_fill.argtypes = [address, ctypes.c_int, size, ctypes.c_void_p]
        cls.library.stub_set_host_kernel.argtypes = [ctypes.c_void_p]
        cls.library.stub_set_host_kernel(_testing.host_kernel_address())
        cuda.allocate, cuda.tensor_of = allocate, tensor_of
        cuda.current_stream = lambda device: cls.stream
        cuda.synchronize = lambda device: cls.library.stub_read(None, 0, 0, cls.stream)
        cuda.to_host = cls.read

    @classmethod
    def set_lazy(cls, on: bool = True) -> None:
        """Work on streams runs only when something waits for it."""
        cls.library.stub_set_lazy(int(on))

    @classmethod
    def set_delays(cls, most_us: int) -> None:
        cls.library.stub_set_delay_us(most_us)

    @classmethod
    def set_num_devices(cls, count: int) -> None:
        cls.library.stub_set_num_devices(count)

    @classmethod
    def fail(cls, function: str, nth: int = 1, code: int = UNKNOWN) -> None:
        """The nth call of a driver function from now on fails; 0: every call."""
        cls.library.stub_fail(function.encode(), ctypes.c_long(nth), code)

    @classmethod
    def succeed(cls) -> None:
        cls.library.stub_succeed()

    @classmethod
    def counter(cls, name: str) -> int:
        return int(cls.library.stub_counter(name.encode()))

    @classmethod
    def context_depth(cls) -> int:
        return int(cls.library.stub_context_depth())

    @classmethod
    def run_kernels_by(cls, kernel: Callable[[str, int, int], None]) -> None:
        """Kernels are run by kernel(name, host address of the descriptors, number of pictures) instead of their host twin."""
        signature = ctypes.CFUNCTYPE(None, ctypes.c_char_p, ctypes.c_ulonglong, ctypes.c_int)
        cls._kernel = signature(lambda name, descriptors, count: kernel(name.decode(), descriptors, count))
        cls.library.stub_set_host_kernel(cls._kernel)

    @classmethod
    def allocations(cls) -> list[tuple[int, int, int]]:
        """(device address, host address, bytes) of all live device memory."""
        table = (ctypes.c_ulonglong * 3000)()
        count = cls.library.stub_list_allocations(table, 1000)
        return [tuple(table[3 * i : 3 * i + 3]) for i in range(count)]

    @classmethod
    def add_videos(cls, paths: Sequence[str | os.PathLike[str]]) -> None:
        """Makes the pictures of these files known to the stub NVDEC."""
        for path in paths:
            assert cls.nvcuvid.stub_add_video(os.fspath(path).encode()) == 0, path

    @classmethod
    def read(cls, tensor: torch.Tensor) -> torch.Tensor:
        """A copy on the host, as of when the consumer's stream has come this far."""
        assert tensor.is_contiguous()
        copy = torch.empty(tensor.shape, dtype=tensor.dtype)
        cls.library.stub_read(copy.data_ptr(), tensor.data_ptr(), copy.numel() * copy.element_size(), cls.stream)
        return copy


def on_stub_gpu(test: Callable[..., None]) -> Callable[..., None]:
    """Runs the test in a forked child with the stub driver loaded. Fixtures are made in the parent."""

    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        if any("libcuda.so" in line for line in Path("/proc/self/maps").read_text().splitlines()):
            pytest.skip("a CUDA driver is loaded already, so the stub cannot stand in for it")
        folder = build()
        read_end, write_end = os.pipe()
        sys.stdout.flush()
        sys.stderr.flush()
        child = os.fork()
        if child == 0:
            outcome: tuple[str, str]
            try:
                torch.set_num_threads(1)
                Stub.load(folder)
                test(*args, **kwargs)
                outcome = ("passed", "")
            except pytest.skip.Exception as skipped:
                outcome = ("skipped", str(skipped))
            except BaseException:
                outcome = ("failed", traceback.format_exc()[-20000:])
            os.write(write_end, pickle.dumps(outcome))
            os._exit(0)
        os.close(write_end)
        with os.fdopen(read_end, "rb") as pipe:
            data = pipe.read()
        _, status = os.waitpid(child, 0)
        assert data, f"the child died: signal {os.WTERMSIG(status) if os.WIFSIGNALED(status) else status}"
        outcome, text = pickle.loads(data)
        if outcome == "skipped":
            pytest.skip(text)
        if outcome == "failed":
            pytest.fail(text, pytrace=False)

    return run
