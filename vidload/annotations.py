"""Annotation files: which videos there are, and their labels.

In: list files, Kinetics CSV files, class folders or Python items. Out: `Annotations`, a few flat arrays, so
that a million videos cost neither gigabytes nor copies in forked processes. Only text is read here (and
folders listed); only `missing_files` checks whether a file exists, and only indexing whether it can be
decoded.
"""

from __future__ import annotations

import csv
import io
import math
import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyarrow import csv as arrow_csv

from vidload import _core
from vidload.labels import Column, column_of, label_at
from vidload.sources import URL_PATTERN, Parts, Source, exists, is_url, open_binary, parts_of, read_all

Path = str | os.PathLike[str]

VIDEO_EXTENSIONS = (
    *(".mp4", ".mkv", ".webm", ".avi", ".mov", ".m4v", ".ts", ".mts", ".m2ts", ".flv"),
    *(".mpg", ".mpeg", ".wmv", ".3gp", ".ogv"),
)

_DELIMITERS = ("\t", ",", " ")  # in order of trial: a path may hold spaces, rarely commas, never tabs
# a path that ends in a known extension, with words after it: someone wrote class names
_WORD_LABEL = re.compile(rf"(?:{'|'.join(map(re.escape, VIDEO_EXTENSIONS))})[\t ,]+(.*\S)$", re.IGNORECASE)
_INTEGER = re.compile(r"[+-]?\d{1,18}", re.ASCII)
# a path that goes on with numbers behind a known extension: columns that were taken for a part of the name
_NUMBERS_IN_PATH = re.compile(
    rf"(?:{'|'.join(map(re.escape, VIDEO_EXTENSIONS))})((?:[\t ,]+[+-]?\d+)+)$", re.IGNORECASE | re.ASCII
)
# What Arrow and Python may see differently: control characters, and white space beyond ASCII.
_UNUSUAL = r"[\x00-\x08\x0b-\x1f\x7f\x{80}-\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000}]"


@dataclass(frozen=True, eq=False)
class Annotations:
    """One row per video.

    paths: string array [N], paths or URLs, `root` already in front; a binary array if a name is not UTF-8 (names as os.fsencode has them).
    labels: int64 [N] (-1 = none), or another column of vidload.labels.
    start_seconds, end_seconds: float64 [N], NaN = from the start, to the end; None if no row has either.
    streams: int64 [N], numbers of video streams within their containers, -1 = FFmpeg's choice; None if no row names one.
    num_frames, offsets: int64 [N], for frame folders, where frame i is file number 1 + offset + i.
    classes: class names by label, if the source names them.
    parts: where videos are that are parts of files, whose paths only name them; None if none is.
    """

    paths: pa.StringArray | pa.BinaryArray
    labels: Column
    start_seconds: NDArray[np.float64] | None = None
    end_seconds: NDArray[np.float64] | None = None
    num_frames: NDArray[np.int64] | None = None
    offsets: NDArray[np.int64] | None = None
    classes: tuple[str, ...] | None = None
    streams: NDArray[np.int64] | None = None
    parts: Parts | None = None

    def __len__(self) -> int:
        return len(self.paths)

    def path(self, i: int) -> str:
        """The path of row `i`."""
        return os.fsdecode(self.paths[int(i)].as_py())

    def names(self, rows: Sequence[int]) -> list[bytes]:
        """The paths of some rows, as the system has them. Fast: a loader calls it for every batch."""
        offsets, data = self._name_buffers
        return [bytes(data[offsets[row] : offsets[row + 1]]) for row in rows]

    def source(self, row: int) -> Source:
        """Where the video of row `row` is, as the core takes it."""
        (name,) = self.names([row])
        return name if self.parts is None else self.parts.source(row, name)

    def video_list(self, stored: NDArray[np.int64] | None, index_file: _core.IndexFile | None) -> _core.VideoList:
        """All videos, as the core takes them; stored: of DatasetIndex.lookup, each video's entry in the file."""
        name_ends, name_bytes = self._name_buffers
        parts = self.parts
        return _core.VideoList(
            name_ends=np.frombuffer(name_ends, np.int32, len(self) + 1),
            name_bytes=np.frombuffer(name_bytes, np.uint8),
            streams=self.streams,
            stored=stored,
            index_file=index_file,
            files=((), ()) if parts is None else (parts.files, list(map(tuple, parts.stamps.tolist()))),
            part_files=None if parts is None else parts.file,
            part_offsets=None if parts is None else parts.offsets,
            part_sizes=None if parts is None else parts.sizes,
        )

    @cached_property
    def _name_buffers(self) -> tuple[memoryview, memoryview]:
        """Where each name begins, and the bytes of all names, in the array's own memory."""
        _, offsets, data = self.paths.buffers()
        if offsets is None:  # of no paths
            offsets = bytes(4)
        starts = memoryview(offsets).cast("b").cast("i")[self.paths.offset :]
        return starts, memoryview(data if data is not None else b"")

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_name_buffers"}

    def path_list(self) -> list[str]:
        """The paths of all rows."""
        return list(map(os.fsdecode, self.paths.to_pylist()))

    def label(self, i: int) -> Any:
        """The label of row `i`: an int, or another kind of vidload.labels."""
        return label_at(self.labels, i)


