#!/bin/bash
# ffmpeg_versions.sh NAME...: for each FFmpeg of sources.txt (ffmpeg, ffmpeg-8.1, ffmpeg-7.1), builds it and the module with it into
# build/NAME and runs the tests of decoding with that module. `system` is the FFmpeg that pkg-config finds. TESTS names other tests, BIN
# the folder of Python's programs (.venv/bin), JOBS the processes.
set -euo pipefail
cd "$(dirname "$0")/.."
bin=$(cd "${BIN:-.venv/bin}" && pwd)
tests=${TESTS:-"test_decode.py test_reader.py test_plan.py test_index.py test_index_damage.py test_frames.py test_joined.py test_errors.py
  test_sources.py test_info.py"}
for name in "$@"; do
  folder=$PWD/build/$name
  mkdir -p "$folder/package/vidload"
  for file in vidload/*; do
    case $file in *.so) ;; *) ln -sfn "$PWD/$file" "$folder/package/$file" ;; esac
  done
  ln -sfn "$PWD/models" "$folder/package/vidload/models"
  bundled=OFF
  if [ "$name" != system ]; then
    PATH="$bin:$PATH" FFMPEG=$name bash packaging/libraries.sh "$folder/libraries"
    export PKG_CONFIG_LIBDIR=$folder/libraries/lib/pkgconfig
    bundled=ON
  fi
  "$bin/cmake" -S . -B "$folder" -G Ninja -DCMAKE_MAKE_PROGRAM="$bin/ninja" -DVIDLOAD_WERROR=ON -DVIDLOAD_BUNDLED=$bundled -DVIDLOAD_CUDA=OFF \
    -DPython_EXECUTABLE="$bin/python" -Dpybind11_DIR="$("$bin/python" -m pybind11 --cmakedir)" -DVIDLOAD_OUTPUT_DIR="$folder/package/vidload" >/dev/null
  "$bin/cmake" --build "$folder" --parallel "${JOBS:-$(nproc)}" >"$folder/build.log" || { tail -n 40 "$folder/build.log" >&2; exit 1; }
  unset PKG_CONFIG_LIBDIR
  echo "== $name"
  # shellcheck disable=SC2086
  (cd tests && PYTHONPATH="$folder/package" "$bin/python" -m pytest -q $tests)  # from here, where no other vidload is in the way
done
