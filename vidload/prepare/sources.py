"""The videos of a dataset, each with the name of what is made from it.

In: a folder, an annotation list, a Kinetics CSV or one video. Out: tasks, and the list again with the new names.
"""

from __future__ import annotations

import io
import os
import re
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from vidload.annotations import VIDEO_EXTENSIONS, Annotations, read_videos
from vidload.sources import URL_PATTERN, absolute, is_url, read_all
from vidload.system.files import write_whole


@dataclass(frozen=True)
class Task:
    """A video, and what to make from it."""

    source: str
    name: str  # of the output, relative to the destination


@dataclass(frozen=True, eq=False)
class SourceList:
    """The videos of a dataset.

    Attributes:
        annotations: paths and labels, as they are listed.
        tasks: one for each video, in order, each once.
        rows: the task number of each row of `annotations`.
        list_name: file name of the annotation list; None for a folder or a single video.
        lines: (line, path as written in it) for each row of the list; no path in a Kinetics CSV.
        line_numbers: where those lines are in the list, counted from 1.
        header: of a Kinetics CSV.
    """

    annotations: Annotations
    tasks: tuple[Task, ...]
    rows: tuple[int, ...]
    list_name: str | None = None
    lines: tuple[tuple[str, str], ...] = ()
    line_numbers: tuple[int, ...] = ()
    header: str | None = None

    @classmethod
    def of(cls, annotations: Annotations) -> SourceList:
        """The videos of annotations that are read already."""
        if annotations.parts is not None:
            raise ValueError(f"{annotations.path(0)}: is a part of a file; give the videos as files of their own")
        tasks = _tasks(paths := annotations.path_list(), "", "")
        number = {task.source: i for i, task in enumerate(tasks)}
        return cls(annotations, tasks, tuple(number[path] for path in paths))

    @classmethod
    def read(cls, source: str | os.PathLike[str], root: str = "", suffix: str = "") -> SourceList:
        """Reads a folder (all videos at any depth), a list ("path label" lines, or "path" alone), a Kinetics CSV or
        one video. Outputs are named as the videos are under `root`, with `suffix` for their ending.

        Raises:
            FileNotFoundError, ValueError: there is nothing to read.
        """
        source = os.fspath(source)
        annotations = read_videos(source, root)
        is_list = (is_url(source) or os.path.isfile(source)) and not source.lower().endswith(VIDEO_EXTENSIONS)
        if not is_list:
            root = source if os.path.isdir(source) else os.path.dirname(source)
        paths = annotations.path_list()
        tasks = _tasks(paths, root, suffix)
        number = {task.source: i for i, task in enumerate(tasks)}
        rows = tuple(number[path] for path in paths)
        if not is_list:
            return cls(annotations, tasks, rows)
        with io.StringIO(read_all(source).decode("utf-8-sig"), newline=None) as file:
            numbered = [(number, line.strip()) for number, line in enumerate(file, 1) if line.strip()]
        header = None
        if "youtube_id" in numbered[0][1]:
            header, numbered = numbered[0][1], numbered[1:]
        numbers, lines = zip(*numbered, strict=True)
        prefix = os.path.join(root, "")
        written = [
            "" if header else path if line.startswith(path) else path.removeprefix(prefix)
            for line, path in zip(lines, paths, strict=True)
        ]
        pairs = tuple(zip(lines, written, strict=True))
        return cls(annotations, tasks, rows, os.path.basename(source), pairs, numbers, header)

    def write_list(self, folder: Path, failed: Collection[str]) -> Path:
        """Writes the list into `folder` with the outputs' names for paths, without the videos that `failed` names."""
        assert self.list_name is not None
        kept = [] if self.header is None else [self.header]
        for (line, written), row in zip(self.lines, self.rows, strict=True):
            task = self.tasks[row]
            if task.source not in failed:
                kept.append(line if self.header else task.name + line[len(written) :])
        path = folder / self.list_name
        write_whole(path, "".join(f"{line}\n" for line in kept))
        return path

    def write_rows(self, path: Path, left_out: Collection[int]) -> None:
        """Writes the rows as they are listed, without those that `left_out` numbers; of a folder, lines "path label".

        Raises:
            ValueError: a file's name cannot stand in a list.
        """
        kept = [] if self.header is None else [self.header]
        kept += [self._line(i) for i in range(len(self.rows)) if i not in left_out]
        write_whole(path, "".join(f"{line}\n" for line in kept))

    def _line(self, i: int) -> str:
        if self.lines:
            return self.lines[i][0]
        source, label = self.tasks[self.rows[i]].source, self.annotations.label(i)
        check_listable(source, source)
        return f"{source} {' '.join(map(str, label)) if isinstance(label, list) else label}"


def check_listable(name: str, source: str) -> None:
    """Raises ValueError, about the file `source`, for a name that would not be read from a list as it is."""
    try:
        name.encode()
    except UnicodeEncodeError:
        reason = "is not UTF-8"
    else:
        if name == name.strip() and not {"\n", "\r"} & set(name):
            return
        reason = "has a line break, or a space at its beginning or end"
    raise ValueError(f"{source!r}: a list cannot hold a name that {reason}; rename the file")


def _tasks(paths: Sequence[str], root: str, suffix: str) -> tuple[Task, ...]:
    """Names keep the folders below `root`. Where two videos would share a name, or one would be in the way of another's folder, they keep
    their endings, before the new one."""
    unique = list(dict.fromkeys(paths))
    relative = [_relative(path, root) for path in unique]
    names = [os.path.splitext(name)[0] + suffix for name in relative]
    while True:
        uses, above = Counter(names), folders_above(names)
        longer = [
            whole + suffix if uses[name] > 1 or name in above else name
            for whole, name in zip(relative, names, strict=True)
        ]
        if longer == names:
            return tuple(Task(path, name) for path, name in zip(unique, names, strict=True))
        names = longer


def folders_above(names: Iterable[str]) -> set[str]:
    """All folders in which these relative names are, at any depth."""
    found: set[str] = set()
    for folder in {os.path.dirname(name) for name in names}:
        while folder and folder not in found:
            found.add(folder)
            folder = os.path.dirname(folder)
    return found


def _relative(path: str, root: str) -> str:
    if is_url(path):
        name = path.removeprefix(os.path.join(root, "")) if root else path
        return os.path.normpath(os.sep + re.sub(URL_PATTERN, "", name)).lstrip(os.sep)
    # If it is not below root: the whole path below the destination.
    return absolute(path).removeprefix(os.path.join(absolute(root), "")).lstrip(os.sep)
