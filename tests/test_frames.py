"""vidload frames: JPEG frames of a dataset, as FrameFolderDataset reads them."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from vidload import FrameFolderDataset, VideoDataset, VideoReader, transforms
from vidload.annotations import read_frame_list
from vidload.cli import main
from vidload.prepare.frames import extract_dataset


@pytest.fixture
def dataset(video, tmp_path: Path) -> Path:
    """A folder "source" of three videos with a list, train.txt; returns the list."""
    folder = tmp_path / "source"
    (folder / "a b").mkdir(parents=True)
    for name, target in [("h264", "a b/one.mp4"), ("h264_bt709", "two.mkv"), ("h264_rotated_90", "three.mov")]:
        shutil.copyfile(video(name), folder / target)
    (folder / "train.txt").write_text("a b/one.mp4 3\ntwo.mkv 4\nthree.mov 5\n")
    return folder / "train.txt"


def contents(folder: Path) -> dict[Path, bytes]:
    """The pictures and the list."""
    return {
        path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.suffix in (".jpg", ".txt")
    }


def test_each_video_gets_a_folder_and_a_line_in_the_list(dataset, tmp_path, capsys):
    assert main(["frames", str(dataset), str(tmp_path / "out"), "--root", str(dataset.parent), "--jobs", "1"]) == 0
    assert (tmp_path / "out" / "train.txt").read_text() == "a b/one 48 3\ntwo 48 4\nthree 48 5\n"
    for folder in ("a b/one", "two", "three"):
        names = sorted(path.name for path in (tmp_path / "out" / folder).iterdir())
        assert names == [f"img_{number:05d}.jpg" for number in range(1, 49)]
    assert "3 videos extracted, 0 were there already; 144 frames" in capsys.readouterr().out


def test_the_frames_look_as_the_video_does(dataset, tmp_path):
    summary = extract_dataset(dataset, tmp_path / "out", root=dataset.parent, jobs=1)
    options = {"clip": "8x5x1", "transform": transforms.center_crop(96, short_side=96, mean=None, std=None)}
    frames = FrameFolderDataset.from_list(summary.list_path, root=tmp_path / "out", **options)
    videos = VideoDataset.from_list(dataset, root=dataset.parent, **options)
    for i in range(3):
        (frame_clip, frame_label), (video_clip, video_label) = frames[i], videos[i]
        assert frame_label == video_label == i + 3
        assert frame_clip.shape == video_clip.shape
        difference = (frame_clip - video_clip).numpy()
        assert np.abs(difference).mean() < 3.5
        # A wrong matrix or range gives 3 to 20; libswscale rounds chroma down where it goes from limited to full range.
        assert np.abs(difference.mean(axis=(1, 2, 3))).max() < 1.2


def test_the_files_are_those_of_ffmpeg_at_quality_two(video, tmp_path):
    if shutil.which("ffmpeg") is None:
        pytest.skip("the ffmpeg command is not installed")
    extract_dataset(video("h264"), tmp_path / "out", jobs=1)
    ours = [path.stat().st_size for path in sorted((tmp_path / "out" / "h264").iterdir())]
    theirs_folder = tmp_path / "ffmpeg"
    theirs_folder.mkdir()
    command = ["ffmpeg", "-v", "error", "-i", video("h264"), "-q:v", "2", str(theirs_folder / "img_%05d.jpg")]
    subprocess.run(command, check=True)
    theirs = [path.stat().st_size for path in sorted(theirs_folder.iterdir())]
    assert len(ours) == len(theirs)
    assert sum(ours) == pytest.approx(sum(theirs), rel=0.03)


def test_a_folder_of_classes_gives_their_numbers_for_labels(video, tmp_path):
    for name, target in [("h264", "zumba/x.mp4"), ("vp9", "archery/y.webm")]:
        (tmp_path / "source" / target).parent.mkdir(parents=True)
        shutil.copyfile(video(name), tmp_path / "source" / target)
    summary = extract_dataset(tmp_path / "source", tmp_path / "out", jobs=1)
    listed = read_frame_list(summary.list_path)
    assert listed.labels.tolist() == [0, 1]
    assert summary.list_path.read_text() == "archery/y 48 0\nzumba/x 48 1\n"


def test_short_side_resizes_and_does_not_enlarge(video, tmp_path):
    for short_side, size in [(48, (64, 48)), (256, (128, 96))]:
        extract_dataset(video("h264"), tmp_path / str(short_side), short_side=short_side, jobs=1)
        reader = VideoReader(tmp_path / str(short_side) / "h264" / "img_00001.jpg")
        assert (reader.width, reader.height) == size


def test_a_second_run_extracts_only_what_is_missing(dataset, tmp_path):
    out = tmp_path / "out"
    extract_dataset(dataset, out, root=dataset.parent, jobs=1)
    shutil.rmtree(out / "two")
    (out / ".vidload-1-two.part").mkdir()
    (out / ".vidload-1-two.part" / "img_00001.jpg").write_bytes(b"half a run")
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.jpg") if "part" not in str(path)}
    summary = extract_dataset(dataset, out, root=dataset.parent, jobs=1)
    assert (summary.num_extracted, summary.num_kept, summary.num_frames) == (1, 2, 144)
    assert all(path.stat().st_mtime_ns == time for path, time in before.items())
    assert len(list((out / "two").iterdir())) == 48
    assert list(out.glob(".vidload-*.part")) == []
    assert summary.num_bytes == sum(path.stat().st_size for path in out.rglob("*.jpg"))


def test_killed_at_any_moment_it_ends_with_the_same_files(dataset, tmp_path):
    command = [
        sys.executable,
        "-m",
        "vidload",
        "frames",
        str(dataset),
        str(tmp_path / "out"),
        "--root",
        str(dataset.parent),
    ]
    extract_dataset(dataset, tmp_path / "undisturbed", root=dataset.parent, jobs=1)
    for seconds in (0.0, 0.1):
        process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        deadline = time.monotonic() + 60
        while not (tmp_path / "out").exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(seconds)
        os.killpg(process.pid, signal.SIGKILL)  # all at once, as in a power cut
        process.wait()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    expected = contents(tmp_path / "undisturbed")
    assert len(expected) == 3 * 48 + 1
    assert contents(tmp_path / "out") == expected
    assert list((tmp_path / "out").rglob("*.part")) == []


def test_a_bad_source_is_listed_and_leaves_no_folder(dataset, video, tmp_path, capsys):
    shutil.copyfile(video("h264_truncated_ts"), dataset.parent / "cut.ts")
    with open(dataset, "a") as file:
        file.write("cut.ts 1\n")
    assert main(["frames", str(dataset), str(tmp_path / "out"), "--root", str(dataset.parent)]) == 1
    (row,) = (json.loads(line) for line in (tmp_path / "out" / "failed.jsonl").read_text().splitlines())
    assert row["source"] == os.path.join(dataset.parent, "cut.ts")
    assert row["reason"].startswith("frame 32: it is damaged")
    assert not (tmp_path / "out" / "cut").exists()
    assert "cut" not in (tmp_path / "out" / "train.txt").read_text()
    assert "1 of 4 videos failed" in capsys.readouterr().out
