"""Tar shards in WebDataset's layout: every video is found where Python's tarfile finds it, and a shard that changed is never misread."""

from __future__ import annotations

import io
import os
import pickle
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import vidload
from vidload import _core, cli, shards, transforms
from vidload.shards import expand_braces, read_shards

OPTIONS = dict(clip="4x2x1", transform=transforms.center_crop(32, short_side=32))
NAMES = ["h264", "vp9", "h264_rotated_180"]


def write_tar(path: Path, members: list[tuple[str, bytes]], **options: Any) -> Path:
    with tarfile.open(path, "w", **options) as tar:
        for name, data in members:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


@pytest.fixture
def data(video) -> dict[str, bytes]:
    return {name: Path(video(name)).read_bytes() for name in NAMES}


@pytest.fixture
def two_shards(data, tmp_path: Path) -> str:
    write_tar(tmp_path / "s-000.tar", [
        ("a/0.mp4", data["h264"]), ("a/0.cls", b"3"),
        ("a/1.json", b'{"label": 5, "caption": "a cat"}'), ("a/1.webm", data["vp9"]),
    ])  # fmt: skip
    write_tar(tmp_path / "s-001.tar", [("notes.txt", b"none"), ("0.mp4", data["h264_rotated_180"]), ("0.cls", b"7\n")])
    return str(tmp_path / "s-{000..001}.tar")


