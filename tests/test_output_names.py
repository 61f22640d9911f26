"""Each video has an output of its own: names that would clash, paths through links, and what earlier runs have written."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from vidload import VideoReader
from vidload.annotations import read_list
from vidload.cli import main
from vidload.index import DatasetIndex
from vidload.prepare import EncodeSettings, check, prepare
from vidload.prepare.frames import extract_dataset
from vidload.prepare.sources import SourceList
from vidload.sources import absolute

QUICK = EncodeSettings(crf=20, preset="ultrafast")


def names_of(folder: Path, paths: list[str], suffix: str = ".mp4", root: str | None = None) -> list[str]:
    """The outputs' names for a list of these paths."""
    (folder / "list.txt").write_text("".join(f"{path} {number}\n" for number, path in enumerate(paths)))
    source = SourceList.read(folder / "list.txt", str(folder) if root is None else root, suffix)
    return [source.tasks[row].name for row in source.rows]


@pytest.fixture
def folder(video, tmp_path: Path) -> Path:
    """A folder of three videos: "link" leads to "far/deep", so that "link/../v.mp4" is "far/v.mp4"."""
    (tmp_path / "far" / "deep").mkdir(parents=True)
    (tmp_path / "link").symlink_to(Path("far") / "deep")
    shutil.copyfile(video("h264"), tmp_path / "v.mp4")
    shutil.copyfile(video("h264_ntsc"), tmp_path / "far" / "v.mp4")
    shutil.copyfile(video("vp9"), tmp_path / "v.webm")
    return tmp_path


# --- within one run


@pytest.mark.parametrize(
    "paths, names",
    [
        (["v.mp4", "v.mkv", "v.mp4.mkv"], ["v.mp4.mp4", "v.mkv.mp4", "v.mp4.mkv.mp4"]),
        (["v.mp4", "v.mp4.mkv"], ["v.mp4", "v.mp4.mp4"]),
        (["x.avi", "x.mp4/a.avi"], ["x.avi.mp4", "x.mp4/a.mp4"]),
    ],
)
def test_videos_whose_names_would_clash_keep_their_endings(paths: list[str], names: list[str], tmp_path: Path) -> None:
    assert names_of(tmp_path, paths) == names
    assert names_of(tmp_path, paths[::-1]) == names[::-1]


def test_a_folder_of_frames_stands_in_no_other_s_way(tmp_path: Path) -> None:
    assert names_of(tmp_path, ["a.mp4", "a/b.mp4", "a/c.mp4"], suffix="") == ["a.mp4", "a/b", "a/c"]


