"""Which module imports which: no circle, nothing that stands above, and no file too long to read.

Every import counts, also one inside a function or under TYPE_CHECKING: an extra that is imported when first needed is an arrow like any other.
"""

from __future__ import annotations

import ast
import graphlib
import re
import statistics
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# Lowest first: a module imports from its own row and from the rows listed before it. Names are those after `vidload.`, of a module or of a
# whole wing; of several that fit, the longest counts.
ORDER = (
    ("_core", "errors", "limits", "renamed", "sources"),
    ("_testing",),  # instruments beside the core, in no wheel
    ("system", "cuda"),  # the machine
    ("range_cache", "remote"),  # what reads objects on a network
    (
        "labels",
        "annotations",
        "tar_headers",
        "shards",
        "clip_spec",
        "published_samplers",
        "varying_clips",
        "sampling",
        "crops",
        "transforms",
        "index",
        "index_building",
        "reader",
    ),
    ("augment", "batch", "draw_rules", "sampler_options", "fields", "joining", "describe"),
    ("clip_dataset", "dataset", "multi_video", "combined", "feature_dataset"),  # what a sample is
    ("system.sheet", "sheet"),
    ("models",),
    ("loading.epochs",),  # the order of an epoch: DALI's own pipelines follow it too
    ("dali",),
    ("loading",),
    ("prepare",),
    ("",),  # vidload itself, the public names
    ("system.selftest", "cli", "__main__"),  # programs
)


def module_files() -> dict[str, Path]:
    """Name -> file of every module, as users import them: models/ is installed as vidload.models."""
    found = {}
    for folder, package in (("vidload", "vidload"), ("models", "vidload.models")):
        for suffix in (".py", ".pyi"):
            for path in (ROOT / folder).rglob(f"*{suffix}"):
                parts = path.relative_to(ROOT / folder).with_suffix("").parts
                found[".".join([package, *(part for part in parts if part != "__init__")])] = path
    return found


def imports_of(name: str, source: str, is_package: bool, modules: set[str]) -> set[str]:
    """The modules that `name` imports, wherever the statement stands."""
    package = name if is_package else name.rpartition(".")[0]
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            wanted = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            wanted = [f"{base}.{alias.name}" for alias in node.names]
        else:
            continue
        for target in wanted:
            while target and target not in modules:
                target = target.rpartition(".")[0]  # a name within a module
            found.add(target)
    return found - {"", name}


@pytest.fixture(scope="module")
def graph() -> dict[str, set[str]]:
    files = module_files()
    return {
        name: imports_of(name, path.read_text(), path.stem == "__init__", set(files)) for name, path in files.items()
    }


def row_of(module: str) -> int:
    name = module.removeprefix("vidload").removeprefix(".")
    fitting = [
        (len(entry), number)
        for number, row in enumerate(ORDER)
        for entry in row
        if name == entry or (entry and name.startswith(f"{entry}."))
    ]
    assert fitting, f"{module} has no place in ORDER"
    return max(fitting)[1]


@pytest.mark.parametrize("source, expected", [
    ("import vidload", {"vidload"}),
    ("import vidload.a.b", {"vidload.a.b"}),
    ("from vidload import a, VideoError", {"vidload.a", "vidload"}),
    ("from vidload.a.b import f", {"vidload.a.b"}),
    ("from . import b", {"vidload.a.b"}),
    ("from .b import f", {"vidload.a.b"}),
    ("from .. import c", {"vidload.c"}),
    ("from ..c import f", {"vidload.c"}),
    ("def f():\n    from vidload import c", {"vidload.c"}),
    ("if TYPE_CHECKING:\n    from vidload.c import C", {"vidload.c"}),
    ("import torch\nfrom numpy.random import Generator", set()),
])  # fmt: skip
def test_every_import_is_found(source: str, expected: set[str]) -> None:
    modules = {"vidload", "vidload.a", "vidload.a.b", "vidload.a.x", "vidload.c"}
    assert imports_of("vidload.a.x", source, False, modules) == expected


def test_no_modules_import_each_other_in_a_circle(graph: dict[str, set[str]]) -> None:
    assert {"vidload.dali", "vidload.loading.loader", "vidload.models.recipe"} <= graph.keys()
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        pytest.fail("a circle: " + " <- ".join(error.args[1]))


def test_nothing_imports_what_stands_above_it(graph: dict[str, set[str]]) -> None:
    upward = [
        f"{name} imports {target}"
        for name, targets in sorted(graph.items())
        for target in sorted(targets)
        if row_of(target) > row_of(name)
    ]
    assert upward == []


def test_files_are_short_enough_to_read() -> None:
    lengths = {str(path): len(path.read_text().splitlines()) for path in module_files().values()}
    assert [(path, length) for path, length in lengths.items() if length > 600] == []
    assert statistics.quantiles(lengths.values(), n=10)[-1] < 450


def test_every_folder_is_a_package_that_a_wheel_holds() -> None:
    for folder in {path.parent for path in module_files().values()}:
        assert (folder / "__init__.py").is_file()


# --- csrc/

CSRC = ROOT / "csrc"
# Leftmost first: a folder includes, and links, only itself and what is listed before it.
CSRC_ORDER = (
    "base",
    "source",
    "index",
    "picture",
    "plan",
    "decode",
    "transform",
    "device",
    "nvdec",
    "batch",
    "bindings",
    "testing",
)


def csrc_files() -> list[Path]:
    return [path for path in sorted(CSRC.glob("*/*")) if path.suffix in (".h", ".cpp", ".cu")]


def may_use(folder: str, other: str) -> bool:
    return CSRC_ORDER.index(other) <= CSRC_ORDER.index(folder)


def test_a_folder_of_the_core_includes_only_those_before_it() -> None:
    found = [
        (path.relative_to(CSRC), other)
        for path in csrc_files()
        for other in re.findall(r'^\s*#include "([^"/]+)/', path.read_text(), re.MULTILINE)
    ]
    assert len(found) > 200
    assert {other for _, other in found} <= set(CSRC_ORDER)
    assert [(str(path), other) for path, other in found if not may_use(path.parts[0], other)] == []


def test_a_library_of_the_core_links_only_those_before_it() -> None:
    linked = [
        (name, other)
        for path in sorted(CSRC.glob("*/CMakeLists.txt"))
        for name, rest in re.findall(r"target_link_libraries\(vidload_(\w+)([^)]*)\)", path.read_text())
        for other in re.findall(r"vidload_(\w+)", rest)
    ]
    assert len(linked) >= 9
    assert [pair for pair in linked if not may_use(*pair) or pair[0] == pair[1]] == []


def test_every_folder_of_the_core_has_its_place_and_is_told_of() -> None:
    assert {path.parent.name for path in csrc_files()} == set(CSRC_ORDER)
    guide = (CSRC / "README.md").read_text()
    assert [folder for folder in CSRC_ORDER if f"`{folder}/`" not in guide] == []


def test_files_of_the_core_are_short_enough_to_read() -> None:
    lengths = {str(path): len(path.read_text().splitlines()) for path in csrc_files()}
    assert [(path, length) for path, length in lengths.items() if length > 600] == []
    assert statistics.quantiles(lengths.values(), n=10)[-1] < 450
