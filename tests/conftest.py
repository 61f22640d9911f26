"""Fixtures that every test may use, and the marks for what a machine may lack."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import os
import signal
from pathlib import Path

import pytest
import torch
import videos
from hypothesis import HealthCheck, settings

settings.register_profile(
    "vidload",
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
settings.load_profile("vidload")


def pytest_configure(config: pytest.Config) -> None:
    torch.set_num_threads(2)
    define_torchvision_operators()
    # In the background; child processes of the tests would inherit it.
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def define_torchvision_operators() -> None:
    """PyPI's torchvision is built for CUDA's torch. Beside the CPU's it cannot load its operators, which its import takes for granted; its
    transforms, which are all that is used here, need none of them."""
    try:
        version = importlib.metadata.version("torchvision")
    except importlib.metadata.PackageNotFoundError:
        return
    if torch.version.cuda is None and "+cpu" not in version:
        for name in ("nms", "qnms"):
            torch.library.define(f"torchvision::{name}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")


def has_dali() -> bool:
    try:
        return importlib.util.find_spec("nvidia.dali") is not None
    except ModuleNotFoundError:  # there is no package "nvidia" at all
        return False


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    must_have_cuda = os.environ.get("VIDLOAD_REQUIRE_CUDA") == "1"
    for item in items:
        if item.get_closest_marker("needs_cuda") and not must_have_cuda and not torch.cuda.is_available():
            item.add_marker(pytest.mark.skip(reason="needs a GPU and a CUDA build of torch"))
        if item.get_closest_marker("needs_dali") and not has_dali():
            item.add_marker(pytest.mark.skip(reason="nvidia-dali is not installed"))


@pytest.fixture(scope="session")
def video_cache(request: pytest.FixtureRequest) -> Path:
    """Folder of generated clips, kept between runs until tests/videos.py changes."""
    table = hashlib.sha256(Path(videos.__file__).read_bytes()).hexdigest()[:12]
    cache = request.config.cache
    assert cache is not None
    return Path(cache.mkdir("videos")) / table


@pytest.fixture
def video(video_cache: Path):
    """video("h264") -> path of that clip of tests/videos.py; skips where its encoder is missing."""
    return lambda name: str(videos.make_video(name, video_cache))


@pytest.fixture(scope="session")
def real_clips() -> list[Path]:
    """Real clips of many kinds, where VIDLOAD_TEST_CLIPS names a folder of them."""
    folder = os.environ.get("VIDLOAD_TEST_CLIPS", "")
    return sorted(Path(folder).glob("*.*")) if folder else []
