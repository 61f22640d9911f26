"""Each line of the tables of docs/migrating.md for video-language models, robots and clips of one shape runs, and gives what it says."""

from __future__ import annotations

import math
import re
from functools import partial
from typing import Any

import numpy as np
import pages
import pytest
import torch
from torch.utils.data import Dataset

import vidload
from vidload.sampling import AllFrames, FramesByTime, SpreadFrames
from vidload.transforms import center_crop, fit_pixels

SECTIONS = ("Qwen2-VL's qwen_vl_utils, and other video-language models", "LeRobot", "From clips of one shape, and back")


def rows() -> list[Any]:
    """(there, here), the first code span of each cell, of every row of the tables."""
    found = []
    text = pages.text_of("migrating.md")
    for section in SECTIONS:
        body = text.split(f"## {section}\n")[1].split("\n## ")[0]
        for line in re.findall(r"^\| (.*) \|$", body, re.MULTILINE)[2:]:
            there, here = (re.findall(r"`([^`]+)`", cell) for cell in line.split(" | "))
            found.append(pytest.param(section, there[0] if there else "", here[0], id=here[0][:60]))
    return found


@pytest.fixture
def names(video) -> dict[str, Any]:
    path = video("h264")
    cameras = {"wrist": video("vp9"), "front": path}
    episodes = [(cameras, 0, 48)]
    items = [(path, 0), (video("h264_ntsc"), 1)]
    crop = center_crop(96, short_side=96)
    return {
        **{"vidload": vidload, "torch": torch, "partial": partial, "video": path, "items": items, "cameras": cameras},
        **{"FramesByTime": FramesByTime, "SpreadFrames": SpreadFrames, "AllFrames": AllFrames, "episodes": episodes},
        **{"fit_pixels": fit_pixels, "center_crop": center_crop},
        "centered": vidload.VideoDataset(items, clip=FramesByTime(2), transform=center_crop(64)),
        "dataset": vidload.VideoDataset(items, clip=FramesByTime(2), transform=fit_pixels(16 * 784)),
        "robot": vidload.MultiVideoDataset.from_episodes(
            episodes, fps=25, delta_seconds=[-0.1, 0.0], transform=crop, layout="NVTCHW"
        ),
        "fixed": vidload.VideoDataset(items, clip="8x1x1", transform=center_crop(64)),
        "varying": vidload.VideoDataset(items, clip=SpreadFrames(8), transform=center_crop(64)),
    }


@pytest.mark.parametrize("section, there, here", rows())
def test_a_line_of_the_tables_runs(section, there, here, names) -> None:
    results = [eval(here, names)]
    if section == SECTIONS[2]:
        results.append(eval(there, names))
    for result in results:
        if isinstance(result, Dataset):
            assert isinstance(result[0][0], torch.Tensor)  # type: ignore[index]
        elif isinstance(result, vidload.VideoLoader):
            assert len(list(result)) == math.ceil(len(result.dataset) / 2)  # type: ignore[arg-type]
        else:
            assert isinstance(result, torch.Tensor | tuple)


def test_the_lines_that_promise_the_same_frames_keep_it(names) -> None:
    path, count = names["video"], 48
    there = np.linspace(0, count - 1, 32).round().astype(int).tolist()  # qwen_vl_utils with "nframes"
    data = vidload.VideoDataset([(path, 0)], clip=SpreadFrames(32), transform=center_crop(16), fields=["frame_indices"])
    assert data[0][2]["frame_indices"].tolist() == there
    assert names["robot"][0][2]["mask"].tolist() == [[False, True]] * 2
    assert names["robot"][0][0].shape == (2, 2, 3, 96, 96)
    assert fit_pixels(128 * 784, min_pixels=16 * 784, multiple=28).output_size(720, 1280) == (224, 420)


def test_every_kind_of_line_is_there() -> None:
    assert len(rows()) == 9 + 7 + 4
