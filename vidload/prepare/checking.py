"""Finds what is wrong with a video dataset, before anything is trained on it.

In: a folder, an annotation list or Annotations. Out: `CheckReport`: what each file is, its problems, those of files among themselves and of
the list, and what training will cost. vidload.prepare.check_file looks at one file, vidload.prepare.tasks spreads and resumes the work,
vidload.prepare.check_page writes the page.
"""

from __future__ import annotations

import json
import math
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from vidload.annotations import Annotations
from vidload.index_building import IndexSummary, build_index
from vidload.prepare.check_costs import ClipCosts, ClipPrediction, PrepareEstimate, estimate_prepare
from vidload.prepare.check_file import KINDS, CheckSettings, Problem, check_file
from vidload.prepare.check_record import LOG_NAME, CheckRecord, record_folder
from vidload.prepare.engines import ENGINES
from vidload.prepare.sources import SourceList, Task
from vidload.prepare.tasks import locked, resume
from vidload.reader import VideoReader
from vidload.sampler_options import segment_frames
from vidload.sources import absolute, exists
from vidload.system.files import written_aside

SCHEMA_VERSION = 1  # of --json; docs/checking.md describes it

_NUM_EXAMPLES = 100  # problems of each kind that are kept in memory; the JSON file has all
_NUM_TRIALS = 3  # videos that are encoded for the estimate
_RATE_FACTOR, _USUAL_RATES = 2, (5, 120)  # what an odd rate is, see KINDS


@dataclass(frozen=True)
class FileReport:
    """One file of the dataset.

    Attributes:
        path: as it is listed, with the root in front.
        lines: where it is in the list, counted from 1; none where the source is a folder.
        facts: the attributes of CheckedFile without its problems; None if nothing of the file can be read.
        problems: all that concern it.
    """

    path: str
    lines: tuple[int, ...]
    facts: dict[str, Any] | None
    problems: tuple[Problem, ...]

    @property
    def is_bad(self) -> bool:
        """Whether one of the problems can fail in training, or train on wrong data."""
        return any(KINDS[problem.kind].is_bad for problem in self.problems)


@dataclass
class Tally:
    """How many files of the dataset, by what they are.

    sizes: by (width, height), as returned. rates: by frames per second, rounded to hundredths. gops: by the median of frames from one
    keyframe to the next. durations: by seconds, rounded down to a power of two (0 below one second).
    """

    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    codecs: Counter[str] = field(default_factory=Counter)
    containers: Counter[str] = field(default_factory=Counter)
    rates: Counter[float] = field(default_factory=Counter)
    gops: Counter[int] = field(default_factory=Counter)
    durations: Counter[int] = field(default_factory=Counter)

    def add(self, facts: dict[str, Any]) -> None:
        seconds = facts["duration_seconds"]
        self.sizes[facts["width"], facts["height"]] += 1
        self.codecs[facts["codec"]] += 1
        self.containers[facts["container"]] += 1
        self.rates[round(facts["average_fps"], 2)] += 1
        self.gops[round(facts["median_gop"])] += 1
        self.durations[0 if seconds < 1 else 2 ** math.floor(math.log2(seconds))] += 1


