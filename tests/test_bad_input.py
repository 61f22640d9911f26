"""Lists, records, states and samplers that make no sense: a clear error that says where, or passed over with a note."""

from __future__ import annotations

import json
import logging
import math
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from vidload import FeatureDataset, FrameFolderDataset, VideoDataset, VideoLoader
from vidload.annotations import from_items, read_frame_list, read_kinetics_csv, read_list
from vidload.prepare.frames import extract_dataset
from vidload.transforms import SpatialTransform, center_crop

KINETICS = "label,youtube_id,time_start,time_end,split\n"

# --- lists


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("a,x,inf,10,train\n", "2: time_start 'inf'"),
        ("a,x,1,10,train\na,x,0,nan,train\n", "3: .*time_end 'nan'"),
        ("a,x,-5,10,train\n", "2: time_start '-5'"),
        ("a,x,1e300,1e301,train\n", "2: time_start '1e300'"),
        ("a,x\n", "2: time_start None"),
        ("a,,1,2,train\n", "2: a column is missing"),
        ("a,x,1,2,train\n\0,y,1,2,train\n", "3: a NUL character"),
        (b"a,x,1,2,train\na,\xff,1,2,train\n", "3: not UTF-8"),
        ('"' + "a" * 200000 + '",x,1,2,train\n', "2: not CSV"),
    ],
)
def test_a_kinetics_row_without_sense_is_named_by_file_and_line(rows, message: str, tmp_path: Path) -> None:
    path = tmp_path / "train.csv"
    path.write_bytes(KINETICS.encode() + (rows if isinstance(rows, bytes) else rows.encode()))
    with pytest.raises(ValueError, match=rf"train\.csv:{message}"):
        read_kinetics_csv(path)


