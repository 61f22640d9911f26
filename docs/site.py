"""A hook of MkDocs: links that lead out of docs/ lead to pages of the site, as they lead to files in the repository.

In: the pages of docs/. Out: besides them, a page for each file of the repository that a page (or the nav) names, under the same path;
source files as a code block. So the Markdown needs no address of a repository, and its links work in both places.
"""

from __future__ import annotations

import os
import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files, InclusionLevel

ROOT = Path(__file__).resolve().parent.parent
_LINK = re.compile(r"(?<=\]\()(?![a-z]+:|#)([^)\s#]+)(#[^)\s]*)?(?=\))")
_LANGUAGES = {".py": "python", ".cpp": "cpp", ".h": "cpp", ".yml": "yaml"}


def on_files(files: Files, config: Any) -> Files:
    texts = {f"docs/{file.src_uri}": Path(str(file.abs_src_path)).read_text() for file in files.documentation_pages()}
    named = re.findall(r"[\w/]+\.md", str(config["nav"]))
    todo = {target for page, text in texts.items() for target in _targets(page, text)}
    todo |= {name for name in named if not (ROOT / "docs" / name).is_file()}
    done: set[str] = set()
    while todo:
        target = todo.pop()
        done.add(target)
        path = ROOT / target
        if target.startswith("docs/") or not path.is_file():  # a missing one is reported as a broken link
            continue
        text = path.read_text()
        if path.suffix == ".md":
            todo |= _targets(target, text) - done
        else:
            text = f"# {target}\n\n```{_LANGUAGES.get(path.suffix, 'text')}\n{text}\n```\n"
        inclusion = InclusionLevel.INCLUDED if target in named else InclusionLevel.NOT_IN_NAV
        files.append(File.generated(config, _page(target), content=text, inclusion=inclusion))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Rewrites links between the repository's files into links between the site's pages."""
    here = page.file.src_uri
    source = here if page.file.generated_by else f"docs/{here}"

    def rewritten(match: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(source), match[1]))
        if not (ROOT / target).is_file():
            return match[0]
        return posixpath.relpath(_page(target), posixpath.dirname(here) or ".") + (match[2] or "")

    return _LINK.sub(rewritten, markdown)


def _targets(page: str, text: str) -> set[str]:
    """The repository paths that a page links to."""
    return {posixpath.normpath(posixpath.join(posixpath.dirname(page), link)) for link, _ in _LINK.findall(text)}


def _page(target: str) -> str:
    """The site's path of a repository's file."""
    if target.startswith("docs/"):
        return target.removeprefix("docs/")
    return target if os.path.splitext(target)[1] == ".md" else f"{target}.md"
