"""An index file is input: nothing in it is believed unchecked, and what is damaged costs a scan, never a clip, a video or the process."""

from __future__ import annotations

import logging
import os
import shutil
import struct
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from faults.faults import run_with_faults

import vidload
from vidload import DatasetIndex, VideoDataset, VideoLoader, build_index
from vidload.transforms import center_crop

HEADER = struct.Struct("<IIQ")  # magic, version, checksum


@pytest.fixture
def folder(video, tmp_path: Path) -> Path:
    for name in ("h264", "h264_no_b_frames", "mpeg4_packed_avi"):
        shutil.copy(video(name), tmp_path)
    build_index(paths_in(tmp_path), tmp_path / "index.arrow")
    return tmp_path


def paths_in(folder: Path) -> list[str]:
    return sorted(str(path) for path in folder.iterdir() if path.suffix in (".mp4", ".avi"))


def load(folder: Path, index: object) -> tuple[list[torch.Tensor], dict]:
    vidload._core.clear_index_cache()
    data = VideoDataset(
        [(path, 0) for path in paths_in(folder)],
        clip="2x3x1",
        transform=center_crop(32),
        dtype=torch.uint8,
        index=index,
    )
    loader = VideoLoader(data, num_workers=1, on_error="skip")
    return [clips.clone() for clips, _ in loader], loader.stats()


def read(path: Path) -> pa.Table:
    return pa.ipc.open_file(pa.BufferReader(path.read_bytes())).read_all()


def write(path: Path, table: pa.Table, **options) -> None:
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema, **options) as writer:
        writer.write_table(table)


def with_packets(table: pa.Table, packets: list) -> pa.Table:
    place = table.schema.get_field_index("packets")
    return table.set_column(place, "packets", pa.array(packets, pa.large_binary()))


