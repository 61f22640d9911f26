"""Extracts the frames of a dataset as JPEG files, for FrameFolderDataset and for comparison with video.

In: a folder or an annotation list. Out: for each video a folder img_00001.jpg, img_00002.jpg, ..., as MMAction2's
tools leave them (short side 256, `-q:v 2`), and a list with lines "folder num_frames label". vidload.prepare.tasks
spreads and resumes the work; vidload.prepare.source_frames turns, resizes and makes JPEG files.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vidload.prepare.settings import EncodeSettings
from vidload.prepare.source_frames import JpegEncoder, SourceFrames
from vidload.prepare.sources import SourceList, check_listable
from vidload.prepare.tasks import run_tasks
from vidload.system.files import write_whole, written_aside

LIST_NAME = "frames.txt"  # if the source has no list
LOG_NAME = "frames.jsonl"
NAME_FORMAT = "img_{:05}.jpg"


@dataclass(frozen=True)
class ExtractedFrames:
    """What `extract_frames` wrote: `num_bytes` in all, and size and mtime of the source."""

    num_frames: int
    num_bytes: int
    source_bytes: int
    source_mtime_ns: int


@dataclass(frozen=True)
class FramesSummary:
    """What `extract_dataset` did.

    Attributes:
        num_videos: of the dataset. num_extracted: extracted by this run. num_kept: extracted by an earlier run.
        num_frames, num_bytes: of all extracted videos together.
        failures: (path, reason) of the videos that failed; they are also in failed.jsonl, and left out of the list.
        list_path: the list for FrameFolderDataset.from_list.
    """

    num_videos: int
    num_extracted: int
    num_kept: int
    num_frames: int
    num_bytes: int
    failures: tuple[tuple[str, str], ...]
    list_path: Path


def extract_frames(
    source: str | os.PathLike[str], destination: str | os.PathLike[str], settings: EncodeSettings
) -> ExtractedFrames:
    """Writes the frames of one video into the new folder `destination`, whole or not at all.

    Raises:
        VideoError: the source is missing, empty, damaged or not supported.
        OSError: `destination` cannot be written.
    """
    destination = Path(destination)
    frames = SourceFrames(os.fspath(source), settings, full_range=True)
    encode = JpegEncoder(frames.width, frames.height)
    num_bytes = 0
    with written_aside(destination, is_durable=True) as part:
        part.mkdir()
        for number, frame in enumerate(frames, 1):
            data = encode(frame)
            num_bytes += len(data)
            (part / NAME_FORMAT.format(number)).write_bytes(data)
    return ExtractedFrames(len(frames), num_bytes, frames.num_bytes, frames.mtime_ns)


def extract_dataset(
    source: str | os.PathLike[str],
    destination: str | os.PathLike[str],
    *,
    short_side: int = 256,
    root: str | os.PathLike[str] = "",
    jobs: int | None = None,
    engine: str = "local",
    progress: bool = False,
) -> FramesSummary:
    """Extracts the frames of every video; the arguments and what they raise are those of vidload.prepare.prepare."""
    destination = Path(destination)
    videos = SourceList.read(source, os.fspath(root))
    for task in videos.tasks:
        check_listable(task.name, task.source)
    results = run_tasks(
        videos.tasks,
        extract_frames,
        EncodeSettings(codec="mjpeg", gop=1, crf=2, short_side=short_side),
        destination,
        log_name=LOG_NAME,
        jobs=jobs,
        engine=engine,
        progress=progress,
    )
    failed = {path for path, _ in results.failures}
    lines = []
    for i, row in enumerate(videos.rows):
        task = videos.tasks[row]
        if task.source not in failed:
            label: Any = videos.annotations.label(i)
            labels = " ".join(map(str, label)) if isinstance(label, list) else label
            lines.append(f"{task.name} {results.entries[task.name]['num_frames']} {labels}\n")
    list_path = destination / (videos.list_name or LIST_NAME)
    write_whole(list_path, "".join(lines))
    entries = [results.entries[task.name] for task in videos.tasks if task.source not in failed]
    return FramesSummary(
        num_videos=len(videos.tasks),
        num_extracted=results.num_done,
        num_kept=results.num_kept,
        num_frames=sum(entry["num_frames"] for entry in entries),
        num_bytes=sum(entry["num_bytes"] for entry in entries),
        failures=results.failures,
        list_path=list_path,
    )