def read_list(path: Path, root: Path = "", delimiter: str | None = None, multi_label: bool = False) -> Annotations:
    """Reads lines "path label" (MMAction2, PySlowFast, PyTorchVideo), or "path" alone (label -1).

    The label follows the last delimiter, so paths may contain spaces. If `delimiter` is None, it is whichever
    of tab, comma and space is followed by an integer. `multi_label`: "path label label ...", labels are
    lists. A path may be a URL, and so may `path` itself. Quotes are part of a path. A byte-order mark, CRLF
    and blank lines are accepted. Raises ValueError, naming file and line, for lines it cannot read, and OSError
    if the file itself cannot be read.
    """
    if not multi_label and (annotations := _list_by_arrow(path, root, delimiter)) is not None:
        return annotations
    lines = _numbered_lines(path)
    delimiter = _sniffed(lines, delimiter, num_fields=1)
    if delimiter is None:
        for number, line in lines:
            if match := _WORD_LABEL.search(line):
                raise ValueError(f"{path}:{number}: label {match[1]!r} is not an integer; number classes from 0")
        no_labels = np.full(len(lines), -1, dtype=np.int64)
        return Annotations(_paths((line for _, line in lines), root), no_labels)

    paths: list[str] = []
    labels: list[int] = []
    ends: list[int] = [0]
    for number, line in lines:
        name, values = _split_right(line, delimiter, None if multi_label else 1)
        if not values or not name:
            raise ValueError(f"{path}:{number}: expected 'path{delimiter}label', the label an integer; got {line!r}")
        if not multi_label and (match := _NUMBERS_IN_PATH.search(name)) and not exists(_joined(name, root)):
            raise ValueError(
                f"{path}:{number}: {match[1].strip()!r} stands between the path and the label {values[0]}, got {line!r}; for several "
                "labels per line use multi_label=True, for 'dir num_frames label' FrameFolderDataset.from_list"
            )
        paths.append(name)
        labels.extend(values)
        ends.append(len(labels))
    flat = np.array(labels, dtype=np.int64)
    column = pa.ListArray.from_arrays(pa.array(ends, pa.int32()), pa.array(flat)) if multi_label else flat
    return Annotations(_paths(paths, root), column)


