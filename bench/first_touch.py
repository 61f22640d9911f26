"""What the first use of a video costs: opened without an index, one 8x8x1 clip decoded from its middle.

In: an hour of video as mp4, as mp4 in fragments of two seconds, and as mkv, made here from the clips of build_data.py (by stream copy, keyint
250), and those clips themselves.
Every library runs in a process of its own, and they take turns, file by file. Out: median milliseconds and the share of the file that was
read (all that the process read, /proc/self/io). Reading the clip a second time measures vidload's decoding alone.

    python bench/first_touch.py --torchcodec-python ~/torchcodec/bin/python
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

DATA = Path(__file__).resolve().parent / "data"
MINUTES = 60
FRAMES = [8 * i for i in range(8)]


def make_hour(target: Path, sources: list[Path]) -> None:
    """One file after the other, over again, until it lasts an hour."""
    import av

    aside = target.with_name(f".part.{target.name}")
    fragments = {"movflags": "empty_moov+default_base_moof", "frag_duration": "2000000"}
    options = fragments if target.stem == "fragmented" else {}
    container = {".mkv": "matroska"}.get(target.suffix, target.suffix[1:])
    with av.open(str(aside), "w", format=container, options=options) as output:
        stream, base, seconds = None, 0, 0.0
        while seconds < 60 * MINUTES:
            with av.open(str(sources[0])) as source:
                video = source.streams.video[0]
                if stream is None:
                    stream = output.add_stream_from_template(video)
                packets = [packet for packet in source.demux(video) if packet.size > 0]
                shift = base - min(packet.dts for packet in packets)
                for packet in packets:
                    packet.pts, packet.dts, packet.stream = packet.pts + shift, packet.dts + shift, stream
                base = max(packet.dts + packet.duration for packet in packets)
                seconds = float(base * video.time_base)
                for packet in packets:
                    output.mux(packet)
    aside.rename(target)


def bytes_read() -> int:
    return int(next(line.split()[1] for line in open("/proc/self/io") if line.startswith("rchar")))


def vidload_touch(is_first: bool) -> Callable[[str], object]:
    import vidload

    def touch(path: str) -> object:
        if is_first:
            vidload._core.clear_index_cache()
        with vidload.VideoReader(path) as reader:
            start = reader.num_frames // 2
            return reader.get_frames_at([start + frame for frame in FRAMES])

    return touch


def torchcodec_touch(seek_mode: str) -> Callable[[str], object]:
    from torchcodec.decoders import VideoDecoder

    def touch(path: str) -> object:
        decoder = VideoDecoder(path, dimension_order="NHWC", num_ffmpeg_threads=1, seek_mode=seek_mode)
        start = len(decoder) // 2
        return decoder.get_frames_at([start + frame for frame in FRAMES]).data

    return touch


def decord_touch() -> Callable[[str], object]:
    import decord

    def touch(path: str) -> object:
        reader = decord.VideoReader(path, num_threads=1)
        start = len(reader) // 2
        return reader.get_batch([start + frame for frame in FRAMES]).asnumpy()

    return touch


def pyav_touch() -> Callable[[str], object]:
    import av

    def touch(path: str) -> object:
        with av.open(path) as container:
            stream = container.streams.video[0]
            stream.codec_context.thread_count = 1
            assert stream.time_base is not None
            rate = float(stream.average_rate or 25)
            start = (container.duration or 0) / 2e6
            wanted = {round(start * rate) + frame for frame in FRAMES}
            container.seek(int(start / stream.time_base), stream=stream)
            pictures: list[object] = []
            for frame in container.decode(stream):
                number = round(float((frame.pts or 0) * stream.time_base) * rate)
                if number in wanted:
                    pictures.append(frame.to_ndarray(format="rgb24"))
                if number >= max(wanted):
                    break
            return pictures

    return touch


TOUCHES: dict[str, Callable[[], Callable[[str], object]]] = {
    "vidload": lambda: vidload_touch(True),
    "vidload, indexed": lambda: vidload_touch(False),
    "torchcodec approximate": lambda: torchcodec_touch("approximate"),
    "torchcodec exact": lambda: torchcodec_touch("exact"),
    "decord": decord_touch,
    "pyav": pyav_touch,
}


def work(name: str) -> None:
    """Touches the files named on stdin; a line of seconds and bytes for each."""
    touch = TOUCHES[name]()
    print("ready", flush=True)
    for line in sys.stdin:
        before, start = bytes_read(), time.perf_counter()
        touch(line.rstrip("\n"))
        seconds = time.perf_counter() - start
        print(json.dumps([seconds, bytes_read() - before]), flush=True)


class Peer:
    def __init__(self, name: str, python: str, folders: list[Path]) -> None:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, folders))}
        libraries = Path(python).parent.parent.glob("lib/python*/site-packages/nvidia/*/lib")
        if name.startswith("torchcodec"):
            environment["LD_LIBRARY_PATH"] = os.pathsep.join(map(str, libraries))
        command = [python, __file__, "--work", name]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        assert self.process.stdin and self.process.stdout
        self.is_there = self.process.stdout.readline().strip() == "ready"

    def touch(self, path: Path) -> tuple[float, int]:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(f"{path}\n")
        self.process.stdin.flush()
        seconds, num_bytes = json.loads(self.process.stdout.readline())
        return seconds, num_bytes


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--torchcodec-python", default=sys.executable, help="Python of an environment with TorchCodec")
    parser.add_argument("--peers", nargs="*", default=list(TOUCHES))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--work", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work:
        return work(arguments.work)
    clips = sorted((DATA / "keyint250").glob("*.mp4"))
    hours = [DATA / "first_touch" / name for name in ("hour.mp4", "fragmented.mp4", "hour.mkv")]
    for hour in hours:
        hour.parent.mkdir(exist_ok=True)
        if not hour.exists():
            make_hour(hour, clips)
    own = Path(__file__).resolve().parent.parent
    peers: dict[str, Peer] = {}
    for name in arguments.peers:
        python = arguments.torchcodec_python if name.startswith("torchcodec") else sys.executable
        peer = Peer(
            name, python, [DATA / "peers" / name] if name == "decord" else [own] if name.startswith("vidload") else []
        )
        if peer.is_there:
            peers[name] = peer
        else:
            print(f"{name} is not installed here", file=sys.stderr)
    print(f"{'':24} {'':14} {'ms':>9} {'of the file':>12}")
    for title, paths in (*((hour.name, [hour]) for hour in hours), ("10 s clips", clips)):
        seen: dict[str, list[tuple[float, float]]] = {name: [] for name in peers}
        for round_ in range(arguments.rounds + 1):
            for path in paths:
                order = list(peers)
                order = order[round_ % len(order) :] + order[: round_ % len(order)]
                for name in order:
                    seconds, num_bytes = peers[name].touch(path)
                    if round_ > 0:
                        seen[name].append((seconds, num_bytes / path.stat().st_size))
        for name, values in seen.items():
            milliseconds = 1000 * statistics.median(seconds for seconds, _ in values)
            part = statistics.median(part for _, part in values)
            print(f"{name:24} {title:14} {milliseconds:9.2f} {part:12.4f}", flush=True)


if __name__ == "__main__":
    main()