# --- what is in a shard


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_members_lie_where_tarfile_finds_them(format: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    deep = "folder/" * (12 if format == tarfile.USTAR_FORMAT else 40)
    members = [(f"{deep}{i:04d}.mp4", rng.bytes(int(rng.integers(1, 3000)))) for i in range(40)]
    path = write_tar(tmp_path / "x.tar", members, format=format)
    listed = shards.list_shard(str(path))
    videos = listed.videos.to_pylist()
    assert [(os.fsdecode(video["name"]), video["size"]) for video in videos] == [
        (name, len(data)) for name, data in members
    ]
    raw = path.read_bytes()
    with tarfile.open(path) as tar:
        for video in videos:
            file = tar.extractfile(os.fsdecode(video["name"]))
            assert file is not None
            assert raw[video["offset"] : video["offset"] + video["size"]] == file.read()


def test_samples_are_those_of_the_files(two_shards: str, video) -> None:
    dataset = vidload.VideoDataset.from_shards(two_shards, **OPTIONS)
    alone = vidload.VideoDataset(list(zip([video(name) for name in NAMES], [3, 5, 7], strict=True)), **OPTIONS)
    for i in range(3):
        assert torch.equal(dataset[i][0], alone[i][0])
        assert dataset[i][1] == alone[i][1]
    folder = os.path.dirname(two_shards)
    assert dataset.annotations.path_list() == [
        f"{folder}/s-000.tar/a/0.mp4",
        f"{folder}/s-000.tar/a/1.webm",
        f"{folder}/s-001.tar/0.mp4",
    ]
    copy = pickle.loads(pickle.dumps(dataset))
    assert torch.equal(copy[2][0], alone[2][0])
    assert copy.missing_files() == []


def test_a_loader_reads_shards_in_any_order(two_shards: str) -> None:
    dataset = vidload.VideoDataset.from_shards(two_shards, **OPTIONS)
    loader = vidload.VideoLoader(dataset, batch_size=1, sampler=[2, 0, 1, 0], num_workers=2)
    assert [int(labels) for _, labels in loader] == [7, 3, 5, 3]


def test_the_json_field_of_the_label_can_be_named(two_shards: str, tmp_path: Path, data) -> None:
    path = write_tar(tmp_path / "one.tar", [("0.mp4", data["h264"]), ("0.json", b'{"caption": "a cat"}')])
    assert read_shards(path, label="caption").label(0) == "a cat"
    with pytest.raises(ValueError, match=r"0.mp4: its .json file has no 'label', only 'caption'; name one with label="):
        read_shards(path)


@pytest.mark.parametrize("text, label", [(b"[1, 2]", [1, 2]), (b"4", 4), (b'{"label": [0.25, 0.75]}', [0.25, 0.75])])
def test_a_json_file_may_be_the_label_itself(text: bytes, label: Any, tmp_path: Path) -> None:
    path = write_tar(tmp_path / "one.tar", [("0.mp4", b"data"), ("0.json", text)])
    assert np.array_equal(read_shards(path).label(0), label)


def test_without_labels_beside_them_videos_have_none(tmp_path: Path) -> None:
    assert read_shards(write_tar(tmp_path / "one.tar", [("0.mp4", b"x")])).label(0) == -1


def test_a_key_ends_at_the_first_dot_of_the_base_name(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "x.tar", [
        ("v1.0/a.mp4", b"x"), ("v1.0/a.cls", b"1"),  # dots of folders do not count
        ("b.left.mp4", b"y"), ("b.cls", b"2"), (".hidden.mp4", b"z"), ("README", b""),
    ])  # fmt: skip
    rows = read_shards(path)
    assert [(rows.path(i).removeprefix(f"{path}/"), rows.label(i)) for i in range(len(rows))] == [
        ("v1.0/a.mp4", 1),
        ("b.left.mp4", 2),
    ]


def test_several_videos_of_a_sample_are_chosen_among_by_name(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "x.tar", [("a.left.mp4", b"1"), ("a.right.mp4", b"2")])
    with pytest.raises(
        ValueError, match=r"sample 'a' has 2 videos \(left.mp4, right.mp4\).* choose one with video='left.mp4'"
    ):
        read_shards(path)
    assert read_shards(path, video="right.mp4").path(0) == f"{path}/a.right.mp4"


@pytest.mark.parametrize("label", ["1.cls", "1.json", "label.cls"])
@pytest.mark.parametrize("video", [None, "1.mp4"])
def test_a_label_behind_a_further_dot_is_refused(video: str | None, label: str, tmp_path: Path) -> None:
    path = write_tar(tmp_path / "x.tar", [("a.mp4", b"x"), ("a.cls", b"2"), ("v.1.mp4", b"y"), (f"v.{label}", b"1")])
    with pytest.raises(ValueError, match=rf"'v.1.mp4' has no label: .*'v.{label}' is not .*without further dots"):
        read_shards(path, video=video)


def test_files_behind_a_further_dot_that_are_no_labels_are_left_alone(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "x.tar", [
        ("a.mp4", b"x"), ("a.meta.json", b"{}"),
        ("b.1.mp4", b"y"), ("b.1.cls", b"1"), ("b.cls", b"2"),
        ("c.1.cls", b"3"),
    ])  # fmt: skip
    assert read_shards(path).labels.tolist() == [-1, 2]


# --- shards that cannot be read


@pytest.mark.parametrize("members, message", [
    ([("0.mp4", b"")], r"'0.mp4' is empty; write the shard without it"),
    ([("0.mp4", b"a"), ("0.mp4", b"b")], r"'0.mp4' is there twice"),
    ([("0.mp4", b"a"), ("./0.mp4", b"b")], r"is there twice"),
    ([("0.mp4", b"a"), ("0.MP4", b"b")], r"differs from another name only in case"),
    ([("../0.mp4", b"a")], r"'../0.mp4' is not the name of a file"),
    ([("0.mp4", b"a"), ("0.cls", b"cat")], r"0.mp4: its .cls file says b'cat', which is not an integer"),
    ([("0.mp4", b"a"), ("0.json", b"{")], r"0.mp4: its .json file is not JSON"),
    ([("0.mp4", b"a"), ("0.json", b"{}")], r"0.mp4: its .json file has no 'label', nor any other field$"),
    ([("0.mp4", b"a"), ("0.json", b"null")], r"x.tar/0.mp4: label None is not an integer, a number"),
    ([("0.mp4", b"a"), ("0.cls", b"1"), ("1.mp4", b"b"), ("1.cls", b"9" * 20)], r"x.tar/1.mp4: label 9{20} does not fit into 64 bits"),
    ([("0.mp4", b"a"), ("0.json", b"1"), ("1.mp4", b"b"), ("1.json", b'"cat"')], r"x.tar/1.mp4: label must be an integer"),
    ([("0.txt", b"a")], r"no videos in 1 shards"),
])  # fmt: skip
def test_members_that_make_no_sense_are_refused(members, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        read_shards(write_tar(tmp_path / "x.tar", members))


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.GNUTYPE_SPARSE])
def test_links_and_sparse_files_are_refused_in_words(kind: bytes, tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as tar:
        member = tarfile.TarInfo("0.mp4")
        member.type, member.linkname = kind, "elsewhere.mp4"
        tar.addfile(member)
    with pytest.raises(
        ValueError, match=r"'0.mp4' is a link, a sparse or a special file; write the shard with plain files"
    ):
        read_shards(path)


def test_a_truncated_shard_is_an_error_wherever_it_ends(tmp_path: Path) -> None:
    whole = write_tar(tmp_path / "x.tar", [(f"{i}.mp4", bytes([i]) * 700) for i in range(3)]).read_bytes()
    content = 3 * (512 + 1024)
    cut = tmp_path / "cut.tar"
    for size in range(0, content + 1, 128):
        cut.write_bytes(whole[:size])
        with pytest.raises(vidload.VideoError):
            read_shards(cut)


def test_damage_within_a_shard_does_not_hide_what_follows(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "x.tar", [(f"{i}.mp4", bytes([i]) * 700) for i in range(3)])
    data = bytearray(path.read_bytes())
    data[512 + 1024 + 5] ^= 0xFF  # in the second header
    path.write_bytes(data)
    with pytest.raises(
        ValueError, match=r"damaged or cut short: neither a member nor the archive's end is at byte 1536"
    ):
        read_shards(path)


def test_a_compressed_shard_is_refused_in_words(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "x.tar", "w:gz") as tar:
        tar.addfile(tarfile.TarInfo("0.mp4"))
    with pytest.raises(ValueError, match="a compressed archive has no random access; decompress it"):
        read_shards(tmp_path / "x.tar")


def test_a_shard_that_is_not_there_is_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"s-001.tar: cannot open"):
        read_shards([str(write_tar(tmp_path / "s-000.tar", [("0.mp4", b"x")])), str(tmp_path / "s-001.tar")])


