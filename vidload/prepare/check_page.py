"""The report of `vidload check` as one HTML page that needs nothing else: no script, no font, no picture from anywhere.

In: a CheckReport. Out: a file. File names are input of strangers: everything that is written goes through `html.escape`.
"""

from __future__ import annotations

import base64
import math
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

import av

from vidload.prepare.check_costs import ClipPrediction, epochs_to_pay
from vidload.prepare.check_file import KINDS
from vidload.prepare.check_words import amount, duration, printable, ranges, would_pay
from vidload.prepare.checking import CheckReport, FileReport
from vidload.prepare.engines import ENGINES
from vidload.prepare.source_frames import JpegEncoder
from vidload.prepare.sources import Task
from vidload.reader import VideoReader
from vidload.system.files import written_aside

_NUM_THUMBNAILS = 24
_THUMBNAIL_SIDE = 160  # the longer one, in pixels
_NUM_BARS = 12

_STYLE = """
:root{color-scheme:light dark;--bg:#fbfbfa;--card:#fff;--ink:#1d2127;--soft:#5d6673;--line:#dfe3e8;--bar:#4a7bd0;--bad:#b3261e;--badbg:#fdeceb;
--good:#1c6b3c;--goodbg:#e7f5ec;--odd:#7a5200}
@media(prefers-color-scheme:dark){:root{--bg:#14171b;--card:#1c2026;--ink:#e7eaee;--soft:#a3adba;--line:#323943;--bar:#6f9cf0;--bad:#ff9d94;
--badbg:#3a1f1e;--good:#86d7a5;--goodbg:#17301f;--odd:#e8bd6a}}
*{box-sizing:border-box}
body{margin:0;background:var(--bg);color:var(--ink);font:16px/1.5 system-ui,sans-serif}
main,header{max-width:72rem;margin:0 auto;padding:0 1rem}
header{padding-top:1.5rem}
h1{font-size:1.5rem;margin:0;overflow-wrap:anywhere}
h2{font-size:1.2rem;margin:2.2rem 0 .6rem}
h3{font-size:1rem;margin:1.4rem 0 .2rem}
p{margin:.3rem 0;max-width:60rem}
a{color:var(--bar)}
.soft,figcaption,caption{color:var(--soft)}
.verdict{display:inline-block;margin:.7rem 0 0;padding:.3rem .8rem;border-radius:.5rem;font-weight:600}
.verdict.bad{background:var(--badbg);color:var(--bad)}
.verdict.good{background:var(--goodbg);color:var(--good)}
.cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(8.5rem,1fr));gap:.6rem;margin:1rem 0;padding:0}
.cards div{background:var(--card);border:1px solid var(--line);border-radius:.5rem;padding:.5rem .8rem}
.cards dt{color:var(--soft);font-size:.85rem}
.cards dd{margin:0;font-size:1.25rem;font-weight:600}
.wide{overflow-x:auto;background:var(--card);border:1px solid var(--line);border-radius:.5rem}
table{border-collapse:collapse;width:100%;font-size:.9rem}
caption{text-align:left;padding:.5rem .8rem 0}
th,td{padding:.4rem .8rem;text-align:left;vertical-align:top;border-bottom:1px solid var(--line)}
tr:last-child td,tr:last-child th{border-bottom:0}
thead th{color:var(--soft);font-weight:600;white-space:nowrap}
tbody th{font-weight:500;overflow-wrap:anywhere;min-width:11rem}
td{overflow-wrap:anywhere}
.n{text-align:right;white-space:nowrap;font-variant-numeric:tabular-nums}
.stack table{table-layout:fixed}
.stack .n{width:6rem}.where{width:15rem}.what{width:45%}.severity{width:6rem}
td.where:empty::after{content:"whole file";color:var(--soft)}
.isbad{color:var(--bad);font-weight:600}.isodd{color:var(--odd);font-weight:600}
.charts{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,20rem),1fr));gap:.8rem}
.charts figure,.thumbs figure{margin:0;background:var(--card);border:1px solid var(--line);border-radius:.5rem;padding:.6rem .8rem}
.charts figcaption{font-weight:600;color:var(--ink);margin-bottom:.3rem}
svg{width:100%;height:auto;display:block}
svg text{fill:var(--ink);font:13px system-ui,sans-serif}
svg rect{fill:var(--bar)}
.thumbs{display:grid;grid-template-columns:repeat(auto-fill,minmax(10rem,1fr));gap:.8rem}
.thumbs img{display:block;max-width:100%;height:auto;margin:0 auto .4rem;border-radius:.25rem}
.thumbs figcaption{font-size:.82rem;overflow-wrap:anywhere}
footer{max-width:72rem;margin:2rem auto 0;padding:0 1rem 2rem;color:var(--soft);font-size:.85rem;overflow-wrap:anywhere}
@media(max-width:44rem){
th,td{padding:.35rem .5rem}
.stack table,.stack caption,.stack tbody,.stack tr,.stack th,.stack td{display:block;width:auto;text-align:left;border:0;padding:0}
.stack caption{padding:.5rem .8rem 0}
.stack thead{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%)}
.stack tr{padding:.5rem .8rem;border-bottom:1px solid var(--line)}
.stack tr:last-child{border-bottom:0}
.stack tbody th{font-weight:600}
.stack td.n::before{content:attr(data-label) " ";color:var(--soft)}
.stack td:empty{display:none}
}
"""


