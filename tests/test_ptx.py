"""The CUDA kernels without a GPU: the PTX that nvcc made of them runs in an interpreter, bit-equal to their host twin.

Skipped where the build had no nvcc. What this cannot show: the machine code that the driver makes of the PTX, and speed.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import ptx
import pytest
from pictures import FILLS, FORMATS, Picture, make_picture
from ptx.interpreter import fused_multiply_add

from vidload import _core, _testing

IMAGENET: dict[str, Any] = {"mean": (123.675, 116.28, 103.53), "std": (58.395, 57.12, 57.375)}
DTYPES = {"uint8": np.uint8, "float16": np.float16, "bfloat16": np.uint16, "float32": np.float32}
GUARD = 3  # elements around every row of an output

needs_kernels = pytest.mark.skipif(not _core.has_cuda_kernels(), reason="this build has no CUDA kernels (no nvcc)")


@dataclass(frozen=True)
class Case:
    """One picture of a launch and what is wanted of it."""

    picture: Picture
    box: tuple[float, float, float, float]
    size: tuple[int, int]
    channels_last: bool = False
    options: dict[str, Any] = field(default_factory=dict)


def poisoned(case: Case, dtype: str) -> tuple[np.ndarray, np.ndarray]:
    """Memory and a view [1, 3, height, width] into it with guard elements around every row."""
    height, width = case.size
    shape = (1, height, width + GUARD, 3) if case.channels_last else (1, 3, height, width + GUARD)
    memory = np.full(shape, 0x88 if dtype == "uint8" else 7, DTYPES[dtype])
    pixels = memory.transpose(0, 3, 1, 2) if case.channels_last else memory
    return memory, pixels[..., :width]


class Launch:
    """Descriptors of many pictures, in memory that the interpreter checks."""

    def __init__(self, cases: list[Case], dtype: str) -> None:
        self.dtype = dtype
        self.memory = ptx.Memory()
        self.outputs: list[np.ndarray] = []
        described = []
        for i, case in enumerate(cases):
            memory, pixels = poisoned(case, dtype)
            arguments = {**case.picture.arguments, **case.options}
            descriptors, tables, _ = _testing.describe_pictures(
                case.picture.arrays,
                box=case.box,
                height=case.size[0],
                width=case.size[1],
                dtype=dtype,
                out=pixels,
                **arguments,
            )
            described.append(descriptors)
            self.outputs.append(memory)
            self.memory.add(memory, f"output {i}", is_writable=True)
            for plane, array in enumerate(case.picture.arrays):
                self.memory.add(array, f"plane {plane} of picture {i}")
            for table in tables:
                self.memory.add(table, f"taps of picture {i}")
        self.descriptors = np.concatenate(described)
        self.memory.add(self.descriptors, "descriptors")
        block = _testing.CUDA_BLOCK
        height, width = (max(case.size[axis] for case in cases) for axis in (0, 1))
        self.grid = (-(-width // block[0]), -(-height // block[1]), len(cases))

    def run(self, kernels: dict[str, ptx.Kernel]) -> list[np.ndarray]:
        pointer = self.descriptors.ctypes.data.to_bytes(8, "little")
        kernel = kernels[f"vidload_transform_{self.dtype}"]
        ptx.launch(kernel, self.grid, _testing.CUDA_BLOCK, [pointer], self.memory)
        return self.outputs

    def run_on_host(self) -> list[np.ndarray]:
        _testing.run_descriptors_on_host(self.descriptors, self.dtype)
        return self.outputs


def kernels_of(text: str) -> dict[str, ptx.Kernel]:
    return ptx.parse(text)


@pytest.fixture(scope="module")
def ptx_text() -> str:
    return _testing.cuda_ptx().decode()


@pytest.fixture(scope="module")
def kernels(ptx_text: str) -> dict[str, ptx.Kernel]:
    return kernels_of(ptx_text)


# ---- the kernels against their host twin ----

BOXES = [
    (0, 0, 45, 61),
    (3.25, 4.7, 29.9, 38.31),
    (20.5, 11.25, 6.5, 4.75),
    (-8.5, 30.25, 60, 55),
    (-60, 90, 9, 7),
]
SIZES = [(17, 37), (9, 70), (1, 1), (8, 32)]


def sampled_cases(count: int, seed: int) -> list[Case]:
    """Every pixel format, and of box, size, flip, layout, filter, normalization and samples as many mixtures as fit."""
    rng = np.random.default_rng(seed)
    every = list(product(range(len(BOXES)), range(len(SIZES)), (False, True), (False, True), (False, True), FILLS))
    cases = []
    for i in range(count):
        box, size, flip, channels_last, antialias, fill = every[rng.integers(len(every))]
        picture = make_picture(sorted(FORMATS)[i % len(FORMATS)], 45, 61, fill, seed=i)
        options = {"flip": flip, "antialias": antialias, **(IMAGENET if rng.integers(2) else {})}
        cases.append(Case(picture, BOXES[box], SIZES[size], channels_last, options))
    return cases


@needs_kernels
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_ptx_equals_the_host_twin_bit_for_bit(kernels: dict[str, ptx.Kernel], dtype: str) -> None:
    cases = sampled_cases(96, seed=7)
    made = Launch(cases, dtype).run(kernels)
    expected = Launch(cases, dtype).run_on_host()
    for case, output, reference in zip(cases, made, expected, strict=True):
        np.testing.assert_array_equal(output.view(np.uint8), reference.view(np.uint8), err_msg=f"{case}")


@needs_kernels
@pytest.mark.parametrize("rotation, hflip", [(90, False), (180, True), (270, False)])
@pytest.mark.parametrize("name", ["nv12", "p010", "yuv420p"])
def test_rotated_pictures_equal_the_cpu_transform(
    kernels: dict[str, ptx.Kernel], name: str, rotation: int, hflip: bool
) -> None:
    case = Case(make_picture(name, 31, 45), (2, 1.5, 27, 26), (17, 21), options={"rotation": rotation, "hflip": hflip})
    (made,) = Launch([case], "uint8").run(kernels)
    expected = _testing.transform_planes(
        case.picture.arrays,
        box=case.box,
        height=17,
        width=21,
        dtype="uint8",
        **case.picture.arguments,
        **case.options,
    )
    np.testing.assert_array_equal(made[..., :21], expected)


@needs_kernels
def test_shrinking_a_large_picture_many_times_equals_the_host_twin(kernels: dict[str, ptx.Kernel]) -> None:
    cases = [Case(make_picture(name, 45, 160), (0, 0, 45, 160), (3, 5)) for name in ("nv12", "p016")]
    made = Launch(cases, "float32").run(kernels)
    for output, reference in zip(made, Launch(cases, "float32").run_on_host(), strict=True):
        np.testing.assert_array_equal(output, reference)


@needs_kernels
def test_a_buffer_one_element_too_short_is_noticed(kernels: dict[str, ptx.Kernel]) -> None:
    """What keeps the tests above honest: the checks of memory see an overrun of a single sample."""
    picture = make_picture("nv12", 20, 33)
    case = Case(picture, (0, 0, 20, 33), (10, 20))
    launch = Launch([case], "uint8")
    launch.memory = ptx.Memory()
    for array in (launch.descriptors, picture.arrays[1], picture.arrays[0][:, :, :-1]):
        launch.memory.add(array, "buffer")
    with pytest.raises(ptx.PtxError, match="out of bounds"):
        launch.run(kernels)


# ---- what nvcc made ----


@needs_kernels
def test_no_instruction_is_approximate_or_flushes_to_zero(ptx_text: str) -> None:
    assert re.findall(r"[\w.]*\.(?:approx|ftz|full)[\w.]*", ptx_text) == []


@needs_kernels
def test_floating_point_is_fused_only_where_the_source_says(ptx_text: str) -> None:
    """-fmad=false: a mul or an add of floats would be arithmetic that pixel_math.h does not write."""
    assert re.findall(r"\b(?:mul|add|sub|div|mad)(?:\.r[nzmp])?\.f32", ptx_text) == []


@needs_kernels
@pytest.mark.skipif(shutil.which("nvcc") is None, reason="needs nvcc")
@pytest.mark.parametrize("architecture", ["sm_75", "sm_80", "sm_86", "sm_89", "sm_90", "sm_100", "sm_120"])
def test_no_architecture_spills_registers(ptx_text: str, architecture: str, tmp_path: Path) -> None:
    known = subprocess.run(["nvcc", "--list-gpu-code"], capture_output=True, text=True, check=True).stdout.split()
    if architecture not in known:
        pytest.skip(f"this nvcc does not know {architecture}")
    source = tmp_path / "kernels.ptx"
    source.write_text(ptx_text)
    command = [
        "nvcc",
        "-cubin",
        f"-arch={architecture}",
        "-Xptxas",
        "-v",
        "-o",
        str(tmp_path / "cubin"),
        str(source),
    ]
    report = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    spills = re.findall(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", report)
    assert spills == [("0", "0", "0")] * 4


# ---- deliberate mistakes in the PTX are caught ----


def replaced(text: str, pattern: str, replacement: str, which: int | None) -> str:
    """All matches of pattern replaced, or only match number `which` of the kernel's."""
    matches = list(re.finditer(pattern, text))
    assert matches, f"nvcc's PTX has no {pattern}"
    chosen = matches if which is None else [matches[which]]
    for match in reversed(chosen):
        text = text[: match.start()] + match.expand(replacement) + text[match.end() :]
    return text


