"""The folder that keeps what was read of remote objects: the bytes of the object or a request, whatever is in the folder."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from http_server import http_server

import vidload
from vidload import _core
from vidload.range_cache import BLOCK_BYTES, RangeCache, parsed_bytes

DATA = np.random.default_rng(0).bytes(10 * BLOCK_BYTES + 777)
IDENTITY = ("s3://bucket/a", len(DATA), 5)


class Fetcher:
    def __init__(self, data: bytes = DATA) -> None:
        self.data = data
        self.ranges: list[tuple[int, int]] = []

    def __call__(self, begin: int, end: int) -> bytes:
        self.ranges.append((begin, end))
        return self.data[begin:end]


def reader(folder: Path, fetch: Callable[[int, int], bytes], max_bytes: int = 1 << 30, identity=IDENTITY):
    cache = RangeCache(folder, max_bytes)
    return lambda begin, end: cache.read(identity, begin, end, len(DATA), fetch)


def blocks(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_any_range_is_that_of_the_object_and_read_once(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    fetch = Fetcher()
    read = reader(tmp_path, fetch)
    for _ in range(100):
        begin, end = sorted(rng.integers(0, len(DATA) + 1, 2).tolist())
        if begin < end:
            assert read(begin, end) == DATA[begin:end]
    assert read(0, len(DATA)) == DATA
    fetch.ranges.clear()
    assert reader(tmp_path, fetch)(0, len(DATA)) == DATA  # another process finds all of it
    assert fetch.ranges == []


def test_whole_blocks_are_asked_for(tmp_path: Path) -> None:
    fetch = Fetcher()
    reader(tmp_path, fetch)(BLOCK_BYTES + 5, BLOCK_BYTES + 6)
    reader(tmp_path, fetch)(len(DATA) - 1, len(DATA))
    assert fetch.ranges == [(BLOCK_BYTES, 2 * BLOCK_BYTES), (10 * BLOCK_BYTES, len(DATA))]


@pytest.mark.parametrize("damage", ["cut", "changed", "empty"])
def test_a_damaged_block_is_read_again(damage: str, tmp_path: Path) -> None:
    reader(tmp_path, Fetcher())(0, len(DATA))
    for path in blocks(tmp_path):
        data = path.read_bytes()
        path.write_bytes({"cut": data[:-1], "changed": b"x" + data[1:], "empty": b""}[damage])
    fetch = Fetcher()
    assert reader(tmp_path, fetch)(0, len(DATA)) == DATA
    assert len(fetch.ranges) == 1


@pytest.mark.parametrize("identity", [("s3://bucket/b", len(DATA), 5), ("s3://bucket/a", len(DATA), 6)])
def test_another_object_and_another_state_of_it_have_blocks_of_their_own(identity, tmp_path: Path) -> None:
    reader(tmp_path, Fetcher())(0, len(DATA))
    other = DATA[::-1]
    assert reader(tmp_path, Fetcher(other), identity=identity)(0, len(DATA)) == other


def test_an_object_whose_state_nobody_tells_is_not_kept(tmp_path: Path) -> None:
    reader(tmp_path, Fetcher(), identity=("s3://bucket/a", len(DATA), 0))(0, len(DATA))
    assert blocks(tmp_path) == []


def test_the_folder_stays_within_its_bytes_and_loses_what_was_used_longest_ago(tmp_path: Path) -> None:
    most = 5 * BLOCK_BYTES
    fetch = Fetcher()
    read = reader(tmp_path, fetch, most)
    for number in range(11):
        read(number * BLOCK_BYTES, min((number + 1) * BLOCK_BYTES, len(DATA)))
        assert sum(path.stat().st_size for path in blocks(tmp_path)) <= most + BLOCK_BYTES
    fetch.ranges.clear()
    read(10 * BLOCK_BYTES, len(DATA))
    assert fetch.ranges == []
    read(0, BLOCK_BYTES)
    assert fetch.ranges == [(0, BLOCK_BYTES)]


def test_a_folder_that_cannot_be_written_costs_speed_alone(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    fetch = Fetcher()
    assert reader(tmp_path / "file", fetch)(0, len(DATA)) == DATA


def test_threads_may_share_a_folder(tmp_path: Path) -> None:
    wrong: list[int] = []

    def work() -> None:
        read = reader(tmp_path, Fetcher(), 4 * BLOCK_BYTES)
        wrong.extend(at for at in range(0, len(DATA) - 999, 100_000) if read(at, at + 999) != DATA[at : at + 999])

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_video_is_read_from_the_folder_the_second_time(video, tmp_path: Path, monkeypatch) -> None:
    pytest.importorskip("aiohttp")
    monkeypatch.setenv("VIDLOAD_CACHE", os.fspath(tmp_path))
    with http_server() as server:
        server.files["/a.mp4"] = Path(video("h264")).read_bytes()
        url = f"{server.url}/a.mp4"
        expected = vidload.VideoReader(video("h264"))[:]
        for _ in range(2):
            _core.clear_index_cache()
            np.testing.assert_array_equal(vidload.VideoReader(url)[:], expected)
        assert server.num_gets == 1
        server.files["/a.mp4"] = Path(video("h264_rotated_180")).read_bytes()
        np.testing.assert_array_equal(vidload.VideoReader(url)[:], vidload.VideoReader(video("h264_rotated_180"))[:])


@pytest.mark.parametrize(
    "text, number", [("4096", 4096), ("500MB", 500_000_000), ("1.5 gb", 1_500_000_000), ("2T", 2 * 10**12)]
)
def test_sizes_are_read_as_people_write_them(text: str, number: int) -> None:
    assert parsed_bytes(text) == number


@pytest.mark.parametrize("text", ["", "GB", "-1", "0", "1 GiB"])
def test_sizes_that_make_no_sense_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a size such as 500MB or 1GB"):
        parsed_bytes(text)