def write_page(report: CheckReport, path: str | os.PathLike[str], num_workers: int | None = None) -> None:
    """Writes the page, whole or not at all. Files that are shown are decoded in processes of their own.

    Raises:
        OSError: `path` cannot be written.
    """
    parts = [*_head(report), *_problem_section(report), *_thumbnail_section(report, num_workers)]
    parts += [*_chart_section(report), *_cost_section(report), *_foot(report)]
    with written_aside(Path(path)) as part:
        part.write_text("\n".join(parts) + "\n", encoding="utf-8", errors="backslashreplace")


def _text(text: object) -> str:
    return escape(printable(str(text)))


def _head(report: CheckReport) -> Iterable[str]:
    title = f"vidload check: {os.path.basename(os.path.abspath(report.source))}"
    yield f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{_text(title)}</title>'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield f"<style>{_STYLE}</style>\n</head>\n<body>\n<header>"
    yield f"<h1>{_text(report.source)}</h1>"
    how = "Keyframes were decoded, not every frame." if report.is_fast else "Every frame was decoded."
    if report.num_bad:
        verdict, tone = f"{report.num_bad} of {report.num_files} files are bad", "bad"
    else:
        verdict, tone = f"No bad file among {report.num_files}", "good"
    yield f'<p class="verdict {tone}">{verdict}</p>\n<p class="soft">{how}</p>\n</header>\n<main>'
    facts = {
        "files": f"{report.num_files:,}",
        "rows of the list": f"{report.num_rows:,}",
        "size": amount(report.num_bytes),
        "playing time": duration(report.duration_seconds),
        "frames": f"{report.num_frames:,}",
        "picture sizes": f"{len(report.tally.sizes):,}",
    }
    cards = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in facts.items())
    yield f'<dl class="cards">{cards}</dl>'


def _table(
    caption: str,
    headings: Sequence[str],
    rows: Iterable[Sequence[str]],
    classes: Sequence[str],
    *,
    is_stacked: bool = False,
) -> str:
    """A table with a scope for every heading. Cells are HTML; the first of a row is its heading, `classes` are those of the others. On a
    narrow screen it scrolls, or its cells are stacked; roles keep it a table then."""
    head = "".join(
        f'<th scope="col" role="columnheader" class="{name}">{heading}</th>'
        for heading, name in zip(headings, ["", *classes], strict=True)
    )
    body = "".join(
        f'<tr role="row"><th scope="row" role="rowheader">{first}</th>'
        + "".join(
            f'<td role="cell" class="{name}" data-label="{heading}">{cell}</td>'
            for cell, name, heading in zip(cells, classes, headings[1:], strict=True)
        )
        + "</tr>\n"
        for first, *cells in rows
    )
    return (
        f'<div class="wide{" stack" if is_stacked else ""}" tabindex="0" role="region" aria-label="{caption}">'
        f'<table role="table"><caption>{caption}</caption><thead role="rowgroup"><tr role="row">{head}</tr></thead>\n'
        f'<tbody role="rowgroup">\n{body}</tbody></table></div>'
    )


