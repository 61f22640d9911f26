"""What the machine fails to do is never a bad video: it raises, whatever on_error says, and no file is left out or blamed."""

from __future__ import annotations

import logging
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from faults.faults import run_with_faults
from test_errors import damage

import vidload
from vidload import FrameFolderDataset, TooManyFailuresError, VideoDataset, VideoError, VideoLoader
from vidload.transforms import center_crop

# --- memory


@pytest.fixture
def paths(video) -> list[str]:
    return [video(name) for name in ("h264", "hevc", "vp9", "mpeg4", "mjpeg_avi", "h264_ts")]


def test_an_allocation_that_fails_once_costs_no_clip_and_blames_no_file(paths) -> None:
    out = run_with_faults(
        """
        data = dataset(sys.argv[1:])
        loader = VideoLoader(data, batch_size=2, num_workers=1, on_error="skip")
        expected = epoch(loader)
        vidload._core.clear_index_cache()
        faults.fault_alloc(10**9, 0)
        epoch(loader)
        num_allocations = faults.fault_allocs()
        assert num_allocations > 5000, num_allocations
        for nth in range(1, num_allocations, num_allocations // 80):
            vidload._core.clear_index_cache()
            faults.fault_alloc(nth, 0)
            assert same(epoch(loader), expected), nth
            faults.fault_alloc(0, 0)
            assert loader.stats()["failures"] == [], (nth, loader.stats()["failures"])
        print("done")
        """,
        *paths,
    )
    assert out == "done\n"


def test_no_memory_at_all_is_a_memory_error_whatever_on_error_says(paths) -> None:
    out = run_with_faults(
        """
        data = dataset(sys.argv[1:])
        for nth in (1, 30, 200, 700):
            for on_error in ("raise", "skip", "substitute"):
                vidload._core.clear_index_cache()
                loader = VideoLoader(data, batch_size=2, num_workers=1, on_error=on_error)
                next(iter(loader))  # its thread is there
                vidload._core.clear_index_cache()
                faults.fault_alloc(nth, 1)
                try:
                    epoch(loader)
                    print("nothing was raised", nth, on_error)
                except MemoryError as error:
                    assert "num_workers" in str(error)
                faults.fault_alloc(0, 0)
                assert loader.stats()["failures"] == []
                assert len(epoch(loader)) == 3  # and it goes on when there is memory again
        print("done")
        """,
        *paths,
    )
    assert out == "done\n"


@pytest.mark.parametrize("room_mb", [8, 30])
def test_intact_files_are_not_called_damaged_where_memory_is_short(room_mb: int, paths) -> None:
    code = """
        import resource
        data = dataset(sys.argv[2:] * 3)
        loader = VideoLoader(data, batch_size=2, num_workers=2, on_error="skip")
        next(iter(loader))
        held = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (held + (int(sys.argv[1]) << 20),) * 2)
        try:
            count = sum(len(labels) for _, labels in epoch(loader))
            print("clips" if count == 18 else f"{count} clips", loader.stats()["failures"])
        except MemoryError:
            print("MemoryError", loader.stats()["failures"])
        """
    assert run_with_faults(code, room_mb, *paths) in ("clips []\n", "MemoryError []\n")


# --- reads, files, threads


@pytest.mark.parametrize("on_error", ["raise", "skip", "substitute"])
def test_a_read_error_is_an_oserror_that_names_the_file(on_error: str, video) -> None:
    out = run_with_faults(
        """
        path, on_error = sys.argv[1:]
        data = dataset([path] * 4)
        loader = VideoLoader(data, batch_size=1, num_workers=1, on_error=on_error)
        epoch(loader)
        faults.fault_read(10**9, errno.EIO)
        epoch(loader)
        num_reads = faults.fault_reads()
        for nth in range(1, num_reads + 1):
            for code in (errno.EIO, errno.ESTALE):
                faults.fault_read(nth, code)
                try:
                    epoch(loader)
                    print("nothing was raised", nth)
                except OSError as error:
                    assert not isinstance(error, vidload.VideoError), error
                    assert (error.errno, error.filename) == (code, path), error
        assert num_reads > 2 and loader.stats()["failures"] == []
        print("done")
        """,
        video("h264"),
        on_error,
    )
    assert out == "done\n"


def test_too_many_open_files_is_an_oserror(paths) -> None:
    code = """
        import resource
        loader = VideoLoader(dataset(sys.argv[1:]), num_workers=1, on_error="skip")
        held = len(os.listdir("/proc/self/fd"))
        files = [open("/dev/null") for _ in range(20)]
        resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) - 1,) * 2)
        try:
            epoch(loader)
        except OSError as error:
            assert not isinstance(error, vidload.VideoError)
            print(error.errno == errno.EMFILE)
        """
    assert run_with_faults(code, *paths) == "True\n"


