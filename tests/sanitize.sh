#!/bin/sh
# sanitize.sh address,undefined | thread: builds the extension with these sanitizers into build/sanitize-*, next to a link to the package,
# and runs the tests that drive the C++ with it. TESTS selects other tests.
#
# Python itself is not built with sanitizers, so their runtime is preloaded. Leaks are not checked: the interpreter's own would hide the
# rest. ThreadSanitizer does not live through a fork, and sees races in Ray. Child processes with a memory limit or their own preloaded library and the stub GPU (which needs nvcc) are left out; errors in
# libraries built without sanitizers go undetected.
set -eu
cd "$(dirname "$0")/.."
sanitizers=$1
bin=${BIN:-.venv/bin}
tests=${TESTS:-"tests/test_decode.py tests/test_index.py tests/test_index_damage.py tests/test_plan.py tests/test_errors.py tests/test_reader.py
  tests/test_limits.py tests/test_transform.py tests/test_frames.py tests/test_tables.py tests/test_fragments.py"}
[ "$sanitizers" = thread ] && tests=${TESTS:-"tests/test_loader.py tests/test_errors.py tests/test_index.py tests/test_memory_pool.py tests/test_fields.py"}
folder=$PWD/build/sanitize-$sanitizers
mkdir -p "$folder/package/vidload"
# The package's own files, with the module built here instead of its compiled one.
for file in vidload/*; do
  case $file in *.so) ;; *) ln -sfn "$PWD/$file" "$folder/package/$file" ;; esac
done
ln -sfn "$PWD/models" "$folder/package/vidload/models"
PATH="$PWD/$bin:$PATH"
cmake -S . -B "$folder" -G Ninja -DCMAKE_BUILD_TYPE=RelWithDebInfo -DVIDLOAD_SANITIZE="$sanitizers" -DVIDLOAD_CUDA=OFF \
  -DPython_EXECUTABLE="$PWD/$bin/python" -Dpybind11_DIR="$(python -m pybind11 --cmakedir)" -DVIDLOAD_OUTPUT_DIR="$folder/package/vidload" >/dev/null
cmake --build "$folder"
runtime=libasan.so
which=
[ "$sanitizers" = thread ] && runtime=libtsan.so && which="not worker_processes and not forked_child and not test_ray"
# PYTHONSAFEPATH: the child processes of tests must not take the package of the current folder either. libstdc++ too, or exceptions thrown by preloaded runtimes find no handlers.
export LD_PRELOAD="$(gcc -print-file-name=$runtime) $(gcc -print-file-name=libstdc++.so.6)"
export PYTHONPATH="$folder/package:$PWD/tests" PYTHONSAFEPATH=1 PYTHONMALLOC=malloc OMP_NUM_THREADS=1
export ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1:halt_on_error=1 UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1
# Locks that libarrow holds while it waits look as if they were never let go of, until the deadlock detector has no room for more.
export TSAN_OPTIONS="detect_deadlocks=0:halt_on_error=0:exitcode=66:log_path=$folder/report:report_signal_unsafe=0:suppressions=$PWD/tests/tsan.supp"
rm -f "$folder"/report.*
status=0
# shellcheck disable=SC2086
python -c 'import sys; sys.path[:] = filter(None, sys.path); import vidload; assert "sanitize" in vidload._core.__file__, vidload._core.__file__; import pytest; sys.exit(pytest.main(sys.argv[1:]))' -q -x -k "$which" --deselect tests/test_limits.py::test_a_jpeg_that_claims_gigapixels_costs_no_memory --deselect tests/test_limits.py::test_memory_of_a_large_jpeg_is_given_back $tests || status=$?
unset LD_PRELOAD
for report in "$folder"/report.*; do [ ! -f "$report" ] || cat "$report"; done  # pytest would have kept those of tests that pass
exit $status
