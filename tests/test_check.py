"""vidload check: each problem in a file that has it and in no other, the reports, resuming, and what clips are predicted to cost."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import fields
from html.parser import HTMLParser
from pathlib import Path

import av
import numpy as np
import pytest
from videos import make_video

from vidload import VideoError, VideoReader
from vidload.annotations import from_items
from vidload.cli import main
from vidload.index import DatasetIndex
from vidload.prepare import CLIP_SPECS, KINDS, check
from vidload.prepare.check_costs import ClipCosts
from vidload.prepare.check_file import CheckedFile, CheckSettings, check_file
from vidload.prepare.costs import clip_plan
from vidload.prepare.declared_size import declared_size
from vidload.sampling import ClipSpec, segments
from vidload.system.random import sample_rng

DOCS = Path(__file__).parent.parent / "docs" / "checking.md"
HOSTILE = "<script>alert(1)<b> &\"'.mp4"


def checked(path, **settings) -> CheckedFile:
    return check_file(str(path), "", CheckSettings(**settings))


def kinds(file: CheckedFile) -> set[str]:
    return {problem.kind for problem in file.problems}


def remux(source, target, slower: int = 1) -> None:
    """The same packets in another container, shown for `slower` times as long."""
    with av.open(str(source)) as given, av.open(str(target), "w") as made:
        stream = made.add_stream_from_template(given.streams.video[0])
        for packet in given.demux(video=0):
            if packet.dts is not None:
                packet.pts, packet.dts, packet.duration = (
                    v * slower for v in (packet.pts, packet.dts, packet.duration)
                )
                packet.stream = stream
                made.mux(packet)


def damage(path, packet: int) -> None:
    """Zeros in the place of the second half of a packet, which decoders notice."""
    with VideoReader(path) as reader:
        offset, size = (int(getattr(reader._index, name)[packet]) for name in ("packet_offsets", "packet_sizes"))
    with open(path, "r+b") as file:
        file.seek(offset + size // 2)
        file.write(bytes(size - size // 2))


@pytest.fixture
def damaged(video, tmp_path):
    """damaged("h264", 20) -> path of a copy of that clip with packet 20 damaged."""

    def make(name: str, packet: int) -> Path:
        path = tmp_path / Path(video(name)).name
        shutil.copyfile(video(name), path)
        damage(path, packet)
        return path

    return make


# ---- problems of one file


@pytest.mark.parametrize(
    "name", ["h264", "h264_open_gop", "h264_mkv", "h264_ts", "hevc_radl", "vp9", "av1_all_intra", "mjpeg_avi"]
)
def test_a_good_file_has_no_problem(video, name):
    assert checked(video(name)).problems == ()


@pytest.mark.parametrize("name, kind", [
    ("h264_truncated_mkv", "cut_short"),
    ("flv1_no_keyframe_at_start", "no_keyframe_at_start"),
    ("h264_no_ctts", "irregular"),
    ("h264_resolution_change", "size_changes"),
    ("h264_vfr", "variable_rate"),
    ("h264_rotated_90", "rotated"),
])  # fmt: skip
def test_a_problem_is_found_in_the_file_that_has_it(video, name, kind):
    others = {"irregular"} if name == "flv1_no_keyframe_at_start" else set()  # a codec without a header reader of ours
    assert kinds(checked(video(name))) == {kind} | others


def test_a_wrong_extension_is_found(video, tmp_path):
    path = tmp_path / "a.avi"
    shutil.copyfile(video("h264_mkv"), path)
    (problem,) = checked(path).problems
    assert (problem.kind, problem.detail) == (
        "wrong_extension",
        "a matroska file, whose name should end in .mkv or .webm",
    )


@pytest.mark.parametrize(
    "name, packet",
    [
        ("h264", 20),
        ("h264_chain_16", 16),
        ("h264_open_gop", 30),
        ("h264_star", 47),
        ("mpeg2_closed_gop", 5),
        ("mpeg4_b_frames_avi", 30),
    ],
)
def test_damaged_frames_are_those_that_raise_when_read_one_by_one(damaged, name, packet):
    path = damaged(name, packet)
    expected = []
    with VideoReader(path) as reader:
        pts = reader.pts_seconds
        for frame in range(len(reader)):
            try:
                reader.get_frames_at([frame])
            except VideoError:
                expected.append(frame)
    (problem,) = [problem for problem in checked(path).problems if problem.kind != "irregular"]
    assert problem.kind == "damaged" and "cannot be decoded" in problem.detail
    assert [frame for start, stop in problem.frames for frame in range(start, stop)] == expected != []
    for (start, stop), (first, last) in zip(problem.frames, problem.seconds, strict=True):
        assert (first, last) == pytest.approx((pts[start], pts[stop - 1]), abs=1e-6)


def test_damage_in_some_of_many_keyframes_is_of_those_frames_alone(damaged):
    path = damaged("mjpeg_avi", 20)
    damage(path, 33)
    for is_fast in (False, True):
        frames = {problem.kind: problem.frames for problem in checked(path, is_fast=is_fast).problems}
        assert frames["damaged"] == ((20, 21), (33, 34))


def test_fast_passes_over_damage_between_keyframes(damaged):
    path = damaged("h264_chain_16", 20)
    assert kinds(checked(path)) == {"damaged"} and kinds(checked(path, is_fast=True)) == set()


@pytest.mark.parametrize("name", ["h264_faststart", "h264_fragmented", "h264_mkv", "h264_avi"])
def test_a_file_that_lost_its_end_is_found_wherever_the_cut_is(video, tmp_path, name):
    data = Path(video(name)).read_bytes()
    assert declared_size(video(name)) == len(data)
    path = tmp_path / Path(video(name)).name
    for share in (0.6, 0.75, 0.9):
        path.write_bytes(data[: int(len(data) * share)])
        assert "cut_short" in kinds(checked(path))


@pytest.mark.parametrize("head, size", [
    (b"\x1a\x45\xdf\xa3\x81\0\x18\x53\x80\x67\x01" + (5000).to_bytes(7, "big"), 5018),
    (b"\x1a\x45\xdf\xa3\x81\0\x18\x53\x80\x67\x01" + b"\xff" * 7, None),  # of unknown length: a live recording
    (b"\0\0\0\x10ftypisom\0\0\0\0\0\0\0\x01mdat" + (5000).to_bytes(8, "big"), 5016),
    (b"\0\0\0\x10ftypisom\0\0\0\0\0\0\0\0mdat" + b"\0" * 100, 124),  # to the end
    (b"RIFF" + (5000).to_bytes(4, "little") + b"AVI ", 5008),
    (b"RIFF\0\0\0\0AVI ", None),  # never finished
    (b"G" + b"\0" * 187, None),
    (b"", None),
])  # fmt: skip
def test_what_a_container_says_of_its_length(tmp_path, head, size):
    (tmp_path / "a").write_bytes(head)
    assert declared_size(str(tmp_path / "a")) == size


def test_of_a_file_cut_short_the_last_frame_left_is_named(video):
    path = video("h264_truncated_mkv")
    (problem,) = checked(path).problems
    with VideoReader(path) as reader:
        assert problem.frames == ((len(reader) - 1, len(reader)),)


@pytest.mark.parametrize("make, message", [
    (lambda path: path.write_bytes(b""), "empty"),
    (lambda path: path.write_text("no video"), "not a video container"),
    (lambda path: path.mkdir(), "not a regular file"),
    (lambda path: None, "no such file"),
])  # fmt: skip
def test_a_file_of_which_nothing_can_be_read_raises(tmp_path, make, message):
    path = tmp_path / "a.mp4"
    make(path)
    with pytest.raises(VideoError, match=re.compile(message, re.IGNORECASE)):
        checked(path)


def test_fast_decodes_keyframes_alone_and_compares_ends(video):
    fast, full = checked(video("h264_chain_16"), is_fast=True), checked(video("h264_chain_16"))
    assert (fast.num_packets_timed, full.num_packets_timed) == (16, 48)
    assert fast.packet_digest == "" != full.packet_digest
    assert fast.digest != full.digest
    assert (fast.num_frames, fast.packets_per_clip) == (full.num_frames, full.packets_per_clip)


def test_the_same_packets_have_one_digest_in_any_container(video, tmp_path):
    remux(video("h264"), tmp_path / "a.mkv")
    one, other = checked(video("h264")), checked(tmp_path / "a.mkv")
    assert one.packet_digest == other.packet_digest != checked(video("h264_star")).packet_digest
    assert one.digest != other.digest


# ---- what clips cost


@pytest.mark.parametrize("clip", CLIP_SPECS)
@pytest.mark.parametrize("name, gop", [("h264_all_intra", 1), ("h264_chain_16", 16)])
def test_packets_of_a_clip_are_those_counted_by_hand(video, name, gop, clip):
    """In a chain a frame needs all packets since its keyframe: of each GOP, as many as lie before the last wanted frame, and itself."""
    with VideoReader(video(name)) as reader:
        for number in range(5):
            frames = segments(48, 25, ClipSpec.parse(clip), sample_rng(0, 0, number)).ravel()
            last_of_gop = {frame // gop: frame % gop for frame in sorted(frames.tolist())}
            assert clip_plan(reader, clip, number).num_packets_decoded == sum(last + 1 for last in last_of_gop.values())


def test_a_checked_file_has_the_mean_packets_of_its_clips(video):
    found = checked(video("h264_all_intra")).packets_per_clip
    drawn = [[segments(48, 25, ClipSpec.parse(clip), sample_rng(0, 0, n)) for n in range(8)] for clip in CLIP_SPECS]
    assert found == pytest.approx([np.mean([len(np.unique(frames)) for frames in clips]) for clips in drawn])
    assert found[0] == 3  # 1x1x3 of a video of keyframes: a packet a frame


def test_a_prediction_is_packets_times_their_time_and_frames_times_theirs():
    fact = {"codec": "h264", "width": 340, "height": 256, "num_packets_timed": 100}
    costs = ClipCosts()
    costs.add({**fact, "packets_per_clip": [30, 80, 64, 40, 50], "decode_seconds": 0.1, "transform_seconds": 0.0001})
    costs.add({**fact, "packets_per_clip": [10, 20, 32, 16, 10], "decode_seconds": 0.3, "transform_seconds": 0.0003}, 3)
    prediction = costs.prediction()  # 2 ms a packet, 0.2 ms a frame, 4 rows
    assert [clip.clip for clip in prediction] == list(CLIP_SPECS)
    assert [clip.num_packets for clip in prediction] == [15, 35, 40, 22, 20]
    assert [clip.milliseconds for clip in prediction] == pytest.approx([30.6, 71.6, 86.4, 44.8, 41.6])
    assert prediction[0].clips_per_second == pytest.approx(1000 / 30.6)
    assert prediction[0].core_hours_per_epoch == pytest.approx(4 * 0.0306 / 3600)


# ---- a dataset


@pytest.fixture(scope="module")
def dataset(video_cache, tmp_path_factory) -> Path:
    """A folder of videos with a list of them, train.txt, in which a blank line stands before the last three."""
    folder = tmp_path_factory.mktemp("dataset")
    (folder / "videos").mkdir()
    sources = {
        "a b.mp4": "h264_star",
        HOSTILE: "h264_star",
        "damaged.mp4": "h264_chain_16",
        "keys.mp4": "h264_all_intra",
        "cut.mkv": "h264_truncated_mkv",
    }
    for name, source in sources.items():
        shutil.copyfile(make_video(source, video_cache), folder / "videos" / name)
    damage(folder / "videos" / "damaged.mp4", 20)
    remux(folder / "videos" / "keys.mp4", folder / "videos" / "slow.mkv", slower=3)
    (folder / "videos" / "text.mp4").write_text("no video")
    rows = ["a b.mp4 1", f"{HOSTILE} 2", "damaged.mp4 3", "keys.mp4 4", "./keys.mp4 5"]
    rows += ["", "cut.mkv 6", "slow.mkv 7", "text.mp4 8", "gone.mp4 9", "keys.mp4 4"]
    (folder / "train.txt").write_text("".join(f"{row}\n" for row in rows))
    return folder


def commands() -> list[list[str]]:
    """The commands of docs/checking.md."""
    blocks = re.findall(r"^```\n(vidload .*)\n```$", DOCS.read_text(), re.MULTILINE)
    return [shlex.split(block)[1:] for block in blocks]


@pytest.fixture(scope="module")
def outputs(dataset, tmp_path_factory):
    """The commands of docs/checking.md, run one after the other in the folder: (exit statuses, what the last one printed)."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(dataset)
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        run = [sys.executable, "-m", "vidload"]
        patch.setenv("PYTHONPATH", str(DOCS.parent.parent))
        done = [subprocess.run([*run, *words], capture_output=True, text=True) for words in commands()]
    return [process.returncode for process in done], done[-1].stdout + done[-1].stderr


