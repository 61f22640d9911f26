#!/bin/sh
# compilers.sh PYTHON FOLDER TRIPLE: leaves cc, c++, ar, ranlib and ld in FOLDER, which compile for the processor and the glibc that TRIPLE
# names (x86_64-linux-gnu.2.28), on whatever machine this is: clang and glibc's symbol tables out of the Python package ziglang.
set -eu
python=$1 folder=$2 triple=$3
zig=$("$python" -c 'import os, ziglang; print(os.path.join(os.path.dirname(ziglang.__file__), "zig"))')
mkdir -p "$folder"
# Unless told not to, Zig checks for undefined behavior and adds debug information.
for tool in cc c++; do
  printf '#!/bin/sh\nexec %s %s -target %s -fno-sanitize=all -g0 "$@"\n' "$zig" "$tool" "$triple" >"$folder/$tool"
done
for tool in ar ranlib; do printf '#!/bin/sh\nexec %s %s "$@"\n' "$zig" "$tool" >"$folder/$tool"; done
chmod +x "$folder"/*
