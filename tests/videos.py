"""Generated clips: a table of small videos, each showing one trait that has broken some decoder.

In: a name of ``VIDEOS`` and a cache folder. Out: the path of the encoded file, made on first use (well under
a second) and kept for the next. The picture is a sliding texture with a moving square and the frame number
written in bars, so any two frames differ plainly. Encoders run on one thread with bit-exact muxers, so the
files are the same on every run. Most need PyAV alone; where an encoder is missing ``make_video`` raises
``MissingEncoder``, which pytest reports as a skip.
"""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from field_pairs import write_field_pairs

os.environ.setdefault("SVT_LOG", "1")  # SVT-AV1 prints its settings otherwise


FORMATS = {"mkv": "matroska", "ts": "mpegts", "mpg": "mpeg"}  # file name ending -> FFmpeg's name, where they differ


class MissingEncoder(pytest.skip.Exception):
    """This machine cannot encode the clip; scripts may catch it, pytest skips the test."""


@dataclass(frozen=True)
class Video:
    """How to encode one clip. ``finish`` edits the written file in place."""

    container: str = "mp4"
    codec: str = "libx264"
    options: dict[str, str] = field(default_factory=dict)
    pixel_format: str = "yuv420p"
    width: int = 128
    height: int = 96
    num_frames: int = 48
    fps: Fraction = Fraction(25)
    muxer: dict[str, str] = field(default_factory=dict)
    frame_times: Callable[[int], int] | None = None  # frame_index -> pts in ms; None: constant fps
    first_pts: int = 0  # ticks of 1 / fps added to every timestamp of the encoded packets
    retime: Callable[[int, int], tuple[int, int]] | None = None  # (pts, dts) of a packet -> those that are written
    drop_packets: tuple[int, ...] = ()  # decode-order packets left out of the file
    audio_first: bool = False
    color: dict[str, int] = field(default_factory=dict)  # colorspace, color_range, color_primaries, color_trc
    second_size: tuple[int, int] | None = None  # (width, height) of the second half
    finish: Callable[[Path], None] | None = None
    content: str = "scene"  # what the pictures show, see make_video
    ffmpeg: tuple[str, ...] = ()  # encode with the ffmpeg command instead of PyAV
    num_passes: int = 1  # of the ffmpeg command
    field_pairs: dict[str, int] | None = None  # written by field_pairs.py, with these options


def x264(params: str, **kwargs) -> Video:
    """`params` in x264's own words, on top of a fast preset that keeps B frames, CABAC and the loop filter."""
    params = f"scenecut=0:{params}"
    kwargs["options"] = {"preset": "veryfast", "crf": "26", "x264-params": params} | kwargs.get("options", {})
    return Video(**kwargs)


def x265(params: str, **kwargs) -> Video:
    quiet = "log-level=none:pools=none:frame-threads=1:wpp=0:rc-lookahead=24:scenecut=0"
    return Video(
        codec="libx265",
        options={"preset": "ultrafast", "crf": "28", "x265-params": f"{quiet}:{params}"},
        **kwargs,
    )


def two_pass(codec: str, options: str) -> Video:
    """What libvpx hides pictures in (alternate references), which it does in two passes only."""
    chosen = tuple(word for name, value in pairs(options).items() for word in (f"-{name}", value))
    return Video(container="webm", ffmpeg=("-c:v", codec, "-b:v", "200k", "-g", "24", *chosen), num_passes=2)


def vp9(options: str, layers: dict[str, str] | None = None, container: str = "webm", **kwargs) -> Video:
    fast = {"deadline": "realtime", "cpu-used": "8", "b": "200k"}
    return Video(codec="libvpx-vp9", container=container, options=fast | pairs(options) | (layers or {}), **kwargs)


TWO_LAYERS = {
    "ts-parameters": "ts_number_layers=2:ts_target_bitrate=120,200:ts_rate_decimator=2,1:"
    "ts_periodicity=2:ts_layer_id=0,1:ts_layering_mode=2"
}


def av1(params: str, **kwargs) -> Video:
    options = {"preset": "12", "crf": "40", "svtav1-params": f"lp=1:{params}"}
    return Video(codec="libsvtav1", options=options, **kwargs)


def pairs(text: str) -> dict[str, str]:
    """Turn "g=12:bf=2" into a dict."""
    return dict(item.split("=", 1) for item in text.split(":") if item)