@pytest.mark.parametrize("pattern, names", [
    ("a-{000..002}.tar", ["a-000.tar", "a-001.tar", "a-002.tar"]),
    ("a-{9..11}.tar", ["a-9.tar", "a-10.tar", "a-11.tar"]),
    ("{train,val}-{0..1}.tar", ["train-0.tar", "train-1.tar", "val-0.tar", "val-1.tar"]),
    ("s3://b/{x}.tar", ["s3://b/{x}.tar"]),
])  # fmt: skip
def test_braces_stand_for_several_names(pattern: str, names: list[str]) -> None:
    assert expand_braces(pattern) == names


@pytest.mark.parametrize("pattern", ["{3..1}.tar", "{a..c}.tar"])
def test_braces_that_make_no_sense_are_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match=r"is not a range such as \{000..099\}"):
        expand_braces(pattern)


# --- shards that change


def test_a_shard_replaced_after_it_was_listed_is_an_error_and_never_other_pictures(
    two_shards: str, data, tmp_path: Path
) -> None:
    dataset = vidload.VideoDataset.from_shards(two_shards, **OPTIONS)
    dataset[0]
    path = tmp_path / "s-000.tar"
    write_tar(path, [("a/0.mp4", data["h264_rotated_180"]), ("a/0.cls", b"3"), ("a/1.webm", data["vp9"])])
    os.utime(path, ns=(0, 10**18))
    with pytest.raises(
        vidload.VideoError, match=r"s-000.tar/a/0.mp4: .*s-000.tar changed since its members were listed"
    ):
        dataset[0]
    assert dataset[2][1] == 7


# --- with an index file


def test_an_index_of_shards_spares_listing_and_scanning(two_shards: str, tmp_path: Path, monkeypatch) -> None:
    plain = vidload.VideoDataset.from_shards(two_shards, **OPTIONS)
    expected = [plain[i][0] for i in range(3)]
    index = tmp_path / "index.vidx"
    assert cli.main(["index", two_shards, "-o", str(index)]) == 0
    monkeypatch.setattr(shards, "list_shard", lambda *args: pytest.fail("a shard was listed again"))
    _core.clear_index_cache()
    dataset = vidload.VideoDataset.from_shards(two_shards, index=index, **OPTIONS)
    loader = vidload.VideoLoader(dataset, batch_size=3, num_workers=0)
    [(clips, labels)] = list(loader)
    assert loader.stats()["num_files_scanned"] == 0
    assert torch.equal(clips, torch.stack(expected))
    assert labels.tolist() == [3, 5, 7]


