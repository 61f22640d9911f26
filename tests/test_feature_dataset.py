"""FeatureDataset: what it reads, how it rescales and clips, and what it does with files that are wrong."""

import json
import warnings

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from vidload.errors import UnreadableVideoError, VideoNotFoundError
from vidload.feature_dataset import FeatureDataset, read_features, rescale_features

SMALL = {"temporal_dim": 8, "feat_dim": 3}


def entry(segments=(), duration=10.0, num_frames=320, feature_frames=320, **more):
    rows = [{"segment": list(segment), "label": "run"} for segment in segments]
    facts = {"duration_second": duration, "duration_frame": num_frames, "feature_frame": feature_frames}
    return {**facts, "annotations": rows, **more}


def features(seed, num_snippets=8):
    return np.random.RandomState(seed).randn(num_snippets, 3).astype(np.float32)


def write_csv(path, values):
    header = ",".join(f"f{k}" for k in range(values.shape[1]))
    lines = [",".join(repr(float(v)) for v in row) for row in values]
    path.write_text("\n".join([header, *lines]) + "\n")


@pytest.fixture
def folder(tmp_path):
    """Three videos, a, b and c."""
    for seed, name in enumerate("abc"):
        np.save(tmp_path / f"{name}.npy", features(seed))
    return tmp_path


def three(**changed):
    return {name: changed.get(name, entry([(1, 2)])) for name in "abc"}


# Reading


def test_a_sample_is_the_transposed_features_and_the_segments_by_covered_seconds(folder):
    # 1424 of 1437 frames are covered: 56.96 of 57.48 seconds.
    annotations = {"a": entry([(5.696, 28.48)], 57.48, 1437, 1424)}
    sample = FeatureDataset(annotations, folder, **SMALL)[0]
    np.testing.assert_array_equal(sample.features, features(0).T)
    np.testing.assert_allclose(sample.segments, [[0.1, 0.5]])
    assert (sample.features.dtype, sample.segments.dtype, sample.video_index) == (
        torch.float32,
        torch.float64,
        0,
    )


def test_csv_and_npy_of_the_same_numbers_read_alike_bit_for_bit(tmp_path):
    values = features(1, 5)
    np.save(tmp_path / "x.npy", values)
    write_csv(tmp_path / "x.csv", values)
    np.testing.assert_array_equal(read_features(tmp_path / "x.csv"), read_features(tmp_path / "x.npy"))


def test_a_csv_of_whole_numbers_and_one_row_reads_too(tmp_path):
    (tmp_path / "x.csv").write_text("f0,f1,f2\n1,2.5,-3e2\n")
    np.testing.assert_array_equal(read_features(tmp_path / "x.csv"), np.array([[1, 2.5, -300]], np.float32))


def test_annotations_may_be_a_file_in_the_layout_of_mmaction2_or_of_activitynet(folder):
    (folder / "mmaction.json").write_text(json.dumps(three()))
    database = {
        n: {"duration": 10.0, "subset": "training", "annotations": entry([(1, 2)])["annotations"]} for n in "abc"
    }
    (folder / "activitynet.json").write_text(json.dumps({"version": "1.3", "database": database}))
    for name in ("mmaction.json", "activitynet.json"):
        dataset = FeatureDataset(folder / name, folder, **SMALL)
        assert [video.name for video in dataset.videos] == ["a", "b", "c"]
        np.testing.assert_allclose(dataset[1].segments, [[0.1, 0.2]])


def test_files_named_v_name_are_found_as_activitynet_has_them(tmp_path):
    write_csv(tmp_path / "v_x.csv", features(0))
    assert len(FeatureDataset({"x": entry()}, tmp_path, **SMALL)) == 1


def test_a_subset_is_kept_alone(folder):
    annotations = {
        "a": entry(subset="training"),
        "b": entry(subset="validation"),
        "c": entry(subset="training"),
    }
    dataset = FeatureDataset(annotations, folder, subset="training", **SMALL)
    assert [video.name for video in dataset.videos] == ["a", "c"]
    with pytest.raises(ValueError, match="no video of subset 'testing' has features"):
        FeatureDataset(annotations, folder, subset="testing", **SMALL)


def write_facts(folder, *rows, end="\n"):
    (folder / "features.jsonl").write_text("\n".join(json.dumps(row) for row in rows) + end)


def test_lengths_missing_from_the_annotations_come_from_features_jsonl(folder):
    facts = {"name": "a", "duration_second": 20.0, "duration_frame": 100, "feature_frame": 80}
    write_facts(folder, {"settings": {}}, {**facts, "duration_second": 10.0}, facts)  # the later line counts
    dataset = FeatureDataset({"a": {"annotations": [{"segment": [4, 8]}]}}, folder, **SMALL)
    assert dataset.videos[0].covered_seconds == 16
    np.testing.assert_allclose(dataset[0].segments, [[0.25, 0.5]])
    unlabelled = FeatureDataset(None, folder, **SMALL)
    assert [video.name for video in unlabelled.videos] == ["a"]
    assert unlabelled[0].segments.shape == (0, 2)


