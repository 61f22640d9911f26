"""`vidload inspect`: what is in a video file, how its frames depend on each other, and what loading clips costs."""

from __future__ import annotations

import argparse
import itertools
import os
import shutil
import statistics
import time
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from vidload import _core, sampling
from vidload.cli import _shared
from vidload.dataset import VideoDataset
from vidload.errors import VideoError
from vidload.prepare.check_file import uneven_steps
from vidload.prepare.costs import CLIP_SPECS, clip_plan
from vidload.reader import VideoReader, streams
from vidload.sources import size_and_mtime
from vidload.system.sheet import figure_class
from vidload.transforms import random_resized_crop

_DESCRIPTION = """\
Shows the facts of a video, its packets GOP by GOP as a small picture, and what each
kind of clip costs to load.

In the picture every character is a packet, in decode order; each GOP starts a new line.
The bar below a character shows the size of its packet.
  I  keyframe: decoding can start here
  P  other frames depend on it
  B  other frames depend on it, and it is shown before a frame decoded earlier
  b  droppable: no other frame depends on it, so it is decoded only if a clip wants it
  .  decoded but never shown
"""
_EXAMPLE = "example:\n  vidload inspect clip.mp4 --png gops.png"

_BARS = "▁▂▃▄▅▆▇█"
_NUM_SAMPLES = 32  # random clips that the packet counts are averaged over
_SECONDS_TO_MEASURE = 0.5  # for each kind of clip


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = _shared.add_command(
        subparsers,
        "inspect",
        help="show a video's facts, its GOPs as a picture, and what loading clips of it costs",
        description=_DESCRIPTION,
        example=_EXAMPLE,
    )
    parser.add_argument("file", metavar="FILE", help="a video")
    parser.add_argument("--all", action="store_true", help="show every GOP, not just the first lines")
    parser.add_argument("--png", metavar="FILE", help="also draw the packets as a bar chart (needs matplotlib)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    width = max(min(shutil.get_terminal_size().columns, 120), 40)
    with VideoReader(args.file) as reader:
        reader._open().read_whole_index()
        print("\n".join(facts(reader, size_and_mtime(args.file)[0])), end="\n\n")
        lines = list(gop_picture(reader, width))
        most = len(lines) if args.all else 24
        print("\n".join(lines[:most]))
        if len(lines) > most:
            print(f"... {(len(lines) - most) // 2} more lines; see them with --all")
        print("\n" + "\n".join(cost_table(reader)))
        if args.png:
            draw_packets(reader, args.png)
            print(f"\nwrote {args.png}")
    return 0


def facts(reader: VideoReader, num_bytes: int) -> list[str]:
    """Lines of facts about the file and the video stream that is read."""
    kinds, sizes = packet_kinds(reader), packet_sizes(reader)
    lengths = [len(gop) for gop in gops(kinds)]
    color = f"{reader.color_matrix or 'bt601 (not stated)'}, {reader.color_range or 'limited (not stated)'}"
    kilobits = num_bytes * 8 / 1000 / reader.duration_seconds if reader.duration_seconds else 0
    droppable = kinds == "b"
    lines = [
        reader.name,
        f"  file       {reader.container}, {num_bytes / 1e6:.2f} MB, {kilobits:.0f} kbit/s",
        f"  video      {reader.codec}, {reader.pixel_format}, {reader.width}x{reader.height} (width x height)"
        + (f", turned by {reader.rotation} degrees" if reader.rotation else "")
        + (", flipped left to right" if reader.is_flipped else ""),
        f"  color      {color}",
        f"  time       {reader.num_frames} frames, {reader.average_fps:.3f} fps, {reader.duration_seconds:.2f} s, "
        f"first frame at {reader.pts_seconds[0]:.3f} s" + variable_rate(reader),
        f"  keyframes  {int((kinds == 'I').sum())}, one every {statistics.median(lengths):g} packets "
        f"(median; {min(lengths)} to {max(lengths)})",
        f"  droppable  {droppable.sum()} of {len(kinds)} packets ({droppable.mean():.0%}; "
        f"{sizes[droppable].sum() / max(sizes.sum(), 1):.0%} of the bytes)",
    ]
    if reader.sample_aspect_ratio != 1:
        lines.append(f"  pixels     {reader.sample_aspect_ratio} (width to height); frames come as coded")
    if not reader.is_trusted.all():
        lines.append(f"  untrusted  {(~reader.is_trusted).sum()} frames before the first keyframe, which raise")
    others = [stream for stream in streams(reader.name) if stream.number != reader.stream]
    for other in others:
        size = f", {other.width}x{other.height}" if other.kind == "video" else ""
        lines.append(f"  stream {other.number:<4}{other.kind}, {other.codec}{size}; not read")
    return lines + ([f"  note       {reader.note}"] if reader.note else [])


def variable_rate(reader: VideoReader) -> str:
    """A remark on an uneven frame rate; empty for an even one."""
    steps = uneven_steps(reader)
    return "" if steps is None else f"; uneven: {steps[0] * 1000:.0f} to {steps[1] * 1000:.0f} ms per frame"


def packet_kinds(reader: VideoReader) -> NDArray[np.str_]:
    """One character per packet, in decode order; see _DESCRIPTION."""
    flags = reader._index.packet_flags
    place = np.full(len(flags), -1)  # of a packet's frame in presentation order; -1 = it gives none
    place[reader._index.frame_packet] = np.arange(reader.num_frames)
    is_shown_early = (place >= 0) & (place < np.maximum.accumulate(place))
    kinds = np.where(flags & _core.PACKET_DROPPABLE, "b", np.where(is_shown_early, "B", "P"))
    kinds[flags & (_core.PACKET_HIDDEN | _core.PACKET_DISCARD) != 0] = "."
    kinds[flags & _core.PACKET_KEYFRAME != 0] = "I"
    return kinds


def packet_sizes(reader: VideoReader) -> NDArray[np.int32]:
    """Bytes of each packet, in decode order."""
    return np.asarray(reader._index.packet_sizes, dtype=np.int32)


def gops(kinds: NDArray[np.str_]) -> list[range]:
    """Packets from each keyframe to the next, in decode order; what comes before the first keyframe is one
    more."""
    starts = [0, *(i for i in np.flatnonzero(kinds == "I").tolist() if i > 0), len(kinds)]
    return [range(start, stop) for start, stop in itertools.pairwise(starts)]


def gop_picture(reader: VideoReader, width: int) -> Iterator[str]:
    """Pairs of lines: packet kinds, and below them bars of their sizes on a square-root scale."""
    kinds, sizes = packet_kinds(reader), packet_sizes(reader)
    levels = np.sqrt(sizes / max(sizes.max(), 1)) * (len(_BARS) - 1)
    bars = [_BARS[round(level)] for level in levels.tolist()]
    margin = len(str(len(kinds))) + 3
    room = width - margin
    for gop in gops(kinds):
        for start in range(gop.start, gop.stop, room):
            stop = min(start + room, gop.stop)
            yield f"{start if start == gop.start else '':>{margin - 2}}  {''.join(kinds[start:stop])}"
            yield " " * margin + "".join(bars[start:stop])


def cost_table(reader: VideoReader) -> list[str]:
    """What clips cost: packets decoded and left out, kilobytes read, milliseconds on one core of this machine."""
    lines = [
        "what a random training clip costs: means, and the median time on one core of this machine",
        f"  {'clip':<8}{'frames':>8}{'packets decoded':>17}{'dropped':>9}{'KB read':>9}{'ms':>8}",
    ]
    failure = None
    for clip in CLIP_SPECS:
        spec = sampling.ClipSpec.parse(clip)
        plans = [clip_plan(reader, clip, i) for i in range(_NUM_SAMPLES)]
        decoded = statistics.mean(plan.num_packets_decoded for plan in plans)
        dropped = statistics.mean(plan.num_packets_dropped for plan in plans)
        kilobytes = statistics.mean(plan.bytes_read for plan in plans) / 1000
        try:
            time_taken = f"{milliseconds(reader.name, clip):.1f}"
        except VideoError as error:
            failure, time_taken = error, "-"
        lines.append(
            f"  {clip:<8}{spec.clip_len * spec.num_clips:>8}{decoded:>17.1f}{dropped:>9.1f}{kilobytes:>9.0f}"
            f"{time_taken:>8}"
        )
    return lines if failure is None else [*lines, f"some of it cannot be decoded: {failure}"]


def milliseconds(path: str, clip: str) -> float:
    """Median time of loading one random clip, measured: a dataset item, loaded in the calling thread."""

    dataset = VideoDataset([(path, 0)], clip=clip, transform=random_resized_crop(224))
    dataset[0]  # scans the file, opens the decoder
    times: list[float] = []
    while sum(times) < _SECONDS_TO_MEASURE and len(times) < _NUM_SAMPLES:
        dataset.set_epoch(len(times))  # other frames each time
        start = time.perf_counter()
        dataset[0]
        times.append(time.perf_counter() - start)
    return 1000 * statistics.median(times)


def draw_packets(reader: VideoReader, path: str) -> None:
    """A bar chart of packet sizes in decode order, colored by kind."""
    kinds, sizes = packet_kinds(reader), packet_sizes(reader)
    figure = figure_class()(figsize=(12, 4), dpi=100, layout="constrained")
    axes = figure.add_subplot()
    legend = {
        "I": ("keyframe", "tab:red"),
        "P": ("others depend on it", "tab:blue"),
        "B": ("others depend on it, shown early", "tab:cyan"),
        "b": ("droppable", "tab:green"),
        ".": ("never shown", "tab:gray"),
    }
    for kind, (label, color) in legend.items():
        where = np.flatnonzero(kinds == kind)
        if len(where):
            axes.bar(where, sizes[where] / 1000, width=1.0, color=color, label=f"{label} ({len(where)})")
    axes.set_xlabel("packet, in decode order")
    axes.set_ylabel("kilobytes")
    axes.set_title(f"{os.path.basename(reader.name)}: {reader.codec}, {reader.num_frames} frames", parse_math=False)
    axes.margins(x=0.005)
    axes.legend()
    figure.savefig(path)
