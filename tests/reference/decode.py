"""Slow and obvious: every frame of a file, decoded from the first packet to the last by PyAV (an FFmpeg of its own, one thread)."""

from __future__ import annotations

from functools import lru_cache

import av
import numpy as np


@lru_cache(maxsize=4)
def all_planes(path: str) -> list[tuple[np.ndarray, ...]]:
    """The decoder's planes of each frame in output order: uint8, or uint16 above 8 bits, [rows, samples]."""
    frames = []
    with av.open(path) as container:
        stream = container.streams.video[0]
        stream.thread_type = "NONE"
        for packet in container.demux(stream):
            try:
                frames += [planes(frame) for frame in packet.decode()]
            except av.error.FFmpegError:
                continue
    return frames


def all_rgb(path: str) -> list[np.ndarray]:
    """Each frame as libswscale converts it: uint8 RGB [rows, columns, 3]."""
    with av.open(path) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def planes(frame: av.VideoFrame) -> tuple[np.ndarray, ...]:
    if len(frame.planes) == 1 and len(frame.format.components) >= 3 and not frame.format.has_palette:  # packed
        return (frame.to_ndarray().reshape(frame.height, -1),)
    bytes_per_sample = 2 if frame.format.components[0].bits > 8 else 1
    result = []
    for plane in frame.planes:
        rows = np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)
        rows = np.ascontiguousarray(rows[:, : plane.width * bytes_per_sample])
        result.append(rows.view(np.uint16) if bytes_per_sample == 2 else rows)
    return tuple(result)
