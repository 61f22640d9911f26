"""FeatureDataset: snippet features of untrimmed videos with their annotated segments, for temporal
localizers.

In: a folder with one CSV or .npy file per video, and annotations as ActivityNet or MMAction2 write them. Out:
samples for a torch DataLoader with `FeatureDataset.collate`. `vidload features` makes features from videos;
labels and losses belong to the localizers, vidload.models.bsn and bmn.
"""

from __future__ import annotations

import json
import math
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.csv
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from vidload.errors import UnreadableVideoError, VideoError, VideoNotFoundError

FACTS_FILE = "features.jsonl"  # what `vidload features` writes beside the features


class FeatureSample(NamedTuple):
    """One video. features: float32 [feat_dim, temporal_dim]; segments: float64 [G, 2], start and end in units
    of the covered part (0..1), G may be 0; video_index: its place in `FeatureDataset.videos`."""

    features: torch.Tensor
    segments: torch.Tensor
    video_index: int


class FeatureBatch(NamedTuple):
    """N videos. features: float32 [N, feat_dim, temporal_dim]; segments: N tensors, float64 [G_i, 2];
    video_indices: int64 [N]."""

    features: torch.Tensor
    segments: list[torch.Tensor]
    video_indices: torch.Tensor


@dataclass(frozen=True)
class FeatureVideo:
    """What is known about a video.

    path: its feature file.
    duration_seconds, num_frames: of the whole video.
    feature_frames: how many of its frames the features cover.
    segments: as annotated, float64 [G, 2] in seconds.
    labels: one per segment, None where the annotation has none.
    """

    name: str
    path: str
    duration_seconds: float
    num_frames: int
    feature_frames: int
    segments: NDArray[np.float64]
    labels: tuple[Any, ...]

    @property
    def covered_seconds(self) -> float:
        """How long the covered part is: what 1.0 means in a sample's segments and in proposals."""
        return self.feature_frames / self.num_frames * self.duration_seconds