def checksum(data: bytes) -> int:
    """As csrc/base/checksum.h."""
    odd, mask = 0x9E3779B97F4A7C15, 2**64 - 1
    total = len(data) * odd & mask
    words = [*struct.unpack_from(f"<{len(data) // 8}Q", data), int.from_bytes(data[len(data) // 8 * 8 :], "little")]
    for word in words:
        total = ((total << 23 | total >> 41) & mask ^ word) * odd & mask
    return total ^ total >> 32


def sealed(entry: bytes) -> bytes:
    """The entry with the checksum that belongs to it now: what someone with ill will would write."""
    magic, version, _ = HEADER.unpack_from(entry)
    return HEADER.pack(magic, version, checksum(entry[HEADER.size :])) + entry[HEADER.size :]


# --- entries


def test_the_test_knows_the_checksum(video) -> None:
    entry = vidload._core.index_file(video("h264")).to_bytes()
    assert sealed(entry) == entry


@pytest.mark.parametrize("seed", range(4))
def test_a_changed_entry_is_refused(seed: int, video) -> None:
    entry = vidload._core.index_file(video("h264")).to_bytes()
    rng = np.random.default_rng(seed)
    for _ in range(1000):
        changed = bytearray(entry)
        for place in rng.integers(0, len(entry), rng.integers(1, 5)):
            changed[place] ^= 1 << rng.integers(8)
        if bytes(changed) != entry:
            with pytest.raises(ValueError, match=r"packet index (is damaged|was written by another version)"):
                vidload._core.PacketIndex.from_bytes(bytes(changed))


def test_an_entry_made_to_look_intact_gives_clips_or_errors_never_a_crash(folder: Path) -> None:
    """Its checksum fits, so only what makes sense of the numbers stands between it and the decoder."""
    table = read(folder / "index.arrow")
    entry = table.column("packets")[0].as_py()
    rng = np.random.default_rng(0)
    numbers = [0, 1, 2, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**63, 2**64 - 1]
    num_used = 0
    for _ in range(400):
        changed = bytearray(entry)
        for _ in range(rng.integers(1, 4)):
            size = int(rng.choice([1, 4, 8]))
            place = (
                int(rng.integers(HEADER.size, min(len(entry), 400) if rng.random() < 0.5 else len(entry)))
                // size
                * size
            )
            number = numbers[rng.integers(len(numbers))] & ((1 << 8 * size) - 1)
            changed[place : place + size] = number.to_bytes(size, "little")
        packets = [sealed(bytes(changed[: len(entry)])), *table.column("packets").to_pylist()[1:]]
        write(folder / "hostile.arrow", with_packets(table, packets))
        _, stats = load(folder, folder / "hostile.arrow")
        num_used += stats["num_entries_refused"] == 0
    assert 0 < num_used < 400  # some got through, most did not


@pytest.mark.parametrize("what", ["cut", "empty bytes", "other version", "ones", "another file's"])
def test_a_damaged_or_foreign_entry_costs_a_scan_and_is_told(what: str, folder: Path, caplog) -> None:
    expected, _ = load(folder, None)
    table = read(folder / "index.arrow")
    packets = table.column("packets").to_pylist()
    packets[0] = {
        "cut": packets[0][:-1],
        "empty bytes": b"\0",
        "other version": packets[0][:4] + b"\xff\0\0\0" + packets[0][8:],
        "ones": b"\xff" * 500,
        "another file's": packets[1],
    }[what]
    write(folder / "index.arrow", with_packets(table, packets))
    with caplog.at_level(logging.WARNING, logger="vidload"):
        clips, stats = load(folder, folder / "index.arrow")
    assert all(torch.equal(one, other) for one, other in zip(clips, expected, strict=True))
    assert (stats["num_entries_refused"], stats["num_files_scanned"], stats["num_failed"]) == (1, 1, 0)
    (told,) = [record for record in caplog.records if record.name != "vidload.ffmpeg"]
    assert "index.arrow: 1 entries are damaged" in told.getMessage()


def test_building_again_mends_damaged_entries(folder: Path) -> None:
    table = read(folder / "index.arrow")
    write(folder / "index.arrow", with_packets(table, [b"x", *table.column("packets").to_pylist()[1:]]))
    vidload._core.clear_index_cache()
    assert build_index(paths_in(folder), folder / "index.arrow").num_scanned == 1
    assert read(folder / "index.arrow").equals(table)


# --- the table


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda table: table.drop_columns(["packets"]), "column 'packets' is missing"),
        (lambda table: table.drop_columns(["mtime_ns"]), "column 'mtime_ns' is missing"),
        (
            lambda table: table.set_column(1, "size", table.column("size").cast(pa.int32())),
            "column 'size' is int32, not int64",
        ),
        (lambda table: with_packets(table, [None, b"", b""]), "column 'packets' has nulls"),
        (
            lambda table: table.set_column(2, "mtime_ns", pa.array([None, 1, 2], pa.int64())),
            "'mtime_ns' has nulls",
        ),
        (lambda table: table.append_column("size", table.column("size")), "column 'size' is"),
        (lambda table: table.replace_schema_metadata({"vidload_index": "999"}), "an index of another version"),
        (lambda table: table.replace_schema_metadata(None), "not an index of vidload's"),
    ],
)
def test_a_table_of_another_shape_is_refused_in_words(change, message: str, folder: Path) -> None:
    write(folder / "index.arrow", change(read(folder / "index.arrow")))
    with pytest.raises(ValueError, match=rf"index\.arrow: .*{message}.*vidload index"):
        DatasetIndex(folder / "index.arrow")


@pytest.mark.parametrize(
    "ends", [[0, 1 << 40, (1 << 40) + 9], [-(1 << 20), 0, 9], [0, 64 << 20, 128 << 20], [9, 3, 0], [-1, -1, -1]]
)
def test_offsets_that_lead_out_of_the_file_are_refused(ends: list[int], folder: Path) -> None:
    table = read(folder / "index.arrow").slice(0, 2)
    write(folder / "index.arrow", table)
    sizes = [len(packets) for packets in table.column("packets").to_pylist()]
    data = (folder / "index.arrow").read_bytes()
    right = np.array([0, sizes[0], sum(sizes)], np.int64).tobytes()
    assert data.count(right) == 1
    (folder / "index.arrow").write_bytes(data.replace(right, np.array(ends, np.int64).tobytes()))
    with pytest.raises(ValueError, match=r"index\.arrow: not an index file"):
        DatasetIndex(folder / "index.arrow")