def truncate_tail(path: Path) -> None:
    """Cut the file at 70 % of its bytes."""
    os.truncate(path, path.stat().st_size * 7 // 10)


def set_display_matrix(a: int, b: int, c: int, d: int) -> Callable[[Path], None]:
    """Write the upper-left 2x2 of the first track's display matrix (ISO 14496-12, tkhd) over the identity."""

    def finish(path: Path) -> None:
        data = bytearray(path.read_bytes())
        identity = struct.pack(">9i", 1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
        matrix = struct.pack(">9i", a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30)
        position = data.index(identity, data.index(b"tkhd"))
        data[position : position + len(matrix)] = matrix
        path.write_bytes(data)

    return finish


def damage_middle(path: Path) -> None:
    """Overwrite 64 bytes in the middle of the file."""
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 64] = bytes(range(255, 191, -1))
    path.write_bytes(data)


def repeat(path: Path) -> None:
    """The file twice, end to end: a recording that was spliced, so that time goes back in the middle."""
    path.write_bytes(path.read_bytes() * 2)


def without_sync_samples(path: Path) -> None:
    """Turn the mp4 box that lists keyframes (stss) into padding: every packet then counts as one."""
    data = path.read_bytes()
    assert data.count(b"stss") == 1
    path.write_bytes(data.replace(b"stss", b"free"))


def flag_all_packets(path: Path) -> None:
    """Set the keyframe flag of every entry of an AVI's index (idx1: fourcc, flags, offset, size)."""
    data = bytearray(path.read_bytes())
    start = data.index(b"idx1") + 8
    for entry in range(start, start + struct.unpack_from("<I", data, start - 4)[0], 16):
        data[entry + 4] |= 0x10
    path.write_bytes(data)


def in_decode_order(pts: int, dts: int) -> tuple[int, int]:
    """What a muxer writes that knows no reordering: times rise along the packets."""
    return dts, dts


def without_vui(path: Path) -> None:
    """Cut each H.264 SPS off where its VUI begins, so that nothing says how far pictures are reordered."""
    data = bytearray(path.read_bytes())
    at = data.find(b"\0\0\1\x67")
    assert at >= 0
    while at >= 0:
        end = data.find(b"\0\0\1", at + 3)
        nal = bytes(data[at + 4 : end]).rstrip(b"\0").replace(b"\0\0\3", b"\0\0")
        bits = "".join(f"{byte:08b}" for byte in nal)
        cut = bits[: _vui_flag_position(bits)] + "0" + "1"
        cut += "0" * (-len(cut) % 8)
        short = bytes(int(cut[i : i + 8], 2) for i in range(0, len(cut), 8))
        assert b"\0\0" not in short  # needs no emulation prevention
        data[at + 4 : end] = short.ljust(end - at - 4, b"\0")  # zeros may follow a NAL unit
        at = data.find(b"\0\0\1\x67", at + 4)
    path.write_bytes(data)


def _vui_flag_position(bits: str) -> int:
    """Where vui_parameters_present_flag is in an SPS of x264's (H.264 7.3.2.1.1)."""
    position = 24

    def ue() -> int:
        nonlocal position
        zeros = bits.index("1", position) - position
        value = int(bits[position + zeros : position + 2 * zeros + 1], 2) - 1
        position += 2 * zeros + 1
        return value

    ue()  # seq_parameter_set_id
    if int(bits[:8], 2) >= 100:  # High and above
        assert ue() == 1  # chroma_format_idc: 4:2:0
        ue(), ue()  # bit depths
        position += 2  # transform bypass, no scaling matrix
    ue()  # log2_max_frame_num_minus4
    if ue() == 0:  # pic_order_cnt_type
        ue()
    ue()  # max_num_ref_frames
    position += 1
    ue(), ue()  # width and height in macroblocks
    position += 1 if bits[position] == "1" else 2  # frame_mbs_only_flag, mb_adaptive_frame_field_flag
    position += 1  # direct_8x8_inference_flag
    if bits[position] == "1":  # frame_cropping_flag
        position += 1
        ue(), ue(), ue(), ue()
    else:
        position += 1
    return position


def old(codec: str, container: str, options: str = "g=8:qscale=4", **kwargs) -> Video:
    """A codec without a header reader of ours; short, for its index is made by decoding."""
    return Video(codec=codec, container=container, options=pairs(options), num_frames=25, **kwargs)


# The line above each entry says what the clip shows. Defaults: 128x96, 48 frames, 25 fps, x264 in mp4.
VIDEOS: dict[str, Video] = {
    # --- H.264, frame structure
    # x264 defaults: B pyramid, weighted prediction, an edit list for the B delay
    "h264": x264("keyint=250"),
    # decode order is presentation order
    "h264_no_b_frames": x264("keyint=24:bframes=0"),
    # every second picture is droppable
    "h264_one_b_frame": x264("keyint=24:bframes=1:b-adapt=0"),
    # the longest run of B
    "h264_16_b_frames": x264("keyint=250:bframes=16:b-adapt=0:b-pyramid=none", num_frames=60),
    # B pictures as references
    "h264_b_pyramid_normal": x264("keyint=48:bframes=7:b-adapt=0:b-pyramid=normal:ref=4"),
    # the same, Blu-ray rules
    "h264_b_pyramid_strict": x264("keyint=48:bframes=7:b-adapt=0:b-pyramid=strict:ref=4"),
    # I b...b P
    "h264_star": x264("keyint=16:min-keyint=16:bframes=15:b-adapt=0:b-pyramid=none:ref=1"),
    # CAVLC, no loop filter
    "h264_chain_16": x264("keyint=16:bframes=0", options={"tune": "fastdecode"}),
    # every packet a keyframe
    "h264_all_intra": x264("keyint=1"),
    # I P I P
    "h264_keyint_2": x264("keyint=2:min-keyint=1:bframes=0"),
    # leading frames need the GOP before
    "h264_open_gop": x264("keyint=12:open-gop=1:bframes=3:b-adapt=0"),
    # both at once
    "h264_open_gop_pyramid": x264("keyint=16:open-gop=1:bframes=7:b-adapt=0:b-pyramid=normal"),
    # recovery points that are not keyframes
    "h264_intra_refresh": x264("keyint=16:intra-refresh=1:bframes=0"),
    # pictures far back are still needed
    "h264_5_references": x264("keyint=250:ref=5:bframes=3:mixed-refs=1"),
    # the smallest picture buffer
    "h264_one_reference": x264("keyint=30:ref=1:bframes=2"),
    # irregular keyframes, I pictures that are not IDR
    "h264_scene_cuts": x264("keyint=250:min-keyint=1:scenecut=60:bframes=3"),
    # several slices a picture
    "h264_slices": x264("keyint=24:slices=4:bframes=2"),
    # interlaced macroblocks
    "h264_mbaff": x264("keyint=24:interlaced=1:bframes=2"),
    # pictures coded as two fields, among others coded as frames
    "h264_fields": Video(field_pairs={}),
    # the same, each field a packet of its own
    "h264_fields_ts": Video(field_pairs={}, container="ts"),
    # claims that 16 pictures must be held back
    "h264_held_back": Video(field_pairs={"num_reorder": 16}),
    # no B, no CABAC
    "h264_baseline": x264("keyint=24", options={"profile": "baseline"}),
    # no delay in the decoder
    "h264_zerolatency": x264("keyint=250:bframes=0", options={"tune": "zerolatency"}),
    # weighted prediction duplicates references
    "h264_weighted": x264("keyint=48:weightp=2:bframes=3"),
    # --- H.264, pixels
    # High 10
    "h264_10bit": x264("keyint=24:bframes=3", pixel_format="yuv420p10le"),
    # chroma at full height
    "h264_422": x264("keyint=24:bframes=3", pixel_format="yuv422p"),
    # High 4:2:2
    "h264_422_10bit": x264("keyint=24:bframes=3", pixel_format="yuv422p10le"),
    # chroma at full size
    "h264_444": x264("keyint=24:bframes=3", pixel_format="yuv444p"),
    # monochrome: the stream carries no chroma
    "h264_gray": Video(pixel_format="gray", ffmpeg=("-c:v", "libx264", "-preset", "veryfast", "-g", "24")),
    # transform bypass
    "h264_lossless": x264("keyint=24", options={"qp": "0"}),
    # 0-255 luma
    "h264_full_range": x264("keyint=24", pixel_format="yuvj420p", color={"color_range": 2}),
    # tagged BT.601
    "h264_bt601": x264("keyint=24", color={"colorspace": 6, "color_range": 1, "color_primaries": 6, "color_trc": 6}),
    # tagged BT.709
    "h264_bt709": x264("keyint=24", color={"colorspace": 1, "color_range": 1, "color_primaries": 1, "color_trc": 1}),
    # sizes no block divides
    "h264_odd_444": x264("keyint=24", pixel_format="yuv444p", width=101, height=75),
    # coded 160x128, cropped for display
    "h264_cropped": x264("keyint=24", width=150, height=118),
    # one macroblock
    "h264_tiny": x264("keyint=24", width=16, height=16),
    # higher than wide
    "h264_portrait": x264("keyint=24", width=96, height=176),
    # --- H.264, time
    # 29.97 fps
    "h264_ntsc": x264("keyint=30", fps=Fraction(30000, 1001)),
    # variable frame rate
    "h264_vfr": x264("keyint=24:bframes=3", frame_times=lambda i: 40 * i + 13 * (i * i % 7)),
    # a 5 s hole
    "h264_vfr_gap": x264("keyint=24:bframes=3", container="mkv", frame_times=lambda i: 40 * i + 5000 * (i >= 20)),
    # time starts at 4 s
    "h264_first_pts": x264("keyint=24:bframes=3", container="mkv", first_pts=100),
    # mp4 writes an empty edit for a late start
    "h264_empty_edit": x264("keyint=24:bframes=3", first_pts=50),
    # an edit list hides the first frames, mid-GOP
    "h264_edit_list": x264("keyint=24:bframes=3", first_pts=-17),
    # nothing after the keyframe
    "h264_one_frame": x264("keyint=24", num_frames=1),
    # shorter than the decoder's delay
    "h264_two_frames": x264("keyint=24:bframes=3", num_frames=2),
    # fragmented mp4
    "h264_fragmented": x264("keyint=24:bframes=3", muxer={"movflags": "frag_keyframe+empty_moov"}),
    # moov before mdat
    "h264_faststart": x264("keyint=24:bframes=3", muxer={"movflags": "faststart"}),
    # --- H.264, containers
    # QuickTime
    "h264_mov": x264("keyint=24:bframes=3", container="mov"),
    # pts in ms, no dts stored
    "h264_mkv": x264("keyint=24:bframes=3", container="mkv"),
    # Annex B without pts
    "h264_avi": x264("keyint=24:bframes=3", container="avi"),
    # packets across 188-byte cells, pts from 1.4 s
    "h264_ts": x264("keyint=24:bframes=3", container="ts"),
    # ms ticks with composition offsets
    "h264_flv": x264("keyint=24:bframes=3", container="flv"),
    # an elementary stream, no timestamps at all
    "h264_raw": x264("keyint=24:bframes=3", container="h264"),
    # the video is stream 1
    "h264_audio_first": x264("keyint=24:bframes=3", audio_first=True),
    # interleaved cells
    "h264_audio_first_ts": x264("keyint=24:bframes=3", container="ts", audio_first=True),
    # --- H.264, rotation and damage
    # show turned clockwise
    "h264_rotated_90": x264("keyint=24", finish=set_display_matrix(0, 1, -1, 0)),
    # upside down
    "h264_rotated_180": x264("keyint=24", finish=set_display_matrix(-1, 0, 0, -1)),
    # show turned counter-clockwise
    "h264_rotated_270": x264("keyint=24", finish=set_display_matrix(0, -1, 1, 0)),
    # begins mid-GOP
    "h264_no_keyframe_at_start": x264("keyint=16:bframes=2", container="ts", drop_packets=tuple(range(6))),
    # references are missing
    "h264_lost_packets": x264("keyint=24:bframes=2", container="ts", drop_packets=(9, 10, 30)),
    # the tail is gone
    "h264_truncated_mkv": x264("keyint=16:bframes=2", container="mkv", finish=truncate_tail),
    # ends inside a packet
    "h264_truncated_ts": x264("keyint=16:bframes=2", container="ts", finish=truncate_tail),
    # bits flipped inside one picture
    "h264_damaged": x264("keyint=16:bframes=2", finish=damage_middle),
    # new SPS half-way
    "h264_resolution_change": x264("keyint=24:bframes=2", container="ts", second_size=(176, 144)),
    # --- HEVC
    # x265 defaults: B pyramid, open GOP
    "hevc": x265("keyint=48:bframes=4"),
    # CRA with RASL leading pictures
    "hevc_open_gop": x265("keyint=12:open-gop=1:bframes=3:b-adapt=0"),
    # IDR only
    "hevc_closed_gop": x265("keyint=12:open-gop=0:bframes=3:b-adapt=0"),
    # decodable leading pictures
    "hevc_radl": x265("keyint=16:open-gop=0:radl=2:bframes=4:b-adapt=0"),
    # the *_N types differ by layer
    "hevc_temporal_layers": x265("keyint=32:bframes=7:b-adapt=0:temporal-layers=3"),
    # P only
    "hevc_no_b_frames": x265("keyint=16:bframes=0:ref=3"),
    # a long run of B
    "hevc_16_b_frames": x265("keyint=64:bframes=16:b-adapt=0:b-pyramid=0", num_frames=60),
    # every packet a keyframe
    "hevc_all_intra": x265("keyint=1"),
    # the largest picture sets
    "hevc_5_references": x265("keyint=250:ref=5:bframes=4"),
    # Main 10
    "hevc_10bit": x265("keyint=24:bframes=3", pixel_format="yuv420p10le"),
    # range extensions
    "hevc_422_10bit": x265("keyint=24:bframes=3", pixel_format="yuv422p10le"),
    # range extensions, 8 bit
    "hevc_444": x265("keyint=24:bframes=3", pixel_format="yuv444p"),
    # Matroska
    "hevc_mkv": x265("keyint=24:bframes=3", container="mkv"),
    # parameter sets inside the stream
    "hevc_ts": x265("keyint=24:bframes=3", container="ts"),
    # hidden frames before an open GOP
    "hevc_edit_list": x265("keyint=12:open-gop=1:bframes=3", first_pts=-15),
    # a hash of every picture travels with it
    "hevc_md5": x265("keyint=24:bframes=3:hash=1"),
    # --- VP9 and VP8
    # every packet is shown
    "vp9": vp9("g=24:lag-in-frames=0"),
    # superframes with hidden pictures
    "vp9_alt_ref": two_pass("libvpx-vp9", "lag-in-frames=16:auto-alt-ref=1:deadline=good:cpu-used=5"),
    # pictures that refresh nothing
    "vp9_temporal_layers": vp9("g=48:lag-in-frames=0:error-resilient=1", layers=TWO_LAYERS),
    # every packet a keyframe
    "vp9_all_intra": vp9("g=0:lag-in-frames=0"),
    # odd sizes with subsampled chroma
    "vp9_odd": vp9("g=24:lag-in-frames=0", width=101, height=75),
    # profile 1
    "vp9_444": vp9("g=24:lag-in-frames=0", pixel_format="yuv444p"),
    # two clusters with a checksum each
    "vp9_mkv": vp9("g=24:lag-in-frames=0", container="mkv", muxer={"cluster_time_limit": "960"}),
    # other pictures from the middle on, with nothing in the container or in headers of the stream that says so
    "vp9_resolution_change": vp9("g=24:lag-in-frames=0", second_size=(176, 144)),
    # VP9 in mp4
    "vp9_mp4": vp9("g=24:lag-in-frames=0", container="mp4"),
    # alt-ref off
    "vp8": Video(codec="libvpx", container="webm", options=pairs("g=24:deadline=realtime:cpu-used=8:b=300k")),
    # packets that show nothing
    "vp8_alt_ref": two_pass("libvpx", "lag-in-frames=16:auto-alt-ref=1:deadline=good:cpu-used=5"),
    # odd sizes with subsampled chroma
    "vp8_odd": Video(
        codec="libvpx", container="webm", options=pairs("g=24:deadline=realtime:cpu-used=8"), width=101, height=75
    ),
    # --- AV1
    # hierarchy with hidden pictures, shown later
    "av1": av1("keyint=32:scd=0", container="mkv"),
    # no reordering
    "av1_low_delay": av1("keyint=24:pred-struct=1:rc=0", container="mp4"),
    # main profile, 10 bit
    "av1_10bit": av1("keyint=24", pixel_format="yuv420p10le"),
    # every packet a keyframe
    "av1_all_intra": av1("keyint=1", num_frames=24),
    # WebM
    "av1_webm": av1("keyint=16", container="webm"),
    # noise added after decoding
    "av1_film_grain": av1("keyint=24:film-grain=12"),
    # another encoder
    "av1_libaom": Video(
        container="mkv",
        ffmpeg=("-c:v", "libaom-av1", "-cpu-used", "8", "-g", "24", "-crf", "40", "-b:v", "0"),
        num_frames=24,
    ),
    # odd sizes with subsampled chroma
    "av1_odd": av1("keyint=24:pred-struct=1:rc=0", container="mkv", width=101, height=75),
    # --- MPEG-4 part 2, MPEG-2, Motion JPEG
    # simple profile in mp4
    "mpeg4": Video(codec="mpeg4", options=pairs("g=24:bf=0:qscale=4")),
    # B in AVI, unpacked
    "mpeg4_b_frames_avi": Video(codec="mpeg4", container="avi", options=pairs("g=24:bf=2:qscale=4")),
    # P and B in one packet
    "mpeg4_packed_avi": Video(container="avi", ffmpeg=("-c:v", "libxvid", "-q:v", "4", "-g", "24", "-bf", "2")),
    # odd size
    "mpeg4_odd": Video(codec="mpeg4", container="avi", options=pairs("g=12:qscale=4"), width=101, height=75),
    # open GOPs
    "mpeg2_ts": Video(codec="mpeg2video", container="ts", options=pairs("g=12:bf=2:qscale=4")),
    # closed
    "mpeg2_closed_gop": Video(
        codec="mpeg2video",
        container="mkv",
        options=pairs("g=12:bf=2:qscale=4:flags=+cgop:sc_threshold=1000000000"),
    ),
    # full range, all intra
    "mjpeg_avi": Video(codec="mjpeg", container="avi", pixel_format="yuvj420p", options=pairs("qscale=4")),
    # 4:2:2
    "mjpeg_422_mov": Video(codec="mjpeg", container="mov", pixel_format="yuvj422p", options=pairs("qscale=4")),
    # odd size, 4:4:4
    "mjpeg_444_odd": Video(
        codec="mjpeg",
        container="avi",
        pixel_format="yuvj444p",
        options=pairs("qscale=4"),
        width=101,
        height=75,
    ),
    # professional codecs
    "prores": Video(codec="prores_ks", container="mov", pixel_format="yuv422p10le", num_frames=12),
    "dnxhd": Video(
        container="mov",
        ffmpeg=("-c:v", "dnxhd", "-profile:v", "dnxhr_sq", "-vf", "scale=256:128"),
        pixel_format="yuv422p",
        num_frames=12,
    ),
    # --- order: the container's times contradict the codec
    # B frames, and pts = dts: an mp4 without ctts
    "h264_no_ctts": x264("keyint=24:bframes=3", first_pts=4, retime=in_decode_order),
    # the same in Matroska
    "h264_decode_order_mkv": x264("keyint=24:bframes=3:b-pyramid=none", container="mkv", retime=in_decode_order),
    # the same in HEVC
    "hevc_no_ctts": x265("keyint=24:bframes=3", first_pts=4, retime=in_decode_order),
    # the same in MPEG-4
    "mpeg4_no_ctts": Video(codec="mpeg4", options=pairs("g=24:bf=2:qscale=4"), first_pts=4, retime=in_decode_order),
    # the same, and an edit list hides the keyframe
    "hevc_no_ctts_edit_list": x265("keyint=24:bframes=3", retime=in_decode_order),
    # all packets at one time
    "h264_equal_times_flv": x264("keyint=24:bframes=0", container="flv", retime=lambda pts, dts: (0, 0)),
    # times that fall from frame to frame
    "vp9_falling_times": vp9("g=24:lag-in-frames=0", container="mkv", retime=lambda pts, dts: (4000 - pts, dts - 5000)),
    # two recordings, one after the other
    "h264_spliced_ts": x264("keyint=24:bframes=3", container="ts", finish=repeat),
    # the same with open GOPs
    "mpeg2_spliced_ts": Video(codec="mpeg2video", container="ts", options=pairs("g=12:bf=2:qscale=4"), finish=repeat),
    # program streams carry a time for some pictures only
    "mpeg2_ps": Video(codec="mpeg2video", container="mpg", options=pairs("g=12:bf=2:qscale=4")),
    "mpeg2_spliced_ps": Video(codec="mpeg2video", container="mpg", options=pairs("g=12:bf=2:qscale=4"), finish=repeat),
    "mpeg1_ps": Video(codec="mpeg1video", container="mpg", options=pairs("g=12:bf=2:qscale=4")),
    # B frames, and nothing that says how far they are reordered
    "h264_no_vui_avi": x264("keyint=24:bframes=3", container="avi", finish=without_vui),
    "h264_no_vui_raw": x264("keyint=24:bframes=3:b-pyramid=none", container="h264", finish=without_vui),
    "h264_no_vui_16_raw": x264(
        "keyint=60:bframes=16:b-adapt=0:b-pyramid=none", container="h264", finish=without_vui, num_frames=60
    ),
    # --- keyframes: the container flags every packet
    "h264_no_stss": x264("keyint=24:bframes=3", finish=without_sync_samples),
    "hevc_no_stss": x265("keyint=24:bframes=3", finish=without_sync_samples),
    "mpeg2_no_stss": Video(codec="mpeg2video", options=pairs("g=12:bf=2:qscale=4"), finish=without_sync_samples),
    "mpeg4_no_stss": Video(codec="mpeg4", options=pairs("g=24:bf=2:qscale=4"), finish=without_sync_samples),
    "av1_no_stss": av1("keyint=16", num_frames=33, finish=without_sync_samples),
    "h263_no_stss": old("h263", "3gp", width=176, height=144, finish=without_sync_samples),
    "h263_all_flagged_avi": old("h263", "avi", width=176, height=144, finish=flag_all_packets),
    "flv1_all_flagged_avi": old("flv", "avi", finish=flag_all_packets),
    "msmpeg4_all_flagged_avi": old("msmpeg4", "avi", finish=flag_all_packets),
    "wmv2_all_flagged_avi": old("wmv2", "avi", finish=flag_all_packets),
    "svq1_no_stss": old("svq1", "mov", "g=8", pixel_format="yuv410p", finish=without_sync_samples),
    "cinepak_all_flagged_avi": old("cinepak", "avi", "g=8", pixel_format="rgb24", finish=flag_all_packets),
    "mpeg4_all_flagged_avi": old("mpeg4", "avi", "g=8:bf=0:qscale=4", finish=flag_all_packets),
    # --- codecs of which only a decode tells
    "flv1": old("flv", "flv"),
    "h261": old("h261", "h261", width=176, height=144),
    "wmv1_asf": old("wmv1", "asf"),
    "rv20": old("rv20", "rm"),
    "theora": Video(container="ogg", ffmpeg=("-c:v", "libtheora", "-q:v", "6", "-g", "8"), num_frames=25),
    "ffv1_checksums": old("ffv1", "avi", "g=8:level=3:slices=4:slicecrc=1"),
    "ffv1_inter": old("ffv1", "mkv", "g=8:context=1"),
    "snow": old("snow", "avi", "g=8:strict=experimental", pixel_format="yuv420p"),
    # --- pictures at the start that a decode does not give: cut at an open GOP
    "hevc_cut_at_cra": x265("keyint=12:open-gop=1:bframes=3:b-adapt=0", drop_packets=tuple(range(9))),
    "hevc_cut_at_cra_ts": x265(
        "keyint=12:open-gop=1:bframes=3:b-adapt=0", container="ts", drop_packets=tuple(range(9))
    ),
    "mpeg2_cut_at_open_gop": Video(
        codec="mpeg2video", container="ts", options=pairs("g=12:bf=2:qscale=4"), drop_packets=tuple(range(10))
    ),
    "mpeg4_cut_at_open_gop": Video(
        codec="mpeg4", container="mkv", options=pairs("g=12:bf=2:qscale=4"), drop_packets=tuple(range(10))
    ),
    "h264_cut_at_open_gop": x264(
        "keyint=12:open-gop=1:bframes=3:b-adapt=0", container="mkv", drop_packets=tuple(range(9))
    ),
    "h264_cut_at_open_gop_ts": x264(
        "keyint=12:open-gop=1:bframes=3:b-adapt=0", container="ts", drop_packets=tuple(range(9))
    ),
    # begins with pictures predicted from what is not there
    "flv1_no_keyframe_at_start": old("flv", "flv", "g=12:qscale=4", drop_packets=tuple(range(6))),
    "mpeg4_no_keyframe_at_start": old("mpeg4", "avi", "g=12:bf=0:qscale=4", drop_packets=tuple(range(6))),
    "hevc_no_keyframe_at_start": x265("keyint=16:open-gop=0:bframes=0", container="ts", drop_packets=tuple(range(6))),
    # --- pixel formats that need a conversion before the transform
    "smc_pal8": old("smc", "mov", "g=8", pixel_format="pal8"),
    "rawvideo_pal8": old("rawvideo", "avi", "", pixel_format="pal8"),
    "gif": old("gif", "gif", "", pixel_format="bgr8"),
    "msvideo1_rgb555": old("msvideo1", "avi", "g=8", pixel_format="rgb555le"),
    "rpza_rgb555": old("rpza", "mov", "g=8", pixel_format="rgb555"),
    "rawvideo_rgb565": old("rawvideo", "avi", "", pixel_format="rgb565le"),
    "png_rgb48": old("png", "mov", "", pixel_format="rgb48be"),
    "png_gray16": old("png", "mov", "", pixel_format="gray16be"),
    "png_mono": old("png", "mov", "", pixel_format="monob"),
    # --- pixels that are not square
    "h264_anamorphic": x264("keyint=24:bframes=2:sar=4/3"),
    "mpeg4_anamorphic_avi": Video(
        container="avi", ffmpeg=("-c:v", "mpeg4", "-q:v", "4", "-g", "12", "-vf", "setsar=12/11")
    ),
    # --- two video streams: the smaller comes first
    "h264_two_streams": Video(
        container="mkv",
        ffmpeg=(
            *("-filter_complex", "[0:v]split[a][b];[b]scale=64:48[c]", "-map", "[c]", "-map", "[a]"),
            *("-c:v", "libx264", "-preset", "veryfast", "-g", "24", "-disposition:v", "0"),
        ),
    ),
}

# Of these the planes that a decoder gives are not those that the transform reads.
CONVERTED = (
    *("smc_pal8", "rawvideo_pal8", "gif", "msvideo1_rgb555", "rpza_rgb555", "rawvideo_rgb565"),
    *("png_rgb48", "png_gray16", "png_mono", "cinepak_all_flagged_avi"),
)


def make_video(name: str, cache_dir: str | os.PathLike[str], content: str = "scene") -> Path:
    """Path of clip `name` under `cache_dir`, made on first use; raises MissingEncoder, KeyError.

    `content`: "scene", or pictures that are all "white", "black" or "noise", encoded in the same way.
    """
    video = replace(VIDEOS[name], content=content)
    if content != "scene":
        video = replace(video, num_frames=min(video.num_frames, 12), drop_packets=(), finish=None)
    path = Path(cache_dir) / f"{name}{'' if content == 'scene' else '_' + content}.{video.container}"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_name(f".{os.getpid()}.{path.name}")
        if video.field_pairs is not None:
            _encode_field_pairs(video, aside)
        else:
            (_encode_by_ffmpeg if video.ffmpeg else _encode)(video, aside)
        if video.finish:
            video.finish(aside)
        aside.replace(path)
    return path


def picture(frame_index: int, width: int, height: int, content: str = "scene") -> np.ndarray:
    """Source picture `frame_index`: uint8 RGB [height, width, 3]; the scene changes at frame 37."""
    if content == "noise":
        return np.random.default_rng(frame_index).integers(0, 256, (height, width, 3), dtype=np.uint8)
    if content != "scene":
        return np.full((height, width, 3), {"white": 255, "black": 0}[content], np.uint8)
    rng = np.random.default_rng(7 if frame_index < 37 else 11)
    tile = rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)
    tile = tile.repeat(6, axis=0).repeat(6, axis=1)  # [72, 96, 3]
    y = (np.arange(height) + 2 * frame_index) % tile.shape[0]
    x = (np.arange(width) + 3 * frame_index) % tile.shape[1]
    image = tile[y[:, None], x[None, :]] // 2 + 40
    side = max(4, min(width, height) // 4)
    top, left = (5 * frame_index) % max(1, height - side), (7 * frame_index) % max(1, width - side)
    image[top : top + side, left : left + side] = (255 - 5 * (frame_index % 40), 20, 6 * (frame_index % 40))
    bar = max(1, width // 8)
    for bit in range(8):  # the frame number, most significant bit first
        image[: height // 8, bit * bar : (bit + 1) * bar] = 235 if frame_index >> (7 - bit) & 1 else 16
    return image


def with_palette(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """RGB as numbers of a palette of 3 + 3 + 2 bits, and that palette: uint8 [256, 4], ARGB."""
    numbers = np.arange(256)
    columns = [np.full(256, 255), numbers >> 5 << 5, (numbers >> 2 & 7) << 5, (numbers & 3) << 6]
    red, green, blue = (image[..., i] for i in range(3))
    return red >> 5 << 5 | green >> 5 << 2 | blue >> 6, np.stack(columns, 1).astype(np.uint8)


def _frames(video: Video, start: int, stop: int, width: int, height: int) -> Iterator[av.VideoFrame]:
    for frame_index in range(start, stop):
        image = picture(frame_index, width, height, video.content)
        if video.pixel_format == "pal8":  # FFmpeg makes no palettes
            frame = av.VideoFrame.from_ndarray(with_palette(image), format="pal8")
        else:
            frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format=video.pixel_format)
        frame.pts = video.frame_times(frame_index) if video.frame_times else frame_index
        frame.time_base = Fraction(1, 1000) if video.frame_times else 1 / video.fps
        yield frame


def _encode(video: Video, path: Path) -> None:
    if video.codec not in av.codecs_available:
        raise MissingEncoder(f"PyAV was built without the encoder {video.codec}")
    container = FORMATS.get(video.container, video.container)
    muxer = {"fflags": "+bitexact"} | video.muxer
    with av.open(os.fspath(path), "w", format=container, options=muxer) as output:
        audio = output.add_stream("aac", rate=48000, layout="mono") if video.audio_first else None
        stream = output.add_stream(video.codec, rate=video.fps)
        _configure(stream.codec_context, video, video.width, video.height)
        contexts = [(stream.codec_context, video.width, video.height)]
        if video.second_size:
            contexts.append((av.CodecContext.create(video.codec, "w"), *video.second_size))
            _configure(contexts[1][0], video, *video.second_size)
        if audio is not None:
            _mux_tone(output, audio, float(video.num_frames / video.fps))
        packet_index, num_frames = 0, video.num_frames // len(contexts)
        for part, (context, width, height) in enumerate(contexts):
            sources = _frames(video, part * num_frames, (part + 1) * num_frames, width, height)
            for frame in [*sources, None]:
                for packet in context.encode(frame):
                    packet_index += 1
                    if packet_index - 1 in video.drop_packets:
                        continue
                    packet.stream = stream
                    shift = round(video.first_pts / video.fps / packet.time_base)
                    packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
                    if video.retime:
                        packet.pts, packet.dts = video.retime(packet.pts, packet.dts)
                    output.mux(packet)


def _configure(context: av.VideoCodecContext, video: Video, width: int, height: int) -> None:
    context.width, context.height, context.pix_fmt = width, height, video.pixel_format
    context.framerate = video.fps
    context.time_base = Fraction(1, 1000) if video.frame_times else 1 / video.fps
    context.thread_count = 1
    options = dict(video.options)
    if "qscale" in options:  # what the ffmpeg command does for -q:v
        context.qmin = context.qmax = int(options.pop("qscale"))
    context.options = options
    for name, value in video.color.items():
        setattr(context, name, value)


def _mux_tone(output: av.container.OutputContainer, stream: av.AudioStream, seconds: float) -> None:
    """A 440 Hz tone, muxed in full before the video (the muxer interleaves)."""
    time = np.arange(int(48000 * seconds)) / 48000
    tone = (np.sin(2 * np.pi * 440 * time) * 0.2).astype(np.float32)
    for start in range(0, len(tone), 1024):
        frame = av.AudioFrame.from_ndarray(tone[None, start : start + 1024], format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = 48000, start, Fraction(1, 48000)
        output.mux(stream.encode(frame))
    output.mux(stream.encode(None))


def _encode_by_ffmpeg(video: Video, path: Path) -> None:
    if shutil.which("ffmpeg") is None:
        raise MissingEncoder("the ffmpeg command is not on PATH")
    raw = b"".join(picture(i, video.width, video.height, video.content).tobytes() for i in range(video.num_frames))
    size, container = f"{video.width}x{video.height}", FORMATS.get(video.container, video.container)
    source = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", size, "-r", str(video.fps), "-i", "-"]
    encoder = ["-threads", "1", "-pix_fmt", video.pixel_format, *video.ffmpeg]
    target = ["-fflags", "+bitexact", "-f", container, os.fspath(path)]
    for number in range(1, video.num_passes + 1):
        passes = ["-pass", str(number), "-passlogfile", os.fspath(path)] if video.num_passes > 1 else []
        command = ["ffmpeg", "-v", "error", "-y", *source, *encoder, *passes, *target]
        done = subprocess.run(command, input=raw, capture_output=True)
        if done.returncode:
            reason = done.stderr.decode(errors="replace").strip()
            raise MissingEncoder(f"ffmpeg could not encode {path.name}: {reason}")
    path.with_name(f"{path.name}-0.log").unlink(missing_ok=True)


def _encode_field_pairs(video: Video, path: Path) -> None:
    images = [picture(i, video.width, video.height, video.content) for i in range(video.num_frames)]
    container = FORMATS.get(video.container, video.container)
    write_field_pairs(path, container, images, video.fps, **(video.field_pairs or {}))
