"""The benches run and report, on a few synthetic clips and small pictures."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "examples"))

import pytest  # noqa: E402
import synthetic_clips  # noqa: E402


def run(script, *args):
    command = [sys.executable, str(ROOT / "bench" / script), *map(str, args)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """A folder of class folders with a clip each."""
    return synthetic_clips.write_clips(tmp_path_factory.mktemp("bench") / "clips", 1, seed=0)


def test_train_step_reports_each_row_beside_the_published_one(clips, tmp_path):
    videos = [path.relative_to(clips) for path in sorted(clips.rglob("*.mp4"))]
    (clips / "list.txt").write_text("".join(f"{path} {label}\n" for label, path in enumerate(videos)))
    options = ("--model", "tsn_r50_1x1x3", "--size", 32, "--batch-size", 2, "--steps", 1, "--threads", 1)
    options += ("--memory-format", "channels-last", "--sources", "video", "prepared", "frames", "--tf32")
    out = run("train_step.py", *options, "--data", clips, "--output", tmp_path / "result")
    assert "| TSN 1x1x3, frames " in out
    assert "| TSN 1x1x3, video " in out
    assert "mmaction-lite 0.2966 s, 8339 MB; open-mmaction 0.3659 s, 8245 MB" in out
    assert "other hardware" in out
    report = json.loads((tmp_path / "result.json").read_text())
    assert [row["source"] for row in report["rows"]] == ["frames", "video"]
    assert all(row["loaded"]["seconds"] > 0 and row["peak_bytes"] > 1e8 for row in report["rows"])
    assert all(row["memory_format"] == "channels-last" for row in report["rows"])
    (gap,) = report["gap"]
    assert set(gap["loader"]) == set(gap["trained"]) == {"video", "prepared", "frames"}
    assert gap["model_rate"] == pytest.approx(2 / report["rows"][0]["resident"]["seconds"])
    assert "the model could consume | original video" in " ".join(out.split())
    assert (tmp_path / "result.md").read_text().startswith("Training iterations on ")
    assert (tmp_path / "result.png").read_bytes().startswith(b"\x89PNG")


def test_gpu_loaders_runs_its_rows_that_need_no_gpu(clips, tmp_path):
    options = ("--device", "cpu", "--data", f"small={clips}", "--clips", "2x2x1", "--rounds", 2, "--seconds", 0.1)
    options += ("--loaders", "vidload_cpu", "vidload_nvdec", "decord", "--num-workers", 1)
    out = run("gpu_loaders.py", *options, "--output", tmp_path / "result")
    report = json.loads((tmp_path / "result.json").read_text())
    assert [row["loader"] for row in report["rows"] if row["loader"] != "decord"] == ["vidload_cpu"]
    row = report["rows"][0]
    assert row["difference"] == 0
    assert row["fallbacks"] == {}
    assert all(round_["clips"] >= 16 and round_["wall"] > 0 for round_ in row["rounds"])
    assert report["missing"]["vidload, NVDEC"] == "needs a GPU"
    assert "| vidload, CPU decode + kernel |" in out
    assert "Left out: vidload, NVDEC (needs a GPU)." in (tmp_path / "result.md").read_text()


@pytest.mark.needs_dali
def test_gpu_loaders_compares_dali_on_the_cpu(clips, tmp_path):
    options = ("--device", "cpu", "--data", f"small={clips}", "--clips", "2x2x1", "--rounds", 1, "--seconds", 0.1)
    options += ("--loaders", "vidload_dali", "dali", "--num-workers", 1)
    run("gpu_loaders.py", *options, "--output", tmp_path / "result")
    report = json.loads((tmp_path / "result.json").read_text())
    assert [row["loader"] for row in report["rows"]] == ["vidload_dali", "dali"], report["missing"]


def test_stage_models_compares_the_choices(tmp_path):
    options = ("--model", "slowfast_r50_4x16x1", "--size", 32, "--batch-size", 2, "--steps", 1, "--threads", 1)
    out = run("stage_models.py", *options, "--output", tmp_path / "result.json")
    assert "layers, fused SGD (default)" in out
    assert "concatenations alone" in out


def test_frame_vs_video_compares_the_same_clips_from_every_kind_of_file(clips, tmp_path):
    options = ("--data", clips, "--num-videos", 2, "--work", tmp_path / "work", "--steps", 0, "--minutes", 0)
    options += ("--clips", "8x8x1", "1x1x3")
    out = run("frame_vs_video.py", *options, "--output", tmp_path / "result")
    report = json.loads((tmp_path / "result.json").read_text())
    files = report["files"]
    assert list(files) == ["original", "frames", "smallest", "balanced", "fastest"]
    assert all(files[name]["psnr"] >= 40 for name in ("frames", "smallest", "balanced", "fastest"))
    assert files["frames"]["num_bytes"] > max(files[name]["num_bytes"] for name in ("smallest", "balanced", "fastest"))
    assert report["differences"]["original, vidload"] == 0
    assert all(0 < report["differences"][f"{name}, vidload"] < 12 for name in ("JPEG", "balanced", "fastest"))
    measured = report["seconds"]["8x8x1"]["balanced, vidload"]
    assert len(measured) >= 2
    assert all(round_["clips"] == 64 and round_["wall"] > 0 for round_ in measured)
    assert "| balanced, vidload : JPEG, vidload " in out
    assert (tmp_path / "result_bytes.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("load_seconds, expected", [(0.1, 1.0), (0.9, 1.0), (1.5, 1.5)])
def test_an_iteration_takes_as_long_as_the_slower_of_step_and_loader(load_seconds, expected, monkeypatch):
    sys.path.insert(0, str(ROOT / "bench"))
    import peers

    clock = FakeClock()
    monkeypatch.setattr(peers, "time", clock)

    def batches(indices, batch_size):
        """One batch is loaded ahead, while the step runs."""
        ready = clock.now
        for _ in range(len(indices) // batch_size):
            ready += load_seconds
            clock.now = max(clock.now, ready)
            yield None

    measured = peers.seconds_per_iteration(batches, range(32), 2, 1.0)
    assert measured == pytest.approx(expected)


class FakeClock:
    now = 0.0

    def perf_counter(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds


def test_encoding_study_reports_candidates_beside_jpeg_frames(clips, tmp_path):
    options = ("--data", clips, "--num-videos", 1, "--num-frames", 24, "--rounds", 1, "--jobs", 1)
    options += ("--only", "h264 star 4, CABAC", "mpeg4 star 4, four", "--work", tmp_path / "work")
    out = run("encoding_study.py", *options, "--output", tmp_path / "result")
    names = [row["name"] for row in json.loads((tmp_path / "result.json").read_text())]
    assert names == ["JPEG frames, -q:v 2", "h264 star 4, CABAC", "mpeg4 star 4, four vectors"]
    assert "could not be encoded" not in out
    assert (tmp_path / "result.png").read_bytes().startswith(b"\x89PNG")


def test_threads_busy_reports_shares_of_what_as_many_single_threads_would_load(tmp_path):
    options = ("--threads", 2, "--seconds", 0.1, "--batch-sizes", 1, 8, "--output", tmp_path / "busy.json")
    assert "of linear" in run("threads_busy.py", *options)
    shares = json.loads((tmp_path / "busy.json").read_text())["of_linear"]
    assert [name.rpartition(", ")[2] for name in shares] == ["batch 1", "batch 8"] * 2
    assert all(share > 0 for share in shares.values())


def test_shard_listing_reports_what_a_dataset_of_shards_costs(tmp_path):
    out = run("shard_listing.py", "--shards", 2, "--members", 6, "--output", tmp_path / "result")
    assert "2 shards with 12 members, half of them videos" in out
    rows = json.loads((tmp_path / "result.json").read_text())["rows"]
    assert list(rows) == ["first", "again", "list", "tarfile"]
    assert all(row["seconds"] > 0 for row in rows.values())


def test_clips_by_time_compares_the_same_frames_of_every_loader(tmp_path):
    """On smooth pictures: the filters by which loaders resize differ."""
    data = tmp_path / "data"
    data.mkdir()
    for name, size, rate, seconds in (("long_720p", "1280x720", 2, 120), ("camera_0_480p", "854x480", 10, 30)):
        source = f"gradients=size={size}:rate={rate}:speed=0.02:seed=1:duration={seconds}"
        command = ["ffmpeg", "-v", "error", "-f", "lavfi", "-i", source, "-pix_fmt", "yuv420p", "-preset", "ultrafast"]
        subprocess.run([*command, data / f"{name}.mp4"], check=True)
    for camera in (1, 2):
        shutil.copy(data / "camera_0_480p.mp4", data / f"camera_{camera}_480p.mp4")
    options = ("--data", data, "--loaders", "vidload", "pyav", "--samples", 1, "--rounds", 1, "--num-workers", 1)
    out = run("clips_by_time.py", *options, "--output", tmp_path / "result")
    tasks = json.loads((tmp_path / "result.json").read_text())["tasks"]
    assert {task: of_task["samples"] for task, of_task in tasks.items()} == {"video-language": 1, "robot": 16}
    assert all(0 < of_task["differences"]["pyav"] < 6 for of_task in tasks.values())
    assert out.count("PyAV in a DataLoader") == 2 and "Missing" not in out
