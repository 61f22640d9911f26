"""What bytes come from: reads that fail, files that change, and files that would have others opened. Right frames or an error, never
something else."""

from __future__ import annotations

import errno
import io
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import vidload

NATIVE = Path(__file__).parent / "native"
CLIPS = ["h264", "h264_mkv", "hevc_ts", "h264_flv", "vp9", "mpeg4_packed_avi", "mpeg2_ps", "mjpeg_avi", "h264_raw"]


class FailingFile(io.BytesIO):
    """A file whose reads from byte `at` on (or of the `at`-th call on) go wrong in one way."""

    def __init__(self, data: bytes, way: str, at: int) -> None:
        super().__init__(data)
        self.way, self.at, self.num_reads = way, at, 0

    def read(self, size: int | None = -1) -> bytes:
        self.num_reads += 1
        position = self.tell()
        if self.way == "short":  # as sockets and some mounts do: fewer bytes than asked for, and more to come
            return super().read(min(size or 0, 1 + position % 777))
        is_reached = self.num_reads > self.at if self.way == "EIO, later" else position + (size or 0) > self.at
        if not is_reached:
            return super().read(size)
        if self.way == "cut":
            return super().read(max(0, min(size or 0, self.at - position)))
        number = {"EIO": errno.EIO, "EIO, later": errno.EIO, "ESTALE": errno.ESTALE}[self.way]
        raise OSError(number, os.strerror(number))


