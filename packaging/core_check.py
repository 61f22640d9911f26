"""Decodes clips through the compiled module alone, without torch, and prints a checksum of every frame's planes and RGB pixels per clip.

In: files. Out: a line `name frames checksum` for each. Two builds (Pythons, FFmpegs, compilers) that print the same lines decode alike.
"""

from __future__ import annotations

import hashlib
import importlib.util
import sys
import types
from pathlib import Path

import numpy as np

package = types.ModuleType("vidload")  # the package itself imports torch
spec = importlib.util.find_spec("vidload")
assert spec is not None and spec.submodule_search_locations is not None
package.__path__ = list(spec.submodule_search_locations)
sys.modules["vidload"] = package

from vidload import _core  # noqa: E402


def checksum(path: str) -> str:
    """Frames in an order that seeks, then the file's frames from first to last."""
    reader = _core.VideoReader(path)
    count = reader.index.num_frames
    wanted = np.array([*range(count - 1, -1, -7), *range(count)], np.int64)
    found = hashlib.sha256()
    for planes in reader.read_planes(wanted):
        for plane in planes:
            found.update(np.ascontiguousarray(plane).tobytes())
    found.update(reader.read_rgb(wanted, reader.index.height, reader.index.width).tobytes())
    return f"{Path(path).name} {count} {found.hexdigest()[:16]}"


if __name__ == "__main__":
    for name in sys.argv[1:]:
        try:
            print(checksum(name))
        except Exception as error:
            print(f"{Path(name).name} {type(error).__name__}: {error}".replace(name, Path(name).name))
