"""vidload prepare: one re-encoded video, a dataset of them, and what happens when something goes wrong."""

from __future__ import annotations

import errno
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import videos

from vidload import VideoDataset, VideoError, VideoLoader, VideoReader, transforms
from vidload.cli import main
from vidload.errors import DamagedVideoError, LostWorkError, VideoNotFoundError
from vidload.prepare import CLIP_SPECS, PROFILES, EncodeSettings, cost_table, dry_run, prepare, source_frames
from vidload.prepare.encode import EncodedVideo, coarsest_quality, encode_video
from vidload.prepare.settings import ENCODERS
from vidload.prepare.source_frames import SourceFrames
from vidload.prepare.sources import SourceList
from vidload.prepare.tasks import DestinationError, Results, run_tasks

QUICK = EncodeSettings(crf=20, preset="ultrafast")
# Their frames before the first keyframe are broken: failures too.
UNTRUSTED = {"flv1_no_keyframe_at_start", "mpeg4_no_keyframe_at_start", "hevc_no_keyframe_at_start"}
DAMAGED = {"h264_truncated_ts"} | UNTRUSTED  # its last picture is cut: a failure, not a video to re-encode
# Of noise in full color, 4:2:0 keeps the means.
DITHERED = {"gif", "rawvideo_rgb565"}


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below `folder`, hidden ones left out."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.startswith(".")
    }


def difference(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a.astype(np.int16) - b.astype(np.int16)).mean())


@pytest.fixture
def dataset(video, tmp_path: Path) -> Path:
    """A folder "source" of four short videos with a list, train.txt; returns the list."""
    folder = tmp_path / "source"
    for name, target in [
        ("h264", "a/one.mp4"),
        ("vp9", "a/two.webm"),
        ("mpeg4_odd", "b/three four.avi"),
        ("h264_rotated_90", "b/five.mov"),
    ]:
        (folder / target).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(video(name), folder / target)
    listing = folder / "train.txt"
    listing.write_text("a/one.mp4 0\na/two.webm 0\nb/three four.avi 1\nb/five.mov 1\n")
    return listing


# --- one video