@pytest.mark.parametrize("read", [read_list, read_frame_list])
@pytest.mark.parametrize(
    ("text", "message"), [(b"a 1 0\nb\0c 1 0\n", "2: a NUL"), (b"a 1 0\n\n\xff 1 0\n", "3: not UTF-8")]
)
def test_a_list_with_nul_or_bad_utf8_is_named_by_file_and_line(read, text: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_bytes(text)
    with pytest.raises(ValueError, match=rf"list\.txt:{message}"):
        read(tmp_path / "list.txt")


@pytest.mark.parametrize(
    "item",
    [5, "a.mp4", ("a.mp4",), ("a.mp4", 0, 1, 2, -3), ("a.mp4", 0, 1, 2, 3, 4), (7, 0), (None, 0), ("a.mp4", "x"), ("a.mp4", 2**70),
     ("a.mp4", [1, 2**70]), ("a.mp4", 0, math.inf), ("a.mp4", 0, math.nan, 1), ("a.mp4", 0, "1", 2), ("a.mp4", 0, 2, 1),
     ("a.mp4", 0, 0, 10**400)],
)  # fmt: skip
def test_an_item_without_sense_is_named_by_its_number(item) -> None:
    with pytest.raises(ValueError, match="item 1: "):
        from_items([("good.mp4", 0), item])


def test_a_path_with_a_nul_is_refused() -> None:
    with pytest.raises(ValueError, match=r"path 'a\\x00b' contains a NUL"):
        from_items([("a\0b", 0)])


@pytest.mark.parametrize("item", [("folder", 1), ("folder", 0, 0), ("folder", 1.5, 0), ("folder", 2**63, 0), 3])
def test_a_frame_folder_without_sense_is_named_by_its_number(item) -> None:
    with pytest.raises(ValueError, match="item 1: expected"):
        FrameFolderDataset([("folder", 3, 0), item], clip="1x1x1", transform=center_crop(16))


# --- samplers and boxes


def load(path: str, **options) -> None:
    data = VideoDataset([(path, 0)] * 2, **{"clip": "4x1x1", "transform": center_crop(16), **options})
    for num_workers in (0, 1):
        for _ in VideoLoader(data, num_workers=num_workers, on_error="skip", batch_size=2):
            pass


@pytest.mark.parametrize(
    "frames",
    [
        np.zeros((0, 4), np.int64),
        np.zeros((1, 0), np.int64),
        np.zeros((2, 4), np.int64),
        np.zeros((1, 5), np.int64),
        np.zeros(4, np.int64),
        np.zeros((1, 4)),
        np.zeros((1, 4), bool),
        [[0, 1, 2, 3]],
        None,
    ],
)
def test_a_sampler_that_gives_anything_but_the_clips_is_an_error_and_no_bad_video(frames, video) -> None:
    right = [np.zeros((1, 4), np.int64)]  # what it gives while the dataset asks how many clips there are

    def sample(num_frames, fps, spec, rng):
        return right.pop() if right else frames

    with pytest.raises(ValueError, match=r"sampling .*must return integers of shape \[1, 4\]"):
        load(video("h264"), sampling=sample)


@pytest.mark.parametrize(
    "box",
    [(0, 0, math.nan, 16, 0), (0, 0, 16, math.inf, 0), (math.nan, 0, 16, 16, 0), (0, 0, 0, 16, 0), (0, 0, 16, -1, 0)],
)
def test_a_transform_that_gives_no_box_is_an_error_and_no_bad_video(box, video) -> None:
    class Odd(type(center_crop(16))):
        def boxes(self, height, width, rng, aspect_ratio=1.0):
            return np.array([box], np.float64)

    transform = center_crop(16)
    object.__setattr__(transform, "__class__", Odd)  # it is frozen
    assert isinstance(transform, SpatialTransform)
    with pytest.raises(ValueError, match="view 0 of sample 0 has no box of finite, positive size"):
        load(video("h264"), transform=transform)


# --- states


@pytest.mark.parametrize("field", ["epoch", "next_sample", "next_batch", "num_replicas"])
@pytest.mark.parametrize("value", [-5, math.nan, 1e30, 2**80, "1", None, True, [0]])
def test_a_state_without_sense_is_refused_by_name(field: str, value) -> None:
    loader = VideoLoader(VideoDataset([("a.mp4", 0)], clip="1x1x1", transform=center_crop(16)))
    with pytest.raises(ValueError, match=f"loader state: {field} is "):
        loader.load_state_dict({**loader.state_dict(), field: value})


@pytest.mark.parametrize("state", [None, [], "x", 5, {}, {"version": 1}])
def test_what_is_no_state_is_refused(state) -> None:
    loader = VideoLoader(VideoDataset([("a.mp4", 0)], clip="1x1x1", transform=center_crop(16)))
    with pytest.raises(ValueError, match="loader state: "):
        loader.load_state_dict(state)


@pytest.mark.parametrize("generator", [(1, 2), "x", {"a": 1}, 5, None])
def test_a_state_with_a_generator_that_is_none_is_refused(generator) -> None:
    loader = VideoLoader(
        VideoDataset([("a.mp4", 0)], clip="1x1x1", transform=center_crop(16)), generator=torch.Generator()
    )
    for generators in (generator, [generator]):
        with pytest.raises(ValueError, match="loader state: generators"):
            loader.load_state_dict({**loader.state_dict(), "generators": generators})


# --- records of what is done


LINES = [
    "{}",
    "[]",
    "7",
    "null",
    '"x"',
    "[" * 100000,
    '{"name": 5}',
    '{"name": ["h264.mp4"], "settings": ""}',
    '{"name": "../out", "source": "x", "settings": "y", "num_bytes": 1, "source_bytes": 1, "source_mtime_ns": 1, "num_frames": 1}',
    '{"name": "h264", "source": "x"}',
]


@pytest.mark.parametrize("line", LINES)
def test_a_record_without_sense_is_passed_over_and_its_work_done_again(
    line: str, video, tmp_path: Path, caplog
) -> None:
    (tmp_path / "in").mkdir()
    shutil.copy(video("h264_one_frame"), tmp_path / "in" / "a.mp4")
    first = extract_dataset(tmp_path / "in", tmp_path / "out", jobs=1)
    assert first.num_extracted == 1
    (tmp_path / "out" / "frames.jsonl").write_text(line + "\n")
    (tmp_path / "out" / "failed.jsonl").write_text(line + "\n")
    with caplog.at_level(logging.WARNING, logger="vidload"):
        again = extract_dataset(tmp_path / "in", tmp_path / "out", jobs=1)
    assert (again.num_extracted, again.num_kept, again.failures) == (1, 0, ())
    if line.startswith("{"):
        assert "frames.jsonl: 1 lines make no sense" in caplog.text
    assert extract_dataset(tmp_path / "in", tmp_path / "out", jobs=1).num_kept == 1


def test_any_missing_key_or_odd_value_of_a_record_costs_that_video_alone(video, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    shutil.copy(video("h264_one_frame"), tmp_path / "in" / "a.mp4")
    extract_dataset(tmp_path / "in", tmp_path / "out", jobs=1)
    record = json.loads((tmp_path / "out" / "frames.jsonl").read_text())
    changed = [{name: value for name, value in record.items() if name != missing} for missing in record]
    changed += [{**record, name: value} for name in record for value in (None, [], "x", math.nan, -1)]
    for entry in random.Random(0).sample(changed, 12):
        (tmp_path / "out" / "frames.jsonl").write_text(json.dumps(entry) + "\n")
        summary = extract_dataset(tmp_path / "in", tmp_path / "out", jobs=1)
        assert summary.failures == () and summary.num_extracted + summary.num_kept == 1


# --- features


@pytest.mark.parametrize(
    "line", ["7", "[]", "{}", '{"name": 3}', '{"name": ["a"]}', '{"settings": 3}', "[" * 100000, "\xff"]
)
def test_a_features_record_without_sense_is_named_by_file_and_line(line: str, tmp_path: Path) -> None:
    (tmp_path / "features.jsonl").write_bytes(b'{"settings": {}}\n' + line.encode("latin-1") + b"\n")
    with pytest.raises(ValueError, match=r"features\.jsonl:2: "):
        FeatureDataset(None, tmp_path)


@pytest.mark.parametrize(
    "entry",
    [{"duration_second": 1e400}, {"duration_second": "x"}, {"duration_second": 5, "duration_frame": 1e400},
     {"duration_second": 5, "annotations": 3}, {"duration_second": 5, "annotations": [{"segment": [1]}]},
     {"duration_second": 5, "annotations": [{}]}, {"duration_second": 5, "annotations": ["x"]}],
)  # fmt: skip
def test_a_features_annotation_without_sense_names_the_video(entry: dict, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="annotations: some_video: "):
        FeatureDataset({"some_video": entry}, tmp_path)