MISTAKES = {  # pattern, replacement, which match
    "upper bound of the grid off by one": (r"setp\.le\.s32", "setp.lt.s32", 0),
    "lower clamp instead of upper": (r"min\.f32", "max.f32", 0),
    "clamp to 256": ("0f437F0000", "0f43800000", None),
    "sum not fused with its scale": (
        r"fma\.rn\.f32\s+(%f\d+), (%f\d+), (%f\d+), %f\d+",
        r"mul.f32 \1, \2, \3",
        -1,
    ),
    "samples read as signed": (r"ld\.global\.u8", "ld.global.s8", None),
    "16-bit samples read as bytes": (r"ld\.global\.u16", "ld.global.u8", None),
    "store one element late": (r"st(\.global)?\.u8\s+\[(%rd\d+)\]", r"st\1.u8 [\2+1]", 0),
    "round toward zero": (r"cvt\.rni\.f32\.f32", "cvt.rzi.f32.f32", None),
    "shift lost": (r"shr\.u32\s+(%r\d+), (%r\d+), %r\d+", r"mov.u32 \1, \2", None),
    "a stride counted twice": (r"mul\.lo\.s64", "add.s64", 0),
    "loop one tap short": (r"setp\.lt\.s32", "setp.le.s32", None),
    "approximate arithmetic": (r"fma\.rn\.f32", "fma.rn.ftz.f32", 0),
}