def test_a_last_line_of_features_jsonl_that_was_cut_off_is_left_out_and_another_one_refused(folder):
    facts = [{"name": name, "duration_second": 20.0} for name in "ab"]
    write_facts(folder, *facts, end="")
    assert [video.name for video in FeatureDataset(None, folder, **SMALL).videos] == ["a"]
    write_facts(folder, ["a"], *facts)
    with pytest.raises(ValueError, match=r"features\.jsonl:1: not a line that 'vidload features' writes"):
        FeatureDataset(None, folder, **SMALL)


# Rescaling


def slow_rescale(snippets, n):
    """Each output is the triangle-weighted mean of the snippets around it; positions count from 0 to 1."""
    m = len(snippets)
    width = max(1 / m, 1 / n)
    out = np.zeros((n, snippets.shape[1]))
    for i in range(n):
        center = (i + 0.5) / n
        weights = np.array([max(0, 1 - abs((k + 0.5) / m - center) / width) for k in range(m)])
        out[i] = weights @ snippets / weights.sum()
    return out.T


@pytest.mark.parametrize("num_snippets", [1, 3, 8, 9, 40])
def test_rescaling_is_linear_when_it_stretches_and_averages_when_it_shrinks(num_snippets):
    snippets = features(4, num_snippets)
    np.testing.assert_allclose(rescale_features(snippets, 8), slow_rescale(snippets, 8), atol=1e-6)


def test_rescaling_a_line_keeps_it_a_line_but_for_the_ends():
    line = np.linspace(0.5, 49.5, 50, dtype=np.float32)[:, None]  # the value is the position's middle
    np.testing.assert_allclose(rescale_features(line, 100)[0, 1:-1], np.arange(1, 99) / 2 + 0.25, rtol=1e-5)
    np.testing.assert_allclose(rescale_features(line, 10)[0, 1:-1], np.arange(1, 9) * 5 + 2.5, rtol=1e-5)


# Annotations at the edges


@pytest.mark.parametrize("segment, training, evaluated", [
    ((2, 4), [[0.25, 0.5]], 1),
    ((6, 12), [[0.75, 1.0]], 1),         # across the end of what is covered: clipped
    ((-3, 4), [[0.0, 0.5]], 1),          # across the start
    ((8.5, 9.5), [], 1),                 # beyond the covered part, within the video
    ((3, 3), [], 0),                     # zero length
    ((5, 3), [], 0),                     # reversed
    ((float("nan"), 3), [], 0),
])  # fmt: skip
def test_a_segment_is_clipped_or_dropped_and_listed(folder, segment, training, evaluated):
    dataset = FeatureDataset({"a": entry([segment], feature_frames=256)}, folder, **SMALL)  # 8 of 10 seconds
    np.testing.assert_allclose(dataset[0].segments, np.reshape(training, (-1, 2)))
    assert len(dataset.ground_truth()["a"]) == evaluated
    reasons = [reason for _, _, reason in dataset.dropped_segments]
    expected = [] if training else ["outside the covered part" if evaluated else "empty or reversed"]
    assert reasons == expected


def test_a_video_without_segments_is_a_sample_with_none(folder):
    dataset = FeatureDataset({"a": entry()}, folder, **SMALL)
    assert dataset[0].segments.shape == (0, 2)
    assert dataset.ground_truth() == {"a": []}


@pytest.mark.parametrize("feature_frames", [0, 1])
def test_a_video_of_one_frame_is_covered_whole(tmp_path, feature_frames):
    np.save(tmp_path / "x.npy", features(0, 1))
    dataset = FeatureDataset({"x": entry([(0, 0.04)], 0.04, 1, feature_frames)}, tmp_path, **SMALL)
    np.testing.assert_allclose(dataset[0].segments, [[0, 1]])
    np.testing.assert_array_equal(dataset[0].features, np.repeat(features(0, 1).T, 8, axis=1))


def test_ground_truth_is_in_seconds_with_labels(folder):
    dataset = FeatureDataset({"a": entry([(1, 2), (3, 3), (4, 9)])}, folder, **SMALL)
    assert dataset.ground_truth() == {"a": [{"segment": [s, e], "label": "run"} for s, e in ((1, 2), (4, 9))]}


@pytest.mark.parametrize("bad, message", [
    ({"annotations": []}, "a: duration_second is nan; need the length in seconds, above 0"),
    (entry(duration=0), "a: duration_second is 0.0"),
    (entry(duration="long"), "a: ValueError.*need numbers"),
    ({**entry(), "annotations": [{"segment": [1, 2, 3]}]}, "a: ValueError"),
    ({**entry(), "annotations": [{"label": "run"}]}, r"a: KeyError\('segment'\)"),
    ([], "not annotations"),
])  # fmt: skip
def test_annotations_that_make_no_sense_are_refused_by_video(folder, bad, message):
    path = folder / "truth.json"
    path.write_text(json.dumps({"a": bad}))
    with pytest.raises(ValueError, match=rf"truth\.json: .*{message}"):
        FeatureDataset(path, folder, **SMALL)


