"""vidload.prepare.features and `vidload features`: which frames a snippet shows, one decode, resuming, failures."""

import dataclasses
import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from videos import make_video

from vidload import VideoDataset, VideoReader, models
from vidload.cli import main
from vidload.errors import VideoError, VideoNotFoundError
from vidload.feature_dataset import FeatureDataset, read_features
from vidload.prepare import features
from vidload.prepare.features import FeatureExtractor, snippet_frames
from vidload.transforms import center_crop

create = models.create


def small_create(name, num_classes=5):
    """Instead of `models.create`: the same network with few channels, and a picture of 48 x 48."""
    torch.manual_seed(0)
    model = create(name, num_classes=num_classes, depths=(1, 1, 1, 1), width=8)
    model.recipe = dataclasses.replace(model.recipe, val_transform=center_crop(48, short_side=56))
    return model


# Snippets


@pytest.mark.parametrize("num_frames, clip_len, window, stride, expected", [
    (48, 4, 16, 16, [[2, 6, 10, 14], [18, 22, 26, 30], [34, 38, 42, 46]]),   # side by side
    (33, 1, 16, 8, [[4], [12], [20], [28]]),                                 # overlapping: the middle of each stride
    (32, 2, 16, 8, [[0, 8], [8, 16], [16, 24], [24, 31]]),                   # the first and the last reach beyond
    (20, 2, 4, 10, [[4, 6], [14, 16]]),                                      # with gaps
    (16, 4, 2, 16, [[7, 7, 8, 8]]),                                          # more frames than the window has
    (1, 3, 16, 16, [[0, 0, 0]]),                                             # one frame
    (47, 2, 16, 16, [[4, 12], [20, 28]]),                                    # the rest at the end is no snippet
])  # fmt: skip
def test_snippets_show_equally_spaced_frames_around_their_stride(num_frames, clip_len, window, stride, expected):
    assert snippet_frames(num_frames, clip_len, window, stride).tolist() == expected


@pytest.mark.parametrize("keyframes, wanted, sizes", [
    ([0], [0, 5, 90], [3]),                                # a single GOP is one run
    ([0, 40, 80], list(range(100)), [40, 40, 20]),         # long GOPs are runs of their own
    (list(range(0, 100, 10)), list(range(100)), [40, 40, 20]),  # short ones are joined
    ([0, 50], list(range(60, 70)), [10]),                  # nothing wanted of the first
])  # fmt: skip
def test_runs_are_whole_gops_of_at_least_32_wanted_frames(keyframes, wanted, sizes):
    runs = features._whole_gops(np.array(wanted), np.array(keyframes))
    assert [len(run) for run in runs] == sizes
    assert np.concatenate(runs).tolist() == wanted


def slow_features(model, path, window, stride):
    """Every snippet by itself, as a sample of a VideoDataset."""
    with VideoReader(path) as reader:
        num_frames = len(reader)
    recipe = model.recipe
    rows = []
    for frames in snippet_frames(num_frames, recipe.clip.clip_len * recipe.clip.num_clips, window, stride):
        shape = (recipe.clip.num_clips, recipe.clip.clip_len)
        dataset = VideoDataset(
            [(path, 0)],
            clip=recipe.clip,
            transform=recipe.val_transform,
            layout=recipe.layout,
            dtype=torch.uint8,
            sampling=lambda *_, frames=frames, shape=shape: frames.reshape(shape),
        )
        mean, std = (torch.tensor(values).view(3, 1, 1, 1) for values in (recipe.mean, recipe.std))
        with torch.inference_mode():
            rows.append(model.eval()((dataset[0][0][None] - mean) / std)[0].numpy())
    return np.stack(rows)


@pytest.mark.parametrize("name", ["tsn_r50_1x1x3", "slowonly_r50_4x16x1"])
@pytest.mark.parametrize("clip, window, stride", [
    ("h264_star", 16, 16),
    ("h264_open_gop", 16, 4),       # overlapping, leading pictures
    ("h264_one_frame", 16, 16),
    ("h264_portrait", 8, 20),       # gaps
])  # fmt: skip
def test_features_equal_those_of_each_snippet_decoded_by_itself(video, name, clip, window, stride):
    model = small_create(name)
    extractor = FeatureExtractor(model, window=window, stride=stride, batch_size=3, num_workers=2)
    found = extractor.extract(video(clip))
    expected = slow_features(model, video(clip), window, stride)
    np.testing.assert_allclose(found.features, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())
    assert found.features.dtype == np.float32


