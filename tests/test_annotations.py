"""Annotation files as users really have them: spaces, marks, blank lines, missing files, several formats."""

from __future__ import annotations

import math
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vidload.annotations import (
    find_videos,
    from_items,
    missing_files,
    missing_files_message,
    read_folder,
    read_frame_list,
    read_kinetics_csv,
    read_list,
)


def written(tmp_path, text, name="train.txt"):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def rows(annotations):
    return [(annotations.path(i), annotations.label(i)) for i in range(len(annotations))]


# ---- read_list


@pytest.mark.parametrize(
    "text, expected",
    [
        pytest.param("a.mp4 0\nb/c.mp4 12\n", [("a.mp4", 0), ("b/c.mp4", 12)], id="space"),
        pytest.param("a.mp4\t0\nb.mp4\t1\n", [("a.mp4", 0), ("b.mp4", 1)], id="tab"),
        pytest.param("a.mp4,0\nb.mp4,1\n", [("a.mp4", 0), ("b.mp4", 1)], id="comma"),
        pytest.param("a.mp4, 0\nb.mp4, 1\n", [("a.mp4", 0), ("b.mp4", 1)], id="comma and space"),
        pytest.param("a.mp4   7 \n", [("a.mp4", 7)], id="several spaces"),
        pytest.param("my clip 1.mp4 0\nx 2 y.mp4 1\n", [("my clip 1.mp4", 0), ("x 2 y.mp4", 1)], id="spaces in paths"),
        pytest.param("a, b.mp4 0\nc.mp4 1\n", [("a, b.mp4", 0), ("c.mp4", 1)], id="comma in a path"),
        pytest.param("my clip.mp4\t3\n", [("my clip.mp4", 3)], id="tab after a space"),
        pytest.param("my clip.mp4,3\n", [("my clip.mp4", 3)], id="comma after a space"),
        pytest.param(b"\xef\xbb\xbfa.mp4 0\n", [("a.mp4", 0)], id="byte-order mark"),
        pytest.param("a.mp4 0\r\nb.mp4 1\r\n", [("a.mp4", 0), ("b.mp4", 1)], id="CRLF"),
        pytest.param("\n\na.mp4 0\n\n  \nb.mp4 1", [("a.mp4", 0), ("b.mp4", 1)], id="blank lines"),
        pytest.param("a.mp4\nmy clip 2.mp4\n", [("a.mp4", -1), ("my clip 2.mp4", -1)], id="no labels"),
        pytest.param('"a b.mp4" 0\n', [('"a b.mp4"', 0)], id="quotes belong to the path"),
        pytest.param("a.mp4 -1\n", [("a.mp4", -1)], id="label -1"),
        pytest.param("åäö/日本.mp4 0\n", [("åäö/日本.mp4", 0)], id="beyond ASCII"),
        pytest.param("/data/a.mp4 0\n", [("/data/a.mp4", 0)], id="absolute path"),
    ],
)
def test_lists_as_people_write_them(tmp_path, text, expected):
    assert rows(read_list(written(tmp_path, text))) == expected


def test_root_goes_in_front_of_relative_paths_only(tmp_path):
    annotations = read_list(written(tmp_path, "a.mp4 0\n/data/b.mp4 1\n"), root=Path("/videos"))
    assert rows(annotations) == [("/videos/a.mp4", 0), ("/data/b.mp4", 1)]


def test_an_explicit_delimiter_is_believed(tmp_path):
    path = written(tmp_path, "a.mp4;3\nb 1.mp4;4\n")
    assert rows(read_list(path, delimiter=";")) == [("a.mp4", 3), ("b 1.mp4", 4)]


def test_several_labels_become_lists(tmp_path):
    annotations = read_list(written(tmp_path, "my clip.mp4 3 1 4\nb.mp4 1\n"), multi_label=True)
    assert rows(annotations) == [("my clip.mp4", [3, 1, 4]), ("b.mp4", [1])]
    assert rows(read_list(written(tmp_path, "a.mp4,3,1\n"), multi_label=True)) == [("a.mp4", [3, 1])]


