"""Files as cutting, joining and careless muxers leave them: headers that come in packets and change, flags that lie, pictures shown twice.

Every frame is compared with a sequential decode by the same FFmpeg (tests/corpus_check.py).
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import av
import corpus_check
import numpy as np
import pytest
import torch

import vidload
from vidload.transforms import center_crop

pytestmark = pytest.mark.skipif(
    shutil.which("ffmpeg") is None or shutil.which("cc") is None, reason="needs the ffmpeg command and a C compiler"
)

Edit = Callable[[int, bytes], bytes]  # (number of the packet, its payload) -> the payload that is written


def ffmpeg(*arguments: str | Path) -> None:
    subprocess.run(["ffmpeg", "-loglevel", "error", "-y", *map(str, arguments)], check=True)


def encoded(path: Path, *options: str, scene: str = "testsrc2", size: str = "96x64") -> Path:
    source = f"{scene}=size={size}:rate=25:duration=1"
    ffmpeg("-f", "lavfi", "-i", source, "-threads", "1", "-pix_fmt", "yuv420p", *options, path)
    return path


def joined(path: Path, *parts: Path) -> Path:
    """One after the other, as `ffmpeg -f concat -c copy` does."""
    listing = path.with_suffix(".txt")
    listing.write_text("".join(f"file {part}\n" for part in parts))
    ffmpeg("-f", "concat", "-safe", "0", "-i", listing, "-c", "copy", path)
    return path


def edited(path: Path, source: Path, edit: Edit) -> Path:
    with av.open(str(source)) as old, av.open(str(path), "w") as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        for number, packet in enumerate(packet for packet in old.demux(video=0) if packet.size):
            copy = av.Packet(edit(number, bytes(packet)))
            copy.pts, copy.dts, copy.time_base, copy.stream = packet.pts, packet.dts, packet.time_base, stream
            copy.is_keyframe = packet.is_keyframe
            new.mux(copy)
    return path


def nals(data: bytes) -> list[bytes]:
    """Of Annex B."""
    return [nal.rstrip(b"\0") for nal in data.split(b"\0\0\1")[1:]]


def of_nals(parts: list[bytes]) -> bytes:
    return b"".join(b"\0\0\0\1" + nal for nal in parts)


H264 = ("-c:v", "libx264", "-g", "8", "-bf", "0", "-coder", "0")
HEVC = (
    "-c:v",
    "libx265",
    "-x265-params",
    "log-level=none:pools=none:frame-threads=1:keyint=8:bframes=0:repeat-headers=1",
)
MPEG2 = ("-c:v", "mpeg2video", "-bf", "2", "-g", "9", "-q:v", "4")
MPEG4 = ("-c:v", "mpeg4", "-g", "9", "-q:v", "4")


def headers_at_the_splice_alone(
    folder: Path, options: tuple[str, ...], quality: str, is_set: Callable[[bytes], bool]
) -> Path:
    """Two parts of different parameter sets; those of the second come once, with its first picture."""
    parts = [
        encoded(folder / f"{q}.ts", *options, quality, q, scene=scene)
        for q, scene in (("24", "testsrc2"), ("32", "testsrc"))
    ]
    whole = joined(folder / "whole.ts", *parts)

    def edit(number: int, data: bytes) -> bytes:
        keep = nals(data) if number in (0, 25) else [nal for nal in nals(data) if not is_set(nal)]
        return of_nals(keep)

    return edited(folder / "once.ts", whole, edit)


def h264_headers_at_the_splice_alone(folder: Path) -> Path:
    return headers_at_the_splice_alone(folder, H264, "-qp", lambda nal: nal[0] & 31 in (7, 8))


def hevc_headers_at_the_splice_alone(folder: Path) -> Path:
    return headers_at_the_splice_alone(folder, HEVC, "-crf", lambda nal: nal[0] >> 1 & 63 in (32, 33, 34))


def hevc_pictures_dropped_at_an_idr(folder: Path) -> Path:
    parameters = (
        "log-level=none:pools=none:frame-threads=1:keyint=8:min-keyint=8:scenecut=0:bframes=4:open-gop=0:b-adapt=0"
    )
    source = encoded(folder / "plain.ts", "-c:v", "libx265", "-x265-params", parameters)

    def edit(number: int, data: bytes) -> bytes:
        def with_flag(nal: bytes) -> bytes:  # no_output_of_prior_pics_flag
            return nal[:2] + bytes([nal[2] | 0x40]) + nal[3:] if number > 0 and 16 <= nal[0] >> 1 & 63 <= 20 else nal

        return of_nals([with_flag(nal) for nal in nals(data)])

    return edited(folder / "dropped.mkv", source, edit)


def h264_recovery_points_on_p_pictures(folder: Path) -> Path:
    source = encoded(folder / "plain.ts", "-c:v", "libx264", "-g", "50", "-bf", "0")
    message = b"\x06\x06\x01\xc4\x80"  # recovery_frame_cnt 0
    return edited(folder / "points.mkv", source, lambda number, data: of_nals([message] * (number > 0) + nals(data)))


def mpeg2_aspect_ratio_changes(folder: Path) -> Path:
    parts = [
        encoded(folder / f"{name}.ts", *MPEG2, "-aspect", aspect) for name, aspect in (("a", "4:3"), ("b", "16:9"))
    ]
    return joined(folder / "aspect.ts", *parts)


def mpeg4_size_changes(folder: Path) -> Path:
    parts = [encoded(folder / f"{size}.ts", *MPEG4, "-bf", "2", size=size) for size in ("96x64", "112x80")]
    return joined(folder / "sizes.ts", *parts)


def mpeg4_b_pictures_begin_later(folder: Path) -> Path:
    parts = [encoded(folder / f"{bf}.ts", *MPEG4, "-bf", bf) for bf in ("0", "2")]
    return joined(folder / "later.mkv", *parts)


def mpeg2_low_delay_with_b_pictures(folder: Path) -> Path:
    def edit(_: int, data: bytes) -> bytes:
        out = bytearray(data)
        at = out.find(b"\0\0\1\xb5")
        if at >= 0 and out[at + 4] >> 4 == 1:
            out[at + 9] |= 0x80
        return bytes(out)

    return edited(folder / "low.mkv", encoded(folder / "plain.ts", *MPEG2), edit)


def av1_hidden_pictures_in_packets_of_their_own(folder: Path) -> Path:
    source = encoded(folder / "plain.mkv", "-c:v", "libsvtav1", "-preset", "12", "-svtav1-params", "keyint=16:lp=1")
    split = folder / "split.mkv"
    ffmpeg("-i", source, "-c", "copy", "-bsf:v", "av1_frame_split,setts=pts=N*40:dts=N*40", split)
    return split


def two_streams_of_which_the_first_is_a_thumbnail(folder: Path) -> Path:
    parts = [encoded(folder / "one.mkv", "-c:v", "mjpeg", "-frames:v", "1"), encoded(folder / "many.mkv", *H264)]
    path = folder / "both.mkv"
    ffmpeg("-i", parts[0], "-i", parts[1], "-map", "0", "-map", "1", "-c", "copy", "-disposition:v", "0", path)
    return path


def lossless_jpeg(folder: Path) -> Path:
    return encoded(folder / "lossless.avi", "-c:v", "ljpeg", "-strict", "-2")


@pytest.mark.parametrize("make", [
    h264_headers_at_the_splice_alone,
    hevc_headers_at_the_splice_alone,
    hevc_pictures_dropped_at_an_idr,
    h264_recovery_points_on_p_pictures,
    mpeg2_aspect_ratio_changes,
    mpeg4_size_changes,
    mpeg4_b_pictures_begin_later,
    mpeg2_low_delay_with_b_pictures,
    av1_hidden_pictures_in_packets_of_their_own,
    two_streams_of_which_the_first_is_a_thumbnail,
    lossless_jpeg,
])  # fmt: skip
def test_frames_are_those_of_a_sequential_decode(make: Callable[[Path], Path], tmp_path: Path) -> None:
    path = make(tmp_path)
    reference = corpus_check.build_reference(tmp_path)
    if reference is None:
        pytest.skip("needs a C compiler, pkg-config and the headers of vidload's FFmpeg")
    report = corpus_check.check(reference, path)
    assert report["verdict"] == "right", report
    assert report["raised"] == 0
    sums = corpus_check.sequential_sums(reference, path)
    assert sums
    for frame in range(0, len(sums), 7):  # each by a reader of its own, which has seen nothing else
        planes = vidload.VideoReader(path).get_planes_at([frame])[0]
        assert corpus_check.sum_of(planes) == sums[frame]


def test_two_different_pictures_out_of_one_packet_are_refused(video, tmp_path: Path) -> None:
    payloads = []
    with av.open(video("vp9")) as container:
        payloads = [bytes(packet) for packet in container.demux(video=0) if packet.size]

    def superframe(number: int, data: bytes) -> bytes:
        both = [data, payloads[number + 1]]
        marker = bytes([0xC0 | 3 << 3 | 1])
        return b"".join(both) + marker + b"".join(len(part).to_bytes(4, "little") for part in both) + marker

    path = edited(tmp_path / "both.webm", Path(video("vp9")), lambda i, data: superframe(i, data) if i == 2 else data)
    with pytest.raises(vidload.UnsupportedVideoError, match="more than one frame comes out of packet 2"):
        vidload.VideoReader(path)


@pytest.mark.parametrize(
    "options, suffix", [(H264, "mp4"), ((*MPEG4, "-bf", "0"), "mp4"), (HEVC, "mkv")], ids=["h264", "mpeg4", "hevc"]
)
@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_file_is_decoded_as_if_none_had_been_before_it(
    options: tuple[str, ...], suffix: str, num_workers: int, tmp_path: Path
) -> None:
    """The second half of a joined file has other headers than the extradata, which another file has too."""
    quality = {"libx264": ("-qp", "24", "-qp", "32"), "libx265": ("-crf", "20", "-crf", "34")}.get(
        options[1], ("-q:v", "3", "-q:v", "9")
    )
    first = encoded(tmp_path / f"first.{suffix}", *options, *quality[:2])
    second = encoded(tmp_path / f"second.{suffix}", *options, *quality[2:], scene="testsrc")
    both = joined(tmp_path / f"both.{suffix}", first, second)
    expected = vidload.VideoReader(first)[12]
    dataset = vidload.VideoDataset(
        [(str(both), 0), (str(first), 1)] * 2,
        clip="1x1x1",
        transform=center_crop((64, 96), 64, mean=None, std=None),
        sampling=lambda num_frames, *_: np.array([[48 if num_frames == 50 else 12]]),
        layout="NTHWC",
        dtype=torch.uint8,
        training=False,
    )
    for clips, labels in vidload.VideoLoader(dataset, 1, num_workers=num_workers):
        if labels.item() == 1:
            assert (clips[0, 0].numpy() == expected).all()