@pytest.mark.parametrize("name", sorted(videos.VIDEOS.keys() - DAMAGED))
def test_frames_keep_their_number_their_times_and_their_looks(name, video, tmp_path):
    source = VideoReader(video(name))
    result = encode_video(video(name), tmp_path / "out.mp4", QUICK)
    prepared = VideoReader(tmp_path / "out.mp4")
    assert result.num_frames == prepared.num_frames == source.num_frames
    np.testing.assert_allclose(prepared.pts_seconds, source.pts_seconds, atol=1e-6)
    assert prepared.rotation == 0 and not prepared.is_flipped
    if source.width % 2 == source.height % 2 == 0:
        assert (prepared.width, prepared.height) == (source.width, source.height)
        looked_at = [0, source.num_frames // 2]
        one, other = source.get_frames_at(looked_at), prepared.get_frames_at(looked_at)
        if name in DITHERED:
            one, other = (frames.reshape(2, 12, 8, 16, 8, 3).mean((2, 4)) for frames in (one, other))
        assert difference(one, other) < 9


@pytest.mark.parametrize("name", sorted(UNTRUSTED))
def test_broken_frames_before_the_first_keyframe_are_not_made_to_look_good(name, video, tmp_path):
    with pytest.raises(
        DamagedVideoError, match=r"frame 0: .*predicted from pictures before the first keyframe.*cut the file"
    ):
        encode_video(video(name), tmp_path / "out.mp4", QUICK)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("name", ["h264", "h264_scene_cuts", "vp9", "mjpeg_avi"])
def test_every_profile_reaches_the_psnr_that_is_asked_for(profile, name, video, tmp_path):
    result = encode_video(video(name), tmp_path / "out.mp4", PROFILES[profile])
    source, prepared = (VideoReader(path).get_planes_at(range(48)) for path in (video(name), tmp_path / "out.mp4"))
    errors = [(a[0].astype(np.int64) - b[0]) ** 2 for a, b in zip(source, prepared, strict=True)]
    psnr = 10 * np.log10(255**2 / np.mean(errors))
    assert psnr == pytest.approx(result.psnr, abs=0.01)
    assert psnr >= PROFILES[profile].psnr >= 40


@pytest.mark.parametrize("slope", [0.2, 0.45, 0.9, 2.0])
@pytest.mark.parametrize("best", [1.0, 7.5, 20.5, 33.0, 51.0])
def test_the_search_finds_nearly_the_coarsest_quality_that_is_good_enough(slope, best):
    tried = []

    def psnr_of(quality: float) -> float:
        tried.append(quality)
        return 41 + (best - quality) / 0.5 * slope

    found = coarsest_quality(ENCODERS["h264"], 41, psnr_of)
    assert found in tried
    assert 41 <= psnr_of(found) <= 41 + max(0.3, slope)
    assert len(tried) <= 7


def test_the_search_takes_the_finest_quality_when_none_is_good_enough():
    assert coarsest_quality(ENCODERS["h264"], 41, lambda quality: 30.0) == 1


def test_a_sample_that_is_easier_than_the_video_does_not_spoil_its_psnr(video, tmp_path, monkeypatch):
    monkeypatch.setattr(SourceFrames, "sample", lambda self, gop: list(self)[:1] * 8)
    assert encode_video(video("h264_ntsc"), tmp_path / "out.mp4", EncodeSettings()).psnr >= 40.1


@pytest.mark.parametrize("gop, runs", [(1, 64), (4, 16), (16, 4), (64, 1), (100, 1)])
def test_a_sample_is_made_of_whole_gops_all_over_the_video(gop, runs, video, monkeypatch):
    monkeypatch.setattr(SourceFrames, "_numbered", lambda self: ((number, number) for number in range(len(self))))
    frames = SourceFrames(video("h264"), EncodeSettings(fps=Fraction(250)))
    assert len(frames) == 480
    numbers = np.array(frames.sample(gop))
    assert len(numbers) == runs * min(gop, 64)
    starts = numbers[np.diff(numbers, prepend=-2) != 1] if gop > 1 else numbers
    assert all(start % gop == 0 for start in starts)
    assert numbers[-1] - numbers[0] >= 480 - 480 // runs - 1 or runs == 1


@pytest.mark.parametrize(
    "settings, most_packets",
    [
        (EncodeSettings(gop=1, crf=30), 1),
        (EncodeSettings(gop=4, b_frames=2, crf=30), 3),  # a star: keyframe, last frame, the frame itself
        (EncodeSettings(gop=16, b_frames=14, crf=30), 3),
        (EncodeSettings(gop=8, b_frames=0, crf=30), 8),
        (EncodeSettings(codec="hevc", gop=8, b_frames=6, crf=30), 3),
        (EncodeSettings(codec="vp9", gop=4, crf=40), 4),
        (EncodeSettings(codec="av1", gop=4, crf=40), 4),
        (EncodeSettings(codec="mjpeg", gop=1, crf=5), 1),
    ],
    ids=lambda value: f"{value.codec}-{value.gop}" if isinstance(value, EncodeSettings) else str(value),
)
def test_a_frame_costs_no_more_packets_than_its_gop_promises(settings, most_packets, video, tmp_path):
    encode_video(video("h264"), tmp_path / "out.mp4", settings)
    with VideoReader(tmp_path / "out.mp4") as reader:
        np.testing.assert_array_equal(reader.keyframe_indices, np.arange(0, 48, settings.gop))
        assert max(reader.plan([i]).num_packets_decoded for i in range(48)) <= most_packets


@pytest.mark.parametrize("name", ["h264_bt709", "h264_full_range", "h264_10bit", "h264_gray", "h264_rotated_180"])
@pytest.mark.parametrize("codec", ["h264", "mjpeg"])
def test_colors_stay(name, codec, video, tmp_path):
    settings = EncodeSettings(codec=codec, gop=1, crf=1)
    encode_video(video(name), tmp_path / "out.mp4", settings)
    before, after = (VideoReader(path).get_frames_at([5, 20]) for path in (video(name), tmp_path / "out.mp4"))
    shift = (before.astype(np.float64) - after).mean(axis=(0, 1, 2))
    assert np.abs(shift).max() < 0.6  # wrong matrix or range: 3 to 20
    assert difference(before, after) < 4


def test_colors_are_tagged(video, tmp_path):
    for name, matrix, color_range in [
        ("h264", "bt601", "limited"),  # the source says nothing: what the loader took it for
        ("h264_bt709", "bt709", "limited"),
        ("h264_full_range", "bt601", "full"),
    ]:
        encode_video(video(name), tmp_path / "out.mp4", QUICK)
        with VideoReader(tmp_path / "out.mp4") as reader:
            assert (reader.color_matrix, reader.color_range) == (matrix, color_range)


def test_large_videos_are_resized_small_ones_are_not(video, tmp_path):
    encode_video(video("h264_cropped"), tmp_path / "out.mp4", EncodeSettings(crf=20, short_side=64))
    with VideoReader(tmp_path / "out.mp4") as reader:
        assert (reader.width, reader.height) == (82, 64)  # of 150 x 118, even
    encode_video(video("h264_cropped"), tmp_path / "out.mp4", EncodeSettings(crf=20, short_side=256))
    with VideoReader(tmp_path / "out.mp4") as reader:
        assert (reader.width, reader.height) == (150, 118)


def test_resizing_shifts_nothing(video, tmp_path):
    encode_video(video("h264_444"), tmp_path / "out.mp4", EncodeSettings(gop=1, crf=1, short_side=48))
    clips = []
    for path in (video("h264_444"), tmp_path / "out.mp4"):
        items = [(str(path), 0)]
        dataset = VideoDataset(
            items, clip="4x2x1", transform=transforms.center_crop(48, short_side=48, mean=None, std=None)
        )
        clips.append(dataset[0][0].numpy()[..., 4:-4, 4:-4])
    here, left, right, up, down = (
        np.abs(clips[0] - np.roll(clips[1], shift, axis)).mean()
        for shift, axis in [(0, -1), (1, -1), (-1, -1), (1, -2), (-1, -2)]
    )
    assert here < min(left, right, up, down)


def test_a_new_frame_rate_shows_the_frame_of_each_moment(video, tmp_path):
    for fps, expected in [
        (Fraction(25, 2), list(range(0, 48, 2))),
        (Fraction(50), [i // 2 for i in range(96)]),
        (Fraction(10), [5 * i // 2 for i in range(19)]),
    ]:
        encode_video(video("h264"), tmp_path / "out.mp4", EncodeSettings(gop=1, crf=10, fps=fps))
        source, prepared = VideoReader(video("h264")), VideoReader(tmp_path / "out.mp4")
        assert prepared.num_frames == len(expected)
        np.testing.assert_allclose(prepared.pts_seconds, np.arange(len(expected)) / float(fps), atol=1e-6)
        for i in range(0, len(expected), 7):
            apart = [difference(prepared[i], frame) for frame in source]
            assert int(np.argmin(apart)) == expected[i]


def test_audio_is_dropped(video, tmp_path):
    encode_video(video("h264_audio_first"), tmp_path / "out.mp4", QUICK)
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert [stream.type for stream in container.streams] == ["video"]


@pytest.mark.parametrize("profile", PROFILES)
def test_the_same_video_gives_the_same_bytes(profile, video, tmp_path):
    for name in ("one.mp4", "two.mp4"):
        encode_video(video("h264_vfr"), tmp_path / name, PROFILES[profile])
    assert (tmp_path / "one.mp4").read_bytes() == (tmp_path / "two.mp4").read_bytes()
    assert (tmp_path / "one.mp4").stat().st_mtime_ns == os.stat(video("h264_vfr")).st_mtime_ns


@pytest.mark.parametrize(
    "content, reason",
    [
        (b"", "UnreadableVideoError"),
        (b"this is no video, only some text that goes on for a while" * 20, "UnreadableVideoError"),
        ("h264_truncated_ts", "DamagedVideoError: frame 32: it is damaged"),
        ("folder", "UnreadableVideoError: is a directory"),
        (None, "VideoNotFoundError"),
    ],
    ids=["empty", "text", "damaged", "directory", "missing"],
)
def test_a_bad_source_says_what_is_wrong_and_leaves_nothing(content, reason, video, tmp_path):
    source = tmp_path / "in.ts"
    if content == "folder":
        source.mkdir()
    elif isinstance(content, str):
        shutil.copyfile(video(content), source)
    elif content is not None:
        source.write_bytes(content)
    (tmp_path / "out").mkdir()
    with pytest.raises(VideoError) as raised:
        encode_video(source, tmp_path / "out" / "out.mp4", QUICK)
    where = "" if raised.value.frame is None else f"frame {raised.value.frame}: "
    assert f"{type(raised.value).__name__}: {where}{raised.value.reason}".startswith(reason)
    assert str(source) in str(raised.value)
    assert list((tmp_path / "out").iterdir()) == []


def test_a_source_that_vanishes_between_two_passes_is_a_video_error(video, tmp_path, monkeypatch):
    monkeypatch.setattr(source_frames, "_CACHE_BYTES", 0)
    source = tmp_path / "in.mp4"
    shutil.copyfile(video("h264"), source)
    frames = SourceFrames(str(source), EncodeSettings())
    assert sum(1 for _ in frames) == 48
    source.unlink()
    with pytest.raises(VideoNotFoundError, match="the file is gone"):
        list(frames)


def test_several_passes_without_a_cache_see_the_same_frames(video, monkeypatch):
    frames = SourceFrames(video("h264"), EncodeSettings())
    first, cached = ([bytes(frame.planes[0]) for frame in frames] for _ in range(2))
    monkeypatch.setattr(source_frames, "_CACHE_BYTES", 0)
    frames = SourceFrames(video("h264"), EncodeSettings())
    again, uncached = ([bytes(frame.planes[0]) for frame in frames] for _ in range(2))
    assert first == cached == again == uncached


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"codec": "divx"}, "codec 'divx' is not one of h264"),
        ({"gop": 0}, r"gop is 0, must be in \[1, 1000\]"),
        ({"codec": "mjpeg", "gop": 4}, "gop is 4, must be 1 for mjpeg"),
        ({"crf": 52}, r"crf is 52, must be in \[1, 51\] for h264"),
        ({"psnr": 5}, r"psnr is 5, must be in \[20, 60\] dB"),
        ({"short_side": 8}, "short_side is 8, must be at least 16"),
        ({"fps": Fraction(0)}, "fps is 0, must be above 0"),
        ({"b_frames": 17}, r"b_frames is 17, must be in \[0, 16\]"),
    ],
)
def test_settings_that_make_no_sense_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        EncodeSettings(**arguments)


# --- names and lists


def names_of(folder: Path, files: list[str]) -> list[str]:
    for name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")
    return [task.name for task in SourceList.read(folder, suffix=".mp4").tasks]


def test_names_keep_their_folders_and_end_in_mp4(tmp_path):
    names = names_of(tmp_path, ["x/a.avi", "x/a b.c.webm", "y/a.mkv"])
    assert names == ["x/a b.c.mp4", "x/a.mp4", "y/a.mp4"]


def test_two_videos_that_differ_in_their_ending_keep_it(tmp_path):
    assert names_of(tmp_path, ["x/a.avi", "x/a.mp4", "x/b.avi"]) == ["x/a.avi.mp4", "x/a.mp4.mp4", "x/b.mp4"]


def test_a_video_outside_the_root_is_named_by_its_whole_path(tmp_path):
    (tmp_path / "list.txt").write_text("/elsewhere/v.avi 1\nin.avi 2\n")
    tasks = SourceList.read(tmp_path / "list.txt", str(tmp_path / "root"), ".mp4").tasks
    assert [task.name for task in tasks] == ["elsewhere/v.mp4", "in.mp4"]


@pytest.mark.parametrize(
    "text, expected",
    [
        ("a.avi 3\nb c.avi 4\n", "a.mp4 3\nb c.mp4 4\n"),
        ("\ufeffa.avi\t3\r\n\r\nb.avi\t4\r\n", "a.mp4\t3\nb.mp4\t4\n"),
        ("a.avi,3\nb.avi,4", "a.mp4,3\nb.mp4,4\n"),
        ("a.avi\nb.avi\n", "a.mp4\nb.mp4\n"),
        ("a.avi 3\na.avi 7\nbad.avi 1\n", "a.mp4 3\na.mp4 7\n"),
    ],
    ids=["spaces", "tabs-bom-crlf", "commas", "no labels", "repeated and failed"],
)
def test_the_list_is_copied_with_the_new_names(text, expected, tmp_path):
    (tmp_path / "list.txt").write_bytes(text.encode())
    videos_of = SourceList.read(tmp_path / "list.txt", "root", ".mp4")
    videos_of.write_list(tmp_path, {os.path.join("root", "bad.avi")})
    assert (tmp_path / "list.txt").read_text() == expected


def test_a_kinetics_csv_is_copied_as_it_is(tmp_path):
    text = "label,youtube_id,time_start,time_end,split\nzumba,abc,1,11,train\nzumba,def,2,12,train\n"
    (tmp_path / "k.csv").write_text(text)
    videos_of = SourceList.read(tmp_path / "k.csv", "root", ".mp4")
    assert [task.name for task in videos_of.tasks] == ["zumba/abc_000001_000011.mp4", "zumba/def_000002_000012.mp4"]
    (tmp_path / "out").mkdir()
    videos_of.write_list(tmp_path / "out", {"root/zumba/abc_000001_000011.mp4"})
    assert (tmp_path / "out" / "k.csv").read_text() == text.replace("zumba,abc,1,11,train\n", "")


# --- a dataset


@pytest.mark.parametrize("profile", PROFILES)
def test_the_loader_reads_what_prepare_wrote_with_every_spec(profile, dataset, tmp_path):
    summary = prepare(dataset, tmp_path / "out", PROFILES[profile], root=dataset.parent, jobs=2)
    assert (summary.num_videos, summary.num_encoded, summary.failures) == (4, 4, ())
    for spec in CLIP_SPECS:
        prepared = VideoDataset.from_list(
            summary.list_path,
            root=tmp_path / "out",
            index=summary.index_path,
            clip=spec,
            transform=transforms.random_resized_crop(32),
        )
        loader = VideoLoader(prepared, batch_size=4, num_workers=1)
        ((clips, labels),) = list(loader)
        assert labels.tolist() == [0, 0, 1, 1]
        assert clips.isfinite().all()
        assert loader.stats()["num_files_scanned"] == 0  # the index had them all
    assert [cost.name for cost in summary.costs] == ["source", "prepared"]
    assert len(cost_table(summary.costs).splitlines()) == 4


@pytest.mark.parametrize("codec", ["h264", "hevc"])
def test_one_decoder_does_for_all_prepared_videos_of_a_size(codec, video, tmp_path):
    """Opening one costs as much as a few frames, and headers that tell a file's rate or quality would want one a file."""
    paths = []
    for name, crf in [("h264", 20.0), ("h264_ntsc", 26.0), ("h264_vfr", 32.0)]:
        paths.append(tmp_path / f"{name}.mp4")
        encode_video(video(name), paths[-1], EncodeSettings(codec=codec, crf=crf, short_side=48))
    prepared = VideoDataset([(path, 0) for path in paths] * 4, clip="1x1x3", transform=transforms.center_crop(32))
    loader = VideoLoader(prepared, batch_size=4, num_workers=1)
    for _ in loader:
        pass
    assert loader.stats()["num_decoders_opened"] == 1


def test_a_second_run_does_only_what_is_new(dataset, video, tmp_path):
    out = tmp_path / "out"
    prepare(dataset, out, QUICK, root=dataset.parent, jobs=1)
    inodes = {path: path.stat().st_ino for path in out.rglob("*.mp4")}

    again = prepare(dataset, out, QUICK, root=dataset.parent, jobs=1)
    assert (again.num_encoded, again.num_kept) == (0, 4)

    shutil.copyfile(video("h264_ntsc"), dataset.parent / "a" / "one.mp4")  # another video under the same name
    again = prepare(dataset, out, QUICK, root=dataset.parent, jobs=1)
    assert (again.num_encoded, again.num_kept) == (1, 3)
    assert VideoReader(out / "a" / "one.mp4").average_fps == pytest.approx(29.97, abs=0.01)
    kept = {path for path, inode in inodes.items() if path.stat().st_ino == inode}
    assert {path.name for path in inodes.keys() - kept} == {"one.mp4"}

    shutil.rmtree(dataset.parent / "b")  # sources that are gone were good once
    again = prepare(dataset, out, QUICK, root=dataset.parent, jobs=1)
    assert (again.num_encoded, again.num_kept, again.failures) == (0, 4, ())

    (out / "a" / "two.mp4").write_bytes(b"cut")
    other = EncodeSettings(crf=35, preset="ultrafast")
    shutil.copyfile(video("h264"), dataset.parent / "solo.mp4")
    assert prepare(dataset.parent / "solo.mp4", out, QUICK, jobs=1).num_encoded == 1
    assert prepare(dataset.parent / "solo.mp4", out, other, jobs=1).num_encoded == 1  # other settings


def test_two_lists_prepared_into_one_folder_share_its_index(dataset, tmp_path):
    lines = dataset.read_text().splitlines()
    for name, part in [("train.txt", lines[:2]), ("val.txt", lines[2:])]:
        (dataset.parent / name).write_text("\n".join(part))
        summary = prepare(dataset.parent / name, tmp_path / "out", QUICK, root=dataset.parent, jobs=1)
    for name in ("train.txt", "val.txt"):
        prepared = VideoDataset.from_list(
            tmp_path / "out" / name,
            root=tmp_path / "out",
            index=summary.index_path,
            clip="1x1x3",
            transform=transforms.center_crop(32),
        )
        loader = VideoLoader(prepared, batch_size=2, num_workers=0)
        assert len(list(loader)) == 1
        assert loader.stats()["num_files_scanned"] == 0


def test_a_bad_source_is_listed_and_the_rest_goes_on(dataset, video, tmp_path, capsys):
    folder = dataset.parent
    (folder / "empty.mp4").write_bytes(b"")
    (folder / "folder.mp4").mkdir()
    shutil.copyfile(video("h264_truncated_ts"), folder / "cut.ts")
    with open(dataset, "a") as file:
        file.write("empty.mp4 0\nfolder.mp4 0\ncut.ts 1\ngone.mp4 1\n")
    arguments = ["--root", str(folder), "--crf", "30", "--jobs", "2"]
    assert main(["prepare", str(dataset), str(tmp_path / "out"), *arguments]) == 1

    rows = [json.loads(line) for line in (tmp_path / "out" / "failed.jsonl").read_text().splitlines()]
    reasons = {os.path.basename(row["source"]): row["reason"] for row in rows}
    assert set(reasons) == {"empty.mp4", "folder.mp4", "cut.ts", "gone.mp4"}
    assert "is a directory" in reasons["folder.mp4"]
    assert "frame 32" in reasons["cut.ts"]
    assert (
        tmp_path / "out" / "train.txt"
    ).read_text() == "a/one.mp4 0\na/two.mp4 0\nb/three four.mp4 1\nb/five.mp4 1\n"
    assert "4 of 8 videos failed" in capsys.readouterr().out

    for name in ("empty.mp4", "cut.ts", "gone.mp4"):  # mended: the next run finishes, and there is no failure left
        shutil.copyfile(video("h264_ntsc"), folder / name)
    (folder / "folder.mp4").rmdir()
    shutil.copyfile(video("h264_ntsc"), folder / "folder.mp4")
    assert main(["prepare", str(dataset), str(tmp_path / "out"), *arguments]) == 0
    assert not (tmp_path / "out" / "failed.jsonl").exists()
    assert len((tmp_path / "out" / "train.txt").read_text().splitlines()) == 8


def crash_on_two(source: str, destination: str, settings: EncodeSettings) -> EncodedVideo:
    if "two" in source:
        os.kill(os.getpid(), signal.SIGSEGV)
    return encode_video(source, destination, settings)


def test_a_video_that_crashes_the_decoder_costs_itself_alone(dataset, tmp_path):
    videos_of = SourceList.read(dataset, str(dataset.parent), ".mp4")
    results = run_tasks(videos_of.tasks, crash_on_two, QUICK, tmp_path / "out", log_name="log.jsonl", jobs=2)
    assert results.num_done == 3
    ((source, reason),) = results.failures
    assert source.endswith("two.webm")
    assert reason == "the process working on it died (exit code -11), twice"


def killed_on_two(source: str, destination: str, settings: EncodeSettings) -> EncodedVideo:
    if "two" in source:
        os.kill(os.getpid(), signal.SIGKILL)  # as the kernel does where memory is short
    return encode_video(source, destination, settings)


def killed_once_on_two(source: str, destination: str, settings: EncodeSettings) -> EncodedVideo:
    seen = Path(source).with_suffix(".seen")
    if "two" in source and not seen.exists():
        seen.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return encode_video(source, destination, settings)


def short_of_memory_on_two(source: str, destination: str, settings: EncodeSettings) -> EncodedVideo:
    if "two" in source:
        raise MemoryError
    return encode_video(source, destination, settings)


def disk_fails_on_two(source: str, destination: str, settings: EncodeSettings) -> EncodedVideo:
    if "two" in source:
        raise OSError(errno.EIO, os.strerror(errno.EIO))
    return encode_video(source, destination, settings)


def source_disk_fails_on_two(source: str, destination: str, settings: EncodeSettings) -> EncodedVideo:
    if "two" in source:
        raise OSError(errno.EIO, "cannot read: Input/output error", source)
    return encode_video(source, destination, settings)


@pytest.fixture
def run_two(dataset, tmp_path, monkeypatch) -> Callable[..., Results]:
    """run_tasks with one worker; "two" is the second of the four videos."""

    def run(work, engine):
        if engine == "ray":
            pytest.importorskip("ray")
            monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))  # Ray's workers import `work` from here
        tasks = SourceList.read(dataset, str(dataset.parent), ".mp4").tasks
        assert "two" in tasks[1].source
        return run_tasks(tasks, work, QUICK, tmp_path / "out", log_name="log.jsonl", jobs=1, engine=engine)

    return run