@pytest.mark.parametrize("on_error", ["raise", "skip"])
def test_a_thread_that_cannot_start_is_an_error_and_leaves_none_behind(on_error: str, video) -> None:
    out = run_with_faults(
        """
        path, on_error = sys.argv[1:]
        loader = VideoLoader(dataset([path]), num_workers=8, on_error=on_error)
        before = num_threads()
        for number in (0, 1, 7):
            faults.fault_threads(number)
            try:
                epoch(loader)
            except RuntimeError as error:
                assert f"cannot start thread {number + 1} of 8" in str(error), error
            assert becomes_true(lambda: num_threads() == before), (num_threads(), before)
        faults.fault_threads(-1)
        print(len(epoch(loader)))
        """,
        video("h264"),
        on_error,
    )
    assert out == "1\n"


def test_a_daemon_thread_in_next_does_not_abort_the_interpreters_exit(paths) -> None:
    code = """
        import sys, threading, time
        import vidload
        from vidload import VideoDataset, VideoLoader, transforms
        data = VideoDataset([(path, 0) for path in sys.argv[2:]] * 40, clip="8x2x1", transform=transforms.center_crop(64))
        def use():
            loader = VideoLoader(data, batch_size=2, num_workers=int(sys.argv[1]))
            while True:
                for _ in loader:
                    pass
        for _ in range(3):
            threading.Thread(target=use, daemon=True).start()
        time.sleep(0.3)
        """
    for num_workers in (0, 2):
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(code), str(num_workers), *paths],
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert (done.returncode, done.stderr) == (0, "")


def test_a_full_disk_leaves_the_old_index_and_is_an_oserror(paths, tmp_path: Path) -> None:
    out = run_with_faults(
        """
        import pathlib
        *paths, folder = sys.argv[1:]
        target = pathlib.Path(folder, "index")
        vidload.build_index(paths, target)
        before = target.read_bytes()
        for nth in (1, 2, 5):
            faults.fault_write(nth, errno.ENOSPC)
            try:
                vidload.build_index(paths[:-1], target)
                print("nothing was raised", nth, faults.fault_writes())
            except OSError as error:
                assert "No space left" in str(error), error
            faults.fault_write(0, 0)
            assert target.read_bytes() == before and [path.name for path in target.parent.iterdir()] == ["index"]
        print("done")
        """,
        *paths,
        tmp_path,
    )
    assert out == "done\n"


def test_a_killed_index_run_leaves_the_old_index_and_the_next_run_is_whole(paths, tmp_path: Path) -> None:
    code = """
        import pathlib, signal
        *paths, folder = sys.argv[1:]
        faults.fault_read_wait(2)
        child = os.fork()
        if child == 0:
            vidload.build_index(paths, pathlib.Path(folder, "index"), num_workers=1)
            os._exit(0)
        time.sleep(0.2)
        os.kill(child, signal.SIGKILL)
        print(os.waitpid(child, 0)[1])
        """
    vidload.build_index(paths[:2], tmp_path / "index")
    before = (tmp_path / "index").read_bytes()
    assert run_with_faults(code, *paths, tmp_path) == f"{signal.SIGKILL:d}\n"
    assert (tmp_path / "index").read_bytes() == before
    vidload.build_index(paths, tmp_path / "index")
    vidload.build_index(paths, tmp_path / "other")
    assert (tmp_path / "index").read_bytes() == (tmp_path / "other").read_bytes()


# --- epochs that fail as a whole


def folder_of(tmp_path: Path, num_good: int, num_bad: int, video) -> VideoDataset:
    """Good and missing videos, the missing ones last."""
    items = [(video("h264"), 0)] * num_good + [(str(tmp_path / f"{i}.mp4"), 1) for i in range(num_bad)]
    return VideoDataset(items, clip="1x1x1", transform=center_crop(16))


@pytest.mark.parametrize(
    ("num_good", "num_bad", "max_failures", "is_too_much"),
    [
        (2, 20, 0.05, False),  # 20 always may
        (2, 21, 0.05, True),
        (500, 25, 0.05, False),
        (400, 25, 0.05, True),
        (2, 3, 3, False),
        (2, 4, 3, True),
        (2, 1, 0, True),
        (2, 40, None, False),
    ],
)
@pytest.mark.parametrize("on_error", ["skip", "substitute"])
def test_more_failures_than_allowed_end_the_epoch(
    num_good: int, num_bad: int, max_failures, is_too_much: bool, on_error: str, tmp_path: Path, video
) -> None:
    data = folder_of(tmp_path, num_good, num_bad, video)
    if on_error == "substitute" and num_good < num_bad:
        pytest.skip("hardly any video could take their places")
    loader = VideoLoader(data, batch_size=5, num_workers=1, on_error=on_error, max_failures=max_failures)
    if is_too_much:
        with pytest.raises(TooManyFailuresError, match=r"max_failures=.* is a folder not mounted.*\.mp4: cannot open"):
            for _ in loader:
                pass
    else:
        num_clips = sum(len(labels) for _, labels in loader)
        assert num_clips == (num_good if on_error == "skip" else num_good + num_bad)