@dataclass
class CheckReport:
    """What `check` found.

    Attributes:
        source, root, is_fast: what was checked, where its paths start, and how.
        record: the file from which a later run resumes.
        num_rows, num_files, num_bad: rows of the list, files they name, bad ones among these.
        num_checked, num_kept: files that this run checked, and that an earlier run had checked.
        num_bytes, num_frames, duration_seconds: of all files that can be read.
        counts: problems by kind, in the order of KINDS.
        examples: the first hundred of each kind.
        tally: how many files by picture size, codec, frame rate and so on.
        clips: what clips of the good files cost.
        prepare: what `vidload prepare` would cost and gain; None if it was not estimated.
    """

    source: str
    root: str
    is_fast: bool
    record: Path
    num_rows: int
    num_files: int
    num_checked: int
    num_kept: int
    num_bad: int = 0
    num_bytes: int = 0
    num_frames: int = 0
    duration_seconds: float = 0.0
    counts: dict[str, int] = field(default_factory=dict)
    examples: dict[str, list[tuple[FileReport, Problem]]] = field(default_factory=lambda: defaultdict(list))
    tally: Tally = field(default_factory=Tally)
    clips: tuple[ClipPrediction, ...] = ()
    prepare: PrepareEstimate | None = None
    _files: Callable[[], Iterator[FileReport]] = field(default=lambda: iter(()), repr=False)
    _videos: SourceList | None = field(default=None, repr=False)
    _empty_rows: frozenset[int] = field(default=frozenset(), repr=False)

    def files(self) -> Iterator[FileReport]:
        """Every file, in the order of the list. They are read from the record, one after the other."""
        return self._files()

    def short(self, path: str) -> str:
        """A path without the root in front."""
        return path.removeprefix(os.path.join(self.root, "")) if self.root else path

    def write_json(self, path: str | os.PathLike[str]) -> None:
        """Writes every file's facts and problems; docs/checking.md has the schema."""
        totals = ("num_rows", "num_files", "num_bad", "num_bytes", "num_frames", "duration_seconds")
        head = {
            "version": SCHEMA_VERSION,
            "source": self.source,
            "root": self.root,
            "is_fast": self.is_fast,
            **{name: getattr(self, name) for name in totals},
            "counts": self.counts,
            "clips": [asdict(clip) for clip in self.clips],
            "prepare": None if self.prepare is None else asdict(self.prepare),
        }
        with written_aside(Path(path)) as part, part.open("w", encoding="utf-8") as out:
            out.write(json.dumps(head, indent=1)[:-2] + ',\n "files": [')
            for number, file in enumerate(self.files()):
                row = {**asdict(file), "is_bad": file.is_bad}
                out.write(("," if number else "") + "\n  " + json.dumps(row))
            out.write("\n ]\n}\n")

    def write_list(self, path: str | os.PathLike[str]) -> int:
        """Writes the rows of good files, as they were listed. Returns how many."""
        assert self._videos is not None
        bad = {file.path for file in self.files() if any(_is_of_file(problem) for problem in file.problems)}
        rows = [self._videos.tasks[row].source for row in self._videos.rows]
        left_out = {row for row, source in enumerate(rows) if source in bad} | self._empty_rows
        self._videos.write_rows(Path(path), left_out)
        return self.num_rows - len(left_out)

    def write_index(self, path: str | os.PathLike[str], num_workers: int | None = None) -> IndexSummary:
        """Writes the packet index of all files, as `vidload index` does."""
        assert self._videos is not None
        return build_index([task.source for task in self._videos.tasks], path, num_workers=num_workers)


def _is_of_file(problem: Problem) -> bool:
    return KINDS[problem.kind].is_bad and problem.kind != "empty_segment"