def test_a_replaced_shard_is_listed_and_scanned_again(two_shards: str, data, tmp_path: Path) -> None:
    index = tmp_path / "index.vidx"
    assert cli.main(["index", two_shards, "-o", str(index)]) == 0
    write_tar(tmp_path / "s-000.tar", [("a/0.cls", b"4"), ("a/0.mp4", data["vp9"])])
    dataset = vidload.VideoDataset.from_shards(two_shards, index=index, **OPTIONS)
    assert [dataset[i][1] for i in range(len(dataset))] == [4, 7]
    alone = vidload.VideoDataset([(data_file(tmp_path, data["vp9"]), 0)], **OPTIONS)
    assert torch.equal(dataset[0][0], alone[0][0])


def data_file(folder: Path, data: bytes) -> str:
    path = folder / "alone.bin"
    path.write_bytes(data)
    return str(path)


@pytest.mark.parametrize("damage", [b"", b"not a list", None])
def test_a_list_of_members_that_is_damaged_costs_time_alone(
    damage: bytes | None, two_shards: str, tmp_path: Path
) -> None:
    index = tmp_path / "index.vidx"
    assert cli.main(["index", two_shards, "-o", str(index)]) == 0
    members = tmp_path / "index.vidx.members"
    data = members.read_bytes()
    members.write_bytes(data[: len(data) // 2] if damage is None else damage)
    assert read_shards(two_shards, index=index).labels.tolist() == [3, 5, 7]


def test_index_and_shards_may_move_together(two_shards: str, tmp_path: Path, monkeypatch) -> None:
    index = tmp_path / "index.vidx"
    assert cli.main(["index", two_shards, "-o", str(index)]) == 0
    moved = tmp_path.parent / f"{tmp_path.name}-moved"
    tmp_path.rename(moved)
    monkeypatch.setattr(shards, "list_shard", lambda *args: pytest.fail("a shard was listed again"))
    assert len(read_shards(str(moved / "s-{000..001}.tar"), index=moved / "index.vidx")) == 3


# --- what others make of them


def test_webdataset_writes_what_is_read_here(data, tmp_path: Path) -> None:
    webdataset = pytest.importorskip("webdataset")
    with webdataset.TarWriter(str(tmp_path / "w.tar")) as writer:
        writer.write({"__key__": "x/1", "mp4": data["h264"], "cls": 2, "json": {"label": 9}})
        writer.write({"__key__": "x/2", "mp4": data["h264_rotated_180"], "json": {"label": 9}})
    dataset = vidload.VideoDataset.from_shards(tmp_path / "w.tar", **OPTIONS)
    assert [dataset[i][1] for i in range(2)] == [2, 9]


# --- shards that are written here


def test_prepared_shards_hold_the_prepared_videos_with_their_labels(video, tmp_path: Path) -> None:
    lines = []
    for name, number in (("v.1", 4), ("v.2", 5), ("deep/x", 6)):
        path = tmp_path / "videos" / f"{name}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(Path(video("h264")).read_bytes())
        lines.append(f"{name}.mp4 {number}\n")
    (tmp_path / "train.txt").write_text("".join(lines))
    command = [
        "prepare",
        str(tmp_path / "train.txt"),
        str(tmp_path / "out"),
        "--root",
        str(tmp_path / "videos"),
        "--crf",
        "30",
    ]
    assert cli.main([*command, "--jobs", "1", "--shards", "90KB"]) == 0
    made = sorted((tmp_path / "out").glob("*.tar"))
    assert len(made) > 1
    assert all(path.stat().st_size <= 90_000 for path in made)
    pattern = str(tmp_path / "out" / f"train-{{000000..{len(made) - 1:06d}}}.tar")
    sharded = vidload.VideoDataset.from_shards(pattern, index=tmp_path / "out" / "train-shards.vidx", **OPTIONS)
    listed = vidload.VideoDataset.from_list(tmp_path / "out" / "train.txt", root=tmp_path / "out", **OPTIONS)
    assert [sharded[i][1] for i in range(3)] == [4, 5, 6]
    assert all(torch.equal(sharded[i][0], listed[i][0]) for i in range(3))
    # By tarfile alone: the names as WebDataset parts them.
    names = []
    for path in made:
        with tarfile.open(path) as tar:
            names += tar.getnames()
    assert names == ["v_1.mp4", "v_1.cls", "v_2.mp4", "v_2.cls", "deep/x.mp4", "deep/x.cls"]
    webdataset = pytest.importorskip("webdataset")
    samples = list(webdataset.WebDataset([str(path) for path in made], shardshuffle=False).decode())
    assert [(sample["__key__"], sample["cls"]) for sample in samples] == [("v_1", 4), ("v_2", 5), ("deep/x", 6)]