def test_each_epoch_may_fail_anew(tmp_path: Path, video) -> None:
    loader = VideoLoader(folder_of(tmp_path, 2, 15, video), num_workers=1, on_error="skip")
    for _ in range(3):
        assert len(list(loader)) == 2


def test_an_epoch_of_which_nothing_comes_is_an_error(tmp_path: Path, video) -> None:
    loader = VideoLoader(folder_of(tmp_path, 0, 3, video), num_workers=1, on_error="skip")
    with pytest.raises(TooManyFailuresError, match=r"no sample of epoch 0 could be loaded: all 3 failed.*No such file"):
        list(loader)


def test_no_failures_of_which_nothing_comes_are_no_error() -> None:
    loader = VideoLoader(
        VideoDataset([("x.mp4", 0)], clip="1x1x1", transform=center_crop(16)), batch_sampler=[], on_error="skip"
    )
    assert list(loader) == []


@pytest.mark.parametrize("max_failures", [-1, 1.0, 1.5, -0.1])
def test_a_max_failures_without_sense_is_refused(max_failures: float) -> None:
    with pytest.raises(ValueError, match="max_failures is"):
        VideoLoader(VideoDataset([("x.mp4", 0)], clip="1x1x1", transform=center_crop(16)), max_failures=max_failures)


# --- what is told of a failure


def test_failures_tell_file_frame_reason_and_kind_and_each_file_is_logged_once(tmp_path: Path, video, caplog) -> None:
    items = [(video("h264"), 0), (str(tmp_path / "none.mp4"), 1)]
    loader = VideoLoader(VideoDataset(items, clip="1x1x1", transform=center_crop(16)), num_workers=1, on_error="skip")
    with caplog.at_level(logging.WARNING, logger="vidload"):
        for _ in range(3):
            list(loader)
    index, path, reason, frame, kind = loader.stats()["failures"][0]
    assert (index, path, frame, kind) == (1, str(tmp_path / "none.mp4"), None, "not_found")
    assert reason == "cannot open: No such file or directory"
    assert len(loader.stats()["failures"]) == 3
    assert [record.getMessage() for record in caplog.records] == [f"{path}: {reason} (left out)"]


def test_an_error_quotes_what_ffmpeg_said_last(tmp_path: Path, video) -> None:
    path = video("h264_no_b_frames")
    damaged = damage(path, tmp_path / "damaged.mp4", vidload.VideoReader(path), 30)
    with pytest.raises(VideoError, match=r"; leave the file out, .* \[h264: no frame!\]$"):
        vidload.VideoReader(damaged).get_frames_at([30])
    with pytest.raises(VideoError, match=r"\[mov,mp4,.*: moov atom not found\]$"):
        (tmp_path / "cut.mp4").write_bytes(Path(path).read_bytes()[:1000])
        vidload.VideoReader(tmp_path / "cut.mp4")


# --- formats of file names


@pytest.mark.parametrize(
    ("name_format", "number", "name"),
    [
        ("img_%05d.jpg", 7, "img_00007.jpg"),
        ("%d.jpg", 7, "7.jpg"),
        ("%6d", 7, "     7"),
        ("%03i", 12345, "12345"),
        ("100%%_%u.jpg", 1, "100%_1.jpg"),
        ("%05d", -7, "-0007"),
        ("%d", 2**40, str(2**40)),
    ],
)
def test_a_name_format_with_one_integer_is_read_as_printf_reads_it(name_format: str, number: int, name: str) -> None:
    assert vidload._core.frame_name(name_format, number) == name


@pytest.mark.parametrize(
    "name_format",
    [
        "img_%s.jpg",
        "%d_%d",
        "img.jpg",
        "%",
        "%%",
        "%n",
        "%*d",
        "%.5d",
        "%f",
        "%ld",
        "%1$d",
        "a/%d",
        "%999d",
        "%5",
        "%0",
        "\0%d",
        "x" * 260 + "%d",
    ],
)
def test_any_other_name_format_is_refused(name_format: str) -> None:
    with pytest.raises(ValueError, match="must hold one integer, printf-style"):
        FrameFolderDataset([("folder", 1, 0)], clip="1x1x1", transform=center_crop(16), name_format=name_format)