@needs_kernels
@pytest.mark.parametrize("pattern, replacement, which", MISTAKES.values(), ids=MISTAKES.keys())
def test_a_mistake_in_the_ptx_is_caught(ptx_text: str, pattern: str, replacement: str, which: int | None) -> None:
    begin = ptx_text.index(".visible .entry vidload_transform_uint8")
    end = ptx_text.index(".visible .entry", begin + 1)
    text = ptx_text[:begin] + replaced(ptx_text[begin:end], pattern, replacement, which)
    cases = [
        Case(make_picture(name, 23, 40, fill), (1, 1.5, 21, 35), (17, 37), channels_last)
        for name, fill, channels_last in product(
            ("yuv420p", "nv12", "p010", "gray"), ("random", "limits"), (False, True)
        )
    ]
    launch = Launch(cases, "uint8")
    expected = Launch(cases, "uint8").run_on_host()
    try:
        made = launch.run(kernels_of(text))
    except ptx.PtxError:
        return
    assert any((output != reference).any() for output, reference in zip(made, expected, strict=True))


# ---- the interpreter itself ----


def exactly_rounded(a: np.float32, b: np.float32, c: np.float32) -> np.float32:
    """a * b + c in exact arithmetic, rounded once to float32, ties to even."""
    exact = Fraction(float(a)) * Fraction(float(b)) + Fraction(float(c))
    near = np.float32(float(exact))  # at most one step off: float() may have rounded before
    candidates = [np.nextafter(near, np.float32(side)) for side in (-np.inf, np.inf)] + [near]
    return min(candidates, key=lambda x: (abs(Fraction(float(x)) - exact), int(np.float32(x).view(np.uint32)) & 1))