def check(
    source: str | os.PathLike[str] | Annotations,
    *,
    root: str | os.PathLike[str] = "",
    record: str | os.PathLike[str] | None = None,
    is_fast: bool = False,
    num_workers: int | None = None,
    with_estimate: bool = True,
    progress: bool = False,
) -> CheckReport:
    """Decodes every frame of every video of a dataset, and reports what is wrong.

    If it was interrupted (Ctrl-C, kill -9, a power cut), the next run resumes where it stopped. Later runs look only at files that have
    changed, and at those of which nothing could be read.

    Args:
        source: a list ("path label" lines), a Kinetics CSV, a folder (videos at any depth), one video, or Annotations.
        root: the folder that the paths of a list start from.
        record: the folder of the record that a run is resumed from; None = one for this source under ~/.cache/vidload/check (or
            $XDG_CACHE_HOME).
        is_fast: decode keyframes alone, and compare files by their size and their first and last MiB.
        num_workers: processes; None = the cores this process may use.
        with_estimate: whether to encode the beginnings of three videos, to estimate what `vidload prepare` would cost and gain.
        progress: whether to show a progress bar on stderr.

    Raises:
        FileNotFoundError, ValueError: `source` holds no videos, or an argument makes no sense.
        DestinationError: the record cannot be written, or another run is writing it.
    """
    if num_workers is not None and num_workers < 1:
        raise ValueError(f"num_workers is {num_workers}, must be at least 1")
    name = "annotations" if isinstance(source, Annotations) else os.fspath(source)
    videos = SourceList.of(source) if isinstance(source, Annotations) else SourceList.read(source, os.fspath(root))
    folder = (
        record_folder(name, [task.source for task in videos.tasks[:1]], is_fast) if record is None else Path(record)
    )
    settings = CheckSettings(is_fast)

    def outcomes(todo: Sequence[Task]) -> Iterator[tuple[Task, Any]]:
        return ENGINES["local"](todo, check_file, settings, folder, num_workers)

    with locked(folder):
        known = CheckRecord(folder / LOG_NAME, settings)
        num_done, failures = resume(videos.tasks, known, outcomes, progress=progress)
        known.load()
    report = CheckReport(
        source=name,
        root=name if os.path.isdir(name) else os.fspath(root),
        is_fast=is_fast,
        record=known.path,
        num_rows=len(videos.rows),
        num_files=len(videos.tasks),
        num_checked=num_done + len(failures),
        num_kept=len(videos.tasks) - num_done - len(failures),
    )
    report._videos = videos
    finder = _Finder(videos, known, dict(failures))
    report._files = finder.files
    report._empty_rows = frozenset(row for rows in finder.empty_rows.values() for row in rows)
    _sum_up(report, videos, with_estimate)
    return report


