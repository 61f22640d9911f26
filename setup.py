"""Builds the extension `vidload._core` (and `vidload._testing`, for those who work on vidload) with CMake; everything else about the package
stands in pyproject.toml."""

import os
import subprocess
import sys
from pathlib import Path

from setuptools import Extension, find_packages, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent


class CMakeBuild(build_ext):
    """Configures and builds with CMake and ninja, then leaves `_core` where setuptools expects it."""

    def build_extension(self, ext: Extension) -> None:
        target = Path(self.get_ext_fullpath(ext.name)).resolve()
        build = ROOT / "build" / f"cmake-{sys.implementation.cache_tag}"
        build.mkdir(parents=True, exist_ok=True)
        import pybind11

        configure = [
            "cmake", "-S", str(ROOT), "-B", str(build), "-G", "Ninja",
            f"-DCMAKE_BUILD_TYPE={os.environ.get('VIDLOAD_BUILD_TYPE', 'Release')}",
            f"-DPython_EXECUTABLE={sys.executable}",
            f"-Dpybind11_DIR={pybind11.get_cmake_dir()}",
            f"-DVIDLOAD_OUTPUT_DIR={target.parent}",
            # For those who work on vidload; a wheel has none.
            f"-DVIDLOAD_TESTING={'ON' if self.editable_mode or self.inplace else 'OFF'}",
            *os.environ.get("VIDLOAD_CMAKE_ARGS", "").split(),
        ]  # fmt: skip
        subprocess.run(configure, check=True)
        subprocess.run(["cmake", "--build", str(build), "--parallel", str(os.cpu_count())], check=True)


setup(
    packages=[*find_packages(include=["vidload", "vidload.*"]), "vidload.models", "vidload.models.layers"],
    package_dir={"vidload": "vidload", "vidload.models": "models"},
    package_data={"vidload": ["py.typed", "_core.pyi"], "vidload.models": ["*.md"]},
    ext_modules=[Extension("vidload._core", sources=[])],
    cmdclass={"build_ext": CMakeBuild},
)