@pytest.mark.parametrize(
    "work, engine, error, message",
    [
        (killed_on_two, "local", LostWorkError, r"two\.webm was lost: .* died .*run the same command again"),
        (killed_on_two, "ray", LostWorkError, r"two\.webm was lost: WorkerCrashedError.*run the same command again"),
        (short_of_memory_on_two, "local", MemoryError, r"two\.webm: out of memory"),
        (disk_fails_on_two, "local", DestinationError, "out: cannot be written .Input/output error"),
        (source_disk_fails_on_two, "local", OSError, r"^\[Errno 5\] cannot read: Input/output error: '.*two\.webm'$"),
    ],
)
def test_what_the_machine_fails_to_do_is_no_failure_of_a_video(work, engine, error, message, run_two, tmp_path):
    with pytest.raises(error, match=message):
        run_two(work, engine)
    assert not (tmp_path / "out" / "failed.jsonl").exists()
    num_done = (
        3 if error is LostWorkError else 1
    )  # one that takes its worker with it does not keep the others from being done
    again = run_two(encode_video, "local")
    assert (again.num_done, again.num_kept, again.failures) == (4 - num_done, num_done, ())


def test_the_video_of_a_worker_that_was_killed_once_is_tried_again(run_two):
    results = run_two(killed_once_on_two, "local")
    assert (results.num_done, results.failures) == (4, ())