def _problem_section(report: CheckReport) -> Iterable[str]:
    yield "<h2>Problems</h2>"
    if not report.counts:
        yield "<p>None was found.</p>"
        return
    rows = [
        (
            f'<a href="#{kind}">{escape(KINDS[kind].title)}</a>',
            f"{count:,}",
            f'<span class="{"isbad" if KINDS[kind].is_bad else "isodd"}">{"bad" if KINDS[kind].is_bad else "odd"}</span>',
            escape(KINDS[kind].meaning),
        )
        for kind, count in report.counts.items()
    ]
    yield _table(
        "Problems by kind", ("kind", "files", "severity", "meaning"), rows, ("n", "severity", "what"), is_stacked=True
    )
    for kind, count in report.counts.items():
        shown = report.examples[kind]
        title = escape(KINDS[kind].title).capitalize()
        yield f'<h3 id="{kind}">{title}</h3>'
        caption = f"{title}: {count:,} {'file' if count == 1 else 'files'}"
        if len(shown) < count:
            caption += f", the first {len(shown)} of them; the JSON report has all"
        table = [
            [_text(report.short(file.path)), _lines(file), _text(ranges(problem, most=6)), _text(problem.detail)]
            for file, problem in shown
        ]
        headings, classes = ["file", "line", "where", "what"], ["n", "where", "what"]
        if not any(row[1] for row in table):  # a folder has no lines
            del headings[1], classes[0]
            table = [[row[0], *row[2:]] for row in table]
        yield _table(caption, headings, table, classes, is_stacked=True)


def _lines(file: FileReport) -> str:
    shown = ", ".join(map(str, file.lines[:4]))
    return shown + (", …" if len(file.lines) > 4 else "")


# ---- charts


def _chart_section(report: CheckReport) -> Iterable[str]:
    tally = report.tally
    if not tally.codecs:
        return
    yield '<h2>What the files are</h2>\n<div class="charts">'
    yield _chart("Picture size (width x height)", _top({f"{w}x{h}": n for (w, h), n in tally.sizes.items()}))
    yield _chart("Frames per second", _in_order(tally.rates, "{:g}"))
    yield _chart("Frames from keyframe to keyframe (median of a file)", _powers(tally.gops))
    yield _chart("Duration", _durations(tally.durations))
    yield _chart("Codec", _top(tally.codecs))
    yield _chart("Container", _top({name.split(",")[0]: n for name, n in tally.containers.items()}))
    yield "</div>"


def _top(counts: Counter[str] | dict[str, int]) -> list[tuple[str, int]]:
    """The most frequent, and the rest as one."""
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    rest = ranked[_NUM_BARS:]
    return ranked[:_NUM_BARS] + (
        [(f"{len(rest)} {'other' if len(rest) == 1 else 'others'}", sum(count for _, count in rest))] if rest else []
    )


def _in_order(counts: Counter[float], form: str) -> list[tuple[str, int]]:
    """By value, if there is room; else in whole numbers, else by powers of two."""
    if len(counts) > _NUM_BARS:
        whole: Counter[int] = Counter()
        for value, count in counts.items():
            whole[round(value)] += count
        return _powers(whole)
    return [(form.format(value), counts[value]) for value in sorted(counts)]


def _powers(counts: Counter[int]) -> list[tuple[str, int]]:
    """Bars from each power of two to the next; by value, if there is room."""
    if len(counts) <= _NUM_BARS:
        return [(str(value), counts[value]) for value in sorted(counts)]
    bins: Counter[int] = Counter()
    for value, count in counts.items():
        bins[int(math.log2(max(value, 1)))] += count
    return [(f"{2**power}-{2 ** (power + 1) - 1}" if power else "1", bins[power]) for power in sorted(bins)]


def _durations(counts: Counter[int]) -> list[tuple[str, int]]:
    return [(f"{start}-{2 * start} s" if start else "under 1 s", counts[start]) for start in sorted(counts)]


def _chart(title: str, bars: Sequence[tuple[str, int]]) -> str:
    """A bar chart as SVG, which says in words what it shows."""
    most = max(count for _, count in bars)
    height, rows = 22, []
    for number, (name, count) in enumerate(bars):
        y = number * height
        width = max(130 * count / most, 1)
        rows.append(
            f'<text x="112" y="{y + 15}" text-anchor="end">{_text(name)}</text>'
            f'<rect x="118" y="{y + 4}" width="{width:.1f}" height="14" rx="2"/>'
            f'<text x="{122 + width:.1f}" y="{y + 15}">{count:,}</text>'
        )
    words = "; ".join(f"{name}: {count}" for name, count in bars)
    return (
        f"<figure><figcaption>{escape(title)}</figcaption>"
        f'<svg viewBox="0 0 310 {len(bars) * height}" role="img" aria-label="{_text(f"{title}. Files: {words}")}">'
        f"{''.join(rows)}</svg></figure>"
    )


# ---- thumbnails


@dataclass(frozen=True)
class _Thumbnail:
    jpeg: str  # base64
    width: int
    height: int


@dataclass(frozen=True)
class _ThumbnailSettings:
    frames: dict[str, int] = field(default_factory=dict)  # path -> frame index