def found(dataset) -> dict[str, dict[str, list]]:
    """name -> kind -> (detail, frames) of the JSON file."""
    files = json.loads((dataset / "report.json").read_text())["files"]
    return {
        file["path"].removeprefix("videos/"): {p["kind"]: [p["detail"], p["frames"]] for p in file["problems"]}
        for file in files
    }


def test_the_commands_of_the_docs_find_bad_files_and_remember_the_others(dataset, outputs):
    assert len(commands()) == 2
    statuses, text = outputs
    assert statuses == [1, 1], text
    assert "9 files in 10 rows" in text
    # those of which nothing can be read are looked at again
    assert "every frame of 2 files, 7 known from an earlier run" in text
    assert "bad: 4 of 9 files" in text and "would 'vidload prepare' pay?" in text
    for name in ("text.mp4", "gone.mp4", "damaged.mp4", "cut.mkv"):
        assert f"    {name}: " in text


def test_each_problem_of_the_dataset_is_found_where_it_is(dataset, outputs):
    problems = found(dataset)
    assert {name: set(of_file) for name, of_file in problems.items()} == {
        "a b.mp4": set(),
        HOSTILE: {"duplicate"},
        "damaged.mp4": {"damaged"},
        "keys.mp4": {"listed_twice"},
        "./keys.mp4": {"duplicate"},
        "cut.mkv": {"cut_short"},
        "slow.mkv": {"same_packets", "odd_rate"},
        "text.mp4": {"unreadable"},
        "gone.mp4": {"missing"},
    }
    assert problems["keys.mp4"]["listed_twice"][0] == "lines 4, 5, 11, with different labels: 4, 5"
    assert problems[HOSTILE]["duplicate"][0] == "of videos/a b.mp4"
    assert problems["slow.mkv"]["same_packets"][0] == "of videos/keys.mp4"
    assert problems["slow.mkv"]["odd_rate"][0] == "8.33333 fps; the median of the dataset is 25"


