"""vidload.info(): what the machine can do, told the same way with and without a GPU."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import vidload
from vidload.system.info import cuda_summary

sys.path.insert(0, str(Path(__file__).parent / "stub_driver"))
from stub import on_stub_gpu


def test_info_is_plain_data_and_names_ffmpeg_simd_and_cores():
    facts = vidload.info()
    assert json.loads(json.dumps(facts)) == facts
    assert facts["ffmpeg"]["decoders"]["h264"] == "h264"
    assert facts["simd"]["level"] in facts["simd"]["supported"]
    assert 1 <= facts["cores"]["available"] <= facts["cores"]["affinity"]


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
