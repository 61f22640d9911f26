"""Labels of every kind: dataset[i], a plain DataLoader and VideoLoader agree on them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from samples import both, is_same
from torch.utils.data import DataLoader, default_collate

from vidload import VideoDataset, VideoLoader
from vidload.labels import column_of, label_at, labels_at
from vidload.transforms import center_crop

TABLE = [
    pytest.param([0, 2, 1], torch.tensor([0, 2, 1]), id="integers"),
    pytest.param([0.5, 2, -1.5], torch.tensor([0.5, 2.0, -1.5], dtype=torch.float64), id="numbers"),
    pytest.param(["run", "jump", "sit"], ("run", "jump", "sit"), id="text"),
    pytest.param([[0, 3], [1], []], [[0, 3], [1], []], id="lists of unequal length"),
    pytest.param([[0, 3], [1, 2], [5, 4]], [[0, 3], [1, 2], [5, 4]], id="lists of equal length"),
    pytest.param([[0.25, 0.75], [1, 0], [0, 1.0]], torch.tensor([[0.25, 0.75], [1, 0], [0, 1]]), id="soft"),
    pytest.param(
        [np.array([1, 2, 3], np.int16)] * 3, torch.tensor([[1, 2, 3]] * 3, dtype=torch.int16), id="one per clip"
    ),
    pytest.param([torch.ones(2, 2) * i for i in range(3)], torch.ones(3, 2, 2) * torch.arange(3).view(3, 1, 1), id="tensors"),
    pytest.param(
        [{"verb": 1, "noun": "cup", "all": [1, 2]}, {"verb": 3, "noun": "pot", "all": []}, {"all": [0], "noun": "", "verb": 0}],
        {"verb": torch.tensor([1, 3, 0]), "noun": ["cup", "pot", ""], "all": [[1, 2], [], [0]]},
        id="dicts",
    ),
]  # fmt: skip


def plain(value: Any) -> Any:
    """Without ClassList."""
    if isinstance(value, dict):
        return {key: plain(part) for key, part in value.items()}
    return [plain(part) for part in value] if isinstance(value, list) else value


@pytest.mark.parametrize("labels, batch", TABLE)
def test_labels_of_a_batch_are_those_of_its_samples(labels: list[Any], batch: Any) -> None:
    column = column_of(labels)
    assert is_same(plain(labels_at(column, [0, 1, 2])), batch)
    assert is_same(default_collate(tuple(label_at(column, i) for i in range(3))), labels_at(column, [0, 1, 2]))


@pytest.mark.parametrize("labels, batch", TABLE)
def test_loaders_agree_on_labels(labels: list[Any], batch: Any, video) -> None:
    data = VideoDataset([(video("h264"), label) for label in labels], clip="1x1x1", transform=center_crop(16))
    ((_, of_batch),) = both(data)
    assert is_same(plain(of_batch), batch)


def test_lists_of_classes_become_multi_hot_with_num_classes(video) -> None:
    items = [(video("h264"), classes) for classes in ([0, 3], [1], [])]
    data = VideoDataset(items, clip="1x1x1", transform=center_crop(16), num_classes=4)
    assert data[0][1].tolist() == [1, 0, 0, 1]
    ((_, labels),) = both(data)
    assert labels.dtype == torch.float32 and labels.tolist() == [[1, 0, 0, 1], [0, 1, 0, 0], [0, 0, 0, 0]]


@pytest.mark.parametrize(
    "labels, message",
    [
        ([[0, 4]], r"num_classes is 4, and class 4 is not in \[0, 4\)"),
        ([[0], [-1]], r"class -1 is not in \[0, 4\)"),
        ([3, 7], r"class 7 is not in \[0, 4\)"),
        (["run"], "num_classes goes with labels that are integers or lists of integers"),
        ([0, -1], None),
    ],
)
def test_classes_beyond_num_classes_are_refused(labels: list[Any], message: str | None) -> None:
    items = [("a.mp4", label) for label in labels]
    if message is None:
        VideoDataset(items, clip="1x1x1", transform=center_crop(16), num_classes=4)
        return
    with pytest.raises(ValueError, match=message):
        VideoDataset(items, clip="1x1x1", transform=center_crop(16), num_classes=4)


@pytest.mark.parametrize(
    "labels, message",
    [
        ([0, None], "item 1: label None is not an integer, a number, text, a list of integers or numbers"),
        ([0, "run"], "item 1: label must be an integer, as in the items before it, got 'run'"),
        ([2**63], "item 0: label .* does not fit into 64 bits"),
        ([np.zeros(2), np.zeros(3)], r"item 1: label is float64 \[3\].*item 0 has float64 \[2\]"),
        ([[0.5], [0.5, 0.5]], r"item 1: label is float32 \[2\]"),
        ([{"a": 1}, {"b": 1}], r"item 1: label has the keys \['b'\], item 0 has \['a'\]"),
        ([{"a": 1}, {"a": "x"}], r"item 1: label\['a'\] must be an integer"),
        ([b"run"], "item 0: label b'run' is not"),
    ],
)
def test_labels_that_fit_nowhere_are_refused_by_item(labels: list[Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        column_of(labels)


class WithParts(VideoDataset):
    def label(self, index: int) -> dict[str, Any]:
        return {"class": super().label(index), "path": self.annotations.path(index), "mask": torch.ones(2)}


def test_an_overridden_label_may_return_a_dict(video) -> None:
    data = WithParts([(video("h264"), i) for i in range(4)], clip="1x1x1", transform=center_crop(16), fields=["index"])
    (_, labels, fields), _ = both(data)
    assert labels["class"].tolist() == fields["index"].tolist() == [0, 1, 2]
    assert labels["path"] == [video("h264")] * 3 and labels["mask"].shape == (3, 2)


def test_labels_go_to_worker_processes(video) -> None:
    data = VideoDataset([(video("h264"), [i, i + 1]) for i in range(4)], clip="1x1x1", transform=center_crop(16))
    batches = list(DataLoader(data, 2, num_workers=1, multiprocessing_context="spawn"))
    assert is_same(batches, list(VideoLoader(data, 2)))
