"""Files are indexed from their containers' tables, reading little more than those; and give the same frames as when every packet is read."""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest
from videos import VIDEOS

import vidload
from vidload import _core

# Of these the tables are plain, so that they must be enough.
BY_TABLES = (
    *(
        "h264",
        "h264_open_gop",
        "h264_one_b_frame",
        "h264_all_intra",
        "h264_vfr",
        "h264_faststart",
        "h264_fragmented",
        "h264_mov",
        "h264_audio_first",
    ),
    *("h264_10bit", "h264_mkv", "h264_vfr_gap", "hevc", "hevc_open_gop", "hevc_temporal_layers", "hevc_mkv"),
    *("vp9", "vp9_alt_ref", "vp9_mkv", "vp8"),
)


# And of these too, where the file is too large for the headers of all its packets to be read at once.
BY_TABLES_IF_LARGE = ("vp9_mp4", "av1_low_delay", "mpeg4")


def enlarged(source: Path | str, target: Path) -> Path:
    """A copy of an mp4 with 17 MiB of nothing behind it, which take no room on the disk."""
    shutil.copy(source, target)
    num_bytes = 17 << 20
    with target.open("r+b") as file:
        end = file.seek(0, io.SEEK_END)
        file.write(num_bytes.to_bytes(4, "big") + b"free")
        file.truncate(end + num_bytes)
    return target


@pytest.fixture(autouse=True)
def empty_cache() -> Iterator[None]:
    _core.clear_index_cache()
    yield
    _core.clear_index_cache()


