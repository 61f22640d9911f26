"""The code of docs/training.md runs, from top to bottom, in one namespace."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

DOCS = Path(__file__).parent.parent / "docs"


def test_the_blocks_of_the_page_on_training_run(video, tmp_path: Path, monkeypatch, capsys) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (DOCS / "training.md").read_text(), re.DOTALL)
    assert len(blocks) == 7
    (tmp_path / "videos").mkdir()
    for number in range(8):
        shutil.copyfile(video("h264"), tmp_path / "videos" / f"{number}.mp4")
    (tmp_path / "train.txt").write_text("".join(f"{number}.mp4 {number}\n" for number in range(8)))
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for number, block in enumerate(blocks):
        exec(compile(block, f"docs/training.md, block {number}", "exec"), names)
    shown = capsys.readouterr()
    assert "VideoLoader: 2 batches of 4" in shown.out and "8 samples" in shown.out
    assert "100%" in shown.err