@pytest.mark.parametrize(
    "text, message",
    [
        ("a.mp4 0\n\nb.mp4\n", r"train.txt:3: expected 'path label', the label an integer; got 'b.mp4'"),
        ("a.mp4 0\nb.mp4 x\nc.mp4 1", r"train.txt:2: expected 'path label'.*got 'b.mp4 x'"),
        ("path,label\na.mp4,0\nb.mp4,1\n", r"train.txt:1: expected 'path,label'.*got 'path,label'"),
        (
            "a.mp4 archery\nb.mp4 bowling\n",
            r"train.txt:1: label 'archery' is not an integer; number classes from 0",
        ),
        ("a.mp4 1.5\n", r"train.txt:1: label '1.5' is not an integer"),
        (
            "a.mp4 3 5 7\n",
            r"train.txt:1: '3 5' stands between the path and the label 7, got 'a.mp4 3 5 7'.*multi_label=True",
        ),
        ("a.mp4 0\nb.avi 120 1\n", r"train.txt:2: '120' stands between.*FrameFolderDataset"),
        ("", r"train.txt: no videos in it"),
        ("\n \n", r"train.txt: no videos in it"),
        (b"a\xff.mp4 0\n", r"train.txt:1: not UTF-8"),
    ],
)
def test_a_bad_line_is_named_by_file_and_number(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        read_list(written(tmp_path, text))


def test_a_list_that_does_not_exist_says_so(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        read_list(tmp_path / "nowhere.txt")


NAMES = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")) | st.just(" "), min_size=1).map(
    lambda name: name.strip() + ".mp4"
)


@given(
    items=st.lists(st.tuples(NAMES, st.integers(0, 10_000)), min_size=1, max_size=8),
    delimiter=st.sampled_from([" ", "\t"]),
    newline=st.sampled_from(["\n", "\r\n"]),
)
def test_any_list_written_is_read_back(tmp_path_factory, items, delimiter, newline):
    path = tmp_path_factory.mktemp("lists") / "list.txt"
    path.write_bytes("".join(f"{name}{delimiter}{label}{newline}" for name, label in items).encode())
    assert rows(read_list(path, delimiter=delimiter)) == items


# ---- frame folders


def test_frame_lists_give_the_number_of_frames(tmp_path):
    annotations = read_frame_list(written(tmp_path, "my clip 1 120 3\nb 30 0\n"), root="frames")
    assert rows(annotations) == [("frames/my clip 1", 3), ("frames/b", 0)]
    assert annotations.num_frames.tolist() == [120, 30]
    assert annotations.offsets.tolist() == [0, 0]


def test_frame_lists_with_offset(tmp_path):
    annotations = read_frame_list(written(tmp_path, "a 10 120 3\nb 0 30 0\n"), with_offset=True)
    assert rows(annotations) == [("a", 3), ("b", 0)]
    assert annotations.num_frames.tolist() == [120, 30]
    assert annotations.offsets.tolist() == [10, 0]


@pytest.mark.parametrize(
    "text, message",
    [
        ("a 30 0\nb 30\n", "train.txt:2: expected 'dir num_frames label', got 'b 30'"),
        ("a 0 0\n", "train.txt:1: num_frames must be at least 1"),
        ("a -3 0\n", "train.txt:1: num_frames must be at least 1"),
        ("a\nb\n", "train.txt:1: expected 'dir num_frames label', got 'a'"),
    ],
)
def test_a_bad_frame_line_is_named_by_file_and_number(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        read_frame_list(written(tmp_path, text))


# ---- Kinetics

KINETICS = """label,youtube_id,time_start,time_end,split
testifying,---QUuC4vJs,84,94,validation
"making a cake",--3ouPhoy2A,20,30,validation
testifying,--4-0ihtnBU,58,68,validation
"""


def touch(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


def test_kinetics_files_lie_in_class_folders_numbered_alphabetically(tmp_path):
    annotations = read_kinetics_csv(written(tmp_path, KINETICS, "val.csv"), root="k400/val")
    assert rows(annotations) == [
        ("k400/val/testifying/---QUuC4vJs_000084_000094.mp4", 1),
        ("k400/val/making a cake/--3ouPhoy2A_000020_000030.mp4", 0),
        ("k400/val/testifying/--4-0ihtnBU_000058_000068.mp4", 1),
    ]
    assert annotations.classes == ("making a cake", "testifying")


def test_kinetics_folders_with_underscores_are_found(tmp_path):
    touch(tmp_path / "making_a_cake" / "--3ouPhoy2A_000020_000030.mp4")
    touch(tmp_path / "testifying" / "---QUuC4vJs_000084_000094.mp4")
    annotations = read_kinetics_csv(written(tmp_path, KINETICS, "val.csv"), root=tmp_path)
    assert annotations.path(1) == str(tmp_path / "making_a_cake" / "--3ouPhoy2A_000020_000030.mp4")


def test_kinetics_files_without_class_folders_are_found(tmp_path):
    touch(tmp_path / "---QUuC4vJs_000084_000094.mp4")
    annotations = read_kinetics_csv(written(tmp_path, KINETICS, "val.csv"), root=tmp_path)
    assert rows(annotations)[0] == (str(tmp_path / "---QUuC4vJs_000084_000094.mp4"), 1)
    assert annotations.path(1) == str(tmp_path / "--3ouPhoy2A_000020_000030.mp4")


def test_kinetics_classes_keep_the_order_given(tmp_path):
    path = written(tmp_path, KINETICS, "val.csv")
    annotations = read_kinetics_csv(path, classes=["testifying", "yoga", "making a cake"])
    assert annotations.labels.tolist() == [0, 2, 0]
    with pytest.raises(ValueError, match=r"val.csv:3: label 'making a cake' is not among the 2 classes"):
        read_kinetics_csv(path, classes=["testifying", "yoga"])


def test_a_kinetics_test_split_has_no_labels(tmp_path):
    text = "youtube_id,time_start,time_end,split\r\n--3ouPhoy2A,20,30,test\r\n"
    annotations = read_kinetics_csv(written(tmp_path, text, "test.csv"))
    assert rows(annotations) == [("--3ouPhoy2A_000020_000030.mp4", -1)]


@pytest.mark.parametrize(
    "text, message",
    [
        ("a.mp4 0\n", "test.csv: column time_end, time_start, youtube_id is missing"),
        (
            "label,youtube_id,time_start,time_end\nx,y,1,\n",
            "test.csv:2: time_start '1' and time_end '' must be seconds",
        ),
        ("label,youtube_id,time_start,time_end\n", "test.csv: no videos in it"),
    ],
)
def test_a_bad_kinetics_file_is_refused_with_its_reason(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        read_kinetics_csv(written(tmp_path, text, "test.csv"))


# ---- folders


def test_class_folders_are_sorted_and_searched_at_any_depth(tmp_path):
    for name in [
        "b/2.mp4",
        "b/1.MKV",
        "b/.hidden.mp4",
        "b/notes.txt",
        "a/deep/er/x y.webm",
        "a/z.avi",
        "top.mp4",
    ]:
        touch(tmp_path / name)
    (tmp_path / "empty").mkdir()
    (tmp_path / ".git").mkdir()
    annotations = read_folder(tmp_path)
    assert annotations.classes == ("a", "b", "empty")
    assert [(os.path.relpath(path, tmp_path), label) for path, label in rows(annotations)] == [
        ("a/z.avi", 0),
        ("a/deep/er/x y.webm", 0),
        ("b/1.MKV", 1),
        ("b/2.mp4", 1),
    ]


def test_links_are_followed_but_a_circle_ends(tmp_path):
    touch(tmp_path / "elsewhere" / "x.mp4")
    root = tmp_path / "root"
    (root / "a").mkdir(parents=True)
    (root / "b").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "back").symlink_to(root / "b")
    (root / "a" / "y.mp4").symlink_to(tmp_path / "elsewhere" / "x.mp4")
    assert rows(read_folder(root)) == [(str(root / "a" / "y.mp4"), 0), (str(root / "b" / "x.mp4"), 1)]


def test_folder_classes_keep_the_order_given(tmp_path):
    touch(tmp_path / "a" / "x.mp4")
    touch(tmp_path / "b" / "y.mp4")
    annotations = read_folder(tmp_path, classes=["b", "c", "a"])
    assert rows(annotations) == [(str(tmp_path / "b" / "y.mp4"), 0), (str(tmp_path / "a" / "x.mp4"), 2)]
    with pytest.raises(ValueError, match="folder 'a' is not among the 1 classes"):
        read_folder(tmp_path, classes=["b"])


def test_a_folder_without_classes_or_videos_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no class folders in it"):
        read_folder(tmp_path)
    touch(tmp_path / "a" / "x.jpg")
    with pytest.raises(ValueError, match=r"no videos in its 1 folders \(looked for .mp4"):
        read_folder(tmp_path)
    assert len(read_folder(tmp_path, extensions=[".jpg"])) == 1


def test_find_videos_needs_no_classes(tmp_path):
    touch(tmp_path / "x.mp4")
    touch(tmp_path / "a" / "y.mp4")
    assert find_videos(tmp_path) == [str(tmp_path / "x.mp4"), str(tmp_path / "a" / "y.mp4")]


# ---- items


def test_items_may_carry_seconds():
    annotations = from_items([("a.mp4", 0), ("b.mp4", np.int64(1), 2.5, 7), ("c.mp4", 2, None, 4)])
    assert rows(annotations) == [("a.mp4", 0), ("b.mp4", 1), ("c.mp4", 2)]
    assert np.array_equal(annotations.start_seconds, [math.nan, 2.5, math.nan], equal_nan=True)
    assert np.array_equal(annotations.end_seconds, [math.nan, 7, 4], equal_nan=True)


def test_items_without_seconds_carry_no_arrays_for_them():
    annotations = from_items([(Path("a.mp4"), 0)], root="r")
    assert rows(annotations) == [("r/a.mp4", 0)]
    assert annotations.start_seconds is None and annotations.end_seconds is None


def test_items_may_have_several_labels():
    assert rows(from_items([("a", [1, 2]), ("b", []), ("c", np.array([3]))])) == [
        ("a", [1, 2]),
        ("b", []),
        ("c", [3]),
    ]


@pytest.mark.parametrize(
    "items, message",
    [
        ([], "no videos in the sequence"),
        (["a.mp4"], r"item 0: expected \(path, label\[, start_seconds, end_seconds\[, stream\]\]\), got 'a.mp4'"),
        ([("a", 0), ("b",)], r"item 1: expected \(path, label"),
        ([("a", None)], "item 0: label None is not an integer, a number, text"),
        ([("a", 0), ("b", "archery")], "item 1: label must be an integer, as in the items before it, got 'archery'"),
        ([("a", [0]), ("b", 1)], "item 1: label must be a list of integers, as in the items before it, got 1"),
        ([("a", 0, 5, 5)], r"item 0: \[start_seconds, end_seconds\) is \[5, 5\), which contains no time"),
        ([("a", 0, -1, 5)], "item 0: .* contains no time"),
        ([("a", 0, None, 0)], "item 0: .* contains no time"),
    ],
)
def test_a_bad_item_is_named_by_its_number(items, message):
    with pytest.raises(ValueError, match=message):
        from_items(items)


# ---- what all share


def test_missing_files_are_counted_and_the_first_named(tmp_path):
    touch(tmp_path / "here.mp4")
    names = ["here.mp4", "gone1.mp4", "gone2.mp4", "gone3.mp4", "gone4.mp4"]
    annotations = from_items([(name, 0) for name in names], root=tmp_path)
    missing = missing_files(annotations)
    assert missing.tolist() == [1, 2, 3, 4]
    message = missing_files_message(annotations, missing)
    assert message.startswith("4 of 5 files are missing: ") and "gone3.mp4, ...;" in message


def test_annotations_survive_pickling():
    annotations = pickle.loads(pickle.dumps(from_items([("a", [1, 2], 0, 1), ("b", [3])])))
    assert rows(annotations) == [("a", [1, 2]), ("b", [3])]
    assert annotations.end_seconds[0] == 1


def test_names_that_are_not_utf8_are_kept_as_the_system_has_them():
    annotations = from_items([(b"a\xff.mp4", 0), ("b.mp4", 1), (os.fsdecode(b"/c\xff.mp4"), 2)], root="v")
    assert annotations.path_list() == [os.fsdecode(b"v/a\xff.mp4"), "v/b.mp4", os.fsdecode(b"/c\xff.mp4")]
    assert annotations.path(1) == "v/b.mp4"


def test_a_video_in_memory_is_no_item():
    with pytest.raises(ValueError, match=r"item 0: a dataset takes file names.*VideoReader\(bytes\)"):
        from_items([(b"\0\0\0 ftypisom", 0)])
