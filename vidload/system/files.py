"""Files that appear under their name only once they are whole.

In: a path. Out: another path beside it to write to, a file or a folder of files, which takes that name at the end of the block. A run that
is killed leaves litter: names that begin with PART_PREFIX and end in PART_SUFFIX.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PART_PREFIX, PART_SUFFIX = ".vidload-", ".part"


@contextmanager
def errors_named(path: Path) -> Iterator[None]:
    """Adds the file's name to an OSError that lacks one, such as that of a full disk."""
    try:
        yield
    except OSError as error:
        if error.errno is not None and error.filename is None:
            error.filename = os.fspath(path)
        raise


@contextmanager
def written_aside(path: Path, *, is_durable: bool = False) -> Iterator[Path]:
    """Gives the path to write to. If the block ends well it is renamed to `path`, replacing what is there; if the block raises it is removed.

    A device or a pipe (/dev/stdout) is not replaced but written to.

    is_durable: whether what was written, and the rename, must survive a power cut.
    """
    if path.parent == Path("/dev") or (path.exists() and not path.is_file() and not path.is_dir()):
        with errors_named(path):
            yield path
        return
    part = path.with_name(f"{PART_PREFIX}{threading.get_native_id()}-{path.name}{PART_SUFFIX}")
    try:
        with errors_named(path):
            yield part
            is_folder = part.is_dir()
            if is_durable:
                for written in part.iterdir() if is_folder else (part,):
                    _sync(written)
            if is_folder:
                remove(path)
            os.replace(part, path)
            if is_durable:
                _sync(path.parent)
    finally:
        remove(part)


def write_whole(path: Path, text: str) -> None:
    """Writes a text file, whole or not at all, that survives a power cut."""
    with written_aside(path, is_durable=True) as part:
        part.write_text(text, encoding="utf-8")


def remove(path: Path) -> None:
    """Removes a file or a folder of files, if there is one."""
    if path.is_dir():
        for child in path.iterdir():
            child.unlink(missing_ok=True)
        path.rmdir()
    else:
        path.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
