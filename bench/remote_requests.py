"""What a request for a part of a remote object costs besides the store's own time: from a pool thread through Python and fsspec and back.

The object is in fsspec's memory, so the store itself takes next to nothing. One request at a time, each for a different part.

    python bench/remote_requests.py
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import fsspec

from vidload import _core

_PART = 64 << 10  # bytes
_NUM_PARTS = 500


def microseconds(read: Callable[[int], object]) -> float:
    """The median of reading a part."""
    times = []
    for number in range(_NUM_PARTS):
        start = time.perf_counter()
        read((_NUM_PARTS - 1 - number) * 2 * _PART)  # backwards and with gaps: nothing is read ahead
        times.append(1e6 * (time.perf_counter() - start))
    return statistics.median(times)


def main() -> None:
    store = fsspec.filesystem("memory")
    store.pipe("/object", bytes(2 * _NUM_PARTS * _PART))
    source = _core.ByteSource("memory://object")
    alone = microseconds(lambda at: store.cat_file("/object", start=at, end=at + _PART))
    whole = microseconds(lambda at: source.read(at, _PART))
    stamps = microseconds(lambda at: _core.stamp_of("memory://object"))
    print(f"a part of {_PART >> 10} KiB: {whole:.0f} us, of which fsspec alone {alone:.0f} us")
    print(f"the state of the object: {stamps:.0f} us")
    store.rm("/object")


if __name__ == "__main__":
    main()