def test_a_dry_run_prints_the_choice_and_writes_nothing(dataset, tmp_path, capsys):
    before = tree(dataset.parent)
    assert (
        main(
            ["prepare", str(dataset), str(tmp_path / "out"), "--root", str(dataset.parent), "--dry-run", "--crf", "30"]
        )
        == 0
    )
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "balanced: h264, GOP 4, quality 30, short side 256"
    assert [line.split("  ")[0] for line in lines[3:]] == ["source", "h264, GOP 1", "h264, GOP 4", "h264, GOP 16"]
    assert not (tmp_path / "out").exists()
    assert tree(dataset.parent) == before


def test_a_dry_run_encodes_beginnings_alone(video, monkeypatch):
    monkeypatch.setattr("vidload.prepare.reencode._SAMPLE_FRAMES", 12)
    source, encoded = dry_run(video("h264"), PROFILES["fastest"])
    assert source.num_bytes == pytest.approx(os.path.getsize(video("h264")) * 12 / 48, abs=1)
    assert encoded.packets == (3.0, 8.0, 6.0, 3.0, 3.0)  # longer clips loop over the twelve frames


# --- when it is stopped, or cannot go on


def run_cli(*arguments: str, **options) -> subprocess.Popen:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "vidload", *arguments]
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options
    )


