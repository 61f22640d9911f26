"""AR@AN and mAP against MMAction2's numbers, hand-computed cases and slow, obvious code written here."""

from pathlib import Path

import numpy as np
import pytest

from vidload.models.localization_metrics import TIOU_THRESHOLDS, average_recall, mean_average_precision

FIXTURES = Path(__file__).parent / "fixtures" / "localization"


def truth_of(segments, labels=None):
    labels = labels or [None] * len(segments)
    return [{"segment": list(s), "label": label} for s, label in zip(segments, labels, strict=True)]


def results_of(rows):
    return [{"segment": [start, end], "score": score} for start, end, score in rows]


def iou(a, b):
    shared = max(min(a[1], b[1]) - max(a[0], b[0]), 0)
    return shared / (a[1] - a[0] + b[1] - b[0] - shared)


def random_case(seed, num_videos=12, num_results=60, labels=("run", "jump", "swim")):
    """Some results near the truth, most of them anywhere; some videos without truth or results."""
    random = np.random.RandomState(seed)
    truth, results = {}, {}
    for v in range(num_videos):
        segments = np.sort(random.rand(random.randint(0, 5), 2) * 100, axis=1)
        truth[f"v{v}"] = truth_of(segments, [labels[k] for k in random.randint(len(labels), size=len(segments))])
        count = random.randint(0, num_results)
        spans = np.sort(random.rand(count, 2) * 100, axis=1)
        if len(segments):
            near = random.rand(count) < 0.4
            picks = segments[random.randint(len(segments), size=count)]
            spans[near] = np.sort(picks + random.randn(count, 2) * 3, axis=1)[near]
        results[f"v{v}"] = results_of(np.column_stack([spans, random.rand(count)]))
        for row in results[f"v{v}"]:
            row["label"] = labels[random.randint(len(labels))]
    results["not in the truth"] = results_of([[0, 1, 0.9]])
    results["not in the truth"][0]["label"] = labels[0]
    return truth, results


# AR@AN


def test_average_recall_agrees_with_mmaction2():
    fixture = np.load(FIXTURES / "localization_ar_an.npz")
    truth = {f"v{i}": truth_of(fixture[f"gt_v{i}"]) for i in range(4)}
    results = {f"v{i}": results_of(fixture[f"proposals_v{i}"]) for i in range(4)}
    measured = average_recall(truth, results)
    np.testing.assert_allclose(measured.recall, fixture["recall"], atol=1e-12)
    np.testing.assert_allclose(measured.average_recall, fixture["average_recall"], atol=1e-12)
    np.testing.assert_allclose([measured.at(k) for k in (1, 5, 10, 100)], fixture["AR_at_1_5_10_100"], atol=1e-12)
    assert measured.auc == pytest.approx(float(fixture["auc"]), abs=1e-9)


def slow_average_recall(truth, results, max_proposals=100):
    truth = {video: entries for video, entries in truth.items() if entries}
    num_videos = float(len(truth))
    ranked = {v: sorted(results.get(v, []), key=lambda row: -row["score"]) for v in truth}
    keep = max_proposals * num_videos / sum(map(len, ranked.values()))
    ranked = {v: rows[: min(int(len(rows) * keep), len(rows))] for v, rows in ranked.items()}
    total = sum(map(len, ranked.values()))
    recall = np.zeros((len(TIOU_THRESHOLDS), max_proposals))
    for i, threshold in enumerate(TIOU_THRESHOLDS):
        for j in range(max_proposals):
            fraction = (j + 1) / float(max_proposals) * (max_proposals * num_videos / total)
            found = 0
            for v, entries in truth.items():
                used = ranked[v][: min(int(len(ranked[v]) * fraction), len(ranked[v]))]
                for entry in entries:
                    found += any(iou(row["segment"], entry["segment"]) >= threshold for row in used)
            recall[i, j] = found / sum(map(len, truth.values()))
    mean = recall.mean(axis=0)
    return recall, 100 * sum((mean[j] + mean[j + 1]) / 2 for j in range(max_proposals - 1)) / max_proposals


@pytest.mark.parametrize("seed, max_proposals", [(0, 100), (1, 20)])
def test_average_recall_equals_the_slow_form(seed, max_proposals):
    truth, results = random_case(seed)
    measured = average_recall(truth, results, max_proposals=max_proposals)
    recall, auc = slow_average_recall(truth, results, max_proposals)
    np.testing.assert_allclose(measured.recall, recall, atol=1e-12)
    assert measured.auc == pytest.approx(auc)


def test_average_recall_of_a_hand_computed_case():
    truth = {"a": truth_of([[0, 10]]), "b": truth_of([[0, 10], [20, 30]])}
    results = {
        "a": results_of([[0, 10, 0.1], [50, 60, 0.9]]),  # the right one comes second
        "b": results_of([[0, 8, 0.9], [20, 30, 0.8]]),  # IoU 0.8 and 1
    }
    measured = average_recall(truth, results)
    # One each: only b's first, at thresholds 0.5 to 0.8, which are 7 of 10 (0.8 as float counts as reached).
    np.testing.assert_allclose(measured.at(1), (1 / 3) * 7 / 10)
    np.testing.assert_allclose(measured.at(2), (2 / 3) + (1 / 3) * 7 / 10)
    assert measured.at(100) == measured.at(2)


def perfect(truth):
    return {v: results_of([[*e["segment"], 1 - k / 10] for k, e in enumerate(rows)]) for v, rows in truth.items()}


def test_perfect_proposals_have_full_recall_and_precision():
    truth, _ = random_case(2)
    results = perfect(truth)
    recall = average_recall(truth, results)
    assert recall.at(5) == 1
    assert recall.auc > 97
    assert mean_average_precision(truth, results, per_class=False).average == 1