@pytest.mark.parametrize("text, message", [("{", "truth.json: not JSON"), ("[]", "truth.json: not annotations")])
def test_what_is_no_annotation_file_is_refused_by_name(folder, text, message):
    path = folder / "truth.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        FeatureDataset(path, folder, **SMALL)


def test_missing_annotations_are_said_to_be_missing(folder):
    with pytest.raises(FileNotFoundError, match=r"none\.json"):
        FeatureDataset(folder / "none.json", folder, **SMALL)
    with pytest.raises(ValueError, match=r"features\.jsonl: missing or empty"):
        FeatureDataset(None, folder, **SMALL)


# Files that are wrong

DAMAGE = {
    "cut short": lambda path: path.write_bytes(path.read_bytes()[:100]),
    "empty": lambda path: path.write_bytes(b""),
    "not an array": lambda path: path.write_text("hello"),
    "of another width": lambda path: np.save(path, np.zeros((8, 4), np.float32)),
    "without rows": lambda path: np.save(path, np.zeros((0, 3), np.float32)),
    "of three dimensions": lambda path: np.save(path, np.zeros((2, 8, 3), np.float32)),
    "not finite": lambda path: np.save(path, np.full((8, 3), np.nan, np.float32)),
    "objects": lambda path: np.save(path, np.array([[{}]], dtype=object), allow_pickle=True),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_file_raises_when_its_sample_is_asked_for_and_leaves_the_others_alone(folder, damage):
    damage(folder / "b.npy")
    dataset = FeatureDataset(three(), folder, **SMALL)
    with pytest.raises(UnreadableVideoError, match=r"b\.npy: .*features"):
        dataset[1]
    assert [dataset[k].video_index for k in (0, 2)] == [0, 2]


@pytest.mark.parametrize("text", ["f0,f1,f2\n1,2\n", "f0,f1,f2\n1,2,x\n", "f0,f1,f2\n1,,3\n", "f0,f1,f2\n", ""])
def test_a_damaged_csv_is_refused_by_name(tmp_path, text):
    (tmp_path / "x.csv").write_text(text)
    with pytest.raises(UnreadableVideoError, match=r"x\.csv: "):
        read_features(tmp_path / "x.csv")


def test_a_missing_file_raises_at_once(folder):
    (folder / "b.npy").unlink()
    with pytest.raises(VideoNotFoundError, match=r"b\.npy: no such feature file"):
        FeatureDataset(three(), folder, **SMALL)


def test_skip_leaves_out_missing_and_damaged_files_and_lists_them(folder):
    (folder / "a.npy").unlink()
    DAMAGE["cut short"](folder / "b.npy")
    dataset = FeatureDataset(three(), folder, on_error="skip", **SMALL)
    assert [video.name for video in dataset.videos] == ["c"]
    assert [error.path.rpartition("/")[2] for error in dataset.failures] == ["a.npy", "b.npy"]


def test_substitute_takes_the_next_good_video_and_warns_once(folder):
    DAMAGE["cut short"](folder / "b.npy")
    DAMAGE["cut short"](folder / "c.npy")
    dataset = FeatureDataset(three(), folder, on_error="substitute", **SMALL)
    with pytest.warns(UserWarning, match=r"[bc]\.npy: .*another video takes its place") as caught:
        assert dataset[1].video_index == 0
    assert len(caught) == len(dataset.failures) == 2
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert dataset[2].video_index == 0


def test_substitute_gives_up_when_no_file_can_be_read(folder):
    for name in "abc":
        DAMAGE["empty"](folder / f"{name}.npy")
    dataset = FeatureDataset(three(), folder, on_error="substitute", **SMALL)
    with pytest.warns(UserWarning), pytest.raises(ValueError, match="no feature file of 3 can be read"):
        dataset[0]


def test_nothing_left_is_an_error_that_says_why(tmp_path):
    with pytest.raises(ValueError, match=r"no video has features in .*no such feature file"):
        FeatureDataset({"x": entry()}, tmp_path, on_error="skip", **SMALL)


def test_an_unknown_on_error_and_an_index_out_of_range_are_refused(folder):
    with pytest.raises(ValueError, match='on_error is \'ignore\', must be "raise", "skip" or "substitute"'):
        FeatureDataset(three(), folder, on_error="ignore", **SMALL)
    with pytest.raises(IndexError, match=r"sample 3 is out of range \[0, 3\)"):
        FeatureDataset(three(), folder, **SMALL)[3]


# Batches


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_data_loader_batches_videos_with_different_numbers_of_segments(folder, num_workers):
    annotations = three(a=entry([(1, 2), (3, 4)]), b=entry())
    dataset = FeatureDataset(annotations, folder, **SMALL)
    (batch,) = DataLoader(dataset, batch_size=3, num_workers=num_workers, collate_fn=dataset.collate)
    assert batch.features.shape == (3, 3, 8)
    assert [len(segments) for segments in batch.segments] == [2, 0, 1]
    assert batch.video_indices.tolist() == [0, 1, 2]