def thumbnail(source: str, destination: str, settings: _ThumbnailSettings) -> _Thumbnail:
    """A small JPEG of one frame, damaged or not, as the decoder conceals it; nothing is written to `destination`.

    Raises:
        VideoError: the frame cannot be had at all.
    """
    with VideoReader(source, allow_damaged=True) as reader:
        frame = settings.frames[source]
        picture = av.VideoFrame.from_ndarray(
            reader.get_frames_at([min(frame, reader.num_frames - 1)])[0], format="rgb24"
        )
    scale = min(_THUMBNAIL_SIDE / max(picture.width, picture.height), 1)
    width, height = (max(round(side * scale / 2) * 2, 16) for side in (picture.width, picture.height))
    small = picture.reformat(width, height, "yuvj420p", interpolation="AREA", dst_color_range=2)
    return _Thumbnail(base64.b64encode(JpegEncoder(width, height)(small)).decode(), width, height)


def _thumbnail_section(report: CheckReport, num_workers: int | None) -> Iterable[str]:
    chosen: dict[str, tuple[int, list[str]]] = {}  # path -> frame, titles of its problems
    room = max(_NUM_THUMBNAILS // max(len(report.counts), 1), 2)  # for each kind: no kind takes the place of all others
    for kind in report.counts:
        for file, problem in report.examples[kind][:room]:
            if file.facts is not None and (file.path in chosen or len(chosen) < _NUM_THUMBNAILS):
                frame = problem.frames[0][0] if problem.frames else file.facts["num_frames"] // 2
                chosen.setdefault(file.path, (frame, []))[1].append(KINDS[kind].title)
    settings = _ThumbnailSettings({path: frame for path, (frame, _) in chosen.items()})
    tasks = [Task(path, "") for path in chosen]
    pictures = {
        task.source: outcome
        for task, outcome in (ENGINES["local"](tasks, thumbnail, settings, Path(), num_workers) if tasks else ())
        if isinstance(outcome, dict)
    }
    if not pictures:
        return
    yield '<h2>What some of them look like</h2>\n<div class="thumbs">'
    for path, (frame, titles) in chosen.items():
        if path in pictures:
            jpeg, width, height = (pictures[path][name] for name in ("jpeg", "width", "height"))
            name = os.path.basename(path)
            yield (
                f'<figure><img alt="{_text(f"frame {frame} of {name}")}" width="{width}" height="{height}" '
                f'src="data:image/jpeg;base64,{jpeg}">'
                f"<figcaption>{_text(name)}<br>frame {frame}: {_text(', '.join(titles))}</figcaption></figure>"
            )
    yield "</div>"


# ---- costs


def _cost_section(report: CheckReport) -> Iterable[str]:
    if not report.clips:
        return
    yield "<h2>What training from it costs</h2>"
    yield (
        "<p>Predicted for one core like this machine's: packets that random clips of the good files decode, times what a packet took while "
        "the files were decoded, and cropping and resizing each frame to 224x224.</p>"
    )
    yield _clip_table("Clips of the videos as they are", report.clips, None)
    prepare = report.prepare
    if prepare is None:
        return
    yield "<h3>Would <code>vidload prepare</code> pay?</h3>"
    yield f"<p>{escape(would_pay(report))}</p>"
    yield _clip_table(f"Clips once prepared ({escape(prepare.settings)})", prepare.clips, prepare.gains)
    pays = epochs_to_pay(report.clips, prepare)
    if pays:
        words = "; ".join(f"{clip}: {epochs:,.1f}" for clip, epochs in pays.items())
        yield f"<p>Epochs after which encoding has paid for itself in core-hours: {escape(words)}.</p>"


def _clip_table(caption: str, clips: Sequence[ClipPrediction], gains: Sequence[float] | None) -> str:
    headings = ("clip", "packets decoded", "ms", "clips per second per core", "core-hours per epoch")
    rows = [
        [
            escape(clip.clip),
            f"{clip.num_packets:.1f}",
            f"{clip.milliseconds:.1f}",
            f"{clip.clips_per_second:.1f}",
            f"{clip.core_hours_per_epoch:.3g}",
            *([] if gains is None else [f"{gains[number]:.1f}x"]),
        ]
        for number, clip in enumerate(clips)
    ]
    return _table(caption, (*headings, *([] if gains is None else ["gain"])), rows, ["n"] * (len(rows[0]) - 1))


def _foot(report: CheckReport) -> Iterable[str]:
    yield (
        f"</main>\n<footer>Written by <code>vidload check</code>. The record of what was found: {_text(report.record)}; without it, "
        "the next run decodes everything again.</footer>\n</body>\n</html>"
    )
