"""Videos that are parts of files: (path, offset, size). What a part gives is what the same bytes give as a file of their own."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

import vidload
from vidload import _core, transforms
from vidload.index_building import build_index

CLIPS = ["h264", "h264_mkv", "hevc_ts", "vp9", "mpeg4_packed_avi", "mjpeg_avi"]
OPTIONS = dict(clip="4x2x1", transform=transforms.center_crop(32, short_side=32))


def packed(folder: Path, paths: list[str], name: str | bytes = "all.bin") -> list[tuple[str, int, int]]:
    """The files one behind the other, with bytes of nothing between them: (path, offset, size) of each."""
    archive = os.path.join(os.fspath(folder), os.fsdecode(name))
    places = []
    with open(archive, "wb") as file:
        file.write(b"\xff" * 777)
        for path in paths:
            data = Path(path).read_bytes()
            places.append((archive, file.tell(), len(data)))
            file.write(data + b"\0\xff" * 100)
    return places


@pytest.fixture
def places(video, tmp_path: Path) -> list[tuple[str, int, int]]:
    return packed(tmp_path, [video(name) for name in CLIPS])


@pytest.mark.parametrize("number, name", list(enumerate(CLIPS)))
def test_a_reader_of_a_part_gives_the_frames_of_the_file(number: int, name: str, places, video) -> None:
    of_file = vidload.VideoReader(video(name))
    of_part = vidload.VideoReader(places[number])
    assert of_part.num_frames == of_file.num_frames
    np.testing.assert_array_equal(of_part[:], of_file[:])


def test_a_dataset_of_parts_gives_the_samples_of_the_files(places, video) -> None:
    whole = vidload.VideoDataset([(video(name), i) for i, name in enumerate(CLIPS)], **OPTIONS)
    parts = vidload.VideoDataset([(place, i) for i, place in enumerate(places)], **OPTIONS)
    for i in range(len(CLIPS)):
        assert torch.equal(parts[i][0], whole[i][0])
        assert parts[i][1] == i
    loaded = torch.cat([clips for clips, _ in vidload.VideoLoader(parts, batch_size=4, num_workers=2)])
    assert torch.equal(loaded, torch.stack([whole[i][0] for i in range(len(CLIPS))]))


def test_parts_and_whole_files_mix(places, video) -> None:
    dataset = vidload.VideoDataset([(places[0], 0), (video("vp9"), 1)], **OPTIONS)
    alone = vidload.VideoDataset([(video("h264"), 0), (video("vp9"), 1)], **OPTIONS)
    assert all(torch.equal(dataset[i][0], alone[i][0]) for i in range(2))


def test_an_index_file_holds_parts(places, tmp_path: Path) -> None:
    items = [(place, i) for i, place in enumerate(places)]
    dataset = vidload.VideoDataset(items, **OPTIONS)
    summary = build_index(dataset.annotations, tmp_path / "index.vidx")
    assert (summary.num_files, summary.num_scanned, summary.failures) == (len(places), len(places), ())
    _core.clear_index_cache()
    indexed = vidload.VideoDataset(items, index=tmp_path / "index.vidx", **OPTIONS)
    loader = vidload.VideoLoader(indexed, batch_size=2, num_workers=0)
    clips = torch.cat([clips for clips, _ in loader])
    assert loader.stats()["num_files_scanned"] == 0
    assert torch.equal(clips, torch.stack([dataset[i][0] for i in range(len(places))]))
    assert build_index(dataset.annotations, tmp_path / "index.vidx").num_scanned == 0


def test_the_index_of_one_part_is_not_taken_for_another_of_the_same_file(video, tmp_path: Path) -> None:
    (first, _), (second, _) = ((place, 0) for place in packed(tmp_path, [video("h264"), video("h264_rotated_180")]))
    for place, name in ((first, "h264"), (second, "h264_rotated_180"), (first, "h264")):
        np.testing.assert_array_equal(vidload.VideoReader(place)[5], vidload.VideoReader(video(name))[5])


def test_a_dataset_of_parts_can_be_pickled_and_describes_itself(places) -> None:
    dataset = vidload.VideoDataset([(place, i) for i, place in enumerate(places)], **OPTIONS)
    copy = pickle.loads(pickle.dumps(dataset))
    assert torch.equal(copy[0][0], dataset[0][0])
    path, offset, size = places[0]
    assert copy.annotations.path(0) == f"{path}[{offset}:{offset + size}]"
    assert f"[{offset}:{offset + size}]" in repr(dataset)
    assert copy.missing_files() == []
    os.unlink(path)
    assert len(copy.missing_files()) == len(places)


def test_names_need_not_be_utf_8(video, tmp_path: Path) -> None:
    [place] = packed(tmp_path, [video("h264")], b"caf\xe9.bin")
    dataset = pickle.loads(pickle.dumps(vidload.VideoDataset([(place, 0)], **OPTIONS)))
    assert torch.equal(dataset[0][0], vidload.VideoDataset([(video("h264"), 0)], **OPTIONS)[0][0])
    with pytest.raises(vidload.VideoError, match=r"caf.\.bin\[0:5\]"):
        vidload.VideoReader((place[0], 0, 5))


@pytest.mark.parametrize("part, message", [
    (("x.bin", -1, 10), r"item 0: \('x.bin', -1, 10\) is not \(path, offset, size\), offset at least 0, size at least 1, in bytes"),
    (("x.bin", 0, 0), "size at least 1"),
    (("x.bin", 0.0, 10), "in bytes"),
    (("x.bin", 0), "in bytes"),
])  # fmt: skip
def test_a_part_that_makes_no_sense_is_refused(part, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        vidload.VideoDataset([(part, 0)], **OPTIONS)


def test_a_part_beyond_the_end_of_its_file_is_an_error(places) -> None:
    path, offset, size = places[-1]
    with pytest.raises(
        vidload.VideoError, match=r"bytes \[\d+, \d+\) are not within its file, which has \d+; the file is cut short"
    ):
        vidload.VideoReader((path, offset, size + 10_000))


def test_bytes_around_a_part_are_not_read(places) -> None:
    """A part that ends too early is a damaged file, never one that goes on into what lies behind it."""
    path, offset, size = places[CLIPS.index("h264")]
    try:
        short = vidload.VideoReader((path, offset, size // 2))
    except vidload.VideoError:
        return
    whole = vidload.VideoReader(places[0])
    np.testing.assert_array_equal(short[: short.num_frames], whole[: short.num_frames])
    assert short.num_frames < whole.num_frames


def test_a_part_of_a_file_that_is_not_there_is_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(vidload.VideoNotFoundError, match=r"gone.bin\[5:15\]: cannot open"):
        vidload.VideoReader((str(tmp_path / "gone.bin"), 5, 10))
