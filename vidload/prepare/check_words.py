"""Words and numbers of a check's report, the same in the terminal and on the page."""

from __future__ import annotations

from vidload.prepare.check_file import Problem
from vidload.prepare.checking import CheckReport


def printable(text: str) -> str:
    """Text without control characters, line breaks, or bytes that are no text: these are shown as escapes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def amount(num_bytes: float) -> str:
    """Bytes for people: "1.2 GB"."""
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if num_bytes >= size:
            return f"{num_bytes / size:.1f} {unit}"
    return f"{num_bytes / 1e3:.1f} kB"


def duration(seconds: float) -> str:
    """Seconds for people: "2.5 h"."""
    if seconds >= 3600:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 60:.1f} min" if seconds >= 60 else f"{seconds:.1f} s"


def ranges(problem: Problem, most: int) -> str:
    """The frames that a problem concerns, the first `most` ranges: "frames 12-24 (0.48-0.96 s)"."""
    shown = [
        f"frame {start} ({first:.2f} s)"
        if stop - start == 1
        else f"frames {start}-{stop - 1} ({first:.2f}-{last:.2f} s)"
        for (start, stop), (first, last) in zip(problem.frames[:most], problem.seconds[:most], strict=True)
    ]
    left = len(problem.frames) - len(shown)
    return ", ".join(shown) + (f", and {left} more" if left else "")


def would_pay(report: CheckReport) -> str:
    """Whether `vidload prepare` would pay, in two sentences."""
    prepare = report.prepare
    assert prepare is not None
    best = max(range(len(prepare.gains)), key=lambda number: prepare.gains[number])
    verdict = "It would" if prepare.is_worthwhile else "It would not"
    gains = f"{min(prepare.gains):.1f} to {prepare.gains[best]:.1f} times the clips per second ({report.clips[best].clip} gains most)"
    size = f"about {amount(prepare.num_bytes)}, {prepare.num_bytes / max(report.num_bytes, 1):.2f} times today's"
    hours = f"about {duration(3600 * prepare.core_hours)} of one core"
    return (
        f"{verdict}: {gains}, for {size}, and {hours} to encode. An estimate from the beginnings of {prepare.num_videos} videos "
        f"({prepare.num_frames} frames; {prepare.settings})."
    )