def _sum_up(report: CheckReport, videos: SourceList, with_estimate: bool) -> None:
    """Fills in what all files are together, and what they cost."""
    num_rows = Counter(videos.tasks[row].source for row in videos.rows)
    costs = ClipCosts()
    counts: Counter[str] = Counter()
    good: list[str] = []
    good_rows = good_frames = 0
    for file in report.files():
        report.num_bad += file.is_bad
        for problem in file.problems:
            counts[problem.kind] += 1
            if len(report.examples[problem.kind]) < _NUM_EXAMPLES:
                report.examples[problem.kind].append((file, problem))
        if file.facts is None:
            continue
        report.num_bytes += file.facts["source_bytes"]
        report.num_frames += file.facts["num_frames"]
        report.duration_seconds += file.facts["duration_seconds"]
        report.tally.add(file.facts)
        if not file.is_bad:
            good.append(file.path)
            good_rows += num_rows[file.path]
            good_frames += file.facts["num_frames"]
            costs.add(file.facts, num_rows[file.path])
    report.counts = {kind: counts[kind] for kind in KINDS if counts[kind]}
    report.clips = costs.prediction()
    if with_estimate and report.clips:
        trials = [good[i * len(good) // _NUM_TRIALS] for i in range(_NUM_TRIALS)] if len(good) > _NUM_TRIALS else good
        report.prepare = estimate_prepare(trials, report.clips, num_frames=good_frames, num_rows=good_rows)


class _Finder:
    """Joins what is known of each file with what only the whole dataset tells.

    empty_rows: rows whose segment shows no frame, by task number.
    """

    def __init__(self, videos: SourceList, record: CheckRecord, failures: dict[str, str]) -> None:
        self._videos, self._record, self._failures = videos, record, failures
        self._rows: dict[int, list[int]] = defaultdict(list)  # of each task
        for row, number in enumerate(videos.rows):
            self._rows[number].append(row)
        self._named_alike = self._rows_by_file()
        self.empty_rows: dict[int, list[int]] = defaultdict(list)
        rates = []
        self._first: dict[str, int] = {}  # digest -> the first task with it
        for number, task in enumerate(videos.tasks):
            facts = record.get(task)
            if facts is None or task.source in failures:
                continue
            rates.append(facts["average_fps"])
            for key in ("digest", "packet_digest"):
                self._first.setdefault(facts[key], number)
            self._find_empty_segments(number)
        self._usual_rate = float(np.median(rates)) if rates else math.nan

    def files(self) -> Iterator[FileReport]:
        for number, task in enumerate(self._videos.tasks):
            facts = None if task.source in self._failures else self._record.get(task)
            lines = tuple(self._line(row) for row in self._rows[number]) if self._videos.lines else ()
            if facts is None:
                reason = self._failures.get(task.source, "")
                problems = [Problem("unreadable" if exists(task.source) else "missing", reason)]
            else:
                problems = [
                    Problem(
                        found["kind"],
                        found["detail"],
                        *(tuple(map(tuple, found[key])) for key in ("frames", "seconds")),
                    )
                    for found in facts.pop("problems")
                ]
                problems += self._among_files(number, facts)
            problems += self._in_list(number)
            problems.sort(key=lambda problem: list(KINDS).index(problem.kind))
            yield FileReport(task.source, lines, facts, tuple(problems))

    def _line(self, row: int) -> int:
        return self._videos.line_numbers[row] if self._videos.line_numbers else row + 1

    def _among_files(self, number: int, facts: dict[str, Any]) -> Iterator[Problem]:
        for kind, key in (("duplicate", "digest"), ("same_packets", "packet_digest")):
            first = self._first[facts[key]]
            if facts[key] and first != number:
                yield Problem(kind, f"of {self._videos.tasks[first].source}")
                break
        rate, usual = facts["average_fps"], self._usual_rate
        if not usual / _RATE_FACTOR <= rate <= usual * _RATE_FACTOR:
            yield Problem("odd_rate", f"{rate:.6g} fps; the median of the dataset is {usual:.6g}")
        elif not _USUAL_RATES[0] <= rate <= _USUAL_RATES[1]:
            yield Problem("odd_rate", f"{rate:.6g} fps")

    def _in_list(self, number: int) -> Iterator[Problem]:
        rows = self._named_alike.get(number, [])
        if len(rows) > 1:
            where = ", ".join(str(self._line(row)) for row in rows)
            labels = dict.fromkeys(str(self._videos.annotations.label(row)) for row in rows)
            what = f", with different labels: {', '.join(labels)}" if len(labels) > 1 else ""
            yield Problem("listed_twice", f"{'lines' if self._videos.lines else 'rows'} {where}{what}")
        if number in self.empty_rows:
            yield Problem("empty_segment", "; ".join(self._segment_text(row) for row in self.empty_rows[number]))

    def _rows_by_file(self) -> dict[int, list[int]]:
        """The rows that name the file of a task, by the first task that does."""
        if self._videos.annotations.start_seconds is not None:
            return {}  # several segments of one video are no mistake
        first: dict[str, int] = {}
        found: dict[int, list[int]] = defaultdict(list)
        for number, task in enumerate(self._videos.tasks):
            found[first.setdefault(absolute(task.source), number)] += self._rows[number]
        return {number: sorted(rows) for number, rows in found.items() if len(rows) > 1}

    def _find_empty_segments(self, number: int) -> None:
        annotations = self._videos.annotations
        if annotations.start_seconds is None or annotations.end_seconds is None:
            return
        with VideoReader(self._videos.tasks[number].source) as reader:
            seconds = reader.pts_seconds - reader.pts_seconds[0]
        for row in self._rows[number]:
            first, stop = segment_frames(
                seconds, float(annotations.start_seconds[row]), float(annotations.end_seconds[row])
            )
            if first >= stop:
                self.empty_rows[number].append(row)

    def _segment_text(self, row: int) -> str:
        annotations = self._videos.annotations
        assert annotations.start_seconds is not None and annotations.end_seconds is not None
        return f"row {row + 1}: [{annotations.start_seconds[row]:g}, {annotations.end_seconds[row]:g}) seconds"