class CountedFile(io.BytesIO):
    """Counts the bytes that are read of it, and notes where."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.num_read = 0

    def read(self, size: int | None = -1) -> bytes:
        data = super().read(size)
        self.num_read += len(data)
        return data


def with_whole_index(path: Path) -> vidload.VideoReader:
    """A reader whose index comes from every packet of the file."""
    _core.clear_index_cache()
    batch = _core.Batch(_core.LoaderPool(0), [str(path)], needs_whole_indexes=True)
    batch.wait()
    if (error := batch.errors()[0]) is not None:
        raise error
    reader = vidload.VideoReader(path)
    assert not reader._index.is_provisional
    return reader


def outcome(reader: vidload.VideoReader, indices: list[int]) -> object:
    """The planes of the frames, or the error in words."""
    try:
        return [[plane.tobytes() for plane in planes] for planes in reader.get_planes_at(indices)]
    except vidload.VideoError as error:
        return f"{type(error).__name__}: {error}"


def picture_facts(index: _core.PacketIndex) -> list[object]:
    """What a picture says of itself, from the headers of the first or from its decoding."""
    names = [
        "pixel_format",
        "coded_width",
        "coded_height",
        "color_space",
        "color_range",
        "color_primaries",
        "color_transfer",
    ]
    return [getattr(index, name) for name in (*names, "sample_aspect_ratio")]


@pytest.mark.parametrize("name", VIDEOS)
def test_frames_are_the_same_whether_tables_or_packets_are_read(name: str, video) -> None:
    check_frames(Path(video(name)), name in BY_TABLES)


@pytest.mark.parametrize("name", [name for name in VIDEOS if VIDEOS[name].container in ("mp4", "mov")])
def test_frames_of_a_large_file_are_the_same_whether_tables_or_packets_are_read(
    name: str, video, tmp_path: Path
) -> None:
    check_frames(
        enlarged(video(name), tmp_path / f"large.{VIDEOS[name].container}"), name in (*BY_TABLES, *BY_TABLES_IF_LARGE)
    )


def check_frames(path: Path, is_by_tables: bool) -> None:
    _core.clear_index_cache()
    try:
        listed = vidload.VideoReader(path)
    except vidload.VideoError as error:
        with pytest.raises(type(error)):
            with_whole_index(path)
        return
    assert listed._index.is_provisional or not is_by_tables
    by_table = listed._index
    rng = np.random.default_rng(0)
    sets = [rng.integers(0, listed.num_frames, rng.integers(1, 9)).tolist() for _ in range(8)]
    sets.append(list(range(listed.num_frames)))
    from_table = [outcome(listed, indices) for indices in sets]
    whole = with_whole_index(path)
    assert from_table == [outcome(whole, indices) for indices in sets]
    assert (listed.num_frames, listed.average_fps) == (whole.num_frames, whole.average_fps)
    assert np.array_equal(listed.pts_seconds, whole.pts_seconds)
    assert picture_facts(by_table) == picture_facts(whole._index)
    if by_table.is_provisional and whole._index.is_regular:
        assert np.array_equal(by_table.packet_offsets, whole._index.packet_offsets)
        assert np.array_equal(by_table.packet_sizes, whole._index.packet_sizes)
        assert np.array_equal(by_table.frame_packet, whole._index.frame_packet)
        assert not (by_table.packet_flags & 1 & ~whole._index.packet_flags).any()  # no keyframe that is none


@pytest.mark.parametrize("is_large", [False, True])
@pytest.mark.parametrize("name", ["h264", "h264_one_b_frame", "hevc", "h264_mkv", "mpeg4"])
def test_a_plan_leaves_out_the_same_packets(name: str, is_large: bool, video, tmp_path: Path) -> None:
    path = Path(video(name))
    if is_large and path.suffix == ".mp4":
        path = enlarged(path, tmp_path / path.name)
    listed = vidload.VideoReader(path)
    plan = listed.plan([7, 20, 40])
    assert listed._index.is_provisional or (name == "mpeg4" and not is_large)
    whole = with_whole_index(path).plan([7, 20, 40])
    assert plan == whole


def long_video(path: Path, container: str, codec: str) -> bytes:
    """100 pictures of noise in GOPs of 10, some megabytes."""
    with av.open(str(path), "w", format=container) as output:
        stream = output.add_stream(codec, rate=25)
        stream.options = {"crf": "1", "preset": "ultrafast"} if codec == "libx264" else {}
        stream.gop_size = 10
        stream.bit_rate = 20_000_000
        stream.width, stream.height, stream.pix_fmt = 128, 96, "yuvj420p" if codec == "mjpeg" else "yuv420p"
        rng = np.random.default_rng(0)
        for _ in range(100):
            frame = av.VideoFrame.from_ndarray(rng.integers(0, 256, (96, 128, 3), np.uint8), format="rgb24")
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path.read_bytes()


@pytest.mark.parametrize("container", ["mov", "matroska"])  # the clusters of Matroska have checksums besides
def test_a_file_that_must_be_read_as_a_whole_is_read_once(container: str, tmp_path: Path) -> None:
    data = long_video(tmp_path / "long", container, "mjpeg")
    file = CountedFile(data)
    reader = vidload.VideoReader(file)
    assert not reader._index.is_provisional and reader.num_frames == 100
    # A demuxer looks at the file before it reads it, and the first picture is decoded.
    assert file.num_read < 1.02 * len(data) + 200_000 < 1.3 * len(data)


@pytest.mark.parametrize("container", ["mp4", "matroska"])
def test_frames_of_one_gop_cost_no_reading_of_the_others(container: str, tmp_path: Path) -> None:
    data = long_video(tmp_path / "long", container, "libx264")
    file = CountedFile(data)
    reader = vidload.VideoReader(file)
    assert reader.num_frames == 100
    assert file.num_read < 0.1 * len(data)
    reader.get_planes_at([52])
    assert file.num_read < (0.2 if container == "mp4" else 0.7) * len(data)  # mkv: and the cluster, for its checksum


def fading_video(path: Path, container: str, codec: str, options: dict[str, str], num_frames: int) -> bytes:
    """A bright square that moves over a picture that fades in and out: weighted prediction, with many references."""
    with av.open(str(path), "w", format=container) as output:
        stream = output.add_stream(codec, rate=25)
        stream.options = options
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        rng = np.random.default_rng(0)
        still = rng.integers(0, 256, (64, 96, 3)).astype(np.float64)
        for i in range(num_frames):
            picture = still * (0.55 + 0.45 * np.sin(i / 7))
            picture[i % 48 : i % 48 + 16, i % 80 : i % 80 + 16] = 255
            frame = av.VideoFrame.from_ndarray(picture.astype(np.uint8), format="rgb24")
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path.read_bytes()


LONG_HEADERS = {"refs": "16", "weightp": "2", "bf": "8", "b-pyramid": "normal", "g": "100", "preset": "veryslow"}


@pytest.mark.parametrize("container", ["mp4", "matroska"])
def test_of_slices_with_long_headers_the_first_bytes_are_enough(container: str, tmp_path: Path) -> None:
    path = tmp_path / "long_headers"
    fading_video(path, container, "libx264", LONG_HEADERS, 150)
    check_frames(path, is_by_tables=True)


@pytest.mark.parametrize("codec, options", [
    ("libx264", {"g": "250", "bf": "3"}),
    ("libx265", {"g": "250", "x265-params": "log-level=none"}),
    ("libvpx", {"g": "250", "deadline": "realtime", "cpu-used": "8"}),
    ("libvpx-vp9", {"g": "250", "deadline": "realtime", "cpu-used": "8"}),
])  # fmt: skip
def test_a_matroska_file_costs_30_bytes_per_packet(codec: str, options: dict[str, str], tmp_path: Path) -> None:
    data = fading_video(tmp_path / "fading", "matroska", codec, options, 600)
    file = CountedFile(data)
    reader = vidload.VideoReader(file)
    index = reader._index
    assert index.is_provisional and reader.num_frames == 600
    first_picture = int(index.packet_sizes[0])
    others = 4096 + 200 * int(
        (index.packet_flags & 1).sum()
    )  # what else is in the file, and keyframes with headers before them
    assert file.num_read <= 30 * 600 + first_picture + others


def remuxed(source: Path, target: Path, change, container: str = "mp4") -> Path:
    """A copy of a file in which `change(number, packet)` has had its way with each packet."""
    with av.open(str(source)) as input_, av.open(str(target), "w", format=container) as output:
        stream = output.add_stream_from_template(input_.streams.video[0])
        packets = [packet for packet in input_.demux(video=0) if packet.size > 0]
        change(packets)
        for packet in packets:
            packet.stream = stream
            output.mux(packet)
    return target


def swap_times_of_last_gop(packets: list) -> None:
    key = max(i for i, packet in enumerate(packets) if packet.is_keyframe)
    rest = packets[key + 1 :]
    assert len(rest) > 3
    rest[0].pts, rest[2].pts = rest[2].pts, rest[0].pts


def test_times_that_lie_in_one_gop_alone_are_found_when_it_is_read(video, tmp_path: Path) -> None:
    """The tables are right about all that is read at first."""
    small = remuxed(video("hevc_closed_gop"), tmp_path / "lying.mp4", swap_times_of_last_gop)
    assert not vidload.VideoReader(small)._index.is_provisional  # all headers are read
    path = enlarged(small, tmp_path / "large.mp4")
    reader = vidload.VideoReader(path)
    assert reader._index.is_provisional
    planes = outcome(reader, [1, 5])
    assert reader._index.is_provisional
    last = outcome(reader, list(range(36, reader.num_frames)))
    assert not reader._index.is_provisional
    right = vidload.VideoReader(video("hevc_closed_gop"))
    assert planes == outcome(right, [1, 5])
    assert last == outcome(right, list(range(36, 48)))


def test_a_loader_finds_the_same_lie(video, tmp_path: Path) -> None:
    small = remuxed(video("hevc_closed_gop"), tmp_path / "lying.mp4", swap_times_of_last_gop)
    path = enlarged(small, tmp_path / "large.mp4")

    def last_frames(num_frames: int, fps: float, spec: object, rng: object) -> np.ndarray:
        return np.arange(num_frames - 8, num_frames).reshape(1, 8)

    def clip_of(source: Path):
        data = vidload.VideoDataset(
            [(source, 0)],
            clip="8x1x1",
            sampling=last_frames,
            transform=vidload.transforms.center_crop(64, short_side=96),
        )
        return data[0][0]

    assert (clip_of(path) == clip_of(video("hevc_closed_gop"))).all()


def with_hole(source: Path | str, target: Path) -> Path:
    """A copy in which packet 30 is zeros."""
    shutil.copy(source, target)
    index = _core.index_file(str(target))
    with target.open("r+b") as file:
        file.seek(int(index.packet_offsets[30]))
        file.write(bytes(int(index.packet_sizes[30])))
    return target


def test_a_packet_without_a_picture_is_found_at_once_in_a_small_file(video, tmp_path: Path) -> None:
    reader = vidload.VideoReader(with_hole(video("h264_no_b_frames"), tmp_path / "holed.mp4"))
    assert reader.num_frames == 47


def test_a_packet_without_a_picture_is_found_when_its_gop_is_read(video, tmp_path: Path) -> None:
    path = enlarged(with_hole(video("h264_no_b_frames"), tmp_path / "holed.mp4"), tmp_path / "large.mp4")
    reader = vidload.VideoReader(path)
    assert outcome(reader, [0, 10]) == outcome(vidload.VideoReader(video("h264_no_b_frames")), [0, 10])
    assert reader.num_frames == 48
    outcome(reader, [26])
    assert not reader._index.is_provisional
    assert reader.num_frames == with_whole_index(path).num_frames == 47


def test_damage_in_a_cluster_with_a_checksum_is_found_when_it_is_read(video, tmp_path: Path) -> None:
    path = tmp_path / "damaged.mkv"
    data = bytearray(Path(video("vp9_mkv")).read_bytes())
    index = _core.index_file(str(video("vp9_mkv")))
    offset, size = int(index.packet_offsets[40]), int(index.packet_sizes[40])
    data[offset + size - 8 : offset + size] = bytes(8)
    path.write_bytes(data)
    reader = vidload.VideoReader(path)
    assert outcome(reader, [3]) == outcome(vidload.VideoReader(video("vp9_mkv")), [3])
    with pytest.raises(vidload.DamagedVideoError):
        reader.get_planes_at([45])


@pytest.mark.parametrize("name", ["h264_bt709", "h264_cropped", "h264_full_range", "hevc_10bit", "vp9_mkv"])
def test_a_damaged_first_picture_still_tells_size_and_colors(name: str, video, tmp_path: Path, caplog) -> None:
    intact = _core.index_file(str(video(name)))
    offset, size = int(intact.packet_offsets[0]), int(intact.packet_sizes[0])
    path = tmp_path / Path(video(name)).name
    data = bytearray(Path(video(name)).read_bytes())
    data[offset + size // 2 : offset + size // 2 + 40] = bytes(40)
    path.write_bytes(data)
    with caplog.at_level(0):
        listed = vidload.VideoReader(path)
    assert not caplog.records  # of samples that are not decoded there is nothing to say yet
    assert listed._index.is_provisional
    assert picture_facts(listed._index) == picture_facts(intact)
    assert picture_facts(with_whole_index(path)._index) == picture_facts(intact)


def without_first_gop(source: Path | str, target: Path) -> Path:
    """A copy of which the first picture has the right headers, and nothing that can be decoded behind them."""
    index = _core.index_file(str(source))
    offset, size = int(index.packet_offsets[0]), int(index.packet_sizes[0])
    data = bytearray(Path(source).read_bytes())
    data[offset + 32 : offset + size] = b"\xff" * (size - 32)
    target.write_bytes(data)
    return target


def test_no_frame_is_counted_from_a_first_picture_that_does_not_come(video, tmp_path: Path) -> None:
    path = without_first_gop(video("vp9"), tmp_path / "late.webm")
    reader = vidload.VideoReader(path)
    assert reader._index.is_provisional and reader.num_frames == 48
    with pytest.raises(vidload.FrameIndexError):
        reader.get_planes_at([40])  # in the second GOP; nothing of the first need be decoded for it
    assert reader.num_frames == with_whole_index(path).num_frames == 24
    intact = vidload.VideoReader(video("vp9"))
    assert outcome(reader, [0, 16]) == outcome(intact, [24, 40])


def test_a_loader_counts_from_the_first_picture_that_comes(video, tmp_path: Path) -> None:
    path = without_first_gop(video("vp9"), tmp_path / "late.webm")

    def clip_of(source: Path | str, of_48: int, of_24: int):
        data = vidload.VideoDataset(
            [(source, 0)],
            clip="1x1x1",
            sampling=lambda num_frames, fps, spec, rng: np.array([[of_24 if num_frames == 24 else of_48]]),
            transform=vidload.transforms.center_crop(64, short_side=96),
        )
        return data[0][0]

    assert (clip_of(path, 30, 20) == clip_of(video("vp9"), 44, 20)).all()


def test_an_index_made_from_tables_is_not_stored(video, tmp_path: Path) -> None:
    reader = vidload.VideoReader(video("h264"))
    with pytest.raises(ValueError, match="index the whole file"):
        reader._index.to_bytes()
    vidload.build_index([str(video("h264"))], tmp_path / "index.arrow")
    assert not vidload.VideoReader(video("h264"))._index.is_provisional  # the cache has the better one now
