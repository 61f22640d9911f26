"""vidload.info(): what the machine can do, told the same way with and without a GPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import vidload
from vidload.cli import main
from vidload.system.info import advice, cuda_summary, nvdec_verdict

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
    "ffmpeg": {"configuration": "--prefix=/usr", "nvdec": ["h264"], "decoders": {"h264": "h264", "av1": "libdav1d"}},
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
        ("ffmpeg", {"decoders": {"h264": None, "av1": "libdav1d"}}, "this FFmpeg cannot decode h264"),
        ("ffmpeg", {"decoders": {"h264": "h264", "av1": "libaom-av1"}}, "AV1 is decoded by libaom-av1"),
        ("ffmpeg", {"nvdec": []}, "FFmpeg was built without NVDEC"),
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
    assert device["pcie"] == {"generation": 1, "width": 16, "max_generation": 4, "max_width": 16}
    expected = "driver 580.65.06 for CUDA 13.0; stub device 0 (8.0, 1 GiB, PCIe 4 x16, 1 NVDEC engine)"
    assert cuda_summary(facts) == expected


@on_stub_gpu
def test_the_verdict_says_what_nvdec_is_good_for():
    facts = vidload.info()
    if not facts["ffmpeg"]["nvdec"]:
        pytest.skip("this FFmpeg was built without NVDEC")
    verdict = nvdec_verdict(facts)
    assert verdict == "NVDEC usable for h264, hevc, vp9; vp8, av1, mpeg4, mpeg2video, mjpeg fall back to the CPU"


def test_the_verdict_says_why_nvdec_is_good_for_nothing():
    ffmpeg = {"nvdec": ["h264"], "decoders": {"h264": "h264"}}
    no_gpu = {"problem": "no CUDA driver", "devices": []}
    no_library = {"problem": None, "devices": [{"nvdec": {}}]}
    assert "no CUDA driver" in nvdec_verdict({"ffmpeg": ffmpeg, "cuda": no_gpu})
    assert "libnvcuvid" in nvdec_verdict({"ffmpeg": ffmpeg, "cuda": no_library})
    assert "built without it" in nvdec_verdict({"ffmpeg": {**ffmpeg, "nvdec": []}, "cuda": no_library})


@on_stub_gpu
def test_info_prints_card_driver_link_and_codecs_for_a_bug_report(capsys):
    assert main(["info"]) == 0
    out = capsys.readouterr().out
    assert ", built with NVDEC for " in out
    assert "PCIe 4 x16, 1 NVDEC engine" in out
    assert "hevc: 4:2:0 8 bit to 4096x4096, 4:2:0 10 bit to 4096x4096" in out
    assert "\nnvdec      NVDEC " in out


def test_without_nvml_nothing_is_told():
    """In a process of its own: this one may have the stub's."""
    code = "from vidload.system import nvml; print(nvml.driver_version(), nvml.Gpu('0000:3b:00.0').pcie()['width'])"
    environment = {**os.environ, "LD_LIBRARY_PATH": ""}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    if torch.cuda.is_available():
        pytest.skip("this machine has NVML")
    assert done.stdout == "None None\n"