def test_killed_at_any_moment_it_ends_with_the_same_files(dataset, video, tmp_path):
    names = ["h264_ntsc", "h264_vfr", "h264_mkv", "hevc", "vp9_odd", "mpeg2_ts", "h264_star", "h264_10bit"]
    for name in names:
        shutil.copyfile(video(name), dataset.parent / f"{name}.mkv")
    with open(dataset, "a") as file:
        file.writelines(f"{name}.mkv 2\n" for name in names)
    prepare(dataset, tmp_path / "undisturbed", root=dataset.parent, jobs=2)
    expected = tree(tmp_path / "undisturbed")

    out = tmp_path / "out"
    arguments = ["prepare", str(dataset), str(out), "--root", str(dataset.parent), "--jobs", "2"]
    rng = random.Random(5)
    for round_number in range(3):
        process = run_cli(*arguments, start_new_session=True)
        started = time.monotonic()
        while not out.exists() and process.poll() is None and time.monotonic() - started < 60:
            time.sleep(0.01)
        time.sleep(rng.uniform(0.0, 2.0))
        if round_number % 2:
            os.killpg(process.pid, signal.SIGKILL)  # all at once, as in a power cut
        else:
            process.kill()
        process.wait()
        for name, data in tree(out).items():
            if name.endswith(".mp4"):
                assert data == expected[name]

    process = run_cli(*arguments)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    assert tree(out) == expected
    assert list(out.rglob(".vidload-*.part")) == []