@pytest.mark.parametrize("num_workers", [0, 1, 3])
def test_features_do_not_depend_on_threads_or_batch_size(video, num_workers):
    path = video("h264_chain_16")
    results = [
        FeatureExtractor(small_create("tsn_r50_1x1x3"), stride=4, batch_size=size, num_workers=workers)
        .extract(path)
        .features
        for size, workers in ((1, 0), (8, num_workers))
    ]
    np.testing.assert_allclose(*results, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("clip", ["h264_chain_16", "h264_star", "h264"])
def test_a_video_is_decoded_once_however_much_its_snippets_overlap(video, clip):
    extractor = FeatureExtractor(small_create("tsn_r50_1x1x3"), window=16, stride=1, num_workers=2)
    found = extractor.extract(video(clip))
    stats = extractor.stats()
    assert found.features.shape == (48, 5)
    assert stats["num_frames"] <= 48
    assert stats["num_packets_decoded"] <= 48


def test_pooled_features_are_what_the_classifier_sees(video):
    model = small_create("slowonly_r50_4x16x1")
    pooled = FeatureExtractor(model, channels="pooled").extract(video("h264_star")).features
    logits = FeatureExtractor(model).extract(video("h264_star")).features
    assert pooled.shape == (3, model.num_features)
    classifier = model.cls_head.fc_cls
    np.testing.assert_allclose(classifier(torch.from_numpy(pooled)).detach(), logits, rtol=1e-4, atol=1e-5)


def test_facts_say_what_the_features_cover(video):
    found = FeatureExtractor(small_create("tsn_r50_1x1x3"), stride=20).extract(video("h264_star"))
    assert (len(found.features), found.num_frames, found.feature_frames) == (2, 48, 40)
    assert found.duration_seconds == pytest.approx(48 / 25)
    single = FeatureExtractor(small_create("tsn_r50_1x1x3")).extract(video("h264_one_frame"))
    assert (len(single.features), single.num_frames, single.feature_frames) == (1, 1, 1)


def test_damaged_and_missing_videos_raise_and_the_extractor_goes_on(video, tmp_path):
    extractor = FeatureExtractor(small_create("tsn_r50_1x1x3"), stride=1)
    damaged = tmp_path / "damaged.mkv"
    data = bytearray(Path(video("h264_truncated_mkv")).read_bytes())
    data[len(data) // 3 : len(data) // 2] = bytes(len(data) // 2 - len(data) // 3)
    damaged.write_bytes(data)
    with pytest.raises(VideoError, match=r"damaged\.mkv"):
        extractor.extract(str(damaged))
    with pytest.raises(VideoNotFoundError):
        extractor.extract(str(tmp_path / "none.mp4"))
    assert len(extractor.extract(video("h264_star")).features) == 48


@pytest.mark.parametrize("options, message", [
    ({"stride": 0}, "stride is 0, must be at least 1"),
    ({"window": -1}, "window is -1"),
    ({"channels": "all"}, 'channels is \'all\', must be "logits" or "pooled"'),
])  # fmt: skip
def test_options_that_make_no_sense_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        FeatureExtractor(small_create("tsn_r50_1x1x3"), **options)


def test_a_localizer_is_no_recognizer():
    with pytest.raises(TypeError, match=r"features need a recognizer.*got TEM"):
        FeatureExtractor(models.create("bsn_tem_400x100"))


# The command


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Three videos and a checkpoint, and small networks behind the names."""
    for name in ("h264_star", "h264_portrait", "h264_one_frame"):
        make_video(name, tmp_path / "videos")
    monkeypatch.setattr(models, "create", small_create)
    torch.save({"state_dict": small_create("tsn_r50_1x1x3").state_dict()}, tmp_path / "weights.pth")
    return tmp_path


def arguments(folder, *more):
    fixed = ["--model", "tsn_r50_1x1x3", "--num-classes", "5", "--checkpoint", folder / "weights.pth"]
    return [str(arg) for arg in ("features", folder / "videos", "-o", folder / "out", *fixed, *more)]


def run(folder, *more):
    return main(arguments(folder, *more))


def out_files(folder):
    return {path.name: path.read_bytes() for path in (folder / "out").iterdir()}


def test_the_written_folder_is_what_a_feature_dataset_reads(folder, capsys):
    assert run(folder) == 0
    assert "3 videos with 7 snippets written, 0 were there" in capsys.readouterr().out
    assert set(out_files(folder)) == {
        "features.jsonl",
        *(f"h264_{n}.npy" for n in ("star", "portrait", "one_frame")),
    }
    truth = {"h264_star": {"annotations": [{"segment": [0.48, 0.96], "label": "x"}]}}
    dataset = FeatureDataset(truth, folder / "out", feat_dim=5, temporal_dim=3)
    np.testing.assert_allclose(dataset[0].segments, [[0.25, 0.5]])
    extracted = (
        FeatureExtractor(small_create("tsn_r50_1x1x3")).extract(str(folder / "videos" / "h264_star.mp4")).features
    )
    np.testing.assert_allclose(dataset[0].features, extracted.T, rtol=1e-5)
    assert len(FeatureDataset(None, folder / "out", feat_dim=5)) == 3


def test_videos_at_urls_give_the_features_of_the_files(folder):
    memory = pytest.importorskip("fsspec").filesystem("memory")
    assert run(folder) == 0
    memory.pipe("/features/a.mp4", (folder / "videos" / "h264_star.mp4").read_bytes())
    (folder / "list.txt").write_text("memory://features/a.mp4 0\n")
    command = arguments(folder)
    command[1], command[3] = str(folder / "list.txt"), str(folder / "of_urls")
    assert main([*command, "--root", "memory://features"]) == 0
    memory.rm("/features", recursive=True)
    assert (folder / "of_urls" / "a.npy").read_bytes() == (folder / "out" / "h264_star.npy").read_bytes()


def test_csv_holds_the_same_numbers(folder):
    assert run(folder) == 0
    expected = read_features(folder / "out" / "h264_star.npy")
    shutil.rmtree(folder / "out")
    assert run(folder, "--format", "csv") == 0
    np.testing.assert_array_equal(read_features(folder / "out" / "h264_star.csv"), expected)


def test_a_second_run_does_only_what_is_missing_or_changed(folder, capsys):
    run(folder)
    before = out_files(folder)
    (folder / "out" / "h264_star.npy").unlink()
    portrait = folder / "videos" / "h264_portrait.mp4"
    portrait.write_bytes((folder / "videos" / "h264_star.mp4").read_bytes())
    capsys.readouterr()
    assert run(folder) == 0
    assert "2 videos with 6 snippets written, 1 were there" in capsys.readouterr().out
    after = out_files(folder)
    assert after["h264_star.npy"] == after["h264_portrait.npy"] == before["h264_star.npy"]
    assert run(folder) == 0
    assert "0 videos with 0 snippets written, 3 were there" in capsys.readouterr().out


def test_what_a_killed_run_left_behind_is_cleared_and_done_again(folder):
    run(folder)
    whole = out_files(folder)
    facts = folder / "out" / "features.jsonl"
    facts.write_bytes(whole["features.jsonl"][:-20])  # cut off within the last line
    (folder / "out" / ".h264_star.npy.123.part").write_bytes(b"half")
    assert run(folder) == 0
    assert out_files(folder) == whole


KILLED = """
import sys, time
sys.path.insert(0, {tests!r})
import test_features
from vidload import models
from vidload.cli import main
from vidload.prepare import features

def announced(self, path):
    print("at", path, flush=True)
    found = extract(self, path)
    time.sleep(0.1)
    return found

models.create = test_features.small_create
extract, features.FeatureExtractor.extract = features.FeatureExtractor.extract, announced
main(sys.argv[1:])
"""


def test_a_run_killed_at_any_moment_ends_with_the_same_files_as_an_undisturbed_one(folder):
    run(folder)
    facts = out_files(folder)["features.jsonl"]
    whole = {path.name: read_features(path) for path in (folder / "out").glob("*.npy")}
    shutil.rmtree(folder / "out")
    script = KILLED.format(tests=str(Path(__file__).parent))
    for num_begun in (1, 2):
        command = [sys.executable, "-c", script, *arguments(folder)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        for _ in range(num_begun):
            assert process.stdout.readline().startswith("at ")
        process.send_signal(signal.SIGKILL)
        process.wait()
        for path in (folder / "out").glob("*.npy"):
            np.testing.assert_allclose(read_features(path), whole[path.name], rtol=1e-4, atol=1e-6)
    assert run(folder) == 0
    assert out_files(folder).keys() == {"features.jsonl", *whole}
    assert out_files(folder)["features.jsonl"] == facts


def test_a_failing_video_is_listed_and_the_others_are_done(folder, capsys):
    (folder / "videos" / "broken.mp4").write_bytes(b"this is no video")
    assert run(folder) == 1
    assert "1 of 4 videos failed; they are listed in" in capsys.readouterr().out
    (failure,) = [json.loads(line) for line in (folder / "out" / "failed.jsonl").read_text().splitlines()]
    assert failure["source"].endswith("broken.mp4") and failure["reason"].startswith("not a video container")
    assert len(list((folder / "out").glob("*.npy"))) == 3
    shutil.copy(folder / "videos" / "h264_star.mp4", folder / "videos" / "broken.mp4")
    assert run(folder) == 0
    assert not (folder / "out" / "failed.jsonl").exists()


@pytest.mark.parametrize("more, message", [
    (["--stride", "8"], "contains features made with another stride; choose another folder"),
    (["--format", "csv"], "contains features made with another format"),
    (["--model", "tsn"], "--model tsn: not one of tsn_r50_1x1x3"),
    (["--num-classes", "7"], "weights.pth"),
    (["--checkpoint", "none.pth"], "none.pth"),
    (["--window", "0"], "contains features made with another window"),
])  # fmt: skip
def test_arguments_that_do_not_fit_are_refused_and_lose_nothing(folder, capsys, more, message):
    run(folder)
    before = out_files(folder)
    assert run(folder, *more) == 1
    assert message in capsys.readouterr().err
    assert out_files(folder) == before


def test_two_videos_that_would_write_one_file_are_refused(folder, capsys):
    videos = folder / "videos"
    shutil.copy(videos / "h264_star.mp4", videos / "h264_star.mkv")
    assert run(folder) == 1
    assert "would both be written to h264_star.npy; give them different names" in capsys.readouterr().err
