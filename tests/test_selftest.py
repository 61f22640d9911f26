"""`vidload selftest`: on the CPU, on the stub driver, and, where there is one, on a real GPU."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

import vidload
from vidload.cli import main
from vidload.system import cuda, selftest

sys.path.insert(0, str(Path(__file__).parent / "stub_driver"))
from stub import Stub, on_stub_gpu

SMALL = {"width": 160, "height": 96, "num_clips": 3}


@pytest.fixture(scope="module")
def few_clips():
    """Two of the clips, to be quick."""
    patch = pytest.MonkeyPatch()
    patch.setattr(selftest, "CLIPS", {name: selftest.CLIPS[name] for name in ("h264", "hevc 10 bit")})
    yield
    patch.undo()


def test_selftest_passes_on_the_cpu(few_clips):
    checks = list(selftest.selftest(**SMALL))
    assert [check.is_good for check in checks] == [True, True]


@on_stub_gpu
def test_selftest_compares_the_gpu_with_the_cpu_bit_for_bit(few_clips, monkeypatch):
    encode = selftest.encode_clip

    def encode_and_tell(name: str, path: Path, width: int, height: int) -> None:
        encode(name, path, width, height)
        Stub.add_videos([path])

    monkeypatch.setattr(selftest, "encode_clip", encode_and_tell)
    checks = list(selftest.selftest("cuda", **SMALL))
    compared = [check for check in checks if "decoder=" in check.name]
    assert len(compared) == 8
    assert [check for check in compared if not check.found.startswith("bit for bit")] == []
    text = selftest.report(checks)
    assert "all good" in text
    assert "driver 580.65.06 for CUDA 13.0; stub device 0 (8.0, 1 GiB, PCIe 4 x16, 1 NVDEC engine)" in text
    assert "\nNVDEC usable for h264, hevc, vp9; vp8, av1, " in text


@on_stub_gpu
def test_selftest_tells_wrong_pixels(few_clips):
    def spoil(tensor: torch.Tensor) -> torch.Tensor:
        spoiled = Stub.read(tensor)
        spoiled.view(-1)[100] ^= 0x80
        return spoiled

    cuda.to_host = spoil
    checks = list(selftest.selftest("cuda", **SMALL))
    compared = [check for check in checks if "frames, decoder='cpu'" in check.name]
    assert len(compared) == 2
    assert all(check.is_good is False for check in compared)
    assert "FAILED" in selftest.report(checks)


@on_stub_gpu
def test_selftest_tells_a_gpu_that_fails_on_pictures_from_one_that_does_not_decode_them(monkeypatch):
    clips = {"h264": selftest.CLIPS["h264"], "mpeg4": ("mpeg4", "yuv420p", {})}
    monkeypatch.setattr(selftest, "CLIPS", clips)
    Stub.fail("cuvidMapVideoFrame64", 0)
    checks = {check.name: check for check in selftest.selftest("cuda", **SMALL)}
    assert checks["h264: frames, decoder='nvdec'"].is_good is False
    assert checks["mpeg4: frames, decoder='nvdec'"].is_good is None


def test_selftest_for_a_gpu_fails_where_there_is_none(capsys, few_clips, monkeypatch):
    if torch.cuda.is_available():
        pytest.skip("there is one")
    assert main(["selftest", "--gpu"]) == 1
    assert "FAIL" in capsys.readouterr().out


@pytest.mark.needs_cuda
def test_this_gpu_gives_the_cpus_pixels(capsys):
    assert main(["selftest", "--gpu"]) == 0, capsys.readouterr().out


@pytest.mark.parametrize("decoder", ["cpu", "nvdec"])
@pytest.mark.needs_cuda
def test_clips_on_this_gpu_follow_and_precede_the_current_streams_work(video, decoder):
    """As on the stub: a buffer that the consumer still overwrites is written only after that. NVDEC's surfaces are unmapped meanwhile."""
    data = vidload.VideoDataset(
        [(video("h264"), 0)] * 12, clip="4x2x1", transform=vidload.transforms.center_crop(64), seed=1
    )
    expected = [clips.clone() for clips, _ in vidload.VideoLoader(data, batch_size=2)]
    loader = vidload.VideoLoader(data, batch_size=2, device="cuda", decoder=decoder)
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        for (clips, _), right in zip(loader, expected, strict=True):
            assert torch.equal(clips.cpu(), right)
            torch.cuda._sleep(10_000_000)
            clips.fill_(7)
            del clips
