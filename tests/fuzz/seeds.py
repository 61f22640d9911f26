"""Writes seeds for the fuzz targets, made from the tests' clips: python tests/fuzz/seeds.py FOLDER CLIP..."""

from __future__ import annotations

import struct
import sys
from pathlib import Path

from vidload import VideoError, _core

CODECS = ["h264", "hevc", "vp8", "vp9", "av1", "mpeg4", "mpeg1video", "mpeg2video", "mjpeg"]  # as in packet_headers.cpp
ANNEX_B = ["h264", "hevc", "vp9", "av1"]  # as in annex_b.cpp
HEADER_BYTES = 16  # of an entry: magic, version, checksum


def main(folder: Path, clips: list[str]) -> None:
    for clip in clips:
        try:
            index = _core.index_file(clip)
        except VideoError:
            continue
        name, data = Path(clip).stem, Path(clip).read_bytes()
        write(folder / "index_entry" / name, index.to_bytes()[HEADER_BYTES:])
        if not index.is_byte_addressable:
            continue
        # The first bytes of some packets: mutations soon cut off what the container put before them.
        start = max(data.find(b"mdat"), 0) + 4
        packets = [data[start + at : start + at + 60] for at in (0, 500, 2000, 5000)]
        sized = b"".join(struct.pack("<H", len(packet)) + packet for packet in packets)
        if index.codec in CODECS:
            write(folder / "packet_headers" / name, bytes([CODECS.index(index.codec), 0]) + sized)
            heads = [data[at : at + 60] for at in index.packet_offsets[:8].tolist()]
            sized = b"".join(struct.pack("<H", len(head)) + head for head in heads)
            extradata = configuration(data)
            head = bytes([CODECS.index(index.codec) | 0x80, len(extradata)])
            write(folder / "packet_headers" / f"{name}_heads", head + extradata + sized)
        if index.codec in ANNEX_B:
            flagged = b"".join(b"\1" + struct.pack("<H", len(packet)) + packet for packet in packets)
            write(folder / "annex_b" / name, bytes([ANNEX_B.index(index.codec), 0]) + flagged)
    write(folder / "plan" / "two_gops", bytes([20, 3, 0]) + b"\1\0\2\6\0\2\2\4\0\6" * 4 + b"\3\7\12")
    write(folder / "frame_name" / "usual", struct.pack("<q", 7) + b"img_%05d.jpg")


def configuration(data: bytes) -> bytes:
    """What an mp4 says of H.264 or HEVC in its avcC or hvcC; at most 255 bytes, and none of another file."""
    at = max(data.find(b"avcC"), data.find(b"hvcC"))
    end = at - 4 + int.from_bytes(data[max(at - 4, 0) : max(at, 0)], "big")
    return data[at + 4 : min(end, at + 4 + 255)] if at > 0 else b""


def write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
