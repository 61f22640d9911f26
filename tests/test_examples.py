"""Each example runs, on a few synthetic clips, and training goes on exactly where it stopped."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
sys.path.insert(0, str(EXAMPLES))

import finetune_checkpoint  # noqa: E402
import frames_by_time  # noqa: E402
import predict  # noqa: E402
import synthetic_clips  # noqa: E402
import train_i3d  # noqa: E402


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.random.fork_rng():
        yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """5 clips a class to train on, 1 to validate."""
    folder = tmp_path_factory.mktemp("clips")
    synthetic_clips.write_clips(folder / "train", 5, seed=0)
    synthetic_clips.write_clips(folder / "val", 1, seed=1)
    return folder


def training_args(clips, out, *more):
    args = ["--train", clips / "train", "--val", clips / "val", "--out", out, "--model", "i3d_r50_heavy_8x8x1"]
    args += ["--tiny", "--clip", "8x2x1", "--size", 32, "--batch-size", 4, "--epochs", 2, "--lr", 0.02]
    return [str(arg) for arg in (*args, *more)]


def last(out):
    return torch.load(out / "last.pth", weights_only=True)


@pytest.fixture(scope="module")
def whole_run(clips, tmp_path_factory):
    """Two epochs of 5 steps, never stopped."""
    out = tmp_path_factory.mktemp("whole")
    torch.set_num_threads(1)
    train_i3d.main(training_args(clips, out))
    return out


def test_synthetic_clips_of_different_classes_differ_in_nothing_but_the_motion():
    down, up = (
        synthetic_clips.drifting_shapes(synthetic_clips.np.random.default_rng(0), synthetic_clips.CLASSES[name])
        for name in ("down", "up")
    )
    assert (down[0] == up[0]).all()
    assert (down[5] != up[5]).any()


def test_training_writes_checkpoint_curves_and_logs(whole_run):
    state = last(whole_run)
    assert state["step"] == 10
    assert state["history"]["val_step"] == [5, 10]
    assert state["made"]["name"] == "i3d_r50_heavy_8x8x1"
    assert state["classes"] == ("down", "left", "right", "up")
    assert (whole_run / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert list(whole_run.glob("events.out.tfevents.*"))


@pytest.mark.parametrize("stops", [(3,), (5,), (2, 5)], ids=["in mid-epoch", "between epochs", "twice"])
def test_interrupted_training_resumes_to_bit_equal_weights(clips, whole_run, tmp_path, stops):
    for stop in stops:
        train_i3d.main(training_args(clips, tmp_path, "--resume", "--stop-after", stop))
    assert last(tmp_path)["step"] == sum(stops)
    train_i3d.main(training_args(clips, tmp_path, "--resume"))
    state, want = last(tmp_path), last(whole_run)
    assert state["history"] == want["history"]
    assert state["optimizer"]["param_groups"] == want["optimizer"]["param_groups"]
    for key, value in want["model"].items():
        assert torch.equal(state["model"][key], value), key


def test_training_that_is_killed_resumes_to_bit_equal_weights(clips, whole_run, tmp_path):
    command = [sys.executable, str(EXAMPLES / "train_i3d.py"), *training_args(clips, tmp_path)]
    process = subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not (tmp_path / "last.pth").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    process.kill()  # somewhere in the second epoch
    process.wait()
    assert 0 < last(tmp_path)["step"] <= 10
    train_i3d.main(training_args(clips, tmp_path, "--resume"))
    state, want = last(tmp_path), last(whole_run)
    assert state["history"] == want["history"]
    for key, value in want["model"].items():
        assert torch.equal(state["model"][key], value), key


def test_training_resumes_exactly_with_accumulated_gradients_and_half_precision(clips, tmp_path):
    options = ("--accumulate", 2, "--amp", "fp16", "--channels-last", "--schedule", "step", "--warmup", 1)
    train_i3d.main(training_args(clips, tmp_path / "whole", *options))
    for _ in range(2):  # 2 steps an epoch, of 5 batches
        train_i3d.main(training_args(clips, tmp_path / "parts", *options, "--stop-after", 1, "--resume"))
    train_i3d.main(training_args(clips, tmp_path / "parts", *options, "--resume"))
    state, want = last(tmp_path / "parts"), last(tmp_path / "whole")
    assert state["step"] == want["step"] == 4
    assert state["scaler"] == want["scaler"]
    assert all(torch.equal(state["model"][key], value) for key, value in want["model"].items())


def test_the_modern_recipe_says_what_it_needs(clips, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision", None)
    with pytest.raises(SystemExit, match=r"needs torchvision.*pip install torchvision"):
        train_i3d.main(training_args(clips, tmp_path, "--recipe", "modern"))


def test_the_modern_recipe_trains_and_resumes_to_bit_equal_weights(clips, tmp_path):
    pytest.importorskip("torchvision")
    train_i3d.main(training_args(clips, tmp_path / "whole", "--recipe", "modern"))
    train_i3d.main(training_args(clips, tmp_path / "parts", "--recipe", "modern", "--stop-after", 3))
    train_i3d.main(training_args(clips, tmp_path / "parts", "--recipe", "modern", "--resume"))
    state, want = last(tmp_path / "parts"), last(tmp_path / "whole")
    assert state["step"] == want["step"] == 10 and state["history"] == want["history"]
    assert all(torch.equal(state["model"][key], value) for key, value in want["model"].items())


def test_two_processes_train_together_under_torchrun(clips, tmp_path):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += [str(EXAMPLES / "train_i3d.py"), *training_args(clips, tmp_path, "--epochs", 1, "--accumulate", 2)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "of 4 videos" in done.stdout  # every one once, by two ranks
    assert last(tmp_path)["step"] == 1  # 20 videos make 2 batches of 4 for each of 2 ranks


@pytest.mark.parametrize("model", ["tsm_r50_1x1x8", "slowfast_r50_4x16x1"])
def test_training_takes_any_recognizer_and_a_list(clips, tmp_path, model):
    videos = sorted((clips / "train").rglob("*.mp4"))[::5]
    (tmp_path / "list.txt").write_text("".join(f"{v.relative_to(clips)} {i}\n" for i, v in enumerate(videos)))
    args = ["--train", tmp_path / "list.txt", "--val", tmp_path / "list.txt", "--root", clips, "--out", tmp_path]
    args += ["--model", model, "--tiny", "--size", 32, "--batch-size", 2, "--epochs", 1]
    train_i3d.main([str(arg) for arg in args])
    assert last(tmp_path)["step"] == 2


def test_demo_needs_no_data(tmp_path, monkeypatch):
    monkeypatch.setattr(synthetic_clips, "CLASSES", dict(list(synthetic_clips.CLASSES.items())[:2]))
    write_clips = synthetic_clips.write_clips
    monkeypatch.setattr(synthetic_clips, "write_clips", lambda folder, _, seed: write_clips(folder, 2, seed))
    train_i3d.main(["--demo", "--budget", "short", "--out", str(tmp_path), "--batch-size", "2", "--epochs", "1"])
    assert last(tmp_path)["made"]["num_classes"] == 2


def test_frames_by_time_needs_no_data_and_tells_sizes_times_and_masks(capsys):
    frames_by_time.main(["--fps", "2", "--max-frames", "3"])
    lines = capsys.readouterr().out.splitlines()
    assert sum("tiles of 28x28, at [0.0" in line for line in lines) == 4
    assert sum(line.startswith("packed: [") for line in lines) == 2
    assert "10 moments of front, wrist, top: [4, 3, 3, 2, 96, 96], 'pick up the cube'" in lines
    assert lines[-1].endswith("[[False, True], [False, True], [False, True]]")


def test_too_few_videos_for_a_step_are_named(clips, tmp_path):
    with pytest.raises(SystemExit, match="4 videos are too few for one step"):
        train_i3d.main([*training_args(clips, tmp_path, "--batch-size", 8), "--train", str(clips / "val")])


def test_finetuned_checkpoint_predicts_its_own_classes(clips, whole_run, tmp_path, capsys):
    two_classes = tmp_path / "videos"
    for name in ("jump", "run"):
        (two_classes / name).mkdir(parents=True)
        for number, video in enumerate(sorted((clips / "train/up").glob("*.mp4"))[:2]):
            (two_classes / name / f"{number}.mp4").symlink_to(video)
    tuned = tmp_path / "tuned.pth"
    args = [whole_run / "last.pth", two_classes, "--out", tuned, "--steps", 3, "--batch-size", 2]
    args += ["--size", 32, "--clip", "8x2x1"]
    finetune_checkpoint.main([str(arg) for arg in args])
    capsys.readouterr()
    predict.main([str(next((clips / "val/up").glob("*.mp4"))), "--checkpoint", str(tuned)])
    lines = capsys.readouterr().out.splitlines()
    assert {line.split()[1] for line in lines[1:]} == {"jump", "run"}
    assert sum(float(line.split()[0].rstrip("%")) for line in lines[1:]) == pytest.approx(100, abs=0.2)


def test_prediction_with_a_label_file_of_the_wrong_length_is_refused(clips, whole_run, tmp_path, capsys):
    (tmp_path / "labels.txt").write_text("one\ntwo\n")
    args = [next((clips / "val/up").glob("*.mp4")), "--checkpoint", whole_run / "last.pth"]
    with pytest.raises(SystemExit):
        predict.main([str(arg) for arg in (*args, "--labels", tmp_path / "labels.txt")])
    assert "2 names for the 4 classes of the model" in capsys.readouterr().err


def test_the_readme_s_first_lines_run(video, tmp_path, monkeypatch, capsys):
    lines = (EXAMPLES.parent / "README.md").read_text().split("```python\n", 1)[1].split("```", 1)[0]
    (tmp_path / "videos").mkdir()
    for number in range(8):
        shutil.copyfile(video("h264"), tmp_path / "videos" / f"{number}.mp4")
    (tmp_path / "train.txt").write_text("".join(f"{number}.mp4 {number}\n" for number in range(8)))
    monkeypatch.chdir(tmp_path)
    exec(compile(lines, "README.md", "exec"), {})
    assert capsys.readouterr().out == "torch.Size([8, 3, 32, 224, 224]) torch.Size([8])\n"