@pytest.mark.parametrize("run", [lambda *args, **options: prepare(*args, QUICK, **options), extract_dataset])
@pytest.mark.parametrize(
    "paths",
    [["/elsewhere/v.mp4", "elsewhere/v.mp4"], ["s3://bucket/v.mp4", "gs://bucket/v.mp4"], ["s3://b/x/../v.mp4", "s3://b/v.mp4"]],
    ids=["outside and below the root", "schemes of URLs", "dots in URLs"],
)  # fmt: skip
def test_two_videos_with_one_output_are_refused_before_any_work(run, paths: list[str], tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text(f"{paths[0]} 1\n{paths[1]} 2\n")
    with pytest.raises(
        ValueError, match=r"cannot both be written there.*rename one of the two, or write them to"
    ) as error:
        run(tmp_path / "list.txt", tmp_path / "out", root=tmp_path, jobs=1)
    assert paths[0] in str(error.value) and paths[1] in str(error.value)
    assert not (tmp_path / "out").exists()


def test_a_file_listed_under_two_names_is_prepared(folder: Path) -> None:
    (folder / "list.txt").write_text("v.mp4 1\n./v.mp4 2\n")
    assert prepare(folder / "list.txt", folder / "out", QUICK, root=folder, jobs=1).failures == ()


# --- paths through links


def test_dots_behind_a_link_lead_where_the_system_goes(folder: Path, monkeypatch) -> None:
    monkeypatch.chdir(folder)
    assert absolute("link/../v.mp4") == f"{folder}/far/v.mp4"
    assert absolute("link/v.mp4") == f"{folder}/link/v.mp4"
    assert absolute("far/./deep/..//../v.mp4") == f"{folder}/v.mp4"
    assert absolute("../../../../../../../../v.mp4") == "/v.mp4"
    assert absolute("s3://b/a/../v.mp4") == "s3://b/a/../v.mp4"


def test_two_files_that_only_look_alike_get_outputs_of_their_own(folder: Path) -> None:
    assert names_of(folder, ["link/../v.mp4", "v.mp4"]) == ["far/v.mp4", "v.mp4"]
    summary = prepare(folder / "list.txt", folder / "out", QUICK, root=folder, jobs=1)
    assert (summary.num_encoded, summary.failures) == (2, ())
    rates = [VideoReader(folder / "out" / name).average_fps for name in ("far/v.mp4", "v.mp4")]
    assert rates == [VideoReader(folder / name).average_fps for name in ("far/v.mp4", "v.mp4")]
    assert rates[0] != rates[1]


def test_two_files_that_only_look_alike_are_indexed_and_checked_each(folder: Path) -> None:
    (folder / "list.txt").write_text("link/../v.mp4 3\nv.mp4 5\n")
    assert main(["index", str(folder / "list.txt"), "--root", str(folder), "-o", str(folder / "i.vidx")]) == 0
    assert DatasetIndex(folder / "i.vidx").table["path"].to_pylist() == ["far/v.mp4", "v.mp4"]
    report = check(folder / "list.txt", root=folder, record=folder / "record", num_workers=1, with_estimate=False)
    assert "listed_twice" not in report.counts


# --- from one run to the next


def test_an_output_of_another_video_is_not_replaced(folder: Path) -> None:
    out = folder / "out"
    (folder / "train.txt").write_text("v.mp4 1\n")
    (folder / "val.txt").write_text("v.webm 2\n")
    prepare(folder / "train.txt", out, QUICK, root=folder, jobs=1)
    before = (out / "v.mp4").read_bytes()
    with pytest.raises(ValueError, match=r"out/v.mp4 was made from .*/v.mp4, and .*/v.webm would replace it"):
        prepare(folder / "val.txt", out, QUICK, root=folder, jobs=1)
    assert (out / "v.mp4").read_bytes() == before
    assert not (out / "val.txt").exists()


def test_videos_that_were_moved_or_copied_are_known_again(folder: Path) -> None:
    out = folder / "out"
    prepare(folder / "v.mp4", out, QUICK, jobs=1)
    (folder / "copy").mkdir()
    shutil.copy2(folder / "v.mp4", folder / "copy" / "v.mp4")
    assert prepare(folder / "copy" / "v.mp4", out, QUICK, jobs=1).num_kept == 1
    os.utime(folder / "copy" / "v.mp4", (1, 1))
    (folder / "v.mp4").unlink()
    assert prepare(folder / "copy" / "v.mp4", out, QUICK, jobs=1).num_encoded == 1


# --- names in lists


def test_names_that_a_list_can_hold_are_read_back(video, tmp_path: Path, monkeypatch) -> None:
    names = ["x.mp4 3.mp4", " lead.mp4", "a 5.mp4", "tab\there.mp4", "a,b.mp4", "x.mp4 cat.mp4"]
    (tmp_path / "v").mkdir()
    for name in names:
        os.link(video("h264_all_intra"), tmp_path / "v" / name)
    report = check(tmp_path / "v", record=tmp_path / "record", is_fast=True, num_workers=1, with_estimate=False)
    assert report.write_list(tmp_path / "good.txt") == len(names)
    rows = read_list(tmp_path / "good.txt")
    assert rows.path_list() == [str(tmp_path / "v" / name) for name in sorted(names)]
    assert set(rows.labels.tolist()) == {-1}


@pytest.mark.parametrize("name", [b"\xff\xfe.mp4", b"new\nline.mp4"])
def test_a_name_that_a_list_cannot_hold_is_refused(name: bytes, video, tmp_path: Path, capfd) -> None:
    (tmp_path / "v").mkdir()
    os.link(video("h264_all_intra"), os.path.join(os.fsencode(tmp_path), b"v", name))
    good = tmp_path / "good.txt"
    options = ["--record", str(tmp_path / "record"), "--write-list", str(good), "--fast"]
    assert main(["check", str(tmp_path / "v"), *options]) == 2
    assert "a list cannot hold a name that" in capfd.readouterr().err
    assert not good.exists()
    assert main(["frames", str(tmp_path / "v"), str(tmp_path / "out")]) == 1
    assert f"{os.fsdecode(name)!r}"[1:-1] in capfd.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", [" lead.mp4", "trail .mp4"])
def test_frames_whose_name_the_list_would_change_are_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(ValueError, match=f"{name}': a list cannot hold a name that has .* a space .*; rename the file"):
        extract_dataset(tmp_path, tmp_path / "out")


def test_failures_are_printed_whatever_the_names(tmp_path: Path, capfd) -> None:
    with open(os.path.join(os.fsencode(tmp_path), b"\xff.mp4"), "wb") as file:
        file.write(b"no video")
    assert main(["index", str(tmp_path), "-o", str(tmp_path / "i.vidx")]) == 1
    assert r"/\udcff.mp4: " in capfd.readouterr().out
