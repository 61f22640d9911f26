#!/bin/sh
# Fuzzes the project's own C++ with libFuzzer under ASan and UBSan, each target for its share of SECONDS (600), then compares whole video files
# with a sequential decode for as long again. Inputs that broke something are left in build/fuzz; add the smallest to
# tests/fuzz/corpus/<target>/ with the fix.
set -eu
cd "$(dirname "$0")/../.."
seconds=${TOTAL_SECONDS:-600}
python=${PYTHON:-.venv/bin/python}
export PATH="$PWD/.venv/bin:$PATH"
for version in "" -19 -18 -17 -16 -15 -14; do
  command -v "clang++$version" >/dev/null && compiler="clang++$version" && break
done
[ -n "${compiler:-}" ] || { echo "make fuzz needs clang with its fuzzer: apt-get install clang libclang-rt-dev" >&2; exit 1; }
cmake -S . -B build/fuzz -G Ninja -DCMAKE_BUILD_TYPE=RelWithDebInfo -DCMAKE_CXX_COMPILER="$compiler" -DCMAKE_C_COMPILER="clang${compiler#clang++}" \
  -DVIDLOAD_FUZZ=ON -DVIDLOAD_SANITIZE=address,undefined -DVIDLOAD_CUDA=OFF >/dev/null
cmake --build build/fuzz
"$python" tests/fuzz/seeds.py build/fuzz/corpus .pytest_cache/d/videos/*/*
targets="index_entry plan packet_headers annex_b frame_name"
status=0
for target in $targets; do
  mkdir -p "build/fuzz/corpus/$target" "tests/fuzz/corpus/$target"
  echo "== $target"
  UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 "build/fuzz/tests/fuzz/fuzz_$target" -max_total_time=$((seconds / 10)) -max_len=20000 -timeout=10 \
    -rss_limit_mb=3000 -print_final_stats=1 -artifact_prefix="build/fuzz/$target-" "build/fuzz/corpus/$target" "tests/fuzz/corpus/$target" \
    >"build/fuzz/$target.log" 2>&1 || { status=1; grep -E "ERROR|SUMMARY|broken promise|runtime error" "build/fuzz/$target.log"; }
  grep -E "number_of_executed_units|cov:" "build/fuzz/$target.log" | tail -2
done
echo "== annotations"
"$python" tests/fuzz/annotations.py --seconds $((seconds / 20)) || status=1
echo "== whole files"
"$python" tests/fuzz/whole_files.py --seconds $((seconds / 2)) || status=1
exit $status
