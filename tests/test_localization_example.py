"""examples/train_bmn.py from the command line, in a small setting."""

import re
import subprocess
import sys
from pathlib import Path

from vidload.models.localization import read_results

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "train_bmn.py"


def test_train_bmn_beats_random_segments_and_writes_results_and_plot(tmp_path):
    small = ["--temporal-dim", "24", "--epochs", "6", "--num-videos", "80"]
    command = [sys.executable, str(EXAMPLE), "--out", str(tmp_path), "--device", "cpu", *small]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    trained, chance = (float(auc) for auc in re.findall(r"AUC ([\d.]+)", done.stdout))
    assert trained > chance + 10
    assert len(read_results(tmp_path / "results.json")) == 16
    assert (tmp_path / "segments.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "bmn.pth").stat().st_size > 0
