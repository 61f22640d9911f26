"""Fragmented mp4 files are indexed from the headers of their fragments; and give the same frames as when every packet is read."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import av
import pytest
from test_tables import CountedFile, check_frames, enlarged, long_video, with_whole_index

import vidload
from vidload import _core

FLAGS = [
    "frag_keyframe+empty_moov",  # offsets from where each moof begins, stated in tfhd
    "frag_keyframe",  # the first is listed in the moov
    "frag_keyframe+empty_moov+default_base_moof",
    "frag_keyframe+empty_moov+omit_tfhd_offset",  # from the end of the run before
    "frag_every_frame+empty_moov",
    "frag_keyframe+delay_moov",  # with an edit list where packets are reordered
    "frag_keyframe+empty_moov+negative_cts_offsets",
    "frag_keyframe+separate_moof+empty_moov",
    "dash+frag_keyframe",  # with a sidx for each fragment
    "dash+frag_keyframe+global_sidx",
    "cmaf+frag_keyframe",
]
SOME_FLAGS = [FLAGS[0], "frag_keyframe+delay_moov", "dash+frag_keyframe"]
CLIPS = ["h264", "h264_open_gop", "hevc"]
MORE_CLIPS = ["h264_no_b_frames", "h264_vfr", "hevc_open_gop", "hevc_temporal_layers"]
OF_LARGE_FILES = ["av1_low_delay", "vp9_mp4"]
# These may be read as a whole.
OF_NEITHER = ["mpeg4", "h264_edit_list", "h264_empty_edit", "av1", "h264_rotated_90"]
CASES = [
    *((name, flags) for name in CLIPS for flags in FLAGS),
    *((name, flags) for name in (*MORE_CLIPS, *OF_LARGE_FILES, *OF_NEITHER) for flags in SOME_FLAGS),
]


@pytest.fixture(autouse=True)
def empty_cache() -> Iterator[None]:
    _core.clear_index_cache()
    yield
    _core.clear_index_cache()


def fragmented(source: str, target: Path, flags: str) -> Path:
    """A copy of all streams in fragments of 0.4 seconds."""
    options = {"movflags": flags, "frag_duration": "400000"}
    with av.open(source) as input_, av.open(str(target), "w", format="mp4", options=options) as output:
        streams = {stream.index: output.add_stream_from_template(stream, opaque=True) for stream in input_.streams}
        for packet in input_.demux():
            if packet.size > 0:
                packet.stream = streams[packet.stream.index]
                output.mux(packet)
    return target


@pytest.mark.parametrize("name, flags", CASES)
def test_frames_are_the_same_whether_fragments_or_packets_are_read(
    name: str, flags: str, video, tmp_path: Path
) -> None:
    path = fragmented(video(name), tmp_path / "clip.mp4", flags)
    is_by_tables = name in CLIPS or name in MORE_CLIPS
    check_frames(path, is_by_tables)
    check_frames(enlarged(path, tmp_path / "large.mp4"), is_by_tables or name in OF_LARGE_FILES)


@pytest.mark.parametrize(
    "flags", [*SOME_FLAGS, "frag_keyframe+empty_moov+default_base_moof", "frag_keyframe+separate_moof+empty_moov"]
)
def test_sound_beside_the_pictures_changes_nothing(flags: str, video, tmp_path: Path) -> None:
    path = fragmented(video("h264_audio_first"), tmp_path / "clip.mp4", flags)
    check_frames(path, is_by_tables=True)


@pytest.mark.parametrize("part", [0.3, 0.5, 0.62, 0.9, 0.999])
def test_a_file_cut_short_is_read_as_a_whole(part: float, video, tmp_path: Path) -> None:
    path = fragmented(video("h264"), tmp_path / "clip.mp4", "frag_keyframe+empty_moov+default_base_moof")
    data = path.read_bytes()
    path.write_bytes(data[: int(part * len(data))])
    assert not vidload.VideoReader(path)._index.is_provisional
    check_frames(path, is_by_tables=False)


def boxes(data: bytes, kind: bytes) -> list[int]:
    """Where the bodies of all boxes of a kind begin; media is so small that its name occurs nowhere else."""
    found, at = [], data.find(kind)
    while at >= 0:
        found.append(at + 4)
        at = data.find(kind, at + 4)
    return found


def add(number: int, at: int, box: bytes, which: int):
    """A lie: `number` is added to the 32 bits at `at` of a box."""

    def change(data: bytearray) -> None:
        place = boxes(data, box)[which] + at
        (value,) = struct.unpack_from(">I", data, place)
        struct.pack_into(">I", data, place, (value + number) % 2**32)

    return change


# trun: flags 0, samples 4, data offset 8, then flags of the first, and for each a duration, size, flags or composition offset.
@pytest.mark.parametrize("lie", [
    add(4, 8, b"trun", 1), add(-4, 8, b"trun", 1), add(1 << 20, 8, b"trun", 1), add(-(1 << 20), 8, b"trun", 0),
    add(1, 4, b"trun", 0), add(-1, 4, b"trun", 1), add(1 << 30, 4, b"trun", 1),
    add(5, 16, b"trun", 1), add(5, 20, b"trun", 0), add(-5, 24, b"trun", 1), add(1 << 31, 20, b"trun", 1),
    add(-512, 8, b"tfhd", 1), add(1 << 20, 8, b"tfhd", 1), add(1, 4, b"tfhd", 1), add(1, 0, b"tfhd", 1),
    add(-512, 4, b"tfdt", 1), add(600, 8, b"tfdt", 1), add(-600, 8, b"tfdt", 1),
    add(8, -8, b"trun", 1), add(-8, -8, b"moof", 1), add(8, -8, b"moof", 1), add(8, -8, b"mdat", 0), add(-8, -8, b"mdat", 0),
    add(-9999, -8, b"mdat", 1), add(1, -4, b"tfdt", 1), add(1, -4, b"trun", 1), add(1, -4, b"moof", 1), add(1, -4, b"mdat", 0),
    add(1, 4, b"trex", 0), add(7, 12, b"trex", 0),
])  # fmt: skip
@pytest.mark.parametrize("name", ["h264", "hevc"])
def test_fragments_that_lie_give_the_frames_of_a_whole_scan(name: str, lie, video, tmp_path: Path) -> None:
    path = fragmented(video(name), tmp_path / "clip.mp4", "frag_keyframe+empty_moov+default_base_moof")
    data = bytearray(path.read_bytes())
    lie(data)
    path.write_bytes(data)
    check_frames(path, is_by_tables=False)
    check_frames(enlarged(path, tmp_path / "large.mp4"), is_by_tables=False)


def test_a_file_in_fragments_costs_its_headers(tmp_path: Path) -> None:
    long_video(tmp_path / "long.mp4", "mp4", "libx264")
    path = fragmented(str(tmp_path / "long.mp4"), tmp_path / "fragments.mp4", "frag_keyframe+empty_moov")
    data = path.read_bytes()
    file = CountedFile(data)
    reader = vidload.VideoReader(file)
    assert reader.num_frames == 100 and reader._index.is_provisional
    first_picture = int(reader._index.packet_sizes[0])  # is decoded
    assert file.num_read < 0.02 * len(data) + first_picture
    before = file.num_read
    planes = reader.get_planes_at([52])
    assert file.num_read - before < 0.15 * len(data)
    assert all((a == b).all() for a, b in zip(planes[0], with_whole_index(path).get_planes_at([52])[0], strict=True))
