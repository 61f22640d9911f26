"""Runs a trainer's recipe of docs/migrating.md on this rank, three times: undisturbed; until it is interrupted in mid-epoch; and from there on.

Usage: recipe.py TRAINER OUT VIDEO...; the environment says which rank this is, as torchrun's. Prints nothing; writes OUT/RANK.json: what
an undisturbed run saw, a list of [labels, checksum of the pixels] per batch, and what the two others saw together.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import torch

import vidload

DOCS = Path(__file__).parents[2] / "docs/migrating.md"
NUM_EPOCHS = 2
NUM_VIDEOS = 12  # 3 batches of 2 for each of two ranks in an epoch
STOP_AFTER = 4  # batches: in the second epoch

Seen = list[tuple[list[int], str]]


def recipe(title: str) -> str:
    """The code under a heading of the page."""
    section = DOCS.read_text().split(f"### {title}\n", 1)[1].split("\n#", 1)[0]
    (code,) = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    return str(code)


class Interrupted(Exception):
    pass


class Recorder:
    """What a training step sees; it is interrupted after so many batches."""

    def __init__(self, seen: Seen, stop_after: int | None) -> None:
        self.seen = seen
        self.left = stop_after

    def __call__(self, clips: torch.Tensor, labels: torch.Tensor) -> None:
        if self.left == 0:
            raise Interrupted
        if self.left is not None:
            self.left -= 1
        self.seen.append((labels.tolist(), hashlib.sha1(clips.contiguous().numpy().tobytes()).hexdigest()[:12]))


def run(trainer: str, videos: list[str], checkpoint: str, resume_from: str | None, record: Recorder) -> None:
    """A run as a new process makes it: nothing is left of an earlier one."""
    items = [(videos[i % len(videos)], i) for i in range(NUM_VIDEOS)]
    train = vidload.VideoDataset(items, clip="2x1x1", transform=vidload.transforms.random_resized_crop(16), seed=1)
    model: Any = torch.nn.Linear(2, 1)
    names: dict[str, Any] = {
        "vidload": vidload,
        "torch": torch,
        "train": train,
        "num_epochs": NUM_EPOCHS,
        "checkpoint": checkpoint,
        "resume_from": resume_from,
        "train_step": lambda model, optimizer, clips, labels: record(clips, labels),
    }
    if trainer == "Lightning":
        import lightning

        class Module(lightning.LightningModule):
            def __init__(self) -> None:
                super().__init__()
                self.layer = torch.nn.Linear(2, 1)

            def training_step(self, batch: Any, _: int) -> torch.Tensor:
                record(*batch)
                return self.layer(torch.ones(2)).sum()

            def configure_optimizers(self) -> Any:
                return torch.optim.SGD(self.parameters(), 0.1)

        model = Module()
        options = ("logger", "enable_progress_bar", "enable_model_summary")
        names["trainer_options"] = {
            "accelerator": "cpu",
            "devices": 2,
            "strategy": "ddp",
            **dict.fromkeys(options, False),
        }
    if trainer == "Fabric":
        names["fabric_options"] = {"accelerator": "cpu", "devices": 2, "strategy": "ddp"}
    if trainer == "Transformers":
        import transformers

        class Classifier(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.layer = torch.nn.Linear(2, 1)

            def forward(self, pixel_values: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
                record(pixel_values, labels)
                return {"loss": self.layer(torch.ones(2)).sum()}

        model = Classifier()
        names["arguments"] = transformers.TrainingArguments(
            output_dir=checkpoint,
            num_train_epochs=NUM_EPOCHS,
            per_device_train_batch_size=2,
            save_steps=1,
            use_cpu=True,
            report_to=[],
            disable_tqdm=True,
            remove_unused_columns=False,
            logging_strategy="no",
            save_total_limit=1,
        )
    names |= {"model": model, "optimizer": torch.optim.SGD(model.parameters(), 0.1)}
    exec(recipe(trainer), names)


def undisturbed_and_resumed(trainer: str, videos: list[str], folder: Path, rank: int) -> dict[str, Seen]:
    def newest(checkpoint: Path) -> str:
        if trainer == "Lightning":
            return str(checkpoint / "last.ckpt")
        if trainer == "Transformers":
            return str(max(checkpoint.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1])))
        return f"{checkpoint}.{rank}" if trainer == "Ray" else str(checkpoint)

    undisturbed: Seen = []
    run(trainer, videos, str(folder / "undisturbed"), None, Recorder(undisturbed, None))
    resumed: Seen = []
    try:
        run(trainer, videos, str(folder / "resumed"), None, Recorder(resumed, STOP_AFTER))
        raise AssertionError("the run was not interrupted")
    except Interrupted:
        pass
    if torch.distributed.is_initialized():
        torch.distributed.barrier()  # the other rank may still read or write the checkpoint
    run(trainer, videos, str(folder / "resumed"), newest(folder / "resumed"), Recorder(resumed, None))
    return {"undisturbed": undisturbed, "resumed": resumed}


if __name__ == "__main__":
    name, out, *files = sys.argv[1:]
    rank_here = int(os.environ["RANK"])
    Path(out, f"{rank_here}.json").write_text(json.dumps(undisturbed_and_resumed(name, files, Path(out), rank_here)))
