"""The core's list of a dataset's videos: samples are those of its rows, and columns that make no sense are errors."""

from __future__ import annotations

import gc
from typing import Any

import numpy as np
import pytest
import torch

from vidload import VideoDataset, _core, transforms
from vidload.annotations import path_array
from vidload.clip_dataset import ClipDataset


def columns(*paths: str) -> dict[str, Any]:
    _, ends, data = path_array(paths).buffers()
    return {"name_ends": np.frombuffer(ends, np.int32, len(paths) + 1), "name_bytes": np.frombuffer(data, np.uint8)}


def batch(videos: _core.VideoList, rows: list[int], **options: Any) -> _core.Batch:
    return _core.Batch.of_videos(_core.LoaderPool(0), videos, rows, **options)


def num_frames(videos: _core.VideoList, rows: list[int]) -> list[int]:
    started = batch(videos, rows)
    return [-1 if info is None else info.num_frames for info in started.infos()]


def test_a_batch_is_of_the_rows_in_their_order(video) -> None:
    videos = _core.VideoList(**columns(video("h264"), "gone.mp4", video("vp9")))
    counts = num_frames(videos, [0, 1, 2])
    assert counts[0] > 0 and counts[1] == -1 and counts[2] > 0
    assert num_frames(videos, [2, 0, 2]) == [counts[2], counts[0], counts[2]]


def test_a_list_keeps_its_arrays(video) -> None:
    given = {name: array.copy() for name, array in columns(video("h264")).items()}
    videos = _core.VideoList(**given)
    expected = num_frames(videos, [0])
    del given
    gc.collect()
    garbage = [np.full(200, 255, np.uint8) for _ in range(1000)]
    assert num_frames(videos, [0]) == expected and len(garbage) == 1000


def test_a_stream_is_chosen_by_its_row(video) -> None:
    videos = _core.VideoList(**columns(video("h264"), video("h264")), streams=np.array([-1, 5]))
    _, error = batch(videos, [0, 1]).errors()
    assert "stream 5 is not a video stream" in str(error)


@pytest.mark.parametrize("row", [-1, 1, 2**40])
def test_a_row_outside_is_an_error(row: int, video) -> None:
    with pytest.raises(ValueError, match=f"row {row} is not one of the dataset's videos"):
        batch(_core.VideoList(**columns(video("h264"))), [row])


@pytest.mark.parametrize("ends", [[0, 10**6], [-5, 3], [3, 1]])
def test_a_name_outside_its_bytes_is_an_error(ends: list[int]) -> None:
    given = {**columns("a.mp4"), "name_ends": np.array(ends, np.int32)}
    with pytest.raises(ValueError, match="the name of video 0 is not in the list"):
        batch(_core.VideoList(**given), [0])


PARTS: dict[str, Any] = {
    "files": (["a.tar"], [(-1, -1)]),
    "part_files": np.zeros(1, np.int32),
    "part_offsets": np.zeros(1, np.int64),
    "part_sizes": np.ones(1, np.int64),
}


@pytest.mark.parametrize(
    "change, message",
    [
        ({"part_files": np.ones(1, np.int32)}, "part of no file"),
        ({"part_offsets": np.full(1, -1)}, "part of no file"),
        ({"part_offsets": np.zeros(2, np.int64)}, "differ in length"),
        ({"files": (["a.tar", "b.tar"], [(-1, -1)])}, "differ in length"),
        ({"streams": np.zeros(3, np.int64)}, "3 rows of 1 videos"),
        ({"stored": np.zeros((2, 4), np.int64)}, "2 rows of 1 videos"),
        ({"stored": np.zeros((1, 3), np.int64)}, r"must be int64 \[N, 4\]"),
    ],
)
def test_columns_that_do_not_fit_are_errors(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        batch(_core.VideoList(**columns("a.mp4"), **{**PARTS, **change}), [0])


def test_arrays_of_other_types_are_refused_and_not_converted() -> None:
    given = columns("a.mp4")
    with pytest.raises(TypeError):
        _core.VideoList(**{**given, "name_ends": given["name_ends"].astype(np.int64)})


def test_a_batch_that_waits_for_its_draw_knows_nothing_before_and_loads_the_same_after(video) -> None:
    items = [(video("h264"), 0), (video("vp9"), 1)]
    dataset = VideoDataset(items, clip="2x1x1", transform=transforms.random_resized_crop(24), seed=5)
    waiting = dataset.start_indexing(_core.LoaderPool(2), [0, 1], waits_for_draw=True)
    assert waiting.wait()
    with pytest.raises(ValueError, match=r"waits for draw\(\)"):
        waiting.infos()
    out = torch.empty(2, *dataset.sample_shape)
    ClipDataset.start_decoding(dataset, waiting, [0, 1], 0, out, [0, 0])
    assert waiting.wait()
    assert torch.equal(out, torch.stack([dataset[0][0], dataset[1][0]]))


def test_rows_of_a_column_are_numpy_s() -> None:
    from torch.utils.dlpack import from_dlpack

    for column in (np.arange(10) * 7 - 3, np.linspace(-1, 1, 10)):
        found = from_dlpack(_core.rows_of(column, [9, 0, 0, 4]))
        assert torch.equal(found, torch.from_numpy(column[[9, 0, 0, 4]]))
        for row in (-1, 10):
            with pytest.raises(IndexError, match=rf"row {row} is out of range \[0, 10\)"):
                _core.rows_of(column, [row])
    for wrong in (np.zeros((2, 2), np.int64), np.zeros(4, np.int32), np.arange(10)[::2]):
        with pytest.raises(ValueError, match="contiguous int64 or float64"):
            _core.rows_of(wrong, [0])