class FeatureDataset(Dataset[FeatureSample]):
    """Features and segments of annotated videos.

        dataset = vidload.FeatureDataset("anet_train.json", "cuhk_mean_100")
        loader = DataLoader(dataset, batch_size=16, shuffle=True, collate_fn=dataset.collate)

    Feature files are `NAME.npy` (float [snippets, feat_dim]) or `NAME.csv` (a header line, then one line per
    snippet with feat_dim columns); `v_NAME` is tried too. They are rescaled in time to `temporal_dim`
    positions: of n snippets, snippet k represents the k-th of n equal parts of what the features cover; values are
    interpolated linearly between the middles of these parts, and averaged when shrinking (triangle filter, as torch's
    antialiased interpolation).

    Annotations are a JSON file (or what it holds): MMAction2's `{NAME: {"duration_second", "duration_frame",
    "feature_frame", "annotations": [{"segment": [start, end], "label"}]}}`, or ActivityNet's `{"database":
    {NAME: {"duration", "subset", "annotations"}}}`. Lengths that are missing there are taken from the
    features.jsonl that `vidload features` writes into the feature folder; without frame counts, the features
    are taken to cover the whole video. Segments are divided by the covered seconds and clipped to 0..1. A
    segment that is empty after that is not used in training; one that is empty or reversed as annotated is
    not evaluated either. Both are listed in `dropped_segments`. Videos without segments are kept as samples.

    Args:
        annotations: path or mapping; None = every video of the folder's features.jsonl, without segments.
        features: the folder.
        subset: keep only videos of this "subset", such as "training"; None = all.
        temporal_dim, feat_dim: T and C of a sample.
        on_error: what to do about feature files that are missing, unreadable, not feat_dim wide, or not finite.
            "raise": a missing file raises here, any other when its sample is requested. "skip": every file is read
            once here, and those that fail are left out and listed in `failures`. "substitute": the next good video
            takes its place, with one warning per file.

    Raises:
        FileNotFoundError: there is no such annotation file.
        ValueError: the annotations make no sense, or no video is left.
        VideoError: a feature file failed (VideoNotFoundError, UnreadableVideoError).
    """

    def __init__(
        self,
        annotations: str | os.PathLike[str] | Mapping[str, Any] | None,
        features: str | os.PathLike[str],
        *,
        subset: str | None = None,
        temporal_dim: int = 100,
        feat_dim: int = 400,
        on_error: Literal["raise", "skip", "substitute"] = "raise",
    ) -> None:
        if on_error not in ("raise", "skip", "substitute"):
            raise ValueError(f'on_error is {on_error!r}, must be "raise", "skip" or "substitute"')
        self.temporal_dim = temporal_dim
        self.feat_dim = feat_dim
        self.on_error = on_error
        self.videos: list[FeatureVideo] = []
        self.failures: list[VideoError] = []
        self.dropped_segments: list[tuple[str, tuple[float, float], str]] = []

        source, entries = _read_annotations(annotations, Path(features))
        for name, entry in entries.items():
            if subset is not None and entry.get("subset") != subset:
                continue
            try:
                video = self._video(source, name, entry, Path(features))
                if on_error == "skip":
                    self._read(video)
            except VideoError as error:
                if on_error == "raise":
                    raise
                self.failures.append(error)
            else:
                self.videos.append(video)
        if not self.videos:
            why = f"; the first failure: {self.failures[0]}" if self.failures else ""
            of_subset = f" of subset {subset!r}" if subset is not None else ""
            raise ValueError(f"{source}: no video{of_subset} has features in {features}{why}")

    def __len__(self) -> int:
        return len(self.videos)

    def __getitem__(self, index: int) -> FeatureSample:
        """Sample `index`. Raises IndexError; VideoError for a feature file that failed; ValueError if every substitute failed too."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"sample {index} is out of range [0, {len(self)})")
        for place in range(index, index + len(self)):
            video = self.videos[place % len(self)]
            try:
                features = self._read(video)
            except VideoError as error:
                if self.on_error != "substitute":
                    raise
                self._note(error)
                continue
            segments = torch.from_numpy(self._training_segments(video)[0])
            return FeatureSample(features, segments, place % len(self))
        raise ValueError(f"no feature file of {len(self)} can be read; the first failure: {self.failures[0]}")

    @staticmethod
    def collate(samples: Sequence[FeatureSample]) -> FeatureBatch:
        """Makes a batch of samples, as a DataLoader's `collate_fn`: videos have different numbers of segments."""
        features, segments, indices = zip(*samples, strict=True)
        return FeatureBatch(torch.stack(features), list(segments), torch.tensor(indices))

    def ground_truth(self) -> dict[str, list[dict[str, Any]]]:
        """`{NAME: [{"segment": [start, end] in seconds, "label"}]}`, as the metrics take it."""
        return {
            video.name: [
                {"segment": segment.tolist(), "label": label}
                for segment, label in zip(video.segments, video.labels, strict=True)
            ]
            for video in self.videos
        }

    def _note(self, error: VideoError) -> None:
        if all(error.path != known.path for known in self.failures):
            self.failures.append(error)
            warnings.warn(f"{error}; another video takes its place", stacklevel=3)

    def _video(self, source: str, name: str, entry: Mapping[str, Any], folder: Path) -> FeatureVideo:
        rows = entry.get("annotations", [])
        try:
            duration = float(entry.get("duration_second", entry.get("duration", math.nan)))
            num_frames = int(entry.get("duration_frame", 0))
            feature_frames = int(entry.get("feature_frame", num_frames))
            segments = np.array([row["segment"] for row in rows], dtype=np.float64).reshape(len(rows), 2)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise ValueError(f"{source}: {name}: {error!r}; need numbers, and [start, end] for each segment") from None
        if not 0 < duration < math.inf:
            raise ValueError(f"{source}: {name}: duration_second is {duration}; need the length in seconds, above 0")
        num_frames = max(num_frames, 1)
        if feature_frames < 1:  # no whole snippet: the features there are stand for the whole video
            feature_frames = num_frames
        keep = segments[:, 1] > segments[:, 0]  # False for NaN too
        self.dropped_segments += [(name, (s, e), "empty or reversed") for s, e in segments[~keep].tolist()]
        labels = tuple(row.get("label") for row, kept in zip(rows, keep, strict=True) if kept)
        path = _feature_file(folder, name)
        video = FeatureVideo(name, path, duration, num_frames, feature_frames, segments[keep], labels)
        outside = self._training_segments(video)[1]
        self.dropped_segments += [(name, (s, e), "outside the covered part") for s, e in outside.tolist()]
        return video

    @staticmethod
    def _training_segments(video: FeatureVideo) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        clipped = np.clip(video.segments / video.covered_seconds, 0.0, 1.0)
        keep = clipped[:, 1] > clipped[:, 0]
        return clipped[keep], video.segments[~keep]

    def _read(self, video: FeatureVideo) -> torch.Tensor:
        snippets = read_features(video.path)
        if snippets.shape[1] != self.feat_dim:
            reason = f"features have {snippets.shape[1]} channels, expected {self.feat_dim}; see feat_dim"
            raise UnreadableVideoError(video.path, None, reason)
        return rescale_features(snippets, self.temporal_dim)


