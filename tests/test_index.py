"""The dataset's index file: written once, used by every process, never believed when a file has changed."""

from __future__ import annotations

import math
import os
import pickle
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import vidload
from vidload import DatasetIndex, VideoDataset, VideoLoader, build_index
from vidload.errors import LostWorkError
from vidload.system import cores
from vidload.system.cores import cgroup_cores
from vidload.transforms import center_crop

NAMES = ("h264", "hevc", "vp9", "mpeg4_packed_avi", "h264_ts")


@pytest.fixture
def folder(video, tmp_path: Path) -> Path:
    for name in NAMES:
        shutil.copy(video(name), tmp_path)
    return tmp_path


def paths_in(folder: Path) -> list[str]:
    return sorted(str(path) for path in folder.iterdir() if path.suffix in (".mp4", ".webm", ".avi", ".ts"))


def loader_of(paths: list[str], index: object) -> VideoLoader:
    vidload._core.clear_index_cache()
    dataset = VideoDataset([(path, 0) for path in paths], clip="2x3x1", transform=center_crop(32), index=index)
    return VideoLoader(dataset, batch_size=2, num_workers=1)


def test_an_indexed_dataset_scans_no_file_and_gives_the_same_tensors(folder: Path) -> None:
    summary = build_index(paths_in(folder), folder / "index.arrow")
    assert (summary.num_files, summary.num_scanned, summary.failures) == (5, 5, ())
    indexed, plain = loader_of(paths_in(folder), folder / "index.arrow"), loader_of(paths_in(folder), None)
    ours = [clips.clone() for clips, _ in indexed]
    assert indexed.stats()["num_files_scanned"] == 0
    vidload._core.clear_index_cache()
    assert all(torch.equal(one, other) for one, (other, _) in zip(ours, plain, strict=True))
    assert plain.stats()["num_files_scanned"] == 5


def test_a_packet_index_survives_its_bytes(folder: Path) -> None:
    for path in paths_in(folder):
        index = vidload._core.index_file(path)
        again = vidload._core.PacketIndex.from_bytes(index.to_bytes())
        assert again.to_bytes() == index.to_bytes()
        assert np.array_equal(again.frame_packet, index.frame_packet)


@pytest.mark.parametrize("cut", [0, 3, 7, 20, 200, -1])
def test_a_damaged_packet_index_is_refused(cut: int, video) -> None:
    data = vidload._core.index_file(video("h264")).to_bytes()
    with pytest.raises(ValueError, match="index"):
        vidload._core.PacketIndex.from_bytes(data[:cut])


def test_a_changed_file_is_scanned_again(folder: Path, video) -> None:
    build_index(paths_in(folder), folder / "index.arrow")
    shutil.copy(video("h264_one_frame"), folder / "h264.mp4")
    loader = loader_of(paths_in(folder), folder / "index.arrow")
    for _ in loader:
        pass
    assert loader.stats()["num_files_scanned"] == 1
    vidload._core.clear_index_cache()
    summary = build_index(paths_in(folder), folder / "index.arrow")
    assert summary.num_scanned == 1  # the others stood in the old index
    rows = DatasetIndex(folder / "index.arrow").table.to_pylist()
    assert {row["path"]: row["num_frames"] for row in rows}["h264.mp4"] == 1


def test_a_file_that_changes_under_a_cached_index_is_noticed(folder: Path, video) -> None:
    path = folder / "h264.mp4"
    assert vidload.VideoReader(path).num_frames == 48
    shutil.copy(video("h264_16_b_frames"), path)
    assert vidload.VideoReader(path).num_frames == 60


def test_unreadable_files_are_listed_with_reasons_and_stop_nothing(folder: Path) -> None:
    (folder / "empty.mp4").touch()
    (folder / "text.mp4").write_text("no video")
    paths = [*paths_in(folder), str(folder / "missing.mp4")]
    summary = build_index(paths, folder / "index.arrow")
    reasons = {Path(path).name: reason for path, reason in summary.failures}
    assert reasons.keys() == {"empty.mp4", "text.mp4", "missing.mp4"}
    assert "empty" in reasons["empty.mp4"] and "not a video" in reasons["text.mp4"]
    table = DatasetIndex(folder / "index.arrow").table
    assert table.num_rows == 8
    assert sum(reason is not None for reason in table.column("reason").to_pylist()) == 3


def test_videos_and_index_may_move_together(folder: Path, tmp_path_factory) -> None:
    build_index(paths_in(folder), folder / "index.arrow")
    moved = tmp_path_factory.mktemp("moved") / "videos"
    shutil.copytree(folder, moved, copy_function=shutil.copy2)
    loader = loader_of(paths_in(moved), moved / "index.arrow")
    for _ in loader:
        pass
    assert loader.stats()["num_files_scanned"] == 0


def test_videos_that_the_index_lacks_are_scanned_as_usual(folder: Path) -> None:
    build_index(paths_in(folder)[:2], folder / "index.arrow")
    loader = loader_of(paths_in(folder), folder / "index.arrow")
    for _ in loader:
        pass
    assert loader.stats()["num_files_scanned"] == 3


