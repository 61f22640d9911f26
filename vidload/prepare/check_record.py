"""The record of `vidload check`: what is known of each file, from one run to the next.

In: what vidload.prepare.check_file found. Out: the same, of files that have not changed since. One line per file; where each line begins is kept
in memory, not what it says, so that a million files cost little.
"""

from __future__ import annotations

import hashlib
import json
import os
import typing
from collections.abc import Iterable, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from vidload.prepare.check_file import KINDS, CheckedFile, CheckSettings
from vidload.prepare.sources import Task
from vidload.sources import size_and_mtime

LOG_NAME = "checked.jsonl"
_VERSION = 1  # of its lines; those of another are passed over


class CheckRecord:
    """checked.jsonl as the record of a run; see vidload.prepare.tasks.Record."""

    def __init__(self, path: Path, settings: CheckSettings) -> None:
        self.path = path
        self._settings = asdict(settings)
        self._places: dict[str, int] = {}
        self.load()

    def load(self) -> None:
        """Finds the last line of each file. What a killed run has left unfinished, and what makes no sense, is none."""
        self._places.clear()
        if self.path.exists():
            with open(self.path, "rb") as file:
                place = 0
                for line in file:
                    if (row := self._row(line)) is not None:
                        self._places[row["source"]] = place
                    place += len(line)

    def get(self, task: Task) -> dict[str, Any] | None:
        """What is known of a file, as asdict(CheckedFile) has it."""
        if task.source not in self._places:
            return None
        with open(self.path, "rb") as file:
            file.seek(self._places[task.source])
            row = self._row(file.readline())
        return None if row is None else {name: row[name] for name in _TYPES}

    def is_done(self, task: Task) -> bool:
        facts = self.get(task)
        try:
            stamp = size_and_mtime(task.source)
        except OSError:
            return False
        return facts is not None and (facts["source_bytes"], facts["source_mtime_ns"]) == stamp

    def add(self, task: Task, outcome: dict[str, Any]) -> dict[str, Any]:
        return {"version": _VERSION, "source": task.source, "settings": self._settings, **outcome}

    def rows(self) -> Iterable[dict[str, Any]]:
        self.load()
        for source in sorted(self._places):
            with open(self.path, "rb") as file:
                file.seek(self._places[source])
                yield json.loads(file.readline())

    def _row(self, line: bytes) -> dict[str, Any] | None:
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            return None
        is_ours = (
            isinstance(row, dict)
            and (row.get("version"), row.get("settings")) == (_VERSION, self._settings)
            and isinstance(row.get("source"), str)
            and all(isinstance(row.get(name), kinds) for name, kinds in _TYPES.items())
            and all(isinstance(found, dict) and found.get("kind") in KINDS for found in row["problems"])
        )
        return row if is_ours else None


def _json_types(hint: Any) -> tuple[type, ...]:
    return (list,) if typing.get_origin(hint) is tuple else (int, float) if hint is float else (hint,)


_TYPES = {
    field.name: _json_types(hint)
    for field, hint in zip(fields(CheckedFile), typing.get_type_hints(CheckedFile).values(), strict=True)
}


def record_folder(name: str, paths: Sequence[str], is_fast: bool) -> Path:
    """Where the record of a source is by default: the same command finds the record of the run before.

    paths: the first file, which tells where the list was said to start from.
    """
    what = [os.path.abspath(name), str(is_fast), *map(os.path.abspath, paths)]
    digest = hashlib.blake2b("\0".join(what).encode("utf-8", "surrogateescape"), digest_size=6).hexdigest()
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    stem = os.path.basename(os.path.abspath(name))
    return Path(cache) / "vidload" / "check" / f"{stem}-{digest}"
