"""The vidload command as a user runs it: what it prints, what it writes, its exit status."""

from __future__ import annotations

import errno
import functools
import os
import re
import resource
import signal
import subprocess
import sys

import av
import numpy as np
import pytest
import torch
from videos import make_video

import vidload
from vidload import _core, transforms
from vidload.annotations import read_videos
from vidload.cli import COMMANDS, inspect, main
from vidload.system import sheet


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three videos, a file that is none, and lists of them."""
    folder = tmp_path_factory.mktemp("cli videos")
    for name in ["h264_star", "h264_portrait", "h264_one_frame"]:
        make_video(name, folder)
    (folder / "broken.mp4").write_bytes(b"this is not a video")
    (folder / "good.txt").write_text("h264_star.mp4 3\nh264_portrait.mp4 1\n")
    (folder / "all.txt").write_text("h264_star.mp4 3\nbroken.mp4 0\nh264_portrait.mp4 1\nmissing.mp4 2\n")
    return folder


def run(*args):
    return main([str(arg) for arg in args])


# ---- the command itself


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself_with_an_example(command, capsys):
    with pytest.raises(SystemExit) as stop:
        run(command, "--help")
    text = capsys.readouterr().out
    assert stop.value.code == 0
    assert re.search(rf"examples?:\s+vidload {command}", text)


def test_python_m_vidload_is_the_command():
    text = subprocess.run([sys.executable, "-m", "vidload", "--version"], capture_output=True, text=True, check=True)
    assert text.stdout == f"vidload {vidload.__version__}\n"


@pytest.mark.parametrize(
    "args",
    [[], ["dance"], ["inspect"], ["index", "list.txt"], ["preview", "list.txt", "-o", "x", "--size", "big"]],
)
def test_arguments_that_make_no_sense_exit_with_2_and_the_usage(args, capsys):
    with pytest.raises(SystemExit) as stop:
        run(*args)
    assert stop.value.code == 2
    assert capsys.readouterr().err.startswith("usage: vidload")


@pytest.mark.parametrize(
    "args, message",
    [
        (["inspect", "nowhere.mp4"], "vidload inspect: nowhere.mp4: "),
        (["index", "nowhere.txt", "-o", "x"], "vidload index: nowhere.txt: no such file or folder"),
        (
            ["preview", "good.txt", "-o", "x", "--clip", "32"],
            "vidload preview: clip: cannot read '32'",
        ),
        (["preview", "good.txt", "--root", "x", "-o", "x"], "vidload preview: good.txt: none of the videos"),
        (["inspect", "broken.mp4"], "vidload inspect: broken.mp4: "),
    ],
)
def test_a_failure_is_one_line_on_stderr_and_status_1(folder, args, message, capsys, monkeypatch):
    monkeypatch.chdir(folder)
    assert run(*args) == 1
    error = capsys.readouterr().err
    assert error.startswith(message) and error.count("\n") == 1


@pytest.mark.parametrize(
    "args, file",
    [
        (["index", "good.txt", "-o", "{}/i.vidx"], "i.vidx"),
        (["check", "good.txt", "--record", "{}/record"], "record/checked.jsonl"),
        (["check", "good.txt", "--fast", "--record", "{}/record"], "record/checked.jsonl"),
        (["preview", "good.txt", "-o", "{}/sheet.png", "--clip", "2x1x1", "--num-videos", "1"], "sheet.png"),
    ],
)
def test_a_full_disk_is_told_with_the_file_and_leaves_none_cut_short(folder, args, file, tmp_path):
    command = [sys.executable, "-m", "vidload", *(arg.format(tmp_path) for arg in args)]
    # No file may grow beyond 200 bytes. (SIGXFSZ is ignored by Python: writes fail with EFBIG.)
    limit = functools.partial(resource.setrlimit, resource.RLIMIT_FSIZE, (200, 200))
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, preexec_fn=limit)
    assert result.returncode in (1, 2)
    assert f"{os.strerror(errno.EFBIG)}: '{tmp_path / file}'" in result.stderr
    assert [path.name for path in tmp_path.glob("*.png")] == []


def test_ctrl_c_stops_with_a_message_and_status_130(folder):
    code = "import sys, time; from vidload.cli import main, info\n"
    code += "info.add_parser.__globals__['run'] = lambda args: print('ready', flush=True) or time.sleep(60)\n"
    code += "sys.exit(main(['info']))"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=30)
    assert error == "\nvidload info: stopped\n"
    assert process.returncode == 130


def test_a_closed_pipe_is_no_error_message(folder):
    command = f"{sys.executable} -m vidload inspect {str(folder / 'h264_star.mp4')!r} | head -n 1"
    result = subprocess.run(command, shell=True, capture_output=True, text=True, check=True)
    assert result.stdout.count("\n") == 1 and result.stderr == ""


# ---- what LIST_OR_DIR means


def test_a_folder_a_list_a_csv_and_a_file_all_name_videos(folder, tmp_path):
    star = str(folder / "h264_star.mp4")
    assert star in read_videos(str(folder)).paths.to_pylist()
    assert read_videos(str(folder / "good.txt"), str(folder)).labels.tolist() == [3, 1]
    assert read_videos(star).paths.to_pylist() == [star]
    csv = tmp_path / "val.csv"
    csv.write_text("label,youtube_id,time_start,time_end,split\nyoga,abc,1,11,val\n")
    assert read_videos(str(csv)).paths.to_pylist() == ["yoga/abc_000001_000011.mp4"]
    (tmp_path / "classes" / "yoga").mkdir(parents=True)
    os.link(star, tmp_path / "classes" / "yoga" / "x.mp4")
    assert read_videos(str(tmp_path / "classes")).classes == ("yoga",)


# ---- index


def test_index_writes_a_file_that_a_dataset_reads(folder, tmp_path, capsys):
    output = tmp_path / "train.vidx"
    assert run("index", folder / "good.txt", "--root", folder, "-o", output) == 0
    assert "2 of 2 videos" in capsys.readouterr().out
    dataset = vidload.VideoDataset.from_list(
        folder / "good.txt", folder, clip="4x1x1", transform=transforms.center_crop(64), index=output
    )
    assert dataset[0][0].shape == (3, 4, 64, 64)


def test_index_lists_files_it_cannot_read_and_still_succeeds(folder, tmp_path, capsys):
    assert run("index", folder / "all.txt", "--root", folder, "-o", tmp_path / "all.vidx") == 0
    text = capsys.readouterr().out
    assert "2 of 4 videos, " in text and "2 of 4 videos failed:" in text
    assert re.search(rf"  {re.escape(str(folder))}/broken.mp4: \S", text)
    assert re.search(rf"  {re.escape(str(folder))}/missing.mp4: \S", text)


def test_index_reads_only_what_changed_the_second_time(folder, tmp_path, capsys):
    _core.clear_index_cache()  # of this process, which the tests above have filled
    for expected in ["2 read, 0 unchanged", "0 read, 2 unchanged"]:
        assert run("index", folder / "good.txt", "--root", folder, "-o", tmp_path / "train.vidx") == 0
        assert expected in capsys.readouterr().out


def test_index_fails_when_no_file_at_all_can_be_read(folder, tmp_path):
    (tmp_path / "list.txt").write_text("broken.mp4 0\n")
    assert run("index", tmp_path / "list.txt", "--root", folder, "-o", tmp_path / "x.vidx") == 1


# ---- inspect


def test_inspect_tells_facts_gops_and_costs(folder, tmp_path, capsys):
    png = tmp_path / "gops.png"
    assert run("inspect", folder / "h264_star.mp4", "--png", png) == 0
    text = capsys.readouterr().out
    assert "h264, yuv420p, 128x96 (width x height)" in text
    assert "48 frames, 25.000 fps, 1.92 s" in text
    # keyint 16, 15 B frames: a GOP is its keyframe, one P, and droppable frames between them
    assert text.count("\n  0  IP") == 1
    assert re.search(r"keyframes  3, one every 1\d packets", text)
    for clip in inspect.CLIP_SPECS:
        assert re.search(rf"\n  {clip} +\d+ +[\d.]+ +[\d.]+ +\d+ +[\d.]+", text)
    with av.open(str(png)) as picture:
        assert picture.streams.video[0].width == 1200


def test_the_gop_picture_has_one_character_a_packet_in_decode_order(folder):
    with vidload.VideoReader(folder / "h264_star.mp4") as reader:
        kinds = "".join(inspect.packet_kinds(reader))
        lines = list(inspect.gop_picture(reader, width=200))
    assert len(kinds) == 48
    assert re.fullmatch(r"(IPb*)+P?", kinds)
    assert "".join(line[5:] for line in lines[::2]) == kinds
    assert [len(line) for line in lines[::2]] == [len(line) for line in lines[1::2]]  # a bar for each
    assert lines[1][5] == "█"  # the first keyframe is the largest packet


def test_the_gop_picture_wraps_at_the_width(folder):
    with vidload.VideoReader(folder / "h264_star.mp4") as reader:
        kinds = "".join(inspect.packet_kinds(reader))
        lines = list(inspect.gop_picture(reader, width=15))
    assert max(map(len, lines)) == 15
    assert "".join(line[5:] for line in lines[::2]) == kinds


def test_inspect_names_a_rotated_picture_and_an_uneven_rate(tmp_path, capsys):
    assert run("inspect", make_video("h264_rotated_90", tmp_path)) == 0
    assert "96x128 (width x height), turned by 90 degrees" in capsys.readouterr().out
    assert run("inspect", make_video("h264_vfr_gap", tmp_path)) == 0
    assert "; uneven: " in capsys.readouterr().out


def test_inspect_shows_what_it_can_of_a_damaged_video(tmp_path, capsys):
    path = make_video("h264", tmp_path)
    data = bytearray(path.read_bytes())
    data[len(data) // 4 : len(data) // 2] = bytes([0xA5]) * (len(data) // 2 - len(data) // 4)
    path.write_bytes(data)
    assert run("inspect", path) == 0
    text = capsys.readouterr().out
    assert f"{vidload.VideoReader(path).num_frames} frames" in text
    assert re.search(r"\n  1x1x8 .* -\n", text)  # no time
    assert re.search(r"\nsome of it cannot be decoded: .*h264.mp4: frame \d+: ", text)


def test_inspect_works_on_a_single_frame(folder, capsys):
    assert run("inspect", folder / "h264_one_frame.mp4") == 0
    assert "1 frames" in capsys.readouterr().out


# ---- preview and contact sheets


def test_preview_draws_one_row_a_video(folder, tmp_path, capsys):
    png = tmp_path / "sheet.png"
    args = ["--clip", "4x2x1", "--size", "64", "--num-frames", "3", "-o", png]
    assert run("preview", folder / "good.txt", "--root", folder, *args) == 0
    assert "2 samples of 4x2x1, shape [3, 4, 64, 64] (CTHW) each" in capsys.readouterr().out
    assert read_png(png).shape == (2 * 100 + 4, 240, 3)  # rows of 64 + text; at least 240 wide


def test_a_pipe_is_written_into_and_stays_one(folder, tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with subprocess.Popen(["cat", str(pipe)], stdout=subprocess.PIPE, text=True) as reader:
        run("check", folder / "all.txt", "--root", folder, "--write-list", pipe, "--record", tmp_path / "record")
        written, _ = reader.communicate(timeout=60)
    assert written.splitlines() == (folder / "good.txt").read_text().splitlines() and pipe.is_fifo()


def test_preview_leaves_out_what_it_cannot_read_and_says_so(folder, tmp_path, capsys):
    png = tmp_path / "sheet.png"
    args = ["--clip", "1x1x3", "--transform", "three_crop", "--size", "64", "-o", png]
    assert run("preview", folder / "all.txt", "--root", folder, *args) == 0
    text = capsys.readouterr().out
    assert text.count("left out: ") == 2 and "broken.mp4" in text
    assert "2 samples of 1x1x3, shape [9, 3, 1, 64, 64] (VCTHW) each" in text


def test_preview_shows_the_very_pixels_of_the_dataset(folder, tmp_path):
    png = tmp_path / "sheet.png"
    args = ["--clip", "2x3x1", "--transform", "center_crop", "--size", "128", "-o", png]
    assert run("preview", folder / "good.txt", "--root", folder, *args) == 0
    picture = read_png(png)
    with vidload.VideoReader(folder / "h264_star.mp4") as reader:
        # evaluation: 48 frames, clip_span 4, starts at 22; 96 rows grow to 256, of which the middle 128 are 48 rows
        frame = reader.get_frames_at([22])[0]
    first = picture[20 : 20 + 128, 4 : 4 + 128].astype(float)
    assert abs(first.mean(axis=(0, 1)) - frame[24:72, 40:88].mean(axis=(0, 1))).max() < 3


def test_pixels_undo_normalization_and_layout():
    images = np.random.default_rng(0).integers(0, 256, (2, 3, 4, 5, 3), dtype=np.uint8)  # V T H W C
    transform = transforms.center_crop(5)
    clip = (images - np.array(transform.mean)) / np.array(transform.std)
    expected = images.reshape(6, 4, 5, 3)
    assert np.array_equal(sheet.pixels(clip, transform, "NVTHWC"), expected)
    assert np.array_equal(sheet.pixels(clip.transpose(0, 4, 1, 2, 3), transform, "NVCTHW"), expected)
    assert np.array_equal(sheet.pixels(clip[0].transpose(3, 0, 1, 2), transform, "NCTHW"), expected[:3])
    plain = transforms.center_crop(5, mean=None, std=None)
    assert np.array_equal(sheet.pixels(images, plain, "NVTHWC"), expected)
    with pytest.raises(ValueError, match=r"clip of shape \[2, 3, 4, 5, 3\] does not have the axes 'CTHW'"):
        sheet.pixels(images, plain, "NCTHW")


@pytest.mark.parametrize("num_images, most, shown", [(3, 8, [0, 1, 2]), (32, 4, [0, 10, 21, 31]), (5, 1, [0])])
def test_images_are_shown_from_first_to_last(num_images, most, shown):
    assert sheet.evenly(num_images, most).tolist() == shown


# ---- info


def test_info_names_versions_decoders_and_machine(capsys):
    assert run("info") == 0
    lines = dict(line.split(None, 1) for line in capsys.readouterr().out.splitlines())
    assert lines["vidload"] == vidload.__version__
    assert f"torch {torch.__version__}" in lines["packages"]
    assert "libavcodec" in lines["ffmpeg"] and "h264" in lines["decoders"]
    assert _core.cpu_level() in lines["processor"] and "cores" in lines["processor"]


def read_png(path):
    with av.open(str(path)) as container:
        return next(container.decode(video=0)).to_ndarray(format="rgb24")