def test_fma_is_rounded_once() -> None:
    rng = np.random.default_rng(3)
    a, b = (rng.integers(1, 2**24, 4000).astype(np.float32) * np.float32(2.0**-12) for _ in range(2))
    c = (-(a.astype(np.float64) * b) * rng.choice([1, 1 + 2.0**-24, 2.0**-30, 2.0**26], 4000)).astype(np.float32)
    expected = [exactly_rounded(*each) for each in zip(a, b, c, strict=True)]
    np.testing.assert_array_equal(fused_multiply_add(a, b, c), np.array(expected, np.float32))


def test_fma_sees_on_which_side_of_a_tie_the_exact_sum_lies() -> None:
    # 1 + 2^-24 is halfway between two floats; the product adds or removes 2^-60, which float64 alone would lose.
    tiny = np.float32(2.0**-30)
    one = np.array([1.0, 1.0], np.float32)
    a = np.array([tiny, -tiny], np.float32)
    halfway = fused_multiply_add(a, np.full(2, tiny, np.float32), one)
    np.testing.assert_array_equal(halfway, one)
    a = np.array([2.0**-24 * (1 + 2.0**-23), 2.0**-24 * (1 - 2.0**-24)], np.float32)
    sums = fused_multiply_add(a, one, one)
    np.testing.assert_array_equal(sums, np.array([1 + 2.0**-23, 1.0], np.float32))


def program(
    body: str, registers: str = ".reg .pred %p<4>; .reg .b32 %r<8>; .reg .b64 %rd<8>; .reg .f32 %f<8>;"
) -> ptx.Kernel:
    return ptx.parse(f".visible .entry test(.param .u64 out) {{ {registers} {body} ret; }}")["test"]


def run_program(body: str, array: np.ndarray, num_threads: int, is_writable: bool = True) -> None:
    """Runs the program with %rd1 holding the array's address and %r1 the thread's number."""
    start = "ld.param.u64 %rd1, [out]; cvta.to.global.u64 %rd1, %rd1; mov.u32 %r1, %tid.x; "
    memory = ptx.Memory()
    address = memory.add(array, "array", is_writable)
    ptx.launch(program(start + body), (1, 1, 1), (num_threads, 1, 1), [address.to_bytes(8, "little")], memory)


STORE = "mul.wide.u32 %rd2, %r1, 4; add.s64 %rd3, %rd1, %rd2; st.global.u32 [%rd3], %r3;"


