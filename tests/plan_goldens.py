"""Plans as text, to be reviewed in a diff: for a few clips and frames, which packets are sent, and which are left out.

In: clips of tests/videos.py. Out: tests/golden/plan_<clip>.txt, one line per packet of each span. `python tests/plan_goldens.py CLIP...`
writes those of some clips, without names all of them.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import videos

import vidload

GOLDEN = Path(__file__).parent / "golden"

# Clip -> the requests whose plans are written down.
REQUESTS: dict[str, tuple[tuple[int, ...], ...]] = {
    # every second picture is droppable
    "h264_one_b_frame": ((0,), (7,), (20, 3), (30,)),
    # I b...b P: three packets at most
    "h264_star": ((5,), (5, 9, 31)),
    # decode order is presentation order
    "h264_no_b_frames": ((5, 26),),
    # leading pictures start at the keyframe before: spans overlap
    "h264_open_gop": ((12,), (11,), (12, 11)),
    # pictures decoded but never shown
    "vp9_alt_ref": ((3, 20),),
    # its frames are listed by a decode, and no packet is left out
    "mpeg4_packed_avi": ((7, 30),),
}

_KEYFRAME, _DROPPABLE = 1, 2  # packet_flags


def golden_path(name: str) -> Path:
    return GOLDEN / f"plan_{name}.txt"


def command(name: str) -> str:
    return f"python tests/plan_goldens.py {name}"


def golden_text(name: str, path: str) -> str:
    """All plans of the clip `name`, which is at `path`."""
    with vidload.VideoReader(path) as reader:
        reader._open().read_whole_index()  # which tells what may be left out
        kind = "regular" if reader._index.is_regular else "irregular"
        head = f"{name}: {reader.codec}, {kind}, {reader.num_frames} frames, {reader._index.num_packets} packets\n"
        return head + "".join(_plan_text(reader, frames) for frames in REQUESTS[name])


def _plan_text(reader: vidload.VideoReader, frames: Sequence[int]) -> str:
    index, plan = reader._index, reader.plan(frames)
    frame_of = {int(packet): frame for frame, packet in enumerate(index.frame_packet)}
    lines = [f"\nframes {' '.join(map(str, frames))}"]
    num_sent = num_left_out = num_bytes = 0
    for start, stop in plan.spans:
        lines.append(f"span [{start}, {stop})")
        for packet in range(start, stop):
            flags, frame = int(index.packet_flags[packet]), frame_of.get(packet)
            kind = "keyframe" if flags & _KEYFRAME else "droppable" if flags & _DROPPABLE else "reference"
            is_wanted = frame in frames and _start(index, frame) == start
            is_left_out = index.is_regular and bool(flags & _DROPPABLE) and not is_wanted
            what = "wanted" if is_wanted else "left out" if is_left_out else "sent"
            lines.append(f"{packet:>4} {kind:<9} {'-' if frame is None else f'frame {frame}':<8} {what}")
            num_left_out += is_left_out
            if not is_left_out:
                num_sent += 1
                num_bytes += int(index.packet_sizes[packet])
    # The lines above are worked out here; they must add up to what the plan itself says.
    assert (num_sent, num_left_out) == (plan.num_packets_decoded, plan.num_packets_dropped), lines
    assert num_bytes == plan.bytes_read, lines
    lines.append(f"{num_sent} sent, {num_left_out} left out, {plan.num_packets_skipped} in no span")
    return "\n".join(lines) + "\n"


def _start(index: vidload._core.PacketIndex, frame: int) -> int:
    """Where decoding starts for a frame: its last keyframe in decode order that is not shown after it."""
    packet = int(index.frame_packet[frame])
    at_or_before = np.flatnonzero((index.packet_flags & _KEYFRAME) != 0)
    shown = {int(packet): pts for packet, pts in zip(index.frame_packet, index.frame_pts, strict=True)}
    fitting = [k for k in at_or_before.tolist() if k <= packet and shown.get(k, -np.inf) <= index.frame_pts[frame]]
    return max(fitting, default=0)


def main(names: Sequence[str]) -> None:
    GOLDEN.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        for name in names or REQUESTS:
            golden_path(name).write_text(golden_text(name, str(videos.make_video(name, folder))))
            print(f"wrote {golden_path(name).relative_to(GOLDEN.parent.parent)}")


if __name__ == "__main__":
    main(sys.argv[1:])