def _list_by_arrow(path: Path, root: Path, delimiter: str | None) -> Annotations | None:
    """What `read_list` reads, without an object of Python's for each line; None where that has to look at the lines itself: some have no
    label, hold unusual characters, or are wrong."""
    if is_url(os.fspath(path)):
        return None
    try:
        table = arrow_csv.read_csv(
            path,
            read_options=arrow_csv.ReadOptions(column_names=["line"], use_threads=False),
            parse_options=arrow_csv.ParseOptions(delimiter="\x1f", quote_char=False, escape_char=False),
            convert_options=arrow_csv.ConvertOptions(column_types={"line": pa.string()}),
        )
    except pa.ArrowInvalid:
        return None
    lines = table.column(0)
    del table
    sample = lines.take(pa.array(range(0, len(lines), len(lines) // 1000 + 1))).to_pylist()
    delimiter = _sniffed([(0, line.strip()) for line in sample], delimiter, num_fields=1)
    if delimiter is None or delimiter.strip(" \t,") != "":
        return None
    prefix = os.path.join(os.fsdecode(root), "")
    try:
        most_bytes = lines.nbytes + len(lines) * len(prefix.encode())
    except UnicodeEncodeError:
        return None
    if most_bytes >= 2**31:
        return None
    # Chunk by chunk into its place, so that few of them are there twice.
    data, num_bytes = np.empty(most_bytes, np.uint8), 0
    ends: list[NDArray[np.int32]] = [np.zeros(1, np.int32)]
    labels: list[NDArray[np.int64]] = []
    chunks = lines.chunks[::-1]
    del lines
    while chunks:
        chunk = chunks.pop()
        if pc.any(pc.match_substring_regex(chunk, _UNUSUAL)).as_py():
            return None
        chunk = pc.ascii_trim_whitespace(chunk)
        chunk = chunk.filter(pc.greater(pc.binary_length(chunk), 0))
        fields = pc.extract_regex(chunk, rf"^(?P<path>.*\S)\s*{re.escape(delimiter)}\s*(?P<label>-?[0-9]{{1,18}})$")
        if fields.null_count > 0:
            return None
        names = pc.struct_field(fields, "path")
        if pc.any(pc.match_substring_regex(names, _NUMBERS_IN_PATH.pattern, ignore_case=True)).as_py():
            return None
        is_whole = pc.or_(pc.starts_with(names, os.sep), pc.match_substring_regex(names, URL_PATTERN))
        names = pc.if_else(is_whole, names, pc.binary_join_element_wise(prefix, names, ""))
        _, offsets, letters = names.buffers()
        if len(names) == 0 or names.offset != 0 or letters is None:
            return None
        end = np.frombuffer(offsets, np.int32)[1 : len(names) + 1]
        ends.append(end + np.int32(num_bytes))
        data[num_bytes : num_bytes + end[-1]] = np.frombuffer(letters, np.uint8)[: end[-1]]
        num_bytes += int(end[-1])
        labels.append(pc.struct_field(fields, "label").cast(pa.int64()).to_numpy())
        del chunk, fields, names, offsets, letters, end
    paths = pa.StringArray.from_buffers(sum(map(len, labels)), pa.py_buffer(np.concatenate(ends)), pa.py_buffer(data))
    return Annotations(paths, np.concatenate(labels))


def read_frame_list(
    path: Path, root: Path = "", delimiter: str | None = None, with_offset: bool = False
) -> Annotations:
    """Reads lines "dir num_frames label", or `with_offset` "dir offset num_frames label" (MMAction2).

    `dir` may contain spaces. Raises ValueError, naming file and line, for lines it cannot read.
    """
    columns = "dir offset num_frames label" if with_offset else "dir num_frames label"
    num_fields = 3 if with_offset else 2
    lines = _numbered_lines(path)
    delimiter = _sniffed(lines, delimiter, num_fields)
    folders: list[str] = []
    rows: list[list[int]] = []
    for number, line in lines:
        folder, values = _split_right(line, delimiter or " ", num_fields)
        if len(values) != num_fields or not folder:
            raise ValueError(f"{path}:{number}: expected '{columns}', got {line!r}")
        if values[-2] < 1 or min(values[:-1]) < 0:
            raise ValueError(f"{path}:{number}: num_frames must be at least 1, offset at least 0, got {line!r}")
        folders.append(folder)
        rows.append(values)
    table = np.array(rows, dtype=np.int64)
    return Annotations(
        _paths(folders, root),
        table[:, -1].copy(),
        num_frames=table[:, -2].copy(),
        offsets=table[:, 0].copy() if with_offset else np.zeros(len(rows), dtype=np.int64),
    )


def read_kinetics_csv(path: Path, root: Path = "", classes: Sequence[str] | None = None) -> Annotations:
    """Reads a Kinetics CSV: label, youtube_id, time_start, time_end, split; one trimmed file per row.

    Files are `root/label/{youtube_id}_{time_start:06d}_{time_end:06d}.mp4`, the folder as it is or with
    spaces as underscores, or the same names in `root` itself: whichever most of a few rows have on disk (the
    first if none has any). Classes are numbered in the order of `classes`, else alphabetically among those of
    this file, so give `classes` for a split that lacks some. Without a label column (a test split) labels are
    -1. Raises ValueError, naming file and line, for rows it cannot read.
    """
    reader = csv.DictReader(io.StringIO(_read_text(path), newline=""))
    try:
        needed = {"youtube_id", "time_start", "time_end"}
        if missing := needed - set(reader.fieldnames or ()):
            raise ValueError(
                f"{path}: column {', '.join(sorted(missing))} is missing from {reader.fieldnames}; "
                "a Kinetics CSV starts with label,youtube_id,time_start,time_end,split"
            )
        has_label = "label" in (reader.fieldnames or ())
        rows: list[tuple[str, str]] = []
        numbers: list[int] = []
        for row in reader:
            try:
                start, end = (_whole_seconds(row[column]) for column in ("time_start", "time_end"))
            except (TypeError, ValueError):
                raise ValueError(
                    f"{path}:{reader.line_num}: time_start {row['time_start']!r} and time_end "
                    f"{row['time_end']!r} must be seconds"
                ) from None
            label = row["label"] if has_label else ""
            if label is None or not row["youtube_id"]:
                raise ValueError(f"{path}:{reader.line_num}: a column is missing: {dict(row)}")
            rows.append((label, f"{row['youtube_id']}_{start:06d}_{end:06d}.mp4"))
            numbers.append(reader.line_num)
    except csv.Error as error:
        raise ValueError(f"{path}:{reader.reader.line_num}: not CSV: {error}") from None
    if not rows:
        raise ValueError(f"{path}: no videos in it")

    layouts: list[Callable[[str, str], str]] = [lambda label, name: name]
    labels = np.full(len(rows), -1, dtype=np.int64)
    class_names = None
    if has_label:
        class_names = tuple(classes) if classes is not None else tuple(sorted({label for label, _ in rows}))
        label_of = {name: i for i, name in enumerate(class_names)}
        for i, (label, _) in enumerate(rows):
            if label not in label_of:
                raise ValueError(f"{path}:{numbers[i]}: label {label!r} is not among the {len(class_names)} classes")
            labels[i] = label_of[label]
        layouts[:0] = [
            lambda label, name: os.path.join(label, name),
            lambda label, name: os.path.join(label.replace(" ", "_"), name),
        ]
    probes = rows[:: max(len(rows) // 16, 1)]
    found = [sum(exists(os.path.join(root, layout(*row))) for row in probes) for layout in layouts]
    layout = layouts[found.index(max(found))]
    return Annotations(_paths((layout(*row) for row in rows), root), labels, classes=class_names)


def read_folder(
    root: Path, extensions: Sequence[str] = VIDEO_EXTENSIONS, classes: Sequence[str] | None = None
) -> Annotations:
    """Reads class folders: every video at any depth below `root/<class>`, in sorted order; links are
    followed.

    Classes are numbered in the order of `classes`, else alphabetically (a folder without videos keeps its
    number). Names that start with a dot are left out. Raises ValueError if there are no class folders, no
    videos in them, or folders that `classes` does not list.
    """
    root = os.fspath(root)
    folders = sorted(entry.name for entry in os.scandir(root) if entry.is_dir() and not entry.name.startswith("."))
    if not folders:
        raise ValueError(f"{root}: no class folders in it; for videos without classes, give a list of their paths")
    class_names = tuple(classes) if classes is not None else tuple(folders)
    if unknown := set(folders) - set(class_names):
        raise ValueError(f"{root}: folder {sorted(unknown)[0]!r} is not among the {len(class_names)} classes")
    paths: list[str] = []
    labels: list[int] = []
    for label, name in enumerate(class_names):
        if name in folders:
            found = find_videos(os.path.join(root, name), extensions)
            paths += found
            labels += [label] * len(found)
    if not paths:
        raise ValueError(f"{root}: no videos in its {len(folders)} folders (looked for {', '.join(extensions)})")
    return Annotations(_paths(paths, ""), np.array(labels, dtype=np.int64), classes=class_names)


def read_videos(source: str, root: Path = "") -> Annotations:
    """Reads a folder, a list, a Kinetics CSV or one video, whichever `source` is; a list or a video may be a URL. Videos without a class have
    label -1. Raises ValueError or FileNotFoundError if there is nothing to read."""
    if os.path.isdir(source):
        # videos directly in the folder mean that its subfolders are not classes
        if any(entry.is_file() and entry.name.lower().endswith(VIDEO_EXTENSIONS) for entry in os.scandir(source)):
            return from_items((path, -1) for path in find_videos(source))
        return read_folder(source)
    if not exists(source):
        raise FileNotFoundError(f"{source}: no such file or folder")
    if source.lower().endswith(VIDEO_EXTENSIONS):
        return from_items([(source, -1)])
    with open_binary(source) as file:
        is_kinetics = b"youtube_id" in file.readline(1000)
    return read_kinetics_csv(source, root) if is_kinetics else read_list(source, root)


def find_videos(root: Path, extensions: Sequence[str] = VIDEO_EXTENSIONS) -> list[str]:
    """Paths of all videos at any depth below `root`, sorted folder by folder; links followed, but no folder
    twice."""
    suffixes = tuple(extension.lower() for extension in extensions)
    seen: set[str] = set()
    found: list[str] = []
    for folder, subfolders, names in os.walk(os.fspath(root), followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:
            subfolders.clear()
            continue
        seen.add(real)
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        found += [
            os.path.join(folder, name)
            for name in sorted(names)
            if name.lower().endswith(suffixes) and not name.startswith(".")
        ]
    return found


def from_items(items: Iterable[Sequence[Any]], root: Path = "") -> Annotations:
    """Takes (path, label[, start_seconds, end_seconds[, stream]]); None = from the start, to the end, FFmpeg's choice. A path may be a URL,
    or (path, offset, size), in bytes, for a video that is a part of a file.

    Labels are integers, or all of one other kind of vidload.labels. Raises ValueError, naming the item, for anything else.
    """
    paths: list[str] = []
    labels: list[Any] = []
    times: list[tuple[float, float]] = []
    streams: list[int] = []
    places: list[tuple[str, int, int] | None] = []
    for i, item in enumerate(items):
        if not hasattr(item, "__len__") or isinstance(item, str | bytes) or len(item) not in (2, 3, 4, 5):
            raise ValueError(f"item {i}: expected (path, label[, start_seconds, end_seconds[, stream]]), got {item!r}")
        path, label, start, end, stream = (*item, None, None, None)[:5]
        if stream is not None and (not isinstance(stream, int | np.integer) or not 0 <= stream < 2**31):
            raise ValueError(f"item {i}: stream {stream!r} is not the number of a stream; streams count from 0")
        streams.append(-1 if stream is None else int(stream))
        place = None
        if isinstance(path, tuple):
            path, *place = _checked_part(i, path)
        if not isinstance(path, str | bytes | os.PathLike):
            raise ValueError(f"item {i}: path {path!r} is not a str, bytes or os.PathLike")
        try:
            is_time = all(value is None or math.isfinite(value) for value in (start, end))
        except (TypeError, OverflowError):
            is_time = False
        if not is_time:
            raise ValueError(f"item {i}: start_seconds {start!r} and end_seconds {end!r} must be numbers, or None")
        if (start or 0) < 0 or (end is not None and end <= (start or 0)):
            raise ValueError(f"item {i}: [start_seconds, end_seconds) is [{start}, {end}), which contains no time")
        name = os.fspath(path)
        if isinstance(name, bytes) and b"\0" in name:
            raise ValueError(
                f"item {i}: a dataset takes file names, and {name[:12]!r}... is not one; vidload.VideoReader(bytes) reads a video in memory"
            )
        name = os.fsdecode(name)
        if place is None:
            places.append(None)
        else:
            offset, size = place
            places.append((_joined(name, root), offset, size))
            name += f"[{offset}:{offset + size}]"
        paths.append(name)
        labels.append(label)
        times.append((math.nan if start is None else float(start), math.nan if end is None else float(end)))
    if not paths:
        raise ValueError("items: no videos in the sequence")
    start_seconds, end_seconds = np.array(times, dtype=np.float64).T
    has_times = not np.isnan(times).all()
    return Annotations(
        _paths(paths, root),
        column_of(labels),
        start_seconds=start_seconds.copy() if has_times else None,
        end_seconds=end_seconds.copy() if has_times else None,
        streams=np.array(streams, dtype=np.int64) if max(streams) >= 0 else None,
        parts=parts_of(places),
    )


def _checked_part(i: int, part: tuple[Any, ...]) -> tuple[Any, int, int]:
    if len(part) == 3 and all(isinstance(value, int | np.integer) for value in part[1:]):
        path, offset, size = part
        if 0 <= offset < 2**62 and 0 < size < 2**62:
            return path, int(offset), int(size)
    raise ValueError(f"item {i}: {part!r} is not (path, offset, size), offset at least 0, size at least 1, in bytes")


def _whole_seconds(text: str) -> int:
    seconds = float(text)
    if not 0 <= seconds < 1e9:  # False for NaN too
        raise ValueError
    return int(seconds)


def missing_files(annotations: Annotations) -> NDArray[np.int64]:
    """Numbers of the rows whose file does not exist, int64. Asks the file system, or the server of a URL, once per row; of parts, once per
    file."""
    parts = annotations.parts
    if parts is None:
        found = np.fromiter(map(exists, annotations.path_list()), bool, len(annotations))
    else:
        found_files = np.fromiter(map(exists, parts.files), bool, len(parts.files))
        found = found_files[parts.file]
        for row in np.flatnonzero(parts.sizes < 0):
            found[row] = exists(annotations.path(int(row)))
    return np.flatnonzero(~found)


def missing_files_message(annotations: Annotations, missing: NDArray[np.int64]) -> str:
    """One line about `missing`: how many, and the first few names."""
    first = ", ".join(annotations.path(int(i)) for i in missing[:3])
    more = ", ..." if len(missing) > 3 else ""
    return f"{len(missing)} of {len(annotations)} files are missing: {first}{more}; check the list and its root"


def _numbered_lines(path: Path) -> list[tuple[int, str]]:
    """The lines that are not blank, stripped, with their numbers from 1."""
    text = io.StringIO(_read_text(path), newline=None)
    lines = [(number, line.strip()) for number, line in enumerate(text, 1)]
    lines = [(number, line) for number, line in lines if line]
    if not lines:
        raise ValueError(f"{path}: no videos in it")
    return lines


def _read_text(path: Path) -> str:
    data = read_all(path)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        number = data.count(b"\n", 0, error.start) + 1
        raise ValueError(f"{path}:{number}: not UTF-8 text ({error}); convert the file to UTF-8") from None
    if (place := text.find("\0")) >= 0:
        raise ValueError(f"{path}:{text.count(chr(10), 0, place) + 1}: a NUL character; this is not a text file")
    return text


def _split_right(line: str, delimiter: str, num_fields: int | None) -> tuple[str, list[int]]:
    """Takes integers off the right end: exactly `num_fields` or none; None takes as many as there are."""
    rest = line
    values: list[int] = []
    while len(values) != num_fields:
        head, found, tail = rest.rpartition(delimiter)
        if not found or not _INTEGER.fullmatch(tail.strip()):
            break
        rest = head.rstrip()
        values.append(int(tail))
    if num_fields is not None and len(values) != num_fields:
        return line, []
    return rest, values[::-1]


def _sniffed(lines: list[tuple[int, str]], delimiter: str | None, num_fields: int) -> str | None:
    """The delimiter after which most lines (of a thousand) have integers; None if no line has any."""
    sample = [line for _, line in lines[:: len(lines) // 1000 + 1]]
    best, best_count = None, 0
    for candidate in _DELIMITERS if delimiter is None else (delimiter,):
        count = sum(bool(_split_right(line, candidate, num_fields)[1]) for line in sample)
        if count > best_count:
            best, best_count = candidate, count
    return best


def _paths(paths: Iterable[str], root: Path) -> pa.StringArray | pa.BinaryArray:
    prefix = os.path.join(os.fsdecode(root), "")
    joined = [path if path.startswith(os.sep) or ("://" in path and is_url(path)) else prefix + path for path in paths]
    if bad := next((path for path in joined if "\0" in path), None):
        raise ValueError(f"path {bad!r} contains a NUL character, which no file name may")
    return path_array(joined)


def _joined(path: str, root: Path) -> str:
    return path if is_url(path) else os.path.join(os.fsdecode(root), path)


def path_array(paths: Sequence[str]) -> pa.StringArray | pa.BinaryArray:
    """An array of strings, or of the names' bytes if one of them is not UTF-8."""
    try:
        return pa.array(paths, pa.string())
    except UnicodeEncodeError:
        return pa.array(list(map(os.fsencode, paths)), pa.binary())