def read_features(path: str | os.PathLike[str]) -> NDArray[np.float32]:
    """Reads a feature file, .npy or CSV with a header line: float32 [snippets, channels].

    Raises:
        VideoNotFoundError: there is no such file.
        UnreadableVideoError: it is damaged, empty, not two-dimensional, or contains values that are not finite.
    """
    path = os.fspath(path)
    try:
        if path.endswith(".npy"):
            features = np.load(path, allow_pickle=False)
        else:
            options = pa.csv.ReadOptions(use_threads=False)  # a DataLoader's workers are the threads
            table = pa.csv.read_csv(path, read_options=options)
            features = np.column_stack([column.to_numpy() for column in table.columns])
        features = np.asarray(features, dtype=np.float32)
    except FileNotFoundError:
        raise VideoNotFoundError(path, None, "no such feature file") from None
    except (OSError, ValueError, EOFError, pa.ArrowException) as error:
        raise UnreadableVideoError(path, None, f"cannot be read as features: {error}") from error
    if features.ndim != 2 or features.size == 0:
        raise UnreadableVideoError(
            path, None, f"features have shape {features.shape}; need [snippets, channels], at least one of each"
        )
    if not np.isfinite(features).all():
        row = int(np.flatnonzero(~np.isfinite(features).all(axis=1))[0])
        raise UnreadableVideoError(path, None, f"features of snippet {row} are not finite; make the file again")
    return features


def rescale_features(snippets: NDArray[np.float32], temporal_dim: int) -> torch.Tensor:
    """Rescales float32 [snippets, channels] to [channels, temporal_dim], linearly in time; see FeatureDataset."""
    features = torch.from_numpy(np.ascontiguousarray(snippets.T))  # [C, n]
    if features.shape[1] == temporal_dim:
        return features
    rescaled = torch.nn.functional.interpolate(
        features[None, :, None, :], size=(1, temporal_dim), mode="bilinear", antialias=True
    )
    return rescaled[0, :, 0]


def read_facts(path: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """The settings and the videos of a features.jsonl: one JSON object per line; of a video's lines the last one counts.

    Both are empty if there is no such file. A last line that was cut off is left out. Raises ValueError for anything else that is not
    such a line.
    """
    settings: dict[str, Any] = {}
    videos: dict[str, dict[str, Any]] = {}
    try:
        data = Path(path).read_bytes()
    except FileNotFoundError:
        return settings, videos
    lines = data.split(b"\n")
    for number, line in enumerate(lines[:-1], start=1):  # whatever follows the last newline was cut off
        try:
            row = json.loads(line)
            if "settings" in row:
                settings = dict(row["settings"])
            else:
                name = row.pop("name")
                if not isinstance(name, str):
                    raise TypeError
                videos[name] = row
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            raise ValueError(f"{os.fspath(path)}:{number}: not a line that 'vidload features' writes") from None
    return settings, videos


def _feature_file(folder: Path, name: str) -> str:
    for stem in (name, f"v_{name}"):
        for suffix in (".npy", ".csv"):
            path = os.path.join(folder, f"{stem}{suffix}")
            if os.path.isfile(path):  # False too for names that no file can have
                return path
    raise VideoNotFoundError(os.fspath(folder / f"{name}.npy"), None, "no such feature file, nor a .csv")


def _read_annotations(
    annotations: str | os.PathLike[str] | Mapping[str, Any] | None, folder: Path
) -> tuple[str, dict[str, dict[str, Any]]]:
    """Where they come from, for messages; and each video's entry, completed from features.jsonl."""
    facts_path = folder / FACTS_FILE
    facts = read_facts(facts_path)[1]
    if annotations is None:
        if not facts:
            raise ValueError(f"{facts_path}: missing or empty; without it annotations must be given")
        return os.fspath(facts_path), {name: dict(entry) for name, entry in facts.items()}
    if isinstance(annotations, Mapping):
        source, document = "annotations", annotations
    else:
        source, document = os.fspath(annotations), _read_json(annotations)
    entries = document.get("database", document) if isinstance(document, Mapping) else None
    if not isinstance(entries, Mapping) or not all(isinstance(entry, Mapping) for entry in entries.values()):
        raise ValueError(f'{source}: not annotations; need {{NAME: {{"duration_second": ..., "annotations": ...}}}}')
    return source, {name: {**facts.get(name, {}), **entry} for name, entry in entries.items()}


def _read_json(path: str | os.PathLike[str]) -> Any:
    with open(path, encoding="utf-8") as file:
        try:
            return json.load(file)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{os.fspath(path)}: not JSON: {error}") from error