def test_random_proposals_recall_what_chance_gives_and_have_almost_no_precision():
    random = np.random.RandomState(0)
    truth = {f"v{i}": truth_of([[40, 60]]) for i in range(200)}
    spans = np.sort(random.rand(200, 100, 2) * 100, axis=2)
    results = {f"v{i}": results_of(np.column_stack([spans[i], random.rand(100)])) for i in range(200)}
    hits = np.array([[iou(span, (40, 60)) for span in row] for row in spans])[..., None] >= TIOU_THRESHOLDS
    chance = 1 - (1 - hits.mean(axis=(0, 1))) ** 10  # at least one of ten independent proposals
    measured = average_recall(truth, results)
    np.testing.assert_allclose(measured.recall[:, 9], chance, atol=0.1)
    assert measured.at(10) == pytest.approx(chance.mean(), abs=0.03)
    assert mean_average_precision(truth, results, per_class=False).average < 0.05


def test_videos_without_ground_truth_change_nothing():
    truth, results = random_case(3)
    full = average_recall(truth, results)
    only = {video: entries for video, entries in truth.items() if entries}
    np.testing.assert_array_equal(average_recall(only, results).recall, full.recall)


def test_no_proposals_at_all_recall_nothing():
    measured = average_recall({"a": truth_of([[0, 1]])}, {})
    assert (measured.auc, measured.at(100)) == (0, 0)


def test_ar_beyond_the_measured_number_is_refused():
    with pytest.raises(ValueError, match=r"AR@101: need a number in 1\.\.100"):
        average_recall({"a": truth_of([[0, 1]])}, {}).at(101)


# mAP


def slow_average_precision(truth, results, threshold):
    """ActivityNet's procedure, detection by detection; truth and results of one class."""
    found = [(row["score"], video, row["segment"]) for video, rows in results.items() for row in rows]
    found.sort(key=lambda row: -row[0])
    taken, hits = set(), []
    for _, video, segment in found:
        overlaps = [(iou(segment, entry["segment"]), k) for k, entry in enumerate(truth.get(video, []))]
        for overlap, k in sorted(overlaps, reverse=True):
            if overlap >= threshold and (video, k) not in taken:
                taken.add((video, k))
                hits.append(True)
                break
        else:
            hits.append(False)
    total = sum(map(len, truth.values()))
    area, recall = 0.0, 0.0
    for k in range(len(hits)):
        best = max((sum(hits[: m + 1]) / (m + 1) for m in range(k, len(hits))), default=0)
        area += (sum(hits[: k + 1]) / total - recall) * best
        recall = sum(hits[: k + 1]) / total
    return area


def of_label(entries, label):
    return {video: [row for row in rows if row["label"] == label] for video, rows in entries.items()}


@pytest.mark.parametrize("seed", [0, 1])
def test_mean_average_precision_equals_the_slow_form_class_by_class(seed):
    truth, results = random_case(seed, num_results=12)
    measured = mean_average_precision(truth, results)
    assert measured.labels == ["jump", "run", "swim"]
    for label, row in zip(measured.labels, measured.average_precision, strict=True):
        ours, theirs = of_label(truth, label), of_label(results, label)
        np.testing.assert_allclose(row, [slow_average_precision(ours, theirs, t) for t in TIOU_THRESHOLDS])
    np.testing.assert_allclose(measured.mean, measured.average_precision.mean(axis=0))
    assert measured.average == pytest.approx(measured.mean.mean())


def test_mean_average_precision_of_a_hand_computed_case():
    truth = {"a": truth_of([[0, 10], [20, 30]]), "b": truth_of([[0, 10]])}
    results = {
        "a": results_of([[0, 10, 0.9], [0, 10, 0.8], [20, 30, 0.4]]),  # right, a double, right
        "b": results_of([[50, 60, 0.7]]),  # wrong
        "c": results_of([[0, 10, 0.6]]),  # no ground truth: wrong
    }
    # Right at ranks 1 and 5 of 5, of 3 true segments: precisions 1 and 2/5.
    measured = mean_average_precision(truth, results, per_class=False)
    assert measured.labels == [None]
    np.testing.assert_allclose(measured.average_precision, np.full((1, 10), (1 + 2 / 5) / 3))


def test_a_detection_takes_the_best_of_the_segments_that_are_left():
    truth = {"a": truth_of([[0, 10], [1, 11]])}
    results = {"a": results_of([[0, 10, 0.9], [0, 10, 0.8]])}  # IoU with the second: 9/11
    measured = mean_average_precision(truth, results, per_class=False, tiou_thresholds=[0.8, 0.9])
    np.testing.assert_allclose(measured.mean, [1.0, 0.5])


def test_a_class_without_detections_counts_as_zero_and_an_unknown_class_not_at_all():
    truth = {"a": truth_of([[0, 10], [20, 30]], ["run", "jump"])}
    results = {"a": [{"segment": [0, 10], "score": 1.0, "label": label} for label in ("run", "fly")]}
    measured = mean_average_precision(truth, results)
    assert measured.labels == ["jump", "run"]
    np.testing.assert_array_equal(measured.average_precision, [[0] * 10, [1] * 10])


def test_detections_without_labels_are_refused_by_name():
    truth = {"a": truth_of([[0, 10]], ["run"])}
    with pytest.raises(ValueError, match="detections: a has an entry without a label"):
        mean_average_precision(truth, {"a": results_of([[0, 10, 1.0]])})


@pytest.mark.parametrize("metric", [average_recall, mean_average_precision])
def test_an_empty_ground_truth_is_refused(metric):
    with pytest.raises(ValueError, match="no video has a ground-truth segment"):
        metric({"a": []}, {"a": results_of([[0, 1, 1.0]])})
