"""How a video is encoded: the encoders, their options, and the profiles to choose from.

In: nothing; these are tables. Out: `EncodeSettings`, checked, and for each codec the options that they mean to its encoder.
vidload.prepare.encode uses them.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any


@dataclass(frozen=True)
class Encoder:
    """An encoder of PyAV's wheel. Quality values rise from the finest to the coarsest picture."""

    name: str
    quality: str  # the option's name
    finest: float
    coarsest: float
    step: float
    first_guess: float
    psnr_per_step: float  # about how many dB one `step` costs
    decoder: str
    options: Callable[[EncodeSettings], dict[str, str]]


@dataclass(frozen=True)
class EncodeSettings:
    """How a video is encoded.

    Attributes:
        codec: a key of `ENCODERS`.
        gop: frames from one keyframe to the next; 1 = keyframes only (mjpeg has no other).
        b_frames: B frames, which nothing depends on, between one reference frame and the next (as many as fit);
            see Note [What makes H.264 cheap to decode]. For h264 and hevc.
        psnr: luma PSNR in dB that every video must reach; the coarsest quality that reaches it is searched for.
        crf: a fixed quality instead of the search (the encoder's own scale).
        short_side: the shorter side in pixels; smaller videos keep their size.
        fps: a new frame rate; None keeps every frame and its time.
        preset: the encoder's effort.
        extra: further encoder options, for experiments.
    """

    codec: str = "h264"
    gop: int = 4
    b_frames: int = 2
    psnr: float = 40.1
    crf: float | None = None
    short_side: int = 256
    fps: Fraction | None = None
    preset: str = ""
    extra: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        if self.codec not in ENCODERS:
            raise ValueError(f"codec {self.codec!r} is not one of {', '.join(ENCODERS)}")
        if not 1 <= self.gop <= 1000:
            raise ValueError(f"gop is {self.gop}, must be in [1, 1000]")
        if self.codec == "mjpeg" and self.gop != 1:
            raise ValueError(f"gop is {self.gop}, must be 1 for mjpeg: it has keyframes only")
        if not 0 <= self.b_frames <= 16:
            raise ValueError(f"b_frames is {self.b_frames}, must be in [0, 16]")
        if not 20 <= self.psnr <= 60:
            raise ValueError(f"psnr is {self.psnr:g}, must be in [20, 60] dB")
        if self.short_side < 16:
            raise ValueError(f"short_side is {self.short_side}, must be at least 16 pixels")
        if self.fps is not None and not 0 < self.fps <= 1000:
            raise ValueError(f"fps is {self.fps}, must be above 0 and at most 1000")
        encoder = ENCODERS[self.codec]
        if self.crf is not None and not encoder.finest <= self.crf <= encoder.coarsest:
            raise ValueError(
                f"crf is {self.crf:g}, must be in [{encoder.finest:g}, {encoder.coarsest:g}] for {self.codec}"
            )


def _h264_options(settings: EncodeSettings) -> dict[str, str]:
    # See Note [What makes H.264 cheap to decode].
    num_b_frames = min(settings.b_frames, max(settings.gop - 2, 0), 16)
    params = (
        f"keyint={settings.gop}:min-keyint={settings.gop}:scenecut=0:bframes={num_b_frames}:b-adapt=0:b-pyramid=none:"
        "ref=1:cabac=0:no-deblock=1:weightp=0:weightb=0:aq-mode=0:psy=0:mbtree=0:rc-lookahead=0:sync-lookahead=0:"
        "force-cfr=1:stitchable=1:threads=1"
    )
    return {"preset": settings.preset or "medium", "x264-params": params}


def _hevc_options(settings: EncodeSettings) -> dict[str, str]:
    num_b_frames = min(settings.b_frames, max(settings.gop - 2, 0), 16)
    params = (
        f"keyint={settings.gop}:min-keyint={settings.gop}:scenecut=0:bframes={num_b_frames}:b-adapt=0:b-pyramid=0:"
        "open-gop=0:ref=1:no-deblock=1:no-sao=1:weightp=0:weightb=0:aq-mode=0:psy-rd=0:psy-rdoq=0:cutree=0:"
        f"rc-lookahead={num_b_frames + 1}:pools=none:frame-threads=1:info=0:log-level=none"
    )
    return {"preset": settings.preset or "medium", "x265-params": params}


