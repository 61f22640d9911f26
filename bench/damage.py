"""How much damage is detected: one packet of a clip is damaged, every frame is read, and each is compared with the intact clip's.

A frame may be correct bit for bit, raise, or be wrong without an error. For each codec, prints how many damaged packets changed a frame, how
many of these were detected at the first frame they changed, and how many frames were silently wrong.

    python bench/damage.py [--packets 40] [--json damage.json]
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

import numpy as np

import vidload

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
import videos

CLIPS = {
    "H.264, CABAC": "h264",
    "H.264, CAVLC": "h264_chain_16",
    "H.264, open GOP": "h264_open_gop",
    "HEVC": "hevc",
    "HEVC, open GOP": "hevc_open_gop",
    "HEVC with hashes": "hevc_md5",
    "VP8": "vp8",
    "VP9": "vp9",
    "VP9 in mkv with checksums": "vp9_mkv",
    "AV1": "av1_webm",
    "MPEG-4": "mpeg4",
    "MPEG-2": "mpeg2_ts",
    "Motion JPEG": "mjpeg_avi",
    "FLV1": "flv1",
    "Theora": "theora",
    "ProRes": "prores",
    "DNxHD": "dnxhd",
    "FFV1": "ffv1_checksums",
}
DAMAGES = ("16 bytes", "middle third zeroed", "tail zeroed")


def damaged(data: bytes, start: int, size: int, kind: str, rng: np.random.Generator) -> bytes:
    """`data` with the packet at `start` damaged after its first 16 bytes, which identify it."""
    out = bytearray(data)
    if kind == "16 bytes":
        at = start + int(rng.integers(16, max(17, size - 16)))
        out[at : at + 16] = rng.integers(0, 256, 16, np.uint8).tobytes()
    elif kind == "middle third zeroed":
        out[start + size // 3 : start + 2 * size // 3] = bytes(2 * size // 3 - size // 3)
    else:
        out[start + size // 2 : start + size] = bytes(size - size // 2)
    return bytes(out[: len(data)])


def frames_of(data: bytes) -> list[list[np.ndarray] | None]:
    """The planes of each frame; None where reading raises."""
    try:
        reader = vidload.VideoReader(data)
    except vidload.VideoError:
        return []
    frames: list[list[np.ndarray] | None] = []
    try:
        return [list(planes) for planes in reader.get_planes_at(range(reader.num_frames))]
    except vidload.VideoError:
        pass
    for index in range(reader.num_frames):
        try:
            frames.append(list(reader.get_planes_at([index])[0]))
        except vidload.VideoError:
            frames.append(None)
    return frames


def is_same(ours: list[np.ndarray], intact: list[np.ndarray]) -> bool:
    return all(np.array_equal(one, other) for one, other in zip(ours, intact, strict=True))


def measure(path: Path, num_packets: int) -> dict[str, int]:
    data = path.read_bytes()
    intact = [list(planes) for planes in vidload.VideoReader(data).get_planes_at(range(len(vidload.VideoReader(data))))]
    index = vidload.VideoReader(data)._index
    offsets, sizes = index.packet_offsets, index.packet_sizes
    rng = np.random.default_rng(0)
    counts = {"changed": 0, "noticed": 0, "silent_frames": 0, "raised_frames": 0}
    for packet in rng.permutation(len(offsets))[:num_packets]:
        if sizes[packet] < 48:
            continue
        for kind in DAMAGES:
            frames = frames_of(damaged(data, int(offsets[packet]), int(sizes[packet]), kind, rng))
            if len(frames) != len(intact):  # fewer frames are listed: detected, nothing to compare
                counts["changed"] += 1
                counts["noticed"] += 1
                continue
            wrong = [i for i, frame in enumerate(frames) if frame is not None and not is_same(frame, intact[i])]
            raised = [i for i, frame in enumerate(frames) if frame is None]
            if wrong or raised:
                counts["changed"] += 1
                counts["noticed"] += not wrong
                counts["silent_frames"] += len(wrong)
                counts["raised_frames"] += len(raised)
    return dict(counts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--packets", type=int, default=16, help="packets damaged per clip, each in three ways (default: %(default)s)"
    )
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    arguments = parser.parse_args()
    rows = {}
    print("| codec | damaged packets that change a frame | detected | silently wrong frames | frames that raise |")
    print("| --- | ---: | ---: | ---: | ---: |")
    with tempfile.TemporaryDirectory() as folder:
        for title, name in CLIPS.items():
            try:
                path = videos.make_video(name, folder)
            except videos.MissingEncoder:
                continue
            row = rows[title] = measure(path, arguments.packets)
            share = f"{row['noticed']} ({100 * row['noticed'] / max(1, row['changed']):.0f} %)"
            print(
                f"| {title} | {row['changed']} | {share} | {row['silent_frames']} | {row['raised_frames']} |",
                flush=True,
            )
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
