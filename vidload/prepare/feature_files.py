"""Snippet features of the videos of a dataset, in the files that FeatureDataset reads.

In: a folder or an annotation list, a recognizer by name, its weights. Out: one file of features per video, features.jsonl with the settings
and the lengths of all videos, and failed.jsonl with those that failed and why. vidload.prepare.features computes the features,
vidload.prepare.tasks resumes the work.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from vidload import models
from vidload.annotations import read_videos
from vidload.errors import VideoError
from vidload.feature_dataset import FACTS_FILE, read_facts
from vidload.prepare.features import FeatureExtractor
from vidload.prepare.sources import Task
from vidload.prepare.tasks import resume
from vidload.sources import size_and_mtime
from vidload.system.files import PART_SUFFIX, written_aside


@dataclass(frozen=True)
class FeaturesSummary:
    """What `write_features` did.

    Attributes:
        num_videos: of the dataset. num_done: done by this run. num_kept: done by an earlier run.
        num_snippets: of the videos done by this run.
        failures: (path, reason) of the videos that failed; they are also in failed.jsonl.
    """

    num_videos: int
    num_done: int
    num_snippets: int
    num_kept: int
    failures: tuple[tuple[str, str], ...]


def write_features(
    source: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    root: str | os.PathLike[str] = "",
    model: str,
    checkpoint: str,
    num_classes: int = 400,
    channels: Literal["logits", "pooled"] = "logits",
    window: int = 16,
    stride: int = 16,
    file_format: Literal["npy", "csv"] = "npy",
    batch_size: int = 8,
    device: str = "cpu",
    num_workers: int | None = None,
    progress: bool = False,
) -> FeaturesSummary:
    """Writes the features of every video into the folder `output`. Another run with the same settings does only what is missing or changed.

    Args:
        source: a list, a Kinetics CSV, a folder, or one video.
        root: the folder that the paths of a list start from.
        model, checkpoint, num_classes: a recognizer of vidload.models, and its trained weights.
        file_format: NAME.npy, or NAME.csv with the same numbers.
        progress: whether to show a progress bar on stderr.
        others: as for FeatureExtractor.

    Raises:
        FileNotFoundError, ValueError: there are no videos, two would be written to the same file, the weights do not fit the model, or the
            folder contains features made with other settings.
    """
    output = Path(output)
    tasks = _tasks(os.fspath(source), os.fspath(root), file_format)
    settings = {
        "model": model,
        "checkpoint_sha256": _sha256(checkpoint),
        "channels": channels,
        "window": window,
        "stride": stride,
        "format": file_format,
    }
    output.mkdir(parents=True, exist_ok=True)
    for litter in output.glob(f".*{PART_SUFFIX}"):  # of a run that was killed
        litter.unlink()
    record = _Facts(output, settings)
    network = models.create(model, num_classes=num_classes)
    try:
        models.load_checkpoint(network, checkpoint)
    except models.CheckpointError as error:
        raise ValueError(str(error)) from error
    extractor = FeatureExtractor(
        network,
        window=window,
        stride=stride,
        channels=channels,
        batch_size=batch_size,
        device=device,
        num_workers=num_workers,
    )
    num_done, failures = resume(tasks, record, lambda todo: _extract(extractor, todo, output), progress=progress)
    return FeaturesSummary(
        num_videos=len(tasks),
        num_done=num_done,
        num_snippets=record.num_snippets,
        num_kept=len(tasks) - num_done - len(failures),
        failures=failures,
    )


def _tasks(source: str, root: str, file_format: str) -> list[Task]:
    videos: dict[str, str] = {}
    for path in read_videos(source, root).path_list():
        name = f"{Path(path).stem}.{file_format}"
        if videos.setdefault(name, path) != path:
            raise ValueError(f"{videos[name]} and {path} would both be written to {name}; give them different names")
    return [Task(path, name) for name, path in videos.items()]


def _extract(extractor: FeatureExtractor, tasks: Sequence[Task], folder: Path) -> Iterator[tuple[Task, Any]]:
    """In this process, one after another: the model is here, and decoding has threads of its own."""
    for task in tasks:
        source = _stamp(task.source)
        try:
            found = extractor.extract(task.source)
        except VideoError as error:
            yield task, error
            continue
        _write(folder / task.name, found.features)
        facts = {
            "duration_second": found.duration_seconds,
            "duration_frame": found.num_frames,
            "feature_frame": found.feature_frames,
            "source": source,
        }
        yield task, {"facts": facts, "num_snippets": len(found.features)}


class _Facts:
    """features.jsonl as the record of a run: the settings, then what is known about each video by its name.

    Raises:
        ValueError: it was written with other settings.
    """

    def __init__(self, folder: Path, settings: dict[str, Any]) -> None:
        self.path = folder / FACTS_FILE
        self.num_snippets = 0  # of the videos done now
        self._settings = settings
        earlier, self._videos = read_facts(self.path)
        differing = [key for key in settings if earlier and earlier.get(key) != settings[key]]
        if differing:
            raise ValueError(
                f"{folder}: contains features made with another {', '.join(differing)}; choose another folder"
            )

    def is_done(self, task: Task) -> bool:
        known = self._videos.get(Path(task.name).stem, {})
        return (self.path.parent / task.name).exists() and known.get("source") == _stamp(task.source)

    def add(self, task: Task, outcome: dict[str, Any]) -> dict[str, Any]:
        name = Path(task.name).stem
        self._videos[name] = outcome["facts"]
        self.num_snippets += outcome["num_snippets"]
        return {"name": name, **outcome["facts"]}

    def rows(self) -> Iterable[dict[str, Any]]:
        return [{"settings": self._settings}, *({"name": name, **row} for name, row in self._videos.items())]


def _sha256(path: str) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _stamp(path: str) -> list[int]:
    """Size and mtime, by which a changed video is noticed; empty for a missing one."""
    try:
        return list(size_and_mtime(path))
    except OSError:
        return []


def _write(path: Path, features: NDArray[np.float32]) -> None:
    with written_aside(path) as part, part.open("wb") as file:
        if path.suffix == ".npy":
            np.save(file, features)
        else:
            header = ",".join(f"f{k}" for k in range(features.shape[1]))
            np.savetxt(file, features, fmt="%.9g", delimiter=",", header=header, comments="")  # 9 digits: exact
