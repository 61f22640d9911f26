"""bench/train_step.py and bench/stage_models.py run and report, on a few synthetic clips and small pictures."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "examples"))

import synthetic_clips  # noqa: E402


def run(script, *args):
    command = [sys.executable, str(ROOT / "bench" / script), *map(str, args)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_train_step_reports_each_row_beside_the_published_one(tmp_path):
    clips = synthetic_clips.write_clips(tmp_path / "clips", 1, seed=0)
    videos = [path.relative_to(clips) for path in sorted(clips.rglob("*.mp4"))]
    (clips / "list.txt").write_text("".join(f"{path} {label}\n" for label, path in enumerate(videos)))
    options = ("--model", "tsn_r50_1x1x3", "--size", 32, "--batch-size", 2, "--steps", 1, "--threads", 1)
    out = run("train_step.py", *options, "--channels-last", "--data", clips, "--output", tmp_path / "result")
    assert "| TSN 1x1x3, frames " in out
    assert "| TSN 1x1x3, video " in out
    assert "mmaction-lite 0.2966 s, 8339 MB; open-mmaction 0.3659 s, 8245 MB" in out
    assert "other hardware" in out
    report = json.loads((tmp_path / "result.json").read_text())
    assert [row["source"] for row in report["rows"]] == ["frames", "video"]
    assert all(row["loaded"]["seconds"] > 0 and row["peak_bytes"] > 1e8 for row in report["rows"])
    assert (tmp_path / "result.md").read_text().startswith("Training iterations on ")
    assert (tmp_path / "result.png").read_bytes().startswith(b"\x89PNG")


def test_stage_models_compares_the_choices(tmp_path):
    options = ("--model", "slowfast_r50_4x16x1", "--size", 32, "--batch-size", 2, "--steps", 1, "--threads", 1)
    out = run("stage_models.py", *options, "--output", tmp_path / "result.json")
    assert "layers, fused SGD (default)" in out
    assert "of it concatenations" in out