def test_threads_that_part_in_a_loop_meet_again() -> None:
    # Each thread counts the Collatz steps of its number + 1: every one leaves the loop, and takes its arms, in its own time.
    steps = np.zeros(40, np.uint32)
    collatz = f"""
        add.s32 %r2, %r1, 1; mov.u32 %r3, 0;
        $again: setp.eq.s32 %p1, %r2, 1; @%p1 bra $done;
        and.b32 %r4, %r2, 1; setp.eq.s32 %p2, %r4, 0; add.s32 %r3, %r3, 1;
        @%p2 bra $even;
        mad.lo.s32 %r2, %r2, 3, 1; bra.uni $again;
        $even: shr.u32 %r2, %r2, 1; bra.uni $again;
        $done: {STORE}"""
    run_program(collatz, steps, 40)

    def collatz_steps(n: int) -> int:
        return 0 if n == 1 else 1 + collatz_steps(3 * n + 1 if n % 2 else n // 2)

    assert steps.tolist() == [collatz_steps(n + 1) for n in range(40)]


def test_predicated_instructions_touch_only_their_threads() -> None:
    values = np.zeros(6, np.uint32)
    run_program(f"mov.u32 %r3, 5; setp.lt.s32 %p1, %r1, 2; @!%p1 add.s32 %r3, %r3, %r1; {STORE}", values, 6)
    assert values.tolist() == [5, 5, 7, 8, 9, 10]


@pytest.mark.parametrize(
    "body, message",
    [
        ("st.global.u32 [%rd1+16], %r1;", "store of 4 bytes out of bounds"),
        ("ld.global.u32 %r2, [%rd1+-4];", "load of 4 bytes out of bounds"),
        ("ld.global.u32 %r2, [%rd1+2];", "misaligned access of 4 bytes"),
        ("ld.global.v2.u32 {%r2, %r3}, [%rd1+4];", "misaligned access of 8 bytes"),
        ("ld.global.nc.u32 %r2, [%rd1];", "non-coherent load"),
        ("add.s64 %rd2, %r1, 1;", "has 4 bytes, read as s64"),
        ("mov.u32 %rd2, 1;", "does not fit %rd2 of 8 bytes"),
        ("rcp.approx.f32 %f1, %f2;", "approx is not exact"),
        ("fma.rn.ftz.f32 %f1, %f2, %f3, %f4;", "ftz is not exact"),
        ("div.full.f32 %f1, %f2, %f3;", "full is not exact"),
        ("bar.sync 0;", "unknown instruction: bar.sync 0"),
        ("fma.rz.f32 %f1, %f2, %f3, %f4;", "unknown instruction"),
        ("$forever: bra $forever;", "test does not end within"),
    ],
)
def test_what_a_gpu_would_refuse_is_an_error(body: str, message: str) -> None:
    with pytest.raises(ptx.PtxError, match=re.escape(message)):
        run_program(body, np.zeros(4, np.uint32), 1)


def test_a_store_to_a_read_only_buffer_is_an_error() -> None:
    with pytest.raises(ptx.PtxError, match="store to read-only buffer array"):
        run_program("st.global.u32 [%rd1], %r1;", np.zeros(4, np.uint32), 1, is_writable=False)


@pytest.mark.parametrize(
    "instruction, a, b, expected",
    [
        ("add.s32 %r3, {a}, {b}", 2**32 - 1, 2, 1),
        ("sub.s32 %r3, {a}, {b}", 0, 1, 2**32 - 1),
        ("mul.lo.s32 %r3, {a}, {b}", 65536, 65537, 65536),
        ("shl.b32 %r3, {a}, {b}", 1, 32, 0),
        ("shr.u32 %r3, {a}, {b}", 2**31, 40, 0),
        ("shr.s32 %r3, {a}, {b}", 2**31, 40, 2**32 - 1),
        ("min.s32 %r3, {a}, {b}", 2**32 - 1, 5, 2**32 - 1),
        ("min.u32 %r3, {a}, {b}", 2**32 - 1, 5, 5),
        ("xor.b32 %r3, {a}, {b}", 12, 10, 6),
    ],
)
def test_integer_instructions_wrap_and_saturate_as_ptx_says(instruction: str, a: int, b: int, expected: int) -> None:
    values = np.zeros(1, np.uint32)
    run_program(f"{instruction.format(a=a, b=b)}; {STORE}", values, 1)
    assert values[0] == expected


@pytest.mark.parametrize(
    "value, expected", [(-3.7, 0), (2.5, 2), (4.1e9, 4_100_000_000), (1e20, 2**32 - 1), (np.nan, 0)]
)
def test_conversion_to_unsigned_truncates_and_saturates(value: float, expected: int) -> None:
    values = np.zeros(1, np.uint32)
    bits = int(np.float32(value).view(np.uint32))
    run_program(f"mov.f32 %f1, 0f{bits:08X}; cvt.rzi.u32.f32 %r3, %f1; {STORE}", values, 1)
    assert abs(int(values[0]) - expected) <= 2**8 * (expected > 2**24)  # 4.1e9 is not a float32
