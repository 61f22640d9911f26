"""Milliseconds per picture of the transform on one core: every vector level, dtype, layout and picture size.

    python bench/stage_transform.py                          # under a minute
    python bench/stage_transform.py --rounds 25 --levels avx2

In: nothing; pictures are random samples. Out: Markdown on stdout and results/stage_transform.json. Before a case is
timed, each level's output is compared with the scalar level's, bit for bit. Times are CPU time of the single working
thread, levels in turn within each round. "in cache" reads and writes the same picture repeatedly, "to a batch" 128
different ones, as a loader does, so that memory bandwidth counts too.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from timing import RESULTS, Rounds, machine, markdown_table, write_json

from vidload import _core, _testing

MANY, FEW = 128, 16  # pictures per call; few for large pictures and for the scalar level
IMAGENET: dict[str, Any] = {"mean": (123.675, 116.28, 103.53), "std": (58.395, 57.12, 57.375)}


@dataclass(frozen=True)
class Case:
    name: str
    height: int = 256
    width: int = 340
    box: tuple[float, float, float, float] = (0, 42, 256, 256)  # the central square
    output: tuple[int, int] = (224, 224)
    dtype: str = "float32"
    channels_last: bool = False
    antialias: bool = True
    bit_depth: int = 8
    is_nv12: bool = False
    rotation: int = 0


CASES = [
    Case("256p, center, float32"),
    Case("256p, center, float16", dtype="float16"),
    Case("256p, center, bfloat16", dtype="bfloat16"),
    Case("256p, center, uint8", dtype="uint8"),
    Case("256p, center, float32, channels-last", channels_last=True),
    Case("256p, center, uint8, channels-last", dtype="uint8", channels_last=True),
    Case("256p, center, float32, no antialias", antialias=False),
    Case("256p, small box, float32", box=(60.3, 80.7, 110.2, 140.9)),
    Case("256p, 10 bits, float32", bit_depth=10),
    Case("256p, NV12, float32", is_nv12=True),
    Case("256p turned by 90 degrees, float32", box=(42, 0, 256, 256), rotation=90),
    Case("720p, center, float32", 720, 1280, (0, 280, 720, 720)),
    Case("1080p, center, float32", 1080, 1920, (0, 420, 1080, 1080)),
    Case(
        "1080p to RGB, uint8, channels-last",
        1080,
        1920,
        (0, 0, 1080, 1920),
        (1080, 1920),
        "uint8",
        True,
        False,
    ),
]


def repeated(array: np.ndarray, count: int) -> np.ndarray:
    """The same picture [1, ...] `count` times, without a copy."""
    return np.lib.stride_tricks.as_strided(array, (count, *array.shape[1:]), (0, *array.strides[1:]))


class Runner:
    """One case over `count` pictures: 4:2:0 planes, options, and memory for the outputs."""

    def __init__(self, case: Case, count: int) -> None:
        rng = np.random.default_rng(0)
        dtype = np.uint8 if case.bit_depth == 8 else np.uint16
        chroma = (case.height // 2, case.width // 2)
        shapes = [(case.height, case.width), *([(*chroma, 2)] if case.is_nv12 else [chroma, chroma])]
        self.planes = [rng.integers(0, 2**case.bit_depth, (count, *shape)).astype(dtype) for shape in shapes]
        self.arguments: dict[str, Any] = {
            "box": case.box,
            "height": case.output[0],
            "width": case.output[1],
            "dtype": case.dtype,
            "antialias": case.antialias,
            "channels_last": case.channels_last,
            "bit_depth": case.bit_depth,
            "chroma_scale": (2, 2),
            "chroma_offset": (1.0, 0.5),
            "rotation": case.rotation,
            **({} if case.dtype == "uint8" else IMAGENET),
        }
        self.out = self.run(_core.cpu_level(), self.planes)

    def run(self, level: str, planes: list[np.ndarray], out: np.ndarray | None = None) -> np.ndarray:
        return _testing.transform_planes(planes, **self.arguments, cpu_level=level, out=out)

    def check(self, level: str) -> None:
        """Raises AssertionError if the level's pixels are not the scalar level's."""
        first = [plane[:1] for plane in self.planes]
        np.testing.assert_array_equal(self.run(level, first), self.run("scalar", first), err_msg=level)

    def milliseconds(self, level: str, count: int, is_cached: bool) -> float:
        """CPU time per picture: of the first one `count` times, or of `count` pictures."""
        planes, out = [plane[:count] for plane in self.planes], self.out[:count]
        if is_cached:
            planes, out = [repeated(plane, count) for plane in planes], repeated(out, count)
        start = time.thread_time()
        self.run(level, planes, out)
        return (time.thread_time() - start) * 1e3 / count


def measure(case: Case, levels: list[str], rounds: int) -> dict[str, Rounds]:
    """A figure for each level in cache, and one for the last level to a batch."""
    count = FEW if case.height * case.width > 2**19 else MANY
    runner = Runner(case, count)
    for level in levels:
        runner.check(level)
    values: dict[str, list[float]] = {name: [] for name in (*levels, "to a batch")}
    for number in range(rounds):
        for level in levels:
            if level != "scalar":
                values[level].append(runner.milliseconds(level, count, is_cached=True))
            elif number < 3:
                values[level].append(runner.milliseconds(level, FEW, is_cached=True))
        values["to a batch"].append(runner.milliseconds(levels[-1], count, is_cached=False))
    return {name: Rounds(tuple(each)) for name, each in values.items()}


def text(figure: Rounds) -> str:
    return f"{figure.median:.3f} ±{figure.spread:.0%}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15, help="the median over these is printed")
    parser.add_argument("--levels", nargs="+", default=_core.supported_cpu_levels(), help="vector levels to time")
    arguments = parser.parse_args()

    environment = machine()
    rows, result = [], {}
    for case in CASES:
        figures = measure(case, arguments.levels, arguments.rounds)
        rows.append([case.name, *(text(figure) for figure in figures.values())])
        result[case.name] = {name: figure.values for name, figure in figures.items()}
    header = [
        "picture",
        *(f"{level}, in cache" for level in arguments.levels),
        f"{arguments.levels[-1]}, to a batch",
    ]
    print(f"ms per picture, one core of {environment['cpu']}, load {environment['load_at_start']} at the start\n")
    print(markdown_table(header, rows))
    write_json(RESULTS / "stage_transform.json", {"machine": environment, "ms": result})


if __name__ == "__main__":
    main()
