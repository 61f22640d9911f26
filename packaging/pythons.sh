#!/bin/bash
# pythons.sh FOLDER PYTHON...: builds a wheel for each Python, installs it without torch in an environment of its own and decodes the videos
# in FOLDER (core_check.py): every Python must give the same frames. With TORCH=torch==VERSION that torch is installed too, and the tests run.
set -euo pipefail
cd "$(dirname "$0")/.."
videos=$1
shift
packaging/wheel.sh "$@"
for python in "$@"; do
  tag=$("$python" -c 'import sys, sysconfig; print("cp%d%d" % sys.version_info[:2] + ("t" if sysconfig.get_config_var("Py_GIL_DISABLED") else ""))')
  folder=build/pythons/$tag
  rm -rf "$folder"
  "$python" -m venv "$folder"
  "$folder/bin/pip" install --quiet --disable-pip-version-check numpy
  "$folder/bin/pip" install --quiet --disable-pip-version-check --no-deps dist/vidload-*-"${tag%t}-$tag"-*"$(uname -m)".whl
  "$folder/bin/python" packaging/core_check.py "$videos"/* >"$folder/frames.txt"
  echo "$tag: $(wc -l <"$folder/frames.txt") videos, checksum of all $(sha256sum <"$folder/frames.txt" | cut -c 1-16)"
  if [ -n "${TORCH:-}" ]; then
    "$folder/bin/pip" install --quiet --disable-pip-version-check "$TORCH" "$(echo dist/vidload-*-"${tag%t}-$tag"-*"$(uname -m)".whl)[test]"
    (cd tests && "../$folder/bin/python" -m pytest -p no:cacheprovider -c ../pyproject.toml --rootdir .. -m "not trainers" .)
  fi
done
