"""The plan: which packets are read and decoded. Work is asserted by the plan's own counts."""

from __future__ import annotations

import difflib
from pathlib import Path

import av
import numpy as np
import plan_goldens
import pytest
import videos
from av.video.frame import PictureType

import vidload
from vidload import FrameIndexError

# --- by hand: a packet is named by its type and the frame it shows; I keyframe, P others depend on it, b none does

CLOSED = "I0 P3 b1 b2 P6 b4 b5 I7 P9 b8"
OPEN = "I0 P3 b1 b2 I6 b4 b5 P9 b7 b8"  # b4 and b5 are decoded after I6, but may depend on P3


def encode(packets: str, path: Path) -> str:
    """Writes the H.264 clip with these packets."""
    type_of = {int(packet[1:]): packet[0].upper() for packet in packets.split()}
    params = "bframes=2:b-adapt=0:b-pyramid=none:ref=1:scenecut=0:keyint=infinite:min-keyint=1"
    if packets == OPEN:
        params += ":open-gop=1"
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=25, options={"x264-params": params})
        stream.width, stream.height, stream.pix_fmt, stream.thread_count = 64, 48, "yuv420p", 1
        for number in range(len(type_of)):
            frame = av.VideoFrame.from_ndarray(videos.picture(number, 64, 48), format="rgb24").reformat(
                format="yuv420p"
            )
            frame.pts, frame.pict_type = number, PictureType[type_of[number]]
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return str(path)


@pytest.mark.parametrize(
    ("packets", "wanted", "sent"),
    [
        (CLOSED, [], []),
        (CLOSED, [0], ["I0"]),
        (CLOSED, [1], ["I0 P3 b1"]),
        (CLOSED, [2], ["I0 P3 b2"]),
        (CLOSED, [3], ["I0 P3"]),
        (CLOSED, [4, 2], ["I0 P3 b2 P6 b4"]),
        (CLOSED, [6], ["I0 P3 P6"]),
        (CLOSED, [7], ["I7"]),
        (CLOSED, [8, 1, 8], ["I0 P3 b1", "I7 P9 b8"]),
        (CLOSED, range(10), ["I0 P3 b1 b2 P6 b4 b5", "I7 P9 b8"]),
        (OPEN, [6], ["I6"]),
        (OPEN, [5], ["I0 P3 I6 b5"]),
        (OPEN, [6, 5], ["I0 P3 I6 b5", "I6"]),
        (OPEN, [4, 8], ["I0 P3 I6 b4", "I6 P9 b8"]),
    ],
)
def test_packets_sent_are_those_that_wanted_frames_need(
    packets: str, wanted: list[int], sent: list[str], tmp_path: Path
) -> None:
    names = packets.split()
    reader = vidload.VideoReader(encode(packets, tmp_path / "clip.mp4"))
    plan = reader.plan(list(wanted))  # from the container's tables
    reader._open().read_whole_index()  # which tells what may be left out
    assert reader.plan(list(wanted)) == plan
    frame_of = np.argsort(reader._index.frame_packet)
    flags = reader._index.packet_flags
    found = ["I" if flag & 1 else "b" if flag & 2 else "P" for flag in flags.tolist()]
    assert [f"{kind}{frame}" for kind, frame in zip(found, frame_of, strict=True)] == names
    sizes = reader._index.packet_sizes
    assert len(set(sizes.tolist())) == len(sizes)  # so that a sum of sizes is as good as a list of packets

    spans = [[names.index(packet) for packet in span.split()] for span in sent]
    assert list(plan.spans) == [(span[0], span[-1] + 1) for span in spans]
    assert plan.num_packets_decoded == sum(map(len, spans))
    assert plan.bytes_read == sum(int(sizes[packet]) for span in spans for packet in span)
    assert plan.num_packets_dropped == sum(span[-1] + 1 - span[0] - len(span) for span in spans)
    covered = {packet for span in spans for packet in range(span[0], span[-1] + 1)}
    assert plan.num_packets_skipped == len(names) - len(covered)


# --- of generated clips


@pytest.mark.parametrize("name", plan_goldens.REQUESTS)
def test_plans_are_those_written_down(name: str, video) -> None:
    path, command = plan_goldens.golden_path(name), plan_goldens.command(name)
    found = plan_goldens.golden_text(name, video(name))
    if not path.exists():
        pytest.fail(f"tests/golden/{path.name} is missing; write it and look at it: {command}")
    expected = path.read_text()
    difference = "\n".join(
        difflib.unified_diff(expected.splitlines(), found.splitlines(), path.name, "now", lineterm="")
    )
    if difference:
        pytest.fail(f"{name} is planned in another way:\n{difference}\nIf that is meant: {command}")


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


@pytest.mark.parametrize("wanted", [[0], [7], [20, 3], list(range(48))])
def test_packets_of_closed_gops_are_decoded_dropped_or_skipped_and_none_twice(wanted: list[int], video) -> None:
    reader = vidload.VideoReader(video("h264_one_b_frame"))
    plan = reader.plan(wanted)
    counts = plan.num_packets_decoded + plan.num_packets_dropped + plan.num_packets_skipped
    assert counts == reader._index.num_packets


@pytest.mark.parametrize("name", ["h264_open_gop", "hevc_open_gop"])
def test_packets_in_two_spans_are_decoded_twice_and_skipped_by_neither(name: str, video) -> None:
    reader = vidload.VideoReader(video(name))
    key = int(reader.keyframe_indices[1])
    plan = reader.plan([key - 1, key])
    (first, first_stop), (second, second_stop) = plan.spans
    assert first < second < second_stop <= first_stop
    assert plan.num_packets_decoded + plan.num_packets_dropped == first_stop - first + second_stop - second
    assert plan.num_packets_skipped == reader._index.num_packets - (first_stop - first)


def test_wanted_non_reference_frames_are_decoded_and_only_those(video) -> None:
    reader = vidload.VideoReader(video("h264_star"))
    reader._open().read_whole_index()  # which tells what may be left out
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
