"""What repr and a notebook tell of a dataset and a loader."""

from __future__ import annotations

import numpy as np
import pytest
from torch.utils.data import ConcatDataset, Subset

from vidload import VideoDataset, VideoLoader
from vidload.transforms import center_crop


@pytest.fixture
def data(video) -> VideoDataset:
    items = [(video("h264"), 0), (video("h264"), 1), (video("vp9"), 1)]
    return VideoDataset(items, clip="4x2x1", transform=center_crop(32), fields=["index"], clip_transform=abs)


def test_a_dataset_tells_files_classes_clip_and_shapes(data, video) -> None:
    title, *rows = repr(data).splitlines()
    told = dict(row.split(maxsplit=1) for row in rows)
    assert title == "VideoDataset: 3 samples of 2 files, 2 classes"
    assert told["files"] == f"{video('h264')}, ..."
    assert told["clip"] == "4x2x1, sampling segments, fixed; 1 view"
    assert told["sample"] == "float32 [3, 4, 32, 32] CTHW, 48 KiB"
    assert told["transform"].startswith("center_crop(size=(32, 32)")
    assert (told["clip_transform"], told["fields"]) == ("abs", "index")
    assert told["memory"].endswith("B of paths and labels")


@pytest.mark.parametrize(
    "labels, classes",
    [
        ([-1, -1], "no labels"),
        ([0.5, 1.5], "labels that are numbers"),
        (["a", "b"], "labels that are text"),
        ([[0, 1], [1, 2]], "lists of 3 classes"),
        ([np.zeros(5), np.ones(5)], "labels float64 [5]"),
        ([{"verb": 1}, {"verb": 2}], "labels verb"),
    ],
)
def test_labels_are_told_by_kind(labels, classes: str) -> None:
    items = [(f"{i}.mp4", label) for i, label in enumerate(labels)]
    data = VideoDataset(items, clip="1x1x1", transform=center_crop(32))
    assert repr(data).splitlines()[0] == f"VideoDataset: 2 samples, {classes}"


def test_a_loader_tells_batches_parts_threads_and_what_was_done(data) -> None:
    loader = VideoLoader(
        Subset(ConcatDataset([data, data]), [0, 1, 3]), 2, shuffle=True, num_workers=1, on_error="skip"
    )
    list(loader)
    title, *rows = repr(loader).splitlines()
    assert title == "VideoLoader: 2 batches of 2"
    text = "\n".join(rows)
    for part in (
        "dataset   VideoDataset: 3 samples of 2 files, 2 classes",
        "order     shuffled, drop_last=False",
        "batch     float32 [2, 3, 4, 32, 32] on cpu, 96 KiB",
        "threads   1, decoder 'auto'",
        "on_error  'skip', 0 failures so far",
        "done      2 batches; ",
    ):
        assert part in text


def test_html_escapes_what_it_tells(data) -> None:
    odd = VideoDataset([("<b>.mp4", 0)], clip="1x1x1", transform=center_crop(32))
    assert "&lt;b&gt;.mp4" in odd._repr_html_() and "<b>" not in odd._repr_html_()
    assert VideoLoader(data)._repr_html_().startswith("<table>")
