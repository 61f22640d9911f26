"""Builds the extension `vidload._core` (and `vidload._testing`, for those who work on vidload) with CMake; everything else about the package
stands in pyproject.toml."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from setuptools import Extension, find_packages, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent


class CMakeBuild(build_ext):
    """Configures and builds with CMake and ninja, then leaves `_core` where setuptools expects it."""

    def build_extension(self, ext: Extension) -> None:
        import pybind11

        target = Path(self.get_ext_fullpath(ext.name)).resolve()
        # setuptools builds editable installs in a folder that it then removes; in one that stays, the next build compiles what changed.
        stays = ROOT / "build" / f"cmake-{sys.implementation.cache_tag}"
        build = stays if self.editable_mode else Path(self.build_temp).resolve()
        build.mkdir(parents=True, exist_ok=True)
        configure = [
            "cmake", "-S", str(ROOT), "-B", str(build), "-G", "Ninja",
            f"-DCMAKE_MAKE_PROGRAM={shutil.which('ninja')}",  # pip's build environments go; a cached path to one would not do
            f"-DCMAKE_BUILD_TYPE={os.environ.get('VIDLOAD_BUILD_TYPE', 'Release')}",
            f"-DPython_EXECUTABLE={sys.executable}",
            f"-Dpybind11_DIR={pybind11.get_cmake_dir()}",
            f"-DVIDLOAD_OUTPUT_DIR={target.parent}",
            # For those who work on vidload; a wheel has none.
            f"-DVIDLOAD_TESTING={'ON' if self.editable_mode or self.inplace else 'OFF'}",
            *os.environ.get("VIDLOAD_CMAKE_ARGS", "").split(),
        ]  # fmt: skip
        subprocess.run(configure, check=True)
        jobs = os.environ.get("CMAKE_BUILD_PARALLEL_LEVEL") or str(os.cpu_count())
        subprocess.run(["cmake", "--build", str(build), "--parallel", jobs], check=True)
        if self.editable_mode:  # setuptools puts `_core` in place, and knows nothing of `_testing`
            for module in target.parent.glob("_testing*.so"):
                shutil.copy2(module, ROOT / "vidload")
        if licenses := os.environ.get("VIDLOAD_LICENSES"):  # of what is linked into the module
            shutil.copytree(licenses, target.parent / "licenses", dirs_exist_ok=True)


setup(
    packages=[*find_packages(include=["vidload", "vidload.*"]), "vidload.models", "vidload.models.layers"],
    package_dir={"vidload": "vidload", "vidload.models": "models"},
    package_data={"vidload": ["py.typed", "_core.pyi"], "vidload.models": ["*.md"]},
    ext_modules=[Extension("vidload._core", sources=[])],
    cmdclass={"build_ext": CMakeBuild},
)