def test_an_interrupted_run_leaves_the_old_index(folder: Path, monkeypatch) -> None:
    build_index(paths_in(folder), folder / "index.arrow")
    before = (folder / "index.arrow").read_bytes()

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(vidload.index_building, "_row", interrupt)
    with pytest.raises(KeyboardInterrupt):
        build_index(paths_in(folder), folder / "index.arrow")
    assert (folder / "index.arrow").read_bytes() == before
    assert not list(folder.glob(".*part"))


@pytest.mark.parametrize("content", [b"", b"something else", b"ARROW1\0\0" * 9])
def test_a_file_that_is_no_index_is_refused_by_name(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "wrong.arrow"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"wrong\.arrow: not an index"):
        DatasetIndex(path)


def test_an_index_can_be_pickled_with_its_dataset(folder: Path) -> None:
    build_index(paths_in(folder), folder / "index.arrow")
    dataset = loader_of(paths_in(folder), folder / "index.arrow").dataset
    again = pickle.loads(pickle.dumps(dataset))
    assert torch.equal(again[1][0], dataset[1][0])


def test_the_cache_of_indexes_is_counted(video) -> None:
    vidload._core.clear_index_cache()
    assert vidload._core.index_cache_bytes() == 0
    vidload.VideoReader(video("h264"))
    assert 48 * 33 < vidload._core.index_cache_bytes() < 48 * 33 + 2000


@pytest.mark.parametrize(
    ("files", "membership", "cores"),
    [
        ({"cpu.max": "max 100000"}, "0::/\n", float("inf")),
        ({"cpu.max": "150000 100000"}, "0::/\n", 1.5),
        ({"a/cpu.max": "400000 100000", "a/b/cpu.max": "max 100000"}, "0::/a/b\n", 4.0),
        ({"cpu/cpu.cfs_quota_us": "200000", "cpu/cpu.cfs_period_us": "100000"}, "3:cpu,cpuacct:/x\n", 2.0),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, "3:cpu:/\n", float("inf")),
        ({}, "", float("inf")),
    ],
)
def test_the_cpu_quota_of_a_container_is_read(files: dict, membership: str, cores: float, tmp_path: Path) -> None:
    for name, content in files.items():
        (tmp_path / "fs" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "fs" / name).write_text(content)
    (tmp_path / "cgroup").write_text(membership)
    assert cgroup_cores(str(tmp_path / "fs"), str(tmp_path / "cgroup")) == cores


@pytest.mark.parametrize(
    ("affinity", "quota", "ranks", "threads"),
    [(6, math.inf, None, 6), (6, 4.5, None, 4), (6, math.inf, "2", 3), (6, math.inf, "1000", 1), (6, 4.5, "x", 4)],
)
def test_threads_default_to_this_ranks_share_of_the_cores(
    affinity: int, quota: float, ranks: str | None, threads: int, monkeypatch
) -> None:
    monkeypatch.setattr(cores, "affinity_cores", lambda: affinity)
    monkeypatch.setattr(cores, "cgroup_cores", lambda: quota)
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    if ranks is not None:
        monkeypatch.setenv("LOCAL_WORLD_SIZE", ranks)
    dataset = VideoDataset([("never_opened.mp4", 0)], clip="1x1x1", transform=center_crop(16))
    assert VideoLoader(dataset).num_workers == threads


# --- runs that were killed, other engines

KILLED_RUN = """
import os, signal, sys
import vidload
from vidload import index_building

index_building._FILES_PER_STEP, index_building._BYTES_PER_BATCH = 1, 1
row, num_rows = index_building._row, 0

def row_or_death(*args):
    global num_rows
    num_rows += 1
    if num_rows > 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return row(*args)

index_building._row = row_or_death
vidload.build_index(sys.argv[2:], sys.argv[1], num_workers=1)
"""


def killed_run(folder: Path) -> Path:
    """A run killed when it had read two of the videos; what it left."""
    command = [sys.executable, "-c", KILLED_RUN, str(folder / "index.arrow"), *paths_in(folder)]
    assert subprocess.run(command).returncode == -signal.SIGKILL
    assert not (folder / "index.arrow").exists()
    return max(folder.glob(".*part"), key=lambda path: path.stat().st_size)


def test_a_killed_run_is_resumed_where_it_stopped(folder: Path) -> None:
    num_videos = len(paths_in(folder))
    killed_run(folder)
    summary = build_index(paths_in(folder), folder / "index.arrow")
    assert (summary.num_files, summary.num_scanned) == (num_videos, num_videos - 2)
    assert not list(folder.glob(".*part"))
    build_index(paths_in(folder), folder / "other.arrow")
    assert DatasetIndex(folder / "index.arrow").table.equals(DatasetIndex(folder / "other.arrow").table)


