"""The plan: which packets are read and decoded. Work is asserted by the plan's own counts."""

from __future__ import annotations

import numpy as np
import pytest

import vidload
from vidload import FrameIndexError


@pytest.mark.parametrize(
    ("wanted", "spans"),
    [
        ([0], [(0, 1)]),
        ([5], [(0, 6)]),
        ([5, 5, 5], [(0, 6)]),  # a repeated frame is decoded once
        ([31, 35], [(24, 36)]),  # one GOP, one span
        ([30, 5], [(0, 6), (24, 31)]),  # request order does not matter
        ([23, 24], [(0, 24), (24, 25)]),  # neighbors in different GOPs
        ([], []),
    ],
)
def test_spans_run_from_keyframe_to_last_wanted_frame(wanted: list[int], spans: list[tuple[int, int]], video) -> None:
    reader = vidload.VideoReader(video("h264_no_b_frames"))  # keyframes at 0 and 24
    assert list(reader.keyframe_indices) == [0, 24]
    assert list(reader.plan(wanted).spans) == spans


def test_packets_are_decoded_dropped_or_skipped_and_none_twice(video) -> None:
    reader = vidload.VideoReader(video("h264_one_b_frame"))
    num_packets = reader._index.num_packets
    for wanted in ([0], [7], [20, 3], list(range(reader.num_frames))):
        plan = reader.plan(wanted)
        assert plan.num_packets_decoded + plan.num_packets_dropped + plan.num_packets_skipped == num_packets


def test_wanted_non_reference_frames_are_decoded_and_only_those(video) -> None:
    reader = vidload.VideoReader(video("h264_star"))
    flags = reader._index.packet_flags[reader._index.frame_packet]
    droppable = np.flatnonzero(flags & 2)
    assert len(droppable) > reader.num_frames // 2
    plan = reader.plan([int(droppable[3])])
    assert plan.num_packets_decoded <= 3


def test_leading_pictures_of_an_open_gop_start_at_the_keyframe_before(video) -> None:
    reader = vidload.VideoReader(video("hevc_open_gop"))
    key = int(reader.keyframe_indices[1])
    assert reader.plan([key]).spans[0][0] > 0
    assert reader.plan([key - 1]).spans[0][0] == 0  # decoded after the keyframe, shown before it


def test_bytes_read_are_the_sizes_of_the_packets(video) -> None:
    reader = vidload.VideoReader(video("h264_all_intra"))
    packet = int(reader._index.frame_packet[11])
    assert reader.plan([11]).bytes_read == reader._index.packet_sizes[packet]


@pytest.mark.parametrize("index", [48, -49, 10**12])
def test_an_index_out_of_range_is_an_error_that_names_file_index_and_range(index: int, video) -> None:
    reader = vidload.VideoReader(video("h264"))
    with pytest.raises(FrameIndexError, match=rf"h264\.mp4.*{index % 10**13 if index >= 0 else index + 48}.*\[0, 48\)"):
        reader.plan([index])
    with pytest.raises(IndexError):
        reader.get_frames_at([index])


@pytest.mark.parametrize("indices", [[0.5], ["a"], [[0, 1]], [None]])
def test_indices_that_are_no_integers_are_a_type_error(indices: list, video) -> None:
    with pytest.raises(TypeError, match="integers"):
        vidload.VideoReader(video("h264")).get_frames_at(indices)


def test_negative_indices_count_from_the_end(video) -> None:
    reader = vidload.VideoReader(video("h264"))
    assert np.array_equal(reader.get_frames_at([-1]), reader.get_frames_at([47]))
    assert np.array_equal(reader[-1], reader[47])
