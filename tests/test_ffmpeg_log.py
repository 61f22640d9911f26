"""What FFmpeg logs: into the error and to Python's logging where it is vidload's doing, and nowhere else than before where it is not."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import vidload
from vidload import VideoDataset, VideoLoader
from vidload.transforms import center_crop


@pytest.fixture
def damaged(video, tmp_path: Path) -> str:
    """A file of which FFmpeg finds something to say."""
    index = vidload._core.index_file(video("h264"))
    data = bytearray(Path(video("h264")).read_bytes())
    start = int(index.packet_offsets[0])
    at = start + int(index.packet_sizes[0]) // 3
    data[at : at + 200] = b"U" * 200
    path = tmp_path / "däm.mp4"
    path.write_bytes(data)
    return str(path)


def lines_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "vidload.ffmpeg"]


def test_a_reader_s_lines_name_the_file_and_the_last_is_in_the_error(damaged: str, caplog) -> None:
    with caplog.at_level(logging.WARNING), pytest.raises(vidload.DamagedVideoError) as caught:
        vidload.VideoReader(damaged).get_frames_at([0])
    lines = lines_of(caplog)
    assert lines and all(line.startswith(f"{damaged}: ") for line in lines)
    assert caught.value.reason.endswith("]")
    last = caught.value.reason.rpartition(" [")[2].removesuffix("]")
    assert f"{damaged}: {last}" in lines


def test_a_loader_s_threads_say_it_through_the_thread_that_waits(damaged: str, video, caplog) -> None:
    data = VideoDataset(
        [(damaged, 0), (video("h264"), 1)] * 2, clip="4x1x1", transform=center_crop(16), sampling=first_frames
    )
    with caplog.at_level(logging.WARNING):
        for _ in VideoLoader(data, batch_size=2, num_workers=2, on_error="skip"):
            pass
    lines = lines_of(caplog)
    assert lines and all(line.startswith(f"{damaged}: ") for line in lines)


def first_frames(num_frames, fps, spec, rng):
    return np.arange(spec.clip_len)[None]


def run(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done


READ_DAMAGED = """
import sys, vidload
try:
    vidload.VideoReader(sys.argv[1]).get_frames_at([0])
except vidload.DamagedVideoError:
    pass
"""


def test_nothing_is_printed_where_nobody_listens(damaged: str) -> None:
    done = run(READ_DAMAGED, damaged)
    assert done.stdout == done.stderr == ""


def test_a_handler_that_fails_does_no_harm(damaged: str) -> None:
    code = f"""
import logging
class Failing(logging.Handler):
    def emit(self, record):
        raise RuntimeError("a bad handler")
logging.getLogger().addHandler(Failing())
{READ_DAMAGED}
print("fine")
"""
    assert run(code, damaged).stdout == "fine\n"


def test_what_others_log_through_the_same_library_is_printed_as_ever() -> None:
    code = """
import ctypes
import vidload
maps = open("/proc/self/maps").read().splitlines()
paths = {line.split()[-1] for line in maps if "/libavutil" in line}
for path in paths:
    ctypes.CDLL(path).av_log(None, 16, b"said by another library\\n")
"""
    assert "said by another library" in run(code).stderr