def offsets(size: int) -> list[int]:
    """The head byte by byte in steps, then places all over the file."""
    return [0, 1, 7, 30, 100, 400, *range(1000, size, max(1, size // 23)), size - 1]


@pytest.mark.parametrize("way", ["EIO", "ESTALE"])
@pytest.mark.parametrize("name", CLIPS)
def test_a_read_error_anywhere_is_that_error_and_never_the_end_of_the_file(name: str, way: str, video) -> None:
    data = Path(video(name)).read_bytes()
    intact = vidload.VideoReader(data)
    num_failed = 0
    for at in offsets(len(data)):
        try:
            reader = vidload.VideoReader(FailingFile(data, way, at))
            frames = reader.get_planes_at(range(reader.num_frames))
        except OSError as error:
            assert error.errno == getattr(errno, way)
            num_failed += 1
            continue
        assert len(frames) == intact.num_frames, f"from byte {at} on"
    assert num_failed > 5  # of some places a reader has no need


@pytest.mark.parametrize("name", CLIPS)
def test_after_a_read_error_a_reader_gives_the_right_frames_again(name: str, video) -> None:
    data = Path(video(name)).read_bytes()
    expected = vidload.VideoReader(data).get_frames_at(range(vidload.VideoReader(data).num_frames))
    file = FailingFile(data, "EIO, later", 10**9)
    reader = vidload.VideoReader(file)
    rng = np.random.default_rng(0)
    num_failed = 0
    for _ in range(60):
        wanted = rng.integers(0, reader.num_frames, 3)
        file.num_reads, file.at = 0, int(rng.integers(0, 3))
        try:
            frames = reader.get_frames_at(wanted)
        except OSError:
            num_failed += 1
            continue
        assert np.array_equal(frames, expected[wanted])
    assert num_failed > 5


@pytest.mark.parametrize("name", CLIPS)
def test_short_reads_change_nothing(name: str, video) -> None:
    data = Path(video(name)).read_bytes()
    intact, short = vidload.VideoReader(data), vidload.VideoReader(FailingFile(data, "short", 0))
    assert short.num_frames == intact.num_frames
    assert np.array_equal(short.get_frames_at([1, 30]), intact.get_frames_at([1, 30]))


@pytest.mark.parametrize("name", CLIPS)
def test_a_file_that_ends_before_its_size_is_an_error(name: str, video) -> None:
    data = Path(video(name)).read_bytes()
    for at in offsets(len(data)):
        with pytest.raises(vidload.UnreadableVideoError, match="ended before the size"):
            reader = vidload.VideoReader(FailingFile(data, "cut", at))
            reader.get_frames_at(range(reader.num_frames))


@pytest.fixture(scope="session")
def shared_library(tmp_path_factory) -> Callable[[str], Path]:
    """shared_library("x") -> tests/native/x.c, compiled."""
    folder = tmp_path_factory.mktemp("native")
    compiler = shutil.which("cc")

    def build(name: str) -> Path:
        if compiler is None:
            pytest.skip("there is no C compiler")
        target = folder / f"{name}.so"
        if not target.exists():
            subprocess.run(
                [compiler, "-shared", "-fPIC", "-O1", "-o", target, NATIVE / f"{name}.c", "-ldl"], check=True
            )
        return target

    return build


def run_python(code: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env={**os.environ, **environment})


LOAD_AND_INDEX = """
import sys, vidload
from vidload import transforms
path, index = sys.argv[1:]
def attempt(work):
    try: return work()
    except (OSError, ValueError) as error: return type(error).__name__, getattr(error, "errno", None), str(error)
dataset = vidload.VideoDataset([(path, 0)] * 4, clip="1x1x1", transform=transforms.center_crop(16))
print(attempt(lambda: len(vidload.VideoReader(path))))
print(attempt(lambda: sum(1 for _ in vidload.VideoLoader(dataset, num_workers=2, on_error="skip"))))
print(attempt(lambda: vidload.build_index([path], index).num_files))
"""


@pytest.mark.parametrize("share", [0.0, 0.3, 0.7])
def test_a_mount_that_fails_ends_loading_and_indexing_with_its_error(
    share: float, video, shared_library, tmp_path: Path
) -> None:
    path = tmp_path / "mounted.mkv"
    shutil.copy(video("h264_mkv"), path)
    at = str(int(path.stat().st_size * share))
    preload = {"LD_PRELOAD": str(shared_library("failing_reads")), "FAIL_NAME": "mounted", "FAIL_AT": at}
    done = run_python(LOAD_AND_INDEX, str(path), str(tmp_path / "index.arrow"), **preload)
    lines = done.stdout.splitlines()
    assert len(lines) == 3, done.stderr
    for line in lines:
        assert f"'OSError', {errno.EIO}" in line and "mounted.mkv" in line, line
    assert not (tmp_path / "index.arrow").exists()
    assert run_python(LOAD_AND_INDEX, str(path), str(tmp_path / "index.arrow")).stdout.split() == ["48", "4", "1"]


def playlist(kind: str, target: str) -> bytes:
    """A text file that names another file or address."""
    return {
        "hls": f"#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{target}\n#EXT-X-ENDLIST\n",
        "concat": f"ffconcat version 1.0\nfile '{target}'\n",
        "dash": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" mediaPresentationDuration="PT2S">'
        '<Period><AdaptationSet contentType="video"><Representation id="0" codecs="avc1.64" bandwidth="1" width="64" height="64">'
        f"<BaseURL>{target}</BaseURL></Representation></AdaptationSet></Period></MPD>",
        "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 9 RTP/AVP 96\na=rtpmap:96 H264/90000\n",
        "imf": f'<?xml version="1.0"?><CompositionPlaylist xmlns="http://www.smpte-ra.org/schemas/2067-3/2016"><Id>{target}</Id>'
        "</CompositionPlaylist>",
        "rtsp": f"RTSPtextRTSP://{target}\n",
    }[kind].encode()


def with_external_data(path: Path, target: bytes) -> bytes:
    """An mp4 whose data reference says that its media is in another file (dref: an alias with a path)."""
    data = path.read_bytes()
    at = data.index(b"dref") - 4
    size = int.from_bytes(data[at : at + 4], "big")
    name = target + b"\0" * (len(target) % 2)
    alias = bytearray(150)
    alias += (2).to_bytes(2, "big") + len(target).to_bytes(2, "big") + name + (0xFFFF).to_bytes(2, "big") + b"\0\0"
    entry = (12 + len(alias)).to_bytes(4, "big") + b"alis" + bytes(4) + alias
    dref = (16 + len(entry)).to_bytes(4, "big") + b"dref" + bytes(4) + (1).to_bytes(4, "big") + entry
    out = data[:at] + dref + data[at + size :]
    for box in (b"dinf", b"minf", b"mdia", b"trak", b"moov"):
        start = out.index(box) - 4
        out = (
            out[:start]
            + (int.from_bytes(out[start : start + 4], "big") + len(dref) - size).to_bytes(4, "big")
            + out[start + 4 :]
        )
    return out


WATCHED = """
import sys, vidload
from vidload import transforms
for path in sys.argv[1:]:
    try: len(vidload.VideoReader(path)); print("opened", path)
    except (vidload.VideoError, OSError) as error: print(type(error).__name__)
    dataset = vidload.VideoDataset([(path, 0)], clip="1x1x1", transform=transforms.center_crop(16))
    try:
        for _ in vidload.VideoLoader(dataset, num_workers=2, on_error="skip"): print("loaded", path)
    except RuntimeError as error: assert "no sample of epoch 0 could be loaded" in str(error)
"""


def test_no_file_makes_vidload_open_another_or_the_network(video, shared_library, tmp_path: Path) -> None:
    secret = tmp_path / "secret.mp4"
    shutil.copy(video("h264"), secret)
    hostile = []
    for kind in ("hls", "concat", "dash", "sdp", "imf", "rtsp"):
        for target in (str(secret), "secret.mp4", "http://127.0.0.1:9/x.ts", "tcp://127.0.0.1:9"):
            for ending in ("mp4", "m3u8", "txt"):
                path = tmp_path / f"{kind}{len(hostile)}.{ending}"
                path.write_bytes(playlist(kind, target))
                hostile.append(path)
    external = tmp_path / "external.mov"
    external.write_bytes(with_external_data(Path(video("h264_mov")), os.fsencode(secret)))
    pattern = tmp_path / "secret%d.mp4"
    pattern.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(64))
    hostile += [external, pattern]

    log = tmp_path / "calls.log"
    preload = {"LD_PRELOAD": str(shared_library("watch_calls")), "WATCH_LOG": str(log)}
    done = run_python(WATCHED, *map(str, hostile), **preload)
    assert done.returncode == 0, done.stderr
    assert not [line for line in done.stdout.splitlines() if line.startswith(("opened", "loaded"))]
    calls = log.read_text().splitlines()
    assert any(str(hostile[0]) in call for call in calls)  # the instrument sees what is opened
    assert not [call for call in calls if call.startswith("connect") or "secret.mp4" in call]


def test_a_playlist_is_refused_in_words(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(playlist("hls", "http://127.0.0.1:9/seg0.ts"))
    if vidload.info()["build"]["is_bundled"]:  # an FFmpeg that does not know the format
        refused, words = vidload.UnreadableVideoError, r"clip\.mp4: not a video container that FFmpeg can read"
    else:
        refused, words = vidload.UnsupportedVideoError, r"clip\.mp4: is of the format 'hls', which is not a plain video"
    with pytest.raises(refused, match=words):
        vidload.VideoReader(path)


def test_ctrl_c_ends_a_scan_within_a_second(video) -> None:
    class Slow(io.BytesIO):
        """Python code that never yields to a handler on its own would not return; this one only takes long."""

        def read(self, size: int | None = -1) -> bytes:
            return super().read(min(size or 0, 64))

    data = Path(video("h264_ts")).read_bytes()

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    try:
        with pytest.raises(KeyboardInterrupt):
            while True:
                vidload.VideoReader(Slow(data))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


def test_a_video_replaced_after_indexing_is_never_decoded_by_the_old_index(video, tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    shutil.copy(video("h264"), path)
    reader = vidload.VideoReader(path)
    data = Path(video("h264_no_b_frames")).read_bytes()
    with open(path, "r+b") as file:  # in place: the reader's own file changes
        file.write(data)
    with pytest.raises(vidload.UnreadableVideoError, match="the file changed while it was"):
        reader.get_frames_at([5])