def names_of_table(heading: str) -> set[str]:
    """The fields that docs/checking.md names in the table below a line."""
    table = DOCS.read_text().split(f"\n{heading}\n\n", 1)[1].split("\n\n", 1)[0]
    return set(re.findall(r"`(\w+)`", " ".join(row.split("|")[1] for row in table.splitlines())))


def test_the_json_file_is_as_the_docs_say(dataset, outputs):
    report = json.loads((dataset / "report.json").read_text())
    assert set(report) == names_of_table("## The JSON file")
    assert (report["version"], report["num_rows"], report["num_files"], report["num_bad"]) == (1, 10, 9, 4)
    assert [clip["clip"] for clip in report["clips"]] == list(CLIP_SPECS)
    assert report["prepare"]["num_videos"] == 3 and len(report["prepare"]["gains"]) == len(CLIP_SPECS)
    assert report["counts"] == {
        kind: count for kind in KINDS if (count := sum(kind in of_file for of_file in found(dataset).values()))
    }
    for file in report["files"]:
        assert set(file) == names_of_table("A file:")
        assert file["is_bad"] == any(KINDS[problem["kind"]].is_bad for problem in file["problems"])
        assert (file["facts"] is None) == (file["path"] in ("videos/text.mp4", "videos/gone.mp4"))
        if file["facts"] is not None:
            assert set(file["facts"]) == names_of_table("Its facts:")
    assert names_of_table("Its facts:") == {field.name for field in fields(CheckedFile)} - {"problems"}
    assert [file["lines"] for file in report["files"]] == [[1], [2], [3], [4, 11], [5], [7], [8], [9], [10]]
    facts = report["files"][0]["facts"]
    assert (facts["codec"], facts["width"], facts["height"], facts["num_frames"]) == ("h264", 128, 96, 48)
    assert report["num_bytes"] == sum(file["facts"]["source_bytes"] for file in report["files"] if file["facts"])


