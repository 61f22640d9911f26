"""Re-encodes a dataset for loading: every video, the annotation list with the new names, and the index file.

In: a folder or an annotation list, and `EncodeSettings`. Out: a folder that VideoDataset can read, and a table of what
it costs on disk, in quality, and in packets and milliseconds per clip. vidload.prepare.encode encodes one video,
vidload.prepare.tasks spreads and resumes the work.
"""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tqdm import tqdm

from vidload.errors import VideoError
from vidload.index_building import build_index
from vidload.prepare.costs import Cost, clip_costs
from vidload.prepare.encode import EncodedVideo, encode_video
from vidload.prepare.settings import PROFILES, EncodeSettings
from vidload.prepare.shard_files import write_shards
from vidload.prepare.sources import SourceList, Task
from vidload.prepare.tasks import Results, run_tasks
from vidload.sources import exists

INDEX_NAME = "index.vidx"
LOG_NAME = "prepared.jsonl"

_SAMPLE_VIDEOS = 6  # of the dataset, evenly spread, for the table
_SAMPLE_FRAMES = 300  # of each of them, in a dry run


@dataclass(frozen=True)
class PrepareSummary:
    """What `prepare` did.

    Attributes:
        num_videos: of the dataset. num_encoded: encoded by this run. num_kept: encoded by an earlier run.
        failures: (path, reason) of the videos that failed; they are also in failed.jsonl, and left out of the new list.
        list_path: the new annotation list; None if the source was a folder.
        index_path: the index file; None if no video could be encoded.
        costs: rows for `cost_table`: the source, and what was made from it.
        shard_paths, shard_index_path: the tar shards and their index file; empty and None without `shard_bytes`.
    """

    num_videos: int
    num_encoded: int
    num_kept: int
    failures: tuple[tuple[str, str], ...]
    list_path: Path | None
    index_path: Path | None
    costs: tuple[Cost, ...]
    shard_paths: tuple[Path, ...] = ()
    shard_index_path: Path | None = None


def prepare(
    source: str | os.PathLike[str],
    destination: str | os.PathLike[str],
    settings: EncodeSettings = PROFILES["balanced"],
    *,
    root: str | os.PathLike[str] = "",
    jobs: int | None = None,
    engine: str = "local",
    progress: bool = False,
    shard_bytes: int | None = None,
) -> PrepareSummary:
    """Re-encodes the videos of a folder or an annotation list into `destination`.

    Run again after an interruption (Ctrl-C, kill -9, a power cut), it resumes where it stopped and ends with the same
    files, bit for bit. Run again after videos have been added or changed, it encodes only those.

    Args:
        source: a list ("path label" lines), a Kinetics CSV, a folder (videos at any depth), or one video.
        destination: the folder to write; names below it are those below `root`, ending in .mp4. Where two would be the same, the videos keep
            their endings before it.
        settings: how to encode.
        root: the folder that the paths of a list start from.
        jobs: processes; None = the cores this process may use.
        engine: "local", or "ray" for a Ray cluster.
        progress: whether to show progress bars on stderr.
        shard_bytes: also write the videos into tar shards of at most this many bytes, in WebDataset's layout; each row of the list becomes
            a sample with its label. None = no shards.

    Raises:
        FileNotFoundError, ValueError: `source` holds no videos, `destination` would overwrite them, or two would have the same output.
        DestinationError: `destination` cannot be written; what is finished stays.
        ModuleNotFoundError: `engine` is "ray", which is not installed.
    """
    destination = Path(destination)
    videos = SourceList.read(source, os.fspath(root), ".mp4")
    results = run_tasks(
        videos.tasks,
        encode_video,
        settings,
        destination,
        log_name=LOG_NAME,
        jobs=jobs,
        engine=engine,
        progress=progress,
    )
    failed = {path for path, _ in results.failures}
    good = [task for task in videos.tasks if task.source not in failed]
    list_path = index_path = None
    if videos.list_name is not None:
        list_path = videos.write_list(destination, failed)
    if good:
        index_path = destination / INDEX_NAME
        # All that is there: a second list prepared into the same folder shares the index.
        paths = [os.fspath(destination / name) for name in sorted(results.entries) if (destination / name).exists()]
        build_index(paths, index_path, num_workers=jobs, progress=progress)
    shard_paths: list[Path] = []
    shard_index_path = None
    if good and shard_bytes is not None:
        rows = (
            (destination / videos.tasks[number].name, videos.tasks[number].name, videos.annotations.label(row))
            for row, number in enumerate(videos.rows)
            if videos.tasks[number].source not in failed
        )
        name = "videos" if videos.list_name is None else os.path.splitext(videos.list_name)[0]
        shard_paths, shard_index_path = write_shards(rows, destination, name, shard_bytes, num_workers=jobs)
    return PrepareSummary(
        num_videos=len(videos.tasks),
        num_encoded=results.num_done,
        num_kept=results.num_kept,
        failures=results.failures,
        list_path=list_path,
        index_path=index_path,
        costs=tuple(_costs(good, results, destination)) if good else (),
        shard_paths=tuple(shard_paths),
        shard_index_path=shard_index_path,
    )


