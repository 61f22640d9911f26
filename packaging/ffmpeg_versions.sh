#!/bin/bash
# ffmpeg_versions.sh NAME...: for each FFmpeg of sources.txt (ffmpeg, ffmpeg-8.1, ffmpeg-7.1), builds it and the module with it into
# build/NAME and runs the tests of decoding with that module. `system` is the FFmpeg that pkg-config finds. TESTS names other tests, BIN
# the folder of Python's programs (.venv/bin), JOBS the processes. The last lines are a row per FFmpeg; exit status 1: a test failed.
set -euo pipefail
cd "$(dirname "$0")/.."
bin=$(cd "${BIN:-.venv/bin}" && pwd)
tests=${TESTS:-"test_decode.py test_reader.py test_lost_packets.py test_plan.py test_index.py test_index_damage.py test_frames.py test_joined.py test_errors.py
  test_sources.py test_info.py"}
status=0
rows=""
for name in "$@"; do
  folder=$PWD/build/$name
  mkdir -p "$folder/package/vidload"
  for file in vidload/*; do
    case $file in *.so) ;; *) ln -sfn "$PWD/$file" "$folder/package/$file" ;; esac
  done
  ln -sfn "$PWD/models" "$folder/package/vidload/models"
  bundled=OFF
  unset PKG_CONFIG_LIBDIR
  if [ "$name" != system ]; then
    tools=$PWD/build/tools
    [ -x "$tools/bin/meson" ] || { "$bin/python" -m venv "$tools" && "$tools/bin/pip" install --quiet --disable-pip-version-check meson==1.12.1; }
    PATH="$tools/bin:$bin:$PATH" FFMPEG=$name bash packaging/libraries.sh "$folder/libraries"
    export PKG_CONFIG_LIBDIR=$folder/libraries/lib/pkgconfig # for the tests, too: their reference in C uses the same FFmpeg
    bundled=ON
  fi
  "$bin/cmake" -S . -B "$folder" -G Ninja -DCMAKE_MAKE_PROGRAM="$bin/ninja" -DVIDLOAD_WERROR=ON -DVIDLOAD_BUNDLED=$bundled -DVIDLOAD_CUDA=OFF \
    -DPython_EXECUTABLE="$bin/python" -Dpybind11_DIR="$("$bin/python" -m pybind11 --cmakedir)" -DVIDLOAD_OUTPUT_DIR="$folder/package/vidload" >/dev/null
  "$bin/cmake" --build "$folder" --parallel "${JOBS:-$(nproc)}" >"$folder/build.log" || { tail -n 40 "$folder/build.log" >&2; exit 1; }
  # shellcheck disable=SC2086
  (cd tests && PYTHONPATH="$folder/package" "$bin/python" -m pytest $tests) 2>&1 | tee "$folder/tests.log" || status=1 # from here, where no other vidload is in the way
  version=$(cd tests && PYTHONPATH="$folder/package" "$bin/python" -c 'import vidload; print(vidload.info()["ffmpeg"]["version"])')
  rows+="$name: FFmpeg $version: $(tail -n 1 "$folder/tests.log")"$'\n'
done
printf '%s' "$rows"
exit $status
