"""What the pages of docs/ hold: their code blocks, commands and links, as the tests need them.

A comment above a code block says that it does not simply run: `<!-- block: needs dali -->` and `<!-- block: needs cuda -->` run where
there is one; `<!-- block: tests/test_x.py -->` is run by that test; `<!-- block: outline -->` leaves something out and cannot run.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
PAGES = sorted(path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md"))
# The site has these too. Their commands and links are tested here, their code elsewhere.
OTHERS = [
    f"../{path}" for path in ("README.md", "CONTRIBUTING.md", "bench/README.md", "csrc/README.md", "models/README.md")
]

_BLOCK = re.compile(r"(?:^[ ]*<!-- block: (.*?) -->\n)?^([ ]*)```(\w*)\n(.*?)^[ ]*```$", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    """A code block. line: of its first line of code, from 1; mark: what the comment above it says, "" without one."""

    language: str
    code: str
    line: int
    mark: str


def text_of(page: str) -> str:
    return (DOCS / page).read_text()


def blocks(page: str, *languages: str) -> list[Block]:
    text = text_of(page)
    found = []
    for match in _BLOCK.finditer(text):
        mark, indent, language, code = match.groups()
        if language in languages:
            lines = [line.removeprefix(indent) for line in code.splitlines(keepends=True)]
            found.append(Block(language, "".join(lines), text[: match.start(4)].count("\n") + 1, mark or ""))
    return found


def commands(page: str) -> Iterator[tuple[int, str]]:
    """The shell commands of a page with their lines, without comments; continued lines joined. A block that names no language may hold
    anything: of those, what begins as one of our own commands does."""
    for block in blocks(page, "bash", "sh", ""):
        for number, line in enumerate(block.code.replace("\\\n", " ").splitlines(), block.line):
            command = re.sub(r"(^|\s)#.*", "", line).strip()
            if command and (block.language or re.match(r"(vidload|make|(\S*/)?python) ", command)):
                yield number, command


def links(page: str) -> list[str]:
    """Targets of the links and pictures of a page within the repository, without their anchors."""
    text = re.sub(r"^([ ]*)```.*?^\1```$", "", text_of(page), flags=re.MULTILINE | re.DOTALL)
    return list(re.findall(r"\]\((?![a-z]+:|#)([^)\s#]+)", text))