def _costs(tasks: Sequence[Task], results: Results, destination: Path) -> Iterable[Cost]:
    entries = [results.entries[task.name] for task in tasks]
    num_bytes, source_bytes, jpeg_bytes = (
        sum(entry[key] for entry in entries) for key in ("num_bytes", "source_bytes", "jpeg_bytes")
    )
    sample = _spread([task for task in tasks if exists(task.source)] or tasks, _SAMPLE_VIDEOS)
    if exists(sample[0].source):
        measured = clip_costs([task.source for task in sample])
        yield Cost("source", source_bytes, 1.0, source_bytes / jpeg_bytes, math.nan, *measured)
    yield Cost(
        "prepared",
        num_bytes,
        num_bytes / source_bytes,
        num_bytes / jpeg_bytes,
        min(entry["psnr"] for entry in entries),
        *clip_costs([os.fspath(destination / task.name) for task in sample]),
    )


def dry_run(
    source: str | os.PathLike[str],
    settings: EncodeSettings = PROFILES["balanced"],
    *,
    root: str | os.PathLike[str] = "",
    progress: bool = False,
) -> tuple[Cost, ...]:
    """Encodes the beginnings of a few videos with three GOP sizes around that of `settings`, in a temporary folder,
    and measures them. Returns rows for `cost_table`, that of the source first.

    Raises:
        FileNotFoundError, ValueError: `source` holds no videos.
        VideoError: none of the chosen videos can be encoded.
    """
    videos = SourceList.read(source, os.fspath(root))
    sample = _spread(videos.tasks, _SAMPLE_VIDEOS)
    choices = [settings]
    if settings.codec != "mjpeg":
        gops = sorted({max(settings.gop // 4, 1), settings.gop, min(settings.gop * 4, 1000)})
        choices = [replace(settings, gop=gop) for gop in gops]
    with (
        tempfile.TemporaryDirectory(prefix="vidload-") as folder,
        tqdm(total=len(sample) * len(choices), unit="video", disable=not progress) as bar,
    ):
        made: list[list[EncodedVideo]] = [[] for _ in choices]
        paths: list[list[str]] = [[] for _ in choices]
        used: list[str] = []
        failure: VideoError | None = None
        for number, task in enumerate(sample):
            try:
                for choice, videos_made, new_paths in zip(choices, made, paths, strict=True):
                    new_paths.append(os.path.join(folder, f"{number}_{choice.gop}.mp4"))
                    videos_made.append(encode_video(task.source, new_paths[-1], choice, max_frames=_SAMPLE_FRAMES))
                    bar.update()
                used.append(task.source)
            except VideoError as error:
                failure = error
                for videos_made, new_paths in zip(made, paths, strict=True):
                    del videos_made[len(used) :], new_paths[len(used) :]
        if not used:
            assert failure is not None
            raise failure
        source_bytes = sum(video.source_bytes for video in made[0])
        jpeg_bytes = sum(video.jpeg_bytes for video in made[0])
        rows = [Cost("source", source_bytes, 1.0, source_bytes / jpeg_bytes, math.nan, *clip_costs(used))]
        for choice, videos_made, new_paths in zip(choices, made, paths, strict=True):
            num_bytes = sum(video.num_bytes for video in videos_made)
            rows.append(
                Cost(
                    choice.codec if choice.codec == "mjpeg" else f"{choice.codec}, GOP {choice.gop}",
                    num_bytes,
                    num_bytes / source_bytes,
                    num_bytes / jpeg_bytes,
                    min(video.psnr for video in videos_made),
                    *clip_costs(new_paths),
                )
            )
    return tuple(rows)


def _spread(tasks: Sequence[Task], num: int) -> list[Task]:
    """`num` of the tasks, evenly spread."""
    return [tasks[i * len(tasks) // num] for i in range(num)] if len(tasks) > num else list(tasks)
