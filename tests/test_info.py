"""vidload.info(): what the machine can do, told the same way with and without a GPU."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

import vidload
from vidload.system.info import advice, cuda_summary

sys.path.insert(0, str(Path(__file__).parent / "stub_driver"))
from stub import on_stub_gpu


def test_info_is_plain_data_and_names_ffmpeg_simd_and_cores():
    facts = vidload.info()
    assert json.loads(json.dumps(facts)) == facts
    assert facts["ffmpeg"]["decoders"]["h264"] == "h264"
    assert facts["simd"]["level"] in facts["simd"]["supported"]
    assert 1 <= facts["cores"]["available"] <= facts["cores"]["affinity"]
    assert facts["build"]["is_bundled"] in (True, False)
    assert facts["ffmpeg"]["configuration"].startswith("--prefix=")


GOOD = {
    "build": {"compiler": "GNU 12.2.0, Release"},
    "ffmpeg": {"configuration": "--prefix=/usr", "has_nvdec": True, "decoders": {"h264": "h264", "av1": "libdav1d"}},
    "simd": {"level": "avx512", "supported": ["scalar", "avx2", "avx512"]},
    "cuda": {"has_driver": True, "built": True},
}


def test_there_is_no_advice_where_nothing_could_be_better():
    assert advice(GOOD) == []


@pytest.mark.parametrize(
    "part, change, sentence",
    [
        ("build", {"compiler": "GNU 12.2.0, Debug"}, "this is a build of the type Debug"),
        ("ffmpeg", {"configuration": "--prefix=/usr --disable-x86asm"}, "FFmpeg was built without assembly"),
        ("ffmpeg", {"decoders": {"h264": None, "av1": "libdav1d"}}, "this FFmpeg decodes no h264"),
        ("ffmpeg", {"decoders": {"h264": "h264", "av1": "libaom-av1"}}, "AV1 is decoded by libaom-av1"),
        ("ffmpeg", {"has_nvdec": False}, "FFmpeg was built without NVDEC"),
        ("simd", {"level": "avx2"}, "as VIDLOAD_CPU asks; this processor can run avx512"),
        ("cuda", {"built": False}, "the build has no CUDA kernels"),
    ],
)
def test_advice_names_what_could_be_better(part, change, sentence):
    (found,) = advice({**GOOD, part: {**GOOD[part], **change}})
    assert sentence in found


@on_stub_gpu
def test_info_lists_devices_and_what_their_nvdec_takes():
    facts = vidload.info()["cuda"]
    assert facts["problem"] is None
    assert facts["driver"] == "13.0"
    (device,) = facts["devices"]
    assert device["compute_capability"] == "8.0"
    assert list(device["nvdec"]["h264"]) == ["4:2:0 8 bit"]
    assert list(device["nvdec"]["hevc"]) == ["4:2:0 8 bit", "4:2:0 10 bit"]
    assert device["nvdec"]["h264"]["4:2:0 8 bit"]["max_width"] == 4096
    assert cuda_summary(facts) == "driver for CUDA 13.0; stub device 0 (8.0, 1 GiB, NVDEC: h264, hevc, vp9)"