def test_a_run_killed_twice_is_resumed_from_the_one_that_got_further(folder: Path) -> None:
    left = killed_run(folder)
    size = left.stat().st_size
    again = subprocess.run(
        [sys.executable, "-c", KILLED_RUN.replace("> 2", "> 1"), str(folder / "index.arrow"), *paths_in(folder)]
    )
    assert again.returncode == -signal.SIGKILL
    assert left.stat().st_size == size
    assert build_index(paths_in(folder), folder / "index.arrow").num_scanned == len(paths_in(folder)) - 2


@pytest.mark.parametrize("num_bytes", [1, 100, 1000])
def test_what_a_killed_run_wrote_in_part_is_read_again(num_bytes: int, folder: Path) -> None:
    left = killed_run(folder)
    os.truncate(left, left.stat().st_size - num_bytes)
    summary = build_index(paths_in(folder), folder / "index.arrow")
    assert len(paths_in(folder)) - 2 < summary.num_scanned <= len(paths_in(folder))
    build_index(paths_in(folder), folder / "other.arrow")
    assert DatasetIndex(folder / "index.arrow").table.equals(DatasetIndex(folder / "other.arrow").table)


def test_a_video_that_changed_since_the_killed_run_is_read_again(folder: Path) -> None:
    killed_run(folder)
    os.utime(paths_in(folder)[0])
    assert build_index(paths_in(folder), folder / "index.arrow").num_scanned == len(paths_in(folder)) - 1


def test_two_runs_do_not_write_one_index(folder: Path, monkeypatch) -> None:
    def build_too(*args: object) -> object:
        with pytest.raises(OSError, match="another run is writing it"):
            build_index(paths_in(folder), folder / "index.arrow")
        raise KeyboardInterrupt

    monkeypatch.setattr(vidload.index_building, "_row", build_too)
    with pytest.raises(KeyboardInterrupt):
        build_index(paths_in(folder), folder / "index.arrow")


def test_an_index_at_a_url_is_refused(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"s3://bucket/a.vidx: index files are written to and read from a disk"):
        build_index(paths_in(folder), "s3://bucket/a.vidx")
    with pytest.raises(ValueError, match=r"s3://bucket/a.vidx: index files are read from a disk; copy it to one"):
        VideoDataset([(paths_in(folder)[0], 0)], clip="1x1x1", transform=center_crop(32), index="s3://bucket/a.vidx")


def test_ray_writes_the_same_index(folder: Path) -> None:
    ray = pytest.importorskip("ray")
    (folder / "broken.mp4").write_bytes(b"nothing")
    paths = [*paths_in(folder), str(folder / "gone.mp4")]
    local = build_index(paths, folder / "local.arrow")
    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False)  # once for both runs
    try:
        assert build_index(paths, folder / "ray.arrow", engine="ray") == local
        assert DatasetIndex(folder / "ray.arrow").table.equals(DatasetIndex(folder / "local.arrow").table)
        os.utime(paths[1])
        again = build_index(paths, folder / "ray.arrow", engine="ray")
    finally:
        ray.shutdown()
    assert (again.num_scanned, again.failures) == (1 + len(local.failures), local.failures)


def test_a_ray_task_that_is_lost_is_an_error_and_its_files_are_read_by_the_next_run(folder: Path, monkeypatch) -> None:
    ray = pytest.importorskip("ray")
    paths, read_rows = paths_in(folder), vidload.index_building.read_rows

    def killed(videos):  # Ray copies functions that are defined here to its workers
        if videos[0][1] == paths[1]:
            os.kill(os.getpid(), signal.SIGKILL)
        return read_rows(videos)

    def short_of_memory(videos):
        if videos[0][1] == paths[2]:
            raise MemoryError("no room")
        return read_rows(videos)

    monkeypatch.setattr(vidload.index_building, "_FILES_PER_STEP", 1)
    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False)  # once for all runs
    try:
        monkeypatch.setattr(vidload.index_building, "read_rows", killed)
        with pytest.raises(
            LostWorkError, match=f"the Ray task that read {paths[1]} was lost: WorkerCrashedError: The "
        ):
            build_index(paths, folder / "index.arrow", engine="ray")
        monkeypatch.setattr(vidload.index_building, "read_rows", short_of_memory)
        with pytest.raises(LostWorkError, match=f"the Ray task that read {paths[2]} was lost: MemoryError: no room"):
            build_index(paths, folder / "index.arrow", engine="ray")
    finally:
        ray.shutdown()
    monkeypatch.undo()
    assert not (folder / "index.arrow").exists()
    again = build_index(paths, folder / "index.arrow")
    assert (again.num_files, again.num_scanned, again.failures) == (len(paths), len(paths) - 2, ())


def test_an_engine_that_is_not_there_is_an_error(folder: Path, monkeypatch) -> None:
    with pytest.raises(ValueError, match="engine 'slurm' is not one of local, ray"):
        build_index(paths_in(folder), folder / "index.arrow", engine="slurm")
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'vidload\[ray\]'"):
        build_index(paths_in(folder), folder / "index.arrow", engine="ray")
    assert not list(folder.glob(".*part"))