def test_compressed_packets_are_refused_in_words(folder: Path) -> None:
    write(folder / "index.arrow", read(folder / "index.arrow"), options=pa.ipc.IpcWriteOptions(compression="lz4"))
    with pytest.raises(ValueError, match="packets are compressed"):
        DatasetIndex(folder / "index.arrow")


@pytest.mark.parametrize("seed", range(3))
def test_random_damage_to_the_file_costs_no_clip_and_no_video(seed: int, folder: Path) -> None:
    expected, _ = load(folder, None)
    data = (folder / "index.arrow").read_bytes()
    rng = np.random.default_rng(seed)
    num_refused = 0
    for _ in range(60):
        changed = bytearray(data)
        for place in rng.integers(0, len(data), rng.integers(1, 20)):
            changed[place] = rng.integers(256)
        (folder / "changed.arrow").write_bytes(changed[: rng.integers(len(data))] if rng.random() < 0.2 else changed)
        try:
            clips, _ = load(folder, folder / "changed.arrow")
        except ValueError as error:
            assert "changed.arrow: " in str(error)
            num_refused += 1
        else:
            assert all(torch.equal(one, other) for one, other in zip(clips, expected, strict=True))
    assert 0 < num_refused < 60  # some damage concerns the file as a whole, some an entry


def test_an_index_cut_short_while_it_is_used_costs_scans_alone(folder: Path) -> None:
    expected, _ = load(folder, None)
    index = DatasetIndex(folder / "index.arrow")
    os.truncate(folder / "index.arrow", 100)
    clips, stats = load(folder, index)
    assert all(torch.equal(one, other) for one, other in zip(clips, expected, strict=True))
    assert stats["num_entries_refused"] == 3
    assert index.table.num_rows == 3


# --- files that change while they are read


def test_a_file_replaced_while_it_is_scanned_is_scanned_again(video, tmp_path: Path) -> None:
    out = run_with_faults(
        """
        import pathlib, shutil
        first, second, folder = sys.argv[1:]
        path = pathlib.Path(folder, "video.mp4")
        faults.fault_read_wait(2)
        for delay in (0.0, 0.01, 0.03, 0.1, 0.2, 0.4):
            shutil.copy(first, path)
            def replace():
                time.sleep(delay)
                shutil.copy(second, pathlib.Path(folder, "new"))
                os.replace(pathlib.Path(folder, "new"), path)
            thread = threading.Thread(target=replace)
            thread.start()
            summary = vidload.build_index([str(path)], pathlib.Path(folder, "index"), num_workers=1)
            thread.join()
            row = vidload.DatasetIndex(pathlib.Path(folder, "index")).table.to_pylist()[0]
            lengths = {os.path.getsize(first): 48, os.path.getsize(second): 60}
            assert summary.failures == () and row["num_frames"] == lengths[row["size"]], row
        print("done")
        """,
        video("h264"),
        video("h264_16_b_frames"),
        tmp_path,
    )
    assert out == "done\n"


def test_a_file_deleted_while_the_index_is_built_stops_nothing(folder: Path, monkeypatch) -> None:
    row = vidload.index_building._row

    def delete_then_row(name: str, *rest: object):
        (folder / name).unlink(missing_ok=True)
        return row(name, *rest)

    monkeypatch.setattr(vidload.index_building, "_row", delete_then_row)
    paths = paths_in(folder)
    summary = build_index(paths, folder / "new.arrow")
    assert (summary.num_files, summary.failures) == (3, ())