def _vp9_options(settings: EncodeSettings) -> dict[str, str]:
    return {
        "g": str(settings.gop if settings.gop > 1 else 0),
        "keyint_min": str(settings.gop if settings.gop > 1 else 0),
        "b": "0",
        "deadline": "good",
        "cpu-used": settings.preset or "4",
        "lag-in-frames": "0",
        "row-mt": "0",
    }


def _av1_options(settings: EncodeSettings) -> dict[str, str]:
    os.environ.setdefault("SVT_LOG", "1")  # errors only; it prints its settings otherwise
    structure = "pred-struct=1:rc=0" if settings.gop > 1 else "rc=0"
    return {
        "preset": settings.preset or "8",
        "svtav1-params": f"keyint={settings.gop}:scd=0:{structure}:lp=1:fast-decode=1:enable-tf=0",
    }


def _mjpeg_options(settings: EncodeSettings) -> dict[str, str]:
    return {"strict": "unofficial"}  # allows limited range, which a comment in each picture then states


ENCODERS: dict[str, Encoder] = {
    "h264": Encoder("libx264", "crf", 1, 51, 0.5, 21, 0.45, "h264", _h264_options),
    "hevc": Encoder("libx265", "crf", 1, 51, 0.5, 21, 0.45, "hevc", _hevc_options),
    "vp9": Encoder("libvpx-vp9", "crf", 1, 63, 1, 30, 0.4, "vp9", _vp9_options),
    "av1": Encoder("libsvtav1", "crf", 1, 63, 1, 30, 0.4, "libdav1d", _av1_options),
    "mjpeg": Encoder("mjpeg", "qscale", 1, 31, 1, 4, 1.2, "mjpeg", _mjpeg_options),
}

# vidload prepare --dry-run measures them on a sample of your own videos.
PROFILES: dict[str, EncodeSettings] = {
    "smallest": EncodeSettings(gop=16, b_frames=3),
    "balanced": EncodeSettings(gop=4, b_frames=2),
    "fastest": EncodeSettings(codec="mjpeg", gop=1),
}


def describe(settings: EncodeSettings) -> str:
    """The settings in one line, for people."""
    parts: list[Any] = [settings.codec]
    if settings.codec != "mjpeg":
        parts.append("keyframes only" if settings.gop == 1 else f"GOP {settings.gop}")
    parts.append(f"PSNR {settings.psnr:g} dB" if settings.crf is None else f"quality {settings.crf:g}")
    parts.append(f"short side {settings.short_side}")
    if settings.fps is not None:
        parts.append(f"{float(settings.fps):g} fps")
    return ", ".join(parts)


# Note [What makes H.264 cheap to decode]
#
# A frame costs its packet and every packet that it depends on, back to the keyframe; a packet costs a share for each
# macroblock (modes, prediction, transform) and a share for each bit. So, at one PSNR:
# - Short GOPs. With g frames a chain of P frames costs (g + 1) / 2 packets for a frame. With B frames between two
#   references, which nothing depends on and the loader leaves out, it costs about 2.5 whatever g is, as in a "star"
#   (I b b P); with b_frames=3 and g=16, (I bbb P bbb P ...), 4, at half the bytes of the star with g=4.
# - CAVLC rather than CABAC: 12 % more bits, a third less time. No loop filter: 4 % more bits, a quarter less time.
# - One reference, no weights: they save next to nothing in so short a GOP.
# - No adaptive quantization, psychovisual tuning or macroblock tree: they look better than they measure, and bits cost time.
#   With them off, nothing depends on a lookahead.
#
# docs/encoding.md has the measurements, bench/encoding_study.py makes them.