def test_what_a_killed_run_left_half_done_is_swept_and_done_again(dataset, tmp_path):
    prepare(dataset, tmp_path / "undisturbed", QUICK, root=dataset.parent, jobs=1)
    shutil.copytree(tmp_path / "undisturbed", tmp_path / "out")
    log = tmp_path / "out" / "prepared.jsonl"
    rows = log.read_text().splitlines()
    log.write_text("\n".join(rows[:2]) + "\n" + rows[2][:50])  # killed in the middle of a line; one file is not in it
    (tmp_path / "out" / "a" / ".vidload-4711-one.mp4.part").write_bytes(b"half")
    (tmp_path / "out" / "b" / "three four.mp4").unlink()
    summary = prepare(dataset, tmp_path / "out", QUICK, root=dataset.parent, jobs=1)
    assert (summary.num_encoded, summary.num_kept) == (2, 2)
    assert tree(tmp_path / "out") == tree(tmp_path / "undisturbed")
    assert list(tmp_path.rglob("*.part")) == []


def test_a_full_disk_stops_it_and_keeps_what_is_finished(dataset, tmp_path):
    expected = tmp_path / "expected"
    prepare(dataset, expected, EncodeSettings(crf=20), root=dataset.parent, jobs=1)
    sizes = sorted(path.stat().st_size for path in expected.rglob("*.mp4"))
    out = tmp_path / "out"
    arguments = ["prepare", str(dataset), str(out), "--root", str(dataset.parent), "--jobs", "1", "--crf", "20"]

    # No file may grow beyond the third of four sizes. (SIGXFSZ is ignored by Python: writes fail with EFBIG.)
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (sizes[2], sizes[2]))

    process = run_cli(*arguments, preexec_fn=limit)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 1
    assert f"{out}: cannot be written ({os.strerror(errno.EFBIG)}); what is finished stays there" in output
    assert list(out.rglob("*.part")) == []
    for path in out.rglob("*.mp4"):
        assert VideoReader(path).num_frames == 48

    process = run_cli(*arguments)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    assert len(list(out.rglob("*.mp4"))) == 4