def test_the_docs_name_every_kind(dataset):
    table = DOCS.read_text().split("## What it looks for\n\n", 1)[1].split("\n\n", 1)[0]
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \|", table, re.MULTILINE)
    assert rows == [(kind, "bad" if what.is_bad else "odd") for kind, what in KINDS.items()]


def test_the_new_list_has_the_rows_of_good_files_as_they_were(dataset, outputs):
    expected = ["a b.mp4 1", f"{HOSTILE} 2", "keys.mp4 4", "./keys.mp4 5", "slow.mkv 7", "keys.mp4 4"]
    assert (dataset / "good.txt").read_text().splitlines() == expected


def test_the_index_is_one_that_training_reads(dataset, outputs):
    table = DatasetIndex(dataset / "train.vidx").table.to_pydict()
    reasons = {os.path.basename(path): reason for path, reason in zip(table["path"], table["reason"], strict=True)}
    assert reasons["a b.mp4"] is None and "not a video" in reasons["text.mp4"]


class Page(HTMLParser):
    """What a page holds: tags with their attributes, and its text."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(path.read_text())

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.text.append(data)

    def of(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


def test_the_page_needs_nothing_from_elsewhere_and_runs_nothing(dataset, outputs):
    page = Page(dataset / "report.html")
    allowed = "html head meta title style body header main footer h1 h2 h3 p a br code dl div dt dd span table caption thead tbody tr th td "
    allowed += "figure figcaption img svg rect text"
    assert {tag for tag, _ in page.tags} <= set(allowed.split())
    assert all(value.startswith("#") for _, attributes in page.tags if (value := attributes.get("href")) is not None)
    assert all(attributes["src"].startswith("data:image/jpeg;base64,") for attributes in page.of("img"))
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    source = (dataset / "report.html").read_text()
    assert "url(" not in source and "://" not in source and "@import" not in source


def test_hostile_names_are_text_on_the_page(dataset, outputs):
    page = Page(dataset / "report.html")
    assert HOSTILE in page.text
    assert f"frame 24 of {HOSTILE}" in [attributes["alt"] for attributes in page.of("img")]


def test_the_page_can_be_read_by_a_screen_reader(dataset, outputs):
    page = Page(dataset / "report.html")
    assert page.of("html")[0]["lang"] == "en" and page.of("meta")[1]["name"] == "viewport"
    assert len(page.of("caption")) == len(page.of("table")) >= 10
    assert all(attributes["scope"] in ("col", "row") for attributes in page.of("th"))
    assert len(page.of("img")) >= 4 and all(attributes["alt"] for attributes in page.of("img"))
    assert len(page.of("svg")) == 6 and all(attributes["aria-label"] for attributes in page.of("svg"))
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids)) and {f"#{name}" for name in ids} == {link["href"] for link in page.of("a")}
    assert "Codec. Files: h264: 7" in [attributes["aria-label"] for attributes in page.of("svg")]


@pytest.mark.skipif(shutil.which("chromium") is None, reason="no headless browser")
@pytest.mark.parametrize("width", [1280, 500])  # a headless window is no narrower
def test_the_page_fits_the_width_of_a_browser(dataset, outputs, tmp_path, width):
    source = (dataset / "report.html").read_text()
    probe = "<script>document.title = innerWidth + ' ' + document.documentElement.scrollWidth</script></body>"
    (tmp_path / "page.html").write_text(source.replace("</body>", probe))
    command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", f"--window-size={width},900", "--dump-dom"]
    command += [f"--screenshot={tmp_path / 'page.png'}", (tmp_path / "page.html").as_uri()]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=120).stdout
    inner, needed = map(int, re.search(r"<title>(\d+) (\d+)</title>", shown).groups())
    assert needed <= inner <= width


# ---- the command


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return lambda *words: main(["check", *map(str, words), "--num-workers", "1"])


def test_a_good_video_gives_status_0(run, video, capsys):
    assert run(video("h264_all_intra"), "--fast") == 0
    assert "bad: 0 of 1 files" in capsys.readouterr().out


@pytest.mark.parametrize("words, message", [
    (["none.txt"], "none.txt: no such file or folder"),
    (["train.txt", "--num-workers", "0"], "num_workers is 0, must be at least 1"),
    (["train.txt", "--write-list", "train.txt"], "--write-list train.txt would overwrite the input"),
    (["train.txt", "--write-list", "./link.txt"], "would overwrite the input"),
    (["train.txt", "--root", "videos", "--json", "videos/keys.mp4"], "--json videos/keys.mp4 would overwrite the input"),
    (["train.txt", "--json", "a", "--html", "a"], "two outputs have the same name"),
])  # fmt: skip
def test_a_command_that_makes_no_sense_gives_status_2_and_writes_nothing(dataset, monkeypatch, capsys, words, message):
    monkeypatch.chdir(dataset)
    if not (dataset / "link.txt").exists():
        (dataset / "link.txt").symlink_to("train.txt")
    before = (dataset / "train.txt").read_bytes(), (dataset / "videos/keys.mp4").read_bytes()
    assert main(["check", *words]) == 2
    assert message in capsys.readouterr().err
    assert before == ((dataset / "train.txt").read_bytes(), (dataset / "videos/keys.mp4").read_bytes())


def test_a_folder_s_good_files_are_written_as_a_list(run, video, tmp_path):
    for name in ("x/one.mp4", "y/two.mp4"):
        (tmp_path / "d" / name).parent.mkdir(parents=True)
        shutil.copyfile(video("h264_all_intra"), tmp_path / "d" / name)
    (tmp_path / "d" / "y" / "three.mp4").write_text("no video")
    assert run(tmp_path / "d", "--fast", "--write-list", tmp_path / "good.txt") == 1
    assert (tmp_path / "good.txt").read_text() == f"{tmp_path}/d/x/one.mp4 0\n{tmp_path}/d/y/two.mp4 1\n"


# ---- records


def report_of(dataset, record) -> list:
    """All that a run says but for what was measured."""
    report = check(dataset / "train.txt", root=dataset / "videos", record=record, num_workers=1, with_estimate=False)
    measured = ("decode_seconds", "transform_seconds")
    files = [
        (file.path, file.lines, file.problems, {k: v for k, v in (file.facts or {}).items() if k not in measured})
        for file in report.files()
    ]
    totals = report.num_files, report.num_bad, report.num_bytes, report.num_frames, report.counts, report.tally
    return [files, totals, [clip.num_packets for clip in report.clips]]


def test_a_run_that_was_killed_goes_on_and_reports_the_same(dataset, tmp_path):
    expected = report_of(dataset, tmp_path / "whole")
    log = tmp_path / "killed" / "checked.jsonl"
    script = "import sys; from vidload.prepare import check; check(sys.argv[1], root=sys.argv[2], record=sys.argv[3], num_workers=1)"
    arguments = [str(dataset / "train.txt"), str(dataset / "videos"), str(log.parent)]
    root = str(DOCS.parent.parent)
    process = subprocess.Popen([sys.executable, "-c", script, *arguments], cwd=root)
    deadline = time.monotonic() + 120
    while (not log.exists() or log.read_bytes().count(b"\n") < 2) and time.monotonic() < deadline:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert log.read_bytes().count(b"\n") >= 2
    log.write_bytes(log.read_bytes() + b'{"version": 1, "source": "videos/k')  # a line that was being written
    assert report_of(dataset, tmp_path / "killed") == expected


def test_a_file_that_changed_is_looked_at_again(video, tmp_path):
    (tmp_path / "d").mkdir()
    for name in ("a.mp4", "b.mp4"):
        shutil.copyfile(video("h264_all_intra"), tmp_path / "d" / name)
    options = {"record": tmp_path / "record", "num_workers": 1, "with_estimate": False}
    first = check(tmp_path / "d", **options)
    assert (first.num_checked, first.num_kept, first.counts) == (2, 0, {"duplicate": 1})
    shutil.copyfile(video("h264_rotated_90"), tmp_path / "d" / "b.mp4")
    second = check(tmp_path / "d", **options)
    assert (second.num_checked, second.num_kept, second.counts) == (1, 1, {"rotated": 1})


def test_lines_of_a_record_that_make_no_sense_are_passed_over(video, tmp_path):
    options = {"record": tmp_path / "record", "num_workers": 1, "with_estimate": False}
    check(video("h264_all_intra"), **options)
    log = tmp_path / "record" / "checked.jsonl"
    row = json.loads(log.read_text())
    log.write_text(
        "\n".join(json.dumps(line) for line in ([], {**row, "version": 0}, {**row, "num_frames": "48"})) + "\n"
    )
    report = check(video("h264_all_intra"), **options)
    assert (report.num_checked, report.num_frames) == (1, 48)


def test_segments_without_a_frame_are_found(video, tmp_path):
    path = video("h264_all_intra")  # 48 frames, 25 fps
    rows = from_items([(path, 0, 0.0, 1.0), (path, 1, 1.001, 1.039), (path, 2, 1.88, None), (path, 3, 1.881, None)])
    report = check(rows, record=tmp_path / "record", num_workers=1, with_estimate=False)
    ((file, problem),) = report.examples["empty_segment"]
    assert problem.detail == "row 2: [1.001, 1.039) seconds; row 4: [1.881, nan) seconds"
    assert report.counts == {"empty_segment": 1} and file.is_bad
    assert report.write_list(tmp_path / "good.txt") == 2
