"""Metrics of temporal localization, as ActivityNet's evaluation computes them: AR@AN with its AUC, and mAP.

In: ground truth and results as dictionaries of lists, times in seconds, as FeatureDataset.ground_truth() and
read_results return them. Out: plain arrays. Nothing here depends on a network.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .localization import Floats, as_segments, segment_iou

TIOU_THRESHOLDS: Floats = np.linspace(0.5, 0.95, 10)

# {video: entries}; an entry has "segment" [start, end] in seconds, "score" in results, and perhaps a "label".
Entries = Mapping[str, Sequence[Mapping[str, Any]]]


@dataclass(frozen=True)
class AverageRecall:
    """Recall of proposals against their average number per video.

    recall: float64 [thresholds, max_proposals]; column j - 1 is for an average of j proposals per video.
    average_recall: float64 [max_proposals], its mean over the thresholds.
    auc: area under `average_recall` in percent of max_proposals, by trapezoids from 1 to max_proposals.
    """

    recall: Floats
    average_recall: Floats
    auc: float

    def at(self, num_proposals: int) -> float:
        """AR@AN: average recall (0..1) with `num_proposals` proposals per video on average. Raises ValueError outside 1..max_proposals."""
        if not 1 <= num_proposals <= len(self.average_recall):
            raise ValueError(f"AR@{num_proposals}: need a number in 1..{len(self.average_recall)}")
        return float(self.average_recall[num_proposals - 1])


def average_recall(
    ground_truth: Entries,
    proposals: Entries,
    *,
    max_proposals: int = 100,
    tiou_thresholds: Sequence[float] | Floats = TIOU_THRESHOLDS,
) -> AverageRecall:
    """AR@AN over the videos that have ground truth; labels are ignored, and so are results of other videos.

    With V videos and P proposals, each video keeps its best floor(count * max_proposals * V / P), Q in all.
    At an average of j proposals per video, each uses the best floor(kept * j * V / Q) of these, at most all;
    recall is the share of true segments that one of them overlaps with IoU >= threshold. Of equal scores the
    earlier entry ranks first. Raises ValueError if there is no ground truth.
    """
    thresholds = np.asarray(tiou_thresholds, dtype=np.float64)
    videos = [video for video, entries in ground_truth.items() if len(entries) > 0]
    if not videos:
        raise ValueError("average recall: no video has a ground-truth segment")
    ranked = [_ranked(proposals.get(video, ())) for video in videos]
    total = sum(map(len, ranked))
    if total == 0:
        none = np.zeros((len(thresholds), max_proposals))
        return AverageRecall(none, none.mean(axis=0), 0.0)
    # Products and quotients in this order round as ActivityNet's own do, which decides some of the floors.
    keep = max_proposals * float(len(videos)) / total
    ranked = [rows[: min(int(len(rows) * keep), len(rows))] for rows in ranked]
    num_kept = sum(map(len, ranked))
    steps = np.arange(1, max_proposals + 1)
    fractions = steps / float(max_proposals) * (max_proposals * float(len(videos)) / max(num_kept, 1))

    num_segments = 0
    num_recalled = np.zeros((len(thresholds), max_proposals))
    for video, rows in zip(videos, ranked, strict=True):
        segments = _segments(ground_truth[video])
        num_segments += len(segments)
        # Best overlap of every true segment with the first 0, 1, 2, ... proposals.
        best = np.zeros((len(segments), len(rows) + 1))
        np.maximum.accumulate(segment_iou(segments, rows), axis=1, out=best[:, 1:])
        num_used = np.minimum((len(rows) * fractions).astype(np.int64), len(rows))
        covered = (best[None, :, :] >= thresholds[:, None, None]).sum(axis=1)  # [thresholds, rows + 1]
        covered[:, 0] = 0  # even at a threshold of 0, no proposal finds nothing
        num_recalled += covered[:, num_used]
    recall = num_recalled / num_segments
    mean = recall.mean(axis=0)
    auc = 100.0 * float((mean[1:] + mean[:-1]).sum() / 2) / max_proposals
    return AverageRecall(recall, mean, auc)


@dataclass(frozen=True)
class MeanAveragePrecision:
    """Detection precision at each overlap threshold.

    labels: the classes of the ground truth, sorted; [None] if classes were not distinguished.
    average_precision: float64 [labels, thresholds]. mean: float64 [thresholds], over labels.
    average: the mean of `mean`, which ActivityNet ranks by.
    """

    labels: list[Any]
    average_precision: Floats
    mean: Floats
    average: float


def mean_average_precision(
    ground_truth: Entries,
    detections: Entries,
    *,
    tiou_thresholds: Sequence[float] | Floats = TIOU_THRESHOLDS,
    per_class: bool = True,
) -> MeanAveragePrecision:
    """mAP over the classes of the ground truth; `per_class=False` treats all segments as one class.

    Detections of a class are taken by descending score (of equal scores the earlier first). Each takes the
    true segment of its video and class that it overlaps most among those not yet taken; it is right if that
    IoU is >= the threshold. Average precision is the area under the precision-recall curve, each precision
    raised to the highest one at no lower recall ("interpolated"). A detection in a video without ground truth
    is wrong; one of a class that the ground truth does not have is left out. Raises ValueError if there is no
    ground truth, or a label is missing.
    """
    thresholds = np.asarray(tiou_thresholds, dtype=np.float64)
    truth = _by_label(ground_truth, per_class, "ground truth")
    if not truth:
        raise ValueError("mean average precision: no video has a ground-truth segment")
    found = _by_label(detections, per_class, "detections")
    labels = sorted(truth, key=str) if per_class else [None]
    precision = np.stack([_average_precision(truth[label], found.get(label, {}), thresholds) for label in labels])
    mean = precision.mean(axis=0)
    return MeanAveragePrecision(labels, precision, mean, float(mean.mean()))


def _segments(entries: Sequence[Mapping[str, Any]]) -> Floats:
    return as_segments([entry["segment"] for entry in entries])


def _scores(entries: Sequence[Mapping[str, Any]]) -> Floats:
    return np.array([entry["score"] for entry in entries], dtype=np.float64)


def _ranked(entries: Sequence[Mapping[str, Any]]) -> Floats:
    return _segments(entries)[np.argsort(-_scores(entries), kind="stable")]


def _by_label(entries: Entries, per_class: bool, what: str) -> dict[Any, dict[str, list[Mapping[str, Any]]]]:
    groups: dict[Any, dict[str, list[Mapping[str, Any]]]] = {}
    for video, rows in entries.items():
        for row in rows:
            if per_class and "label" not in row:
                raise ValueError(f"{what}: {video} has an entry without a label; give labels or per_class=False")
            groups.setdefault(row["label"] if per_class else None, {}).setdefault(video, []).append(row)
    return groups


def _average_precision(
    truth: Mapping[str, Sequence[Mapping[str, Any]]],
    found: Mapping[str, Sequence[Mapping[str, Any]]],
    thresholds: Floats,
) -> Floats:
    """Average precision [thresholds] of one class, from its entries by video."""
    if not found:
        return np.zeros(len(thresholds))
    scores = np.concatenate([_scores(entries) for entries in found.values()])
    correct = np.concatenate(
        [_matches(_segments(truth.get(video, ())), entries, thresholds) for video, entries in found.items()]
    )
    order = np.argsort(-scores, kind="stable")
    num_segments = sum(map(len, truth.values()))
    num_correct = correct[order].cumsum(axis=0)  # [detections, thresholds]
    precision = num_correct / np.arange(1, len(order) + 1)[:, None]
    precision = np.maximum.accumulate(precision[::-1], axis=0)[::-1]
    gained = np.diff(num_correct, axis=0, prepend=0) / num_segments  # recall won at each detection
    return np.asarray((precision * gained).sum(axis=0))


def _matches(segments: Floats, entries: Sequence[Mapping[str, Any]], thresholds: Floats) -> NDArray[np.bool_]:
    """Which detections of a video are right: bool [detections, thresholds], in the order of `entries`.

    One after another, because each takes a segment away from the later ones; all thresholds at once.
    """
    correct = np.zeros((len(entries), len(thresholds)), dtype=bool)
    if len(segments) == 0:
        return correct
    overlap = segment_iou(_segments(entries), segments)
    free = np.ones((len(thresholds), len(segments)), dtype=bool)
    every = np.arange(len(thresholds))
    by_score = np.argsort(-_scores(entries), kind="stable")
    for k in by_score[overlap.max(axis=1)[by_score] >= thresholds.min()]:
        candidates = np.where(free, overlap[k], -1.0)
        best = candidates.argmax(axis=1)
        hit = candidates[every, best] >= thresholds
        correct[k] = hit
        free[every[hit], best[hit]] = False
    return correct