def test_a_folder_that_cannot_be_written_is_refused_at_once(dataset, tmp_path):
    (tmp_path / "file").write_text("in the way")
    for destination in (tmp_path / "file", tmp_path / "file" / "out", Path("/proc/vidload")):
        with pytest.raises(DestinationError, match=f"{destination}: cannot be written"):
            prepare(dataset, destination, QUICK, root=dataset.parent)


def test_a_folder_that_turns_unwritable_stops_it(dataset, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "b").write_text("a file where a folder must be")
    with pytest.raises(DestinationError, match=f"{out}: cannot be written"):
        prepare(dataset, out, QUICK, root=dataset.parent, jobs=1)


def test_two_runs_do_not_write_one_folder(dataset, tmp_path):
    from vidload.prepare.tasks import locked

    with locked(tmp_path / "out"), pytest.raises(DestinationError, match="another run is writing to it"):
        prepare(dataset, tmp_path / "out", QUICK, root=dataset.parent)


def test_it_never_writes_over_a_source(dataset):
    before = tree(dataset.parent)
    with pytest.raises(ValueError, match=r"a/one\.mp4 is itself one of the videos"):
        prepare(dataset, dataset.parent, QUICK, root=dataset.parent)
    assert tree(dataset.parent) == before


@pytest.mark.parametrize("arguments", [{"engine": "slurm"}, {"jobs": 0}])
def test_arguments_that_make_no_sense_are_refused(arguments, dataset, tmp_path):
    with pytest.raises(ValueError, match=r"is not one of local, ray|must be at least 1"):
        prepare(dataset, tmp_path / "out", QUICK, root=dataset.parent, **arguments)
    assert not (tmp_path / "out").exists()


def test_ray_makes_the_same_files(dataset, tmp_path):
    pytest.importorskip("ray")
    (dataset.parent / "empty.mp4").write_bytes(b"")
    with open(dataset, "a") as file:
        file.write("empty.mp4 0\n")
    local = prepare(dataset, tmp_path / "local", QUICK, root=dataset.parent, jobs=2)
    ray = prepare(dataset, tmp_path / "ray", QUICK, root=dataset.parent, jobs=2, engine="ray")
    assert tree(tmp_path / "ray") == tree(tmp_path / "local")
    assert ray.failures == local.failures
    assert prepare(dataset, tmp_path / "ray", QUICK, root=dataset.parent, jobs=2).num_kept == 4


def test_ray_that_is_not_installed_is_named(dataset, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'vidload\[ray\]'"):
        prepare(dataset, tmp_path / "out", QUICK, root=dataset.parent, engine="ray")
