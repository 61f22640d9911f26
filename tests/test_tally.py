"""What a loader says of the time that indexing took."""

from __future__ import annotations

import logging

import pytest

import vidload
from vidload.loading.tally import Tally, index_wait_seconds
from vidload.transforms import center_crop

NOTHING = {"index_seconds": 0.0, "read_seconds": 0.0, "decode_seconds": 0.0, "transform_seconds": 0.0}


def after(index: float, decode: float) -> dict[str, float]:
    return {**NOTHING, "index_seconds": index, "decode_seconds": decode}


@pytest.mark.parametrize(
    "index, decode, waited, elapsed, is_warned",
    [
        (60.0, 40.0, 50.0, 60.0, True),
        (40.0, 60.0, 50.0, 60.0, False),  # an index file would not have halved it
        (60.0, 40.0, 20.0, 60.0, False),  # training did not wait for it
        (0.6, 0.4, 0.6, 0.7, False),  # nobody minds
    ],
)
def test_a_pass_that_an_index_file_would_have_halved_is_reported(
    index: float, decode: float, waited: float, elapsed: float, is_warned: bool, caplog
) -> None:
    tally = Tally()
    with caplog.at_level(logging.WARNING, "vidload"):
        for _ in range(2):  # once
            tally.warn_of_indexing(NOTHING, after(index, decode), waited, elapsed)
    assert [record.getMessage()[:44] for record in caplog.records] == [
        "threads spent 60% of this epoch on finding o"
    ] * is_warned


def test_only_the_pass_itself_counts(caplog) -> None:
    Tally().warn_of_indexing(after(100.0, 0.0), after(110.0, 40.0), 30.0, 40.0)
    assert not caplog.records


def test_the_wait_is_shared_out_by_the_work(video, tmp_path) -> None:
    assert index_wait_seconds(after(1.0, 3.0), 8.0) == 2.0
    assert index_wait_seconds(NOTHING, 8.0) == 0.0
    vidload._core.clear_index_cache()
    data = vidload.VideoDataset([(video("h264"), 0)], clip="1x1x1", transform=center_crop(16))
    loader = vidload.VideoLoader(data)
    list(loader)
    stats = loader.stats()
    assert 0 < stats["index_wait_seconds"] < stats["wait_seconds"]
