"""Writes interlaced H.264 whose pictures are coded as fields or as frames (PAFF), which x264 cannot.

In: pictures. Out: a video whose fields hold macroblocks of raw samples (I_PCM) and copies of
earlier fields (P_Skip), with pictures that are shown before ones decoded earlier, and pictures that nothing depends on. References are to
ITU-T H.264.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

FRAME, TOP, BOTTOM = "frame", "top", "bottom"
GOP = 8
# (number in display order, is it a reference, are its two fields coded apart) of each picture of a GOP, in decode order.
PICTURES = (
    (0, True, True),
    (2, True, True),
    (1, False, True),
    (4, True, False),
    (3, False, False),
    (6, True, True),
    (5, False, True),
    (7, True, True),
)


class Bits:
    """A bit string, written from the most significant bit on."""

    def __init__(self) -> None:
        self.text: list[str] = []
        self.count = 0

    def u(self, value: int, count: int) -> None:
        self.text.append(f"{value:0{count}b}")
        self.count += count

    def ue(self, value: int) -> None:
        bits = f"{value + 1:b}"
        self.u(0, len(bits) - 1) if len(bits) > 1 else None
        self.u(value + 1, len(bits))

    def align(self) -> None:
        if self.count % 8:
            self.u(0, 8 - self.count % 8)

    def samples(self, values: np.ndarray) -> None:
        self.text.append("".join(f"{value:08b}" for value in values.tobytes()))
        self.count += 8 * values.size

    def nal(self, ref_idc: int, kind: int) -> bytes:
        """Start code and NAL unit, with the stop bit and the bytes that keep start codes out (7.4.1)."""
        self.u(1, 1)
        self.align()
        text = "".join(self.text)
        payload = int(text, 2).to_bytes(len(text) // 8, "big")
        for second in (b"\0", b"\1", b"\2", b"\3"):
            assert b"\0\0" + second not in payload  # raw samples are never zero, headers are short
        return bytes((0, 0, 0, 1, ref_idc << 5 | kind)) + payload


def _sequence(width: int, height: int, num_reorder: int, num_references: int) -> bytes:
    bits = Bits()
    for value, count in ((77, 8), (0, 8), (30, 8)):  # Main, level 3
        bits.u(value, count)
    for value in (0, 0, 0, 4):  # number; frame_num of 4 bits; order counts of type 0, 8 bits
        bits.ue(value)
    bits.ue(num_references)
    bits.u(0, 1)
    bits.ue(width // 16 - 1)
    bits.ue(height // 32 - 1)
    bits.u(0b0010, 4)  # frame_mbs_only no, MBAFF no, direct_8x8_inference, cropping no
    bits.u(1, 1)  # VUI: of all that, bitstream_restriction
    bits.u(0b00000000, 8)
    bits.u(1, 1)
    bits.u(1, 1)
    for value in (
        0,
        0,
        10,
        10,
        num_reorder,
        max(num_reorder, num_references),
    ):  # ..., max_num_reorder_frames, max_dec_frame_buffering
        bits.ue(value)
    return bits.nal(3, 7)


def _parameters() -> bytes:
    bits = Bits()
    bits.ue(0)
    bits.ue(0)
    bits.u(0b00, 2)  # CAVLC; no order count of the bottom field
    for value in (0, 0, 0):  # one slice group; one reference
        bits.ue(value)
    bits.u(0b000, 3)
    for _ in range(3):
        bits.ue(0)
    bits.u(0b100, 3)  # deblocking_filter_control_present
    return bits.nal(3, 8)


def _slice(planes: Sequence[np.ndarray], structure: str, column: int | None, frame_num: int, order: int, is_reference: bool) -> bytes:  # fmt: skip
    """A coded picture. `column`: of the macroblocks that hold samples, the others repeat the reference; None: an IDR's first, all do."""
    is_idr = column is None
    bits = Bits()
    bits.ue(0)
    bits.ue(7 if is_idr else 5)
    bits.ue(0)
    bits.u(frame_num % 16, 4)
    bits.u(structure != FRAME, 1)
    if structure != FRAME:
        bits.u(structure == BOTTOM, 1)
    if is_idr:
        bits.ue(order // (2 * GOP) % 2)  # idr_pic_id
    bits.u(order % (2 * GOP), 8)
    if not is_idr:
        bits.u(0b00, 2)  # the references as they are
    if is_reference:
        bits.u(0, 2 if is_idr else 1)
    bits.ue(0)
    bits.ue(1)  # no deblocking
    if structure != FRAME:
        planes = [plane[int(structure == BOTTOM) :: 2] for plane in planes]
    skipped = 0
    for y in range(0, planes[0].shape[0], 16):
        for x in range(0, planes[0].shape[1], 16):
            if not is_idr and x // 16 != column:
                skipped += 1
                continue
            if not is_idr:
                bits.ue(skipped)
                skipped = 0
            bits.ue(25 if is_idr else 30)  # I_PCM
            bits.align()
            bits.samples(planes[0][y : y + 16, x : x + 16])
            for plane in planes[1:]:
                bits.samples(plane[y // 2 : y // 2 + 8, x // 2 : x // 2 + 8])
    if skipped:
        bits.ue(skipped)
    return bits.nal(is_reference, 5 if is_idr else 1)


def write_field_pairs(
    path: Path,
    container: str,
    pictures: Sequence[np.ndarray],
    fps: Fraction,
    num_reorder: int = 1,
    num_references: int = 2,
) -> None:
    """Writes `pictures`, uint8 RGB [height, width, 3] each, whose sides are multiples of 16 and 32, as a video in FFmpeg's `container`.

    Both fields of a picture are one packet of it; FFmpeg's mpegts reader splits them. `num_reorder` of at least 1, `num_references` of at
    least 2: what the headers claim, at most 16; a decoder holds as many pictures back.
    """
    height, width = pictures[0].shape[:2]
    headers = _sequence(width, height, num_reorder, num_references) + _parameters()
    packets: list[tuple[int, bytes]] = []
    for start in range(0, len(pictures) - GOP + 1, GOP):
        frame_num = 0
        for place, is_reference, is_pair in PICTURES:
            frame = av.VideoFrame.from_ndarray(pictures[start + place], format="rgb24").reformat(format="yuv420p")
            flat = np.maximum(frame.to_ndarray(), 1)
            planes = [
                flat[:height],
                *(part.reshape(height // 2, width // 2) for part in np.split(flat[height:].reshape(-1), 2)),
            ]
            data = b""
            for structure in (TOP, BOTTOM) if is_pair else (FRAME,):
                is_idr = place == 0 and structure == TOP
                column = None if is_idr else place
                order = 2 * (start + place) + (structure == BOTTOM)
                data += _slice(planes, structure, column, frame_num, order, is_reference)
            frame_num += is_reference
            packets.append((start + place, headers + data if place == 0 else data))
    raw = path.with_name(path.name + ".h264")
    raw.write_bytes(b"".join(data for _, data in packets))
    with av.open(os.fspath(raw)) as source, av.open(os.fspath(path), "w", format=container, options={"fflags": "+bitexact"}) as output:  # fmt: skip
        stream = output.add_stream_from_template(source.streams.video[0])
        for number, (place, data) in enumerate(packets):
            packet = av.Packet(data if container != "mp4" or number % GOP else data.removeprefix(headers))
            packet.stream, packet.time_base = stream, 1 / fps
            packet.dts, packet.pts, packet.duration = number, place + 1, 1
            packet.is_keyframe = number % GOP == 0
            output.mux(packet)
    raw.unlink()
