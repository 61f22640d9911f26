"""Videos on a network: the frames of the file or an error that names object, range and the server's words; no wait outlasts a cancel."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from http_server import Server, http_server

import vidload
from vidload import _core, cli, remote, transforms
from vidload.index import DatasetIndex
from vidload.index_building import build_index

fsspec = pytest.importorskip("fsspec")
pytest.importorskip("aiohttp")

CLIPS = ["h264", "h264_mkv", "hevc_ts", "vp9", "mpeg4_packed_avi"]
OPTIONS = dict(clip="4x2x1", transform=transforms.center_crop(32, short_side=32))


@pytest.fixture
def server(monkeypatch) -> Iterator[Server]:
    monkeypatch.setenv("VIDLOAD_REMOTE_SECONDS", "30")
    monkeypatch.setattr(remote, "_FIRST_PAUSE_SECONDS", 0.01)
    _core.clear_index_cache()
    with http_server() as state:
        yield state


@pytest.fixture
def url(server: Server, video) -> str:
    """Of h264 on the server."""
    server.files["/a.mp4"] = Path(video("h264")).read_bytes()
    return f"{server.url}/a.mp4"


@pytest.fixture
def memory() -> Iterator[fsspec.AbstractFileSystem]:
    files = fsspec.filesystem("memory")
    files.store.clear()
    yield files
    files.store.clear()


def long_clip(folder: Path) -> bytes:
    """Of 250 frames, with a keyframe every 16."""
    path = folder / "long.mp4"
    options = "keyint=16:min-keyint=16:scenecut=0:bframes=3:b-adapt=0:b-pyramid=none:open-gop=0"
    command = ["ffmpeg", "-v", "error", "-f", "lavfi", "-i", "testsrc2=size=320x240:rate=25", "-frames:v", "250"]
    subprocess.run(
        [
            *command,
            "-pix_fmt",
            "yuv420p",
            "-c:v",
            "libx264",
            "-preset",
            "ultrafast",
            "-x264-params",
            options,
            str(path),
        ],
        check=True,
    )
    return path.read_bytes()


# --- the frames of the file


@pytest.mark.parametrize("name", CLIPS)
def test_frames_over_http_are_those_of_the_file(name: str, server: Server, video) -> None:
    server.files["/v"] = Path(video(name)).read_bytes()
    of_file, of_url = vidload.VideoReader(video(name)), vidload.VideoReader(f"{server.url}/v")
    assert of_url.num_frames == of_file.num_frames
    np.testing.assert_array_equal(of_url[:], of_file[:])


@pytest.mark.parametrize("name", CLIPS)
def test_frames_of_fsspec_s_memory_are_those_of_the_file(name: str, memory, video) -> None:
    memory.pipe("/v", Path(video(name)).read_bytes())
    np.testing.assert_array_equal(vidload.VideoReader("memory://v")[:], vidload.VideoReader(video(name))[:])


def test_a_file_url_is_that_file(video) -> None:
    np.testing.assert_array_equal(
        vidload.VideoReader(f"file://{video('h264')}")[3:5], vidload.VideoReader(video("h264"))[3:5]
    )


def test_a_loader_gives_the_samples_of_the_files(server: Server, video) -> None:
    for name in CLIPS:
        server.files[f"/{name}"] = Path(video(name)).read_bytes()
    whole = vidload.VideoDataset([(video(name), i) for i, name in enumerate(CLIPS)], **OPTIONS)
    remotes = vidload.VideoDataset([(f"{server.url}/{name}", i) for i, name in enumerate(CLIPS)], **OPTIONS)
    remotes = pickle.loads(pickle.dumps(remotes))
    loaded = [clips for clips, _ in vidload.VideoLoader(remotes, batch_size=2, num_workers=3)]
    assert torch.equal(torch.cat(loaded), torch.stack([whole[i][0] for i in range(len(CLIPS))]))
    assert remotes.missing_files() == []


def test_a_list_may_be_at_a_url_and_hold_urls_beside_paths(server: Server, video, url: str, tmp_path: Path) -> None:
    server.files["/train.txt"] = f"{url} 3\n{video('vp9')} 4\na.mp4 5\n".encode()
    for listed in (f"{server.url}/train.txt", tmp_path / "train.txt"):
        (tmp_path / "train.txt").write_bytes(server.files["/train.txt"])
        dataset = vidload.VideoDataset.from_list(listed, root=server.url, **OPTIONS)
        assert dataset.annotations.path_list() == [url, video("vp9"), url]
        assert [dataset[i][1] for i in range(3)] == [3, 4, 5]


def test_a_part_of_an_object_is_read_alone(server: Server, video) -> None:
    data = Path(video("h264")).read_bytes()
    server.files["/all.bin"] = b"\xff" * 1_000_000 + data + b"\xff" * 1_000_000
    reader = vidload.VideoReader((f"{server.url}/all.bin", 1_000_000, len(data)))
    np.testing.assert_array_equal(reader[:], vidload.VideoReader(video("h264"))[:])
    assert all(begin >= 1_000_000 and end <= 1_000_000 + len(data) for _, begin, end in server.ranges)


def test_shards_are_read_where_they_lie(server: Server, video, tmp_path: Path) -> None:
    for number, name in enumerate(("h264", "vp9")):
        with tarfile.open(tmp_path / f"{number}.tar", "w") as tar:
            tar.add(video(name), "x.mp4")
        server.files[f"/{number}.tar"] = (tmp_path / f"{number}.tar").read_bytes()
    pattern = f"{server.url}/{{0..1}}.tar"
    dataset = vidload.VideoDataset.from_shards(pattern, **OPTIONS)
    alone = vidload.VideoDataset([(video("h264"), 0), (video("vp9"), 0)], **OPTIONS)
    assert all(torch.equal(dataset[i][0], alone[i][0]) for i in range(2))
    assert cli.main(["index", pattern, "-o", str(tmp_path / "index.vidx")]) == 0
    server.num_gets = 0
    vidload.VideoDataset.from_shards(pattern, index=tmp_path / "index.vidx", **OPTIONS)
    assert server.num_gets == 0
    server.files["/1.tar"] = server.files["/0.tar"]
    with pytest.raises(vidload.VideoError, match=r"1.tar/x.mp4: .*1.tar changed since its members were listed"):
        dataset[1]


@pytest.mark.parametrize("command", ["inspect", "check"])
def test_commands_take_urls(command: str, url: str, capsys) -> None:
    assert cli.main([command, url]) == 0
    assert "h264" in capsys.readouterr().out or command == "check"


# --- what is asked for


def test_a_clip_with_a_stored_index_costs_one_request_and_less_than_half_of_the_file(
    server: Server, tmp_path: Path
) -> None:
    data = server.files["/a.mp4"] = long_clip(tmp_path)
    build_index([f"{server.url}/a.mp4"], tmp_path / "index.vidx")
    _core.clear_index_cache()
    server.ranges.clear()
    transform = transforms.center_crop(32, short_side=32)
    dataset = vidload.VideoDataset(
        [(f"{server.url}/a.mp4", 0)], clip="8x8x1", transform=transform, index=tmp_path / "index.vidx"
    )
    dataset[0]
    assert len(server.ranges) == 1
    assert 0 < server.num_bytes <= len(data) // 2


def test_ranges_far_apart_are_asked_for_at_the_same_time(server: Server) -> None:
    together = threading.Barrier(3, timeout=20)

    def fault(number: int, byte_range: tuple[int, int]) -> None:
        together.wait()

    server.files["/a"] = os.urandom(9 << 20)
    server.fault = fault
    source = _core.ByteSource(f"{server.url}/a")
    assert source.read(0, 9 << 20) == server.files["/a"]  # 4 + 4 + 1 MiB
    assert server.most_at_once == 3


@pytest.mark.parametrize("batch_size", [1, 8])
def test_every_thread_reads_whatever_the_batch_size(batch_size: int, server: Server, url: str, tmp_path: Path) -> None:
    """Two batches used to be under way in all, so with batch size 1 only two threads had work."""
    build_index([url], tmp_path / "index.arrow")
    _core.clear_index_cache()
    num_threads = 16
    together = threading.Barrier(num_threads, timeout=20)

    def fault(number: int, byte_range: tuple[int, int]) -> int | None:
        if number >= first + num_threads:
            return None
        try:
            together.wait()
        except threading.BrokenBarrierError:
            return 404
        return None

    dataset = vidload.VideoDataset([(url, 0)] * 64, index=tmp_path / "index.arrow", **OPTIONS)
    first = server.num_gets
    server.fault = fault
    clips, _ = next(iter(vidload.VideoLoader(dataset, batch_size, num_workers=num_threads)))
    assert len(clips) == batch_size
    assert server.most_at_once >= num_threads


def test_a_file_read_from_front_to_back_is_asked_for_in_ever_larger_pieces(server: Server) -> None:
    server.files["/a"] = os.urandom(20 << 20)
    source = _core.ByteSource(f"{server.url}/a")
    read = b"".join(source.read(at, 10_000) for at in range(0, 20 << 20, 10_000))
    assert read == server.files["/a"]
    assert server.num_gets < 20
    assert server.num_bytes == len(read)


# --- faults that pass


@pytest.mark.parametrize("what", [500, 503, 429, "reset", "short"])
def test_faults_that_pass_cost_time_alone(what: int | str, server: Server, url: str, video) -> None:
    server.fault = lambda number, byte_range: what if number % 3 else None
    np.testing.assert_array_equal(vidload.VideoReader(url)[:], vidload.VideoReader(video("h264"))[:])


def test_latency_costs_time_alone(server: Server, url: str, video) -> None:
    server.fault = lambda number, byte_range: 0.05
    np.testing.assert_array_equal(vidload.VideoReader(url)[:], vidload.VideoReader(video("h264"))[:])


# --- faults that stay


@pytest.mark.parametrize("what, kind, words", [
    (404, vidload.VideoNotFoundError, r"cannot read bytes \[\d+, \d+\): there is no such object"),
    (403, vidload.VideoError, r"its server refuses access \(ClientResponseError: 403.*\); check credentials"),
    (416, vidload.VideoError, r"its server refuses \(ClientResponseError: 416"),
    (503, OSError, r"cannot read bytes \[\d+, \d+\): ClientResponseError: 503, message='Slow Down'.* \(tried 6 times in"),
    ("reset", OSError, r"cannot read bytes \[\d+, \d+\): .*(ServerDisconnected|ClientOSError).*tried 6 times"),
    ("short", OSError, r"its server sent \d+ of \d+ bytes \(tried 6 times"),
    ("ignore range", vidload.VideoError, r"its server sends the whole object, not the part that was asked for"),
])  # fmt: skip
def test_faults_that_stay_are_errors_that_name_object_range_and_words(what, kind, words: str, server: Server) -> None:
    server.files["/a.mp4"] = os.urandom(200_000)
    server.fault = lambda number, byte_range: what
    with pytest.raises(
        kind, match=f"{server.url}/a.mp4: .*{words}" if issubclass(kind, vidload.VideoError) else words
    ) as raised:
        vidload.VideoReader(f"{server.url}/a.mp4")
    named = getattr(raised.value, "path", None) or raised.value.filename
    assert named == f"{server.url}/a.mp4"


def test_an_object_that_is_not_there_is_a_missing_file(server: Server) -> None:
    with pytest.raises(vidload.VideoNotFoundError, match="there is no such object"):
        vidload.VideoReader(f"{server.url}/gone.mp4")
    assert vidload.VideoDataset([(f"{server.url}/gone.mp4", 0)], **OPTIONS).missing_files() == [
        f"{server.url}/gone.mp4"
    ]


def test_a_network_that_fails_ends_the_epoch_even_where_bad_files_are_skipped(server: Server, url: str) -> None:
    dataset = vidload.VideoDataset([(url, 0)] * 4, **OPTIONS)
    server.fault = lambda number, byte_range: 500
    with pytest.raises(OSError, match="tried 6 times"):
        list(vidload.VideoLoader(dataset, batch_size=2, num_workers=1, on_error="skip"))


def test_a_deadline_ends_a_request_that_is_not_answered(server: Server, url: str, monkeypatch) -> None:
    monkeypatch.setenv("VIDLOAD_REMOTE_SECONDS", "0.5")
    server.fault = lambda number, byte_range: 60.0
    with pytest.raises(TimeoutError, match=r"cannot read bytes \[0, \d+\): its server does not answer"):
        vidload.VideoReader(url)


def test_what_reads_a_url_says_which_package_it_needs(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(RuntimeError, match=r"s3://bucket/a.mp4: cannot look up: .*pip install 'vidload\[remote\]'"):
        vidload.VideoReader("s3://bucket/a.mp4")


def test_a_kind_of_url_that_nobody_knows_is_an_error() -> None:
    with pytest.raises(RuntimeError, match=r"nope://a.mp4: cannot look up: Protocol not known: nope"):
        vidload.VideoReader("nope://a.mp4")


# --- objects that change


def test_a_sample_costs_one_question_for_the_state_of_its_object(server: Server, url: str, tmp_path: Path) -> None:
    build_index([url], tmp_path / "index.vidx")
    _core.clear_index_cache()
    for index in (None, tmp_path / "index.vidx"):
        dataset = vidload.VideoDataset([(url, 0)], index=index, **OPTIONS)
        if index is None:
            dataset[0]  # now its index is in the cache
        server.num_heads = 0
        dataset[0]
        assert server.num_heads == 1
        _core.clear_index_cache()


@pytest.mark.parametrize("name", ["h264_rotated_180", "hevc", "vp9"])
def test_an_object_replaced_since_it_was_indexed_is_drawn_and_read_anew(
    name: str, server: Server, url: str, video
) -> None:
    """Smaller ones, larger ones, of another size of picture: what the loader gives is what it gives of the file that is there now."""
    dataset = vidload.VideoDataset([(url, 0)], **OPTIONS)
    dataset[0]
    server.files["/a.mp4"] = Path(video(name)).read_bytes()
    alone = vidload.VideoDataset([(video(name), 0)], **OPTIONS)
    assert torch.equal(dataset[0][0], alone[0][0])
    assert torch.equal(next(iter(vidload.VideoLoader(dataset)))[0][0], alone[0][0])


@pytest.mark.parametrize("name", ["h264", "h264_rotated_180"])
def test_an_object_replaced_while_it_is_read_is_read_anew(
    name: str, server: Server, url: str, video, tmp_path: Path
) -> None:
    """With bytes behind it, so that every byte range is still there: only size and ETag tell."""
    new = tmp_path / "new.mp4"
    new.write_bytes(Path(video(name)).read_bytes() + (200_008).to_bytes(4, "big") + b"free" + bytes(200_000))

    def fault(number: int, byte_range: tuple[int, int]) -> None:
        server.files["/a.mp4"] = new.read_bytes()

    dataset = vidload.VideoDataset([(url, 0)], **OPTIONS)
    dataset[0]
    server.fault = fault
    assert torch.equal(dataset[0][0], vidload.VideoDataset([(new, 0)], **OPTIONS)[0][0])


def test_an_object_that_changes_ever_again_while_it_is_read_is_an_error(server: Server, url: str) -> None:
    data = server.files["/a.mp4"]

    def fault(number: int, byte_range: tuple[int, int]) -> None:
        server.files["/a.mp4"] = data[:-1] + bytes([number % 256])

    dataset = vidload.VideoDataset([(url, 0)], **OPTIONS)
    dataset[0]
    server.fault = fault
    with pytest.raises(vidload.VideoError, match="not the one that was indexed, or changed while it was read"):
        dataset[0]
    server.fault = None
    dataset[0]  # the object that is there now, indexed anew


def test_an_object_of_another_size_is_indexed_again_and_never_misread(
    server: Server, url: str, video, tmp_path: Path
) -> None:
    build_index([url], tmp_path / "index.vidx")
    _core.clear_index_cache()
    server.files["/a.mp4"] = Path(video("h264_rotated_180")).read_bytes()
    dataset = vidload.VideoDataset([(url, 0)], index=tmp_path / "index.vidx", **OPTIONS)
    alone = vidload.VideoDataset([(video("h264_rotated_180"), 0)], **OPTIONS)
    assert torch.equal(dataset[0][0], alone[0][0])
    assert DatasetIndex(tmp_path / "index.vidx").table["size"].to_pylist() != [len(server.files["/a.mp4"])]


# --- nothing hangs

STALL = 3600.0  # seconds that a server keeps silent
MOST_SECONDS = 300.0  # until a process has ended: far more than it takes


@pytest.fixture
def patient(monkeypatch) -> None:
    """With a deadline that ends nothing in the time of a test."""
    monkeypatch.setenv("VIDLOAD_REMOTE_SECONDS", "3600")


def test_a_loader_ends_at_once_while_the_network_stalls(server: Server, url: str, patient) -> None:
    server.fault = lambda number, byte_range: STALL
    dataset = vidload.VideoDataset([(url, 0)] * 8, **OPTIONS)
    batches = iter(vidload.VideoLoader(dataset, batch_size=2, num_workers=2, timeout=0.3))
    with pytest.raises(RuntimeError, match=r"timed out|timeout"):
        next(batches)
    del batches


def test_ctrl_c_ends_a_reader_that_waits_for_a_server(server: Server, url: str, patient) -> None:
    server.fault = lambda number, byte_range: STALL
    threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        vidload.VideoReader(url)


def test_a_process_ends_although_its_requests_hang(server: Server, url: str, patient) -> None:
    server.fault = lambda number, byte_range: STALL
    code = (
        "import time, vidload\n"
        "from vidload import transforms\n"
        f"dataset = vidload.VideoDataset([({url!r}, 0)] * 4, clip='1x1x1', transform=transforms.center_crop(32))\n"
        "batches = iter(vidload.VideoLoader(dataset, batch_size=1, num_workers=2))\n"
        "time.sleep(0.5)\n"
        "print('ends', flush=True)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ends\n"
        assert process.wait(MOST_SECONDS) == 0


def test_a_forked_child_reads_too(url: str) -> None:
    expected = vidload.VideoReader(url)[3].sum()
    child = os.fork()
    if child == 0:
        os._exit(0 if vidload.VideoReader(url)[3].sum() == expected else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_names_of_objects_need_not_be_utf_8(memory, video) -> None:
    with pytest.raises(
        vidload.VideoNotFoundError, match=r"there is no such object \(FileNotFoundError: /caf.udce9.mp4\)"
    ):
        vidload.VideoReader("memory://caf\udce9.mp4")
    memory.pipe("/caf\udce9.mp4", Path(video("h264")).read_bytes())
    assert vidload.VideoReader("memory://caf\udce9.mp4").num_frames == vidload.VideoReader(video("h264")).num_frames


def test_ctrl_c_ends_a_loader_that_waits_for_a_server(server: Server, url: str, patient) -> None:
    server.fault = lambda number, byte_range: STALL
    code = (
        "import vidload\n"
        "from vidload import transforms\n"
        f"dataset = vidload.VideoDataset([({url!r}, 0)] * 8, clip='1x1x1', transform=transforms.center_crop(32))\n"
        "batches = iter(vidload.VideoLoader(dataset, batch_size=2, num_workers=2))\n"
        "print('waits', flush=True)\n"
        "next(batches)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.readline() == b"waits\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(MOST_SECONDS) != 0
        assert b"KeyboardInterrupt" in process.stderr.read()


# --- commands


@pytest.mark.parametrize("command", ["prepare", "frames"])
def test_a_command_makes_the_same_of_a_list_of_urls_as_of_files(
    command: str, server: Server, video, tmp_path: Path
) -> None:
    for name in ("h264", "vp9"):
        server.files[f"/{name}.mp4"] = Path(video(name)).read_bytes()
        (tmp_path / f"{name}.mp4").write_bytes(server.files[f"/{name}.mp4"])
    (tmp_path / "list.txt").write_text("h264.mp4 0\nvp9.mp4 1\n")
    server.files["/list.txt"] = (tmp_path / "list.txt").read_bytes()
    for root, out in ((server.url, "of_urls"), (str(tmp_path), "of_files")):
        assert cli.main([command, f"{root}/list.txt", str(tmp_path / out), "--root", root, "--jobs", "1"]) == 0
    made = {path.relative_to(tmp_path / "of_files") for path in (tmp_path / "of_files").rglob("*.[mj]p*")}
    assert made
    for path in made:
        assert (tmp_path / "of_urls" / path).read_bytes() == (tmp_path / "of_files" / path).read_bytes()
