"""Inputs that broke the C++ once, and plain ones, through the fuzzing targets (tests/fuzz) as an ordinary build has them."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FUZZ = ROOT / "tests" / "fuzz"
STAGES = ("batch", "cuda", "decode", "plan", "index", "source", "transform", "base")
TARGETS = ("index_entry", "plan", "packet_headers", "annex_b", "frame_name")


@pytest.fixture(scope="module")
def libraries() -> list[str]:
    build = ROOT / "build" / f"cmake-{sys.implementation.cache_tag}" / "csrc"
    found = [build / stage / f"libvidload_{stage}.a" for stage in STAGES]
    if shutil.which("g++") is None or shutil.which("pkg-config") is None or not all(path.exists() for path in found):
        pytest.skip("needs g++, pkg-config and the libraries of a build from source")
    packages = ["libavformat", "libavcodec", "libavutil", "libswscale", "libturbojpeg"]
    flags = subprocess.run(
        ["pkg-config", "--cflags", "--libs", *packages], capture_output=True, text=True, check=True
    ).stdout
    return [*map(str, found), *flags.split(), "-ldl", "-pthread"]


@pytest.mark.parametrize("target", TARGETS)
def test_the_corpus_of_a_fuzzing_target_breaks_no_promise(target: str, libraries: list[str], tmp_path: Path) -> None:
    program = tmp_path / target
    sources = [FUZZ / f"{target}.cpp", FUZZ / "replay.cpp"]
    includes = [f"-I{ROOT / 'csrc'}", f"-I{ROOT / 'tests'}"]
    subprocess.run(
        ["g++", "-std=c++17", "-O1", *includes, "-o", program, *sources, *libraries], check=True, timeout=300
    )
    corpus = sorted((FUZZ / "corpus" / target).iterdir())
    assert corpus
    done = subprocess.run([program, *corpus], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-3000:]
