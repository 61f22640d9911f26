"""The CPU transform: scalar against the float64 reference and torch, every other twin against scalar."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pictures import FILLS, FORMATS, Picture, make_picture
from reference import transform as reference

from vidload import _core, _testing

IMAGENET: dict[str, Any] = {"mean": (123.675, 116.28, 103.53), "std": (58.395, 57.12, 57.375)}
LEVELS = _core.supported_cpu_levels()
DTYPES = {"uint8": np.uint8, "float16": np.float16, "bfloat16": np.uint16, "float32": np.float32}
POISON = 0x88

Box = tuple[float, float, float, float]


def run(picture: Picture, box: Box, size: tuple[int, int], **options: Any) -> np.ndarray:
    """The transform's output [3, height, width]."""
    arguments = {**picture.arguments, **options}
    return _testing.transform_planes(picture.arrays, box=box, height=size[0], width=size[1], **arguments)[0]


def run_kernel_on_host(picture: Picture, box: Box, size: tuple[int, int], **options: Any) -> None:
    """The CUDA kernel's host twin, given what the kernel would be given; writes to `out`."""
    arguments = {**picture.arguments, **options}
    described = _testing.describe_pictures(picture.arrays, box=box, height=size[0], width=size[1], **arguments)
    descriptors, _tap_tables, _out = described  # kept: the descriptors point to the tables
    _testing.run_descriptors_on_host(descriptors, options["dtype"])


def whole(picture: Picture) -> Box:
    height, width = picture.planes[0].shape
    return (0.0, 0.0, float(height), float(width))


# ---- against the float64 reference ----

BOXES: dict[str, Box] = {  # in a picture of 45 x 38
    "whole frame": (0, 0, 45, 38),
    "inside": (5, 7, 30, 24),
    "not integer": (3.25, 4.7, 29.9, 28.31),
    "smaller than the output": (20.5, 11.25, 6.5, 4.75),
    "one pixel": (12, 9, 1, 1),
    "less than a pixel": (12.3, 9.6, 0.2, 0.1),
    "touching the bottom right corner": (30, 20, 15, 18),
    "over the top left corner": (-8.5, -6.25, 30, 25),
    "over the bottom right corner": (30, 25, 40, 33),
    "around the picture": (-10, -12, 70, 66),
    "outside the picture": (-100, 60, 20, 20),
    "much larger than the picture": (-500, -700, 1500, 1800),
}


@pytest.mark.parametrize("antialias", [True, False])
@pytest.mark.parametrize("box", BOXES.values(), ids=BOXES.keys())
@pytest.mark.parametrize("name", ["yuv420p", "yuv444p", "p010", "gray"])
def test_every_box_gives_the_reference_within_a_fiftieth_of_a_step(name: str, box: Box, antialias: bool) -> None:
    picture = make_picture(name, 45, 38)
    expected = reference.transform(picture.planes, picture.form, box, (17, 11), antialias=antialias)
    np.testing.assert_allclose(run(picture, box, (17, 11), antialias=antialias), expected, atol=0.02, rtol=0)


@pytest.mark.parametrize("fill", FILLS)
@pytest.mark.parametrize("name", FORMATS)
def test_every_pixel_format_gives_the_reference(name: str, fill: str) -> None:
    picture = make_picture(name, 46, 37, fill)
    box, size = (2.5, 3.25, 40, 31.5), (19, 23)
    expected = reference.transform(picture.planes, picture.form, box, size, flip=True)
    np.testing.assert_allclose(run(picture, box, size, flip=True), expected, atol=0.02, rtol=0)
    stored = run(picture, box, size, flip=True, dtype="uint8")
    assert np.abs(stored.astype(np.float64) - expected).max() <= 0.52  # rounding, and the bound above


@pytest.mark.parametrize("color_range", ["limited", "full"])
@pytest.mark.parametrize("color_matrix", ["bt601", "bt709", "bt2020", "fcc", "smpte240m"])
@pytest.mark.parametrize("bit_depth", [8, 9, 10, 12, 14, 16])
def test_every_matrix_range_and_depth_gives_the_reference(color_matrix: str, color_range: str, bit_depth: int) -> None:
    rng = np.random.default_rng(1)
    dtype = np.uint8 if bit_depth == 8 else np.uint16
    arrays = [rng.integers(0, 2**bit_depth, (1, 20, 30)).astype(dtype) for _ in range(3)]
    form = reference.Format(bit_depth=bit_depth, color_matrix=color_matrix, color_range=color_range)
    picture = Picture("yuv444p", form, arrays)
    expected = reference.transform(picture.planes, form, whole(picture), (20, 30))
    np.testing.assert_allclose(run(picture, whole(picture), (20, 30)), expected, atol=0.02, rtol=0)


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (2, 3), (7, 64), (100, 1), (31, 33), (96, 128)])
@pytest.mark.parametrize("source", [(1, 1), (1, 50), (2, 2), (3, 5), (16, 15), (64, 4), (201, 333)])
def test_every_size_gives_the_reference(source: tuple[int, int], size: tuple[int, int]) -> None:
    picture = make_picture("yuv420p", *source)
    expected = reference.transform(picture.planes, picture.form, whole(picture), size)
    np.testing.assert_allclose(run(picture, whole(picture), size), expected, atol=0.02, rtol=0)


def test_normalization_subtracts_the_mean_and_divides_by_the_deviation() -> None:
    picture = make_picture("yuv420p", 40, 50)
    expected = reference.transform(picture.planes, picture.form, whole(picture), (24, 24), **IMAGENET)
    out = run(picture, whole(picture), (24, 24), **IMAGENET)
    np.testing.assert_allclose(out, expected, atol=0.02 / 57, rtol=0)


def test_uint8_is_not_normalized() -> None:
    picture = make_picture("yuv420p", 20, 20)
    plain = run(picture, whole(picture), (10, 10), dtype="uint8")
    np.testing.assert_array_equal(run(picture, whole(picture), (10, 10), dtype="uint8", **IMAGENET), plain)


# ---- color against published figures ----


@pytest.mark.parametrize(
    "color_matrix, color_range, y, red_v, green_u, green_v, blue_u",
    [  # Rec. BT.601-7, BT.709-6, BT.2020-2, and JFIF 1.02 for BT.601 at full range
        ("bt601", "limited", 1.164384, 1.596027, -0.391762, -0.812968, 2.017232),
        ("bt709", "limited", 1.164384, 1.792741, -0.213249, -0.532909, 2.112402),
        ("bt2020", "limited", 1.164384, 1.678674, -0.187326, -0.650424, 2.141772),
        ("bt601", "full", 1.0, 1.402, -0.344136, -0.714136, 1.772),
        ("bt709", "full", 1.0, 1.5748, -0.187324, -0.468124, 1.8556),
        ("bt2020", "full", 1.0, 1.4746, -0.164553, -0.571353, 1.8814),
    ],
)
def test_coefficients_are_the_published_ones(
    color_matrix: str, color_range: str, y: float, red_v: float, green_u: float, green_v: float, blue_u: float
) -> None:
    weights, offsets = _testing.color_coefficients(color_matrix, color_range)
    np.testing.assert_allclose(weights, [[y, 0, red_v], [y, green_u, green_v], [y, blue_u, 0]], atol=2e-6)
    black = 0 if color_range == "full" else 16
    np.testing.assert_allclose(weights @ np.array([black, 128, 128]) + offsets, 0, atol=1e-4)


@pytest.mark.parametrize(
    "ycbcr, rgb",
    [  # 100 % color bars of BT.601, 8 bits, limited range
        ((235, 128, 128), (255, 255, 255)),
        ((210, 16, 146), (255, 255, 0)),
        ((170, 166, 16), (0, 255, 255)),
        ((145, 54, 34), (0, 255, 0)),
        ((106, 202, 222), (255, 0, 255)),
        ((81, 90, 240), (255, 0, 0)),
        ((41, 240, 110), (0, 0, 255)),
        ((16, 128, 128), (0, 0, 0)),
    ],
)
def test_color_bars_come_out_as_their_colors(ycbcr: tuple[int, int, int], rgb: tuple[int, int, int]) -> None:
    planes = [np.full((1, 4, 4), value, np.uint8) for value in ycbcr]
    pixel = _testing.transform_planes(planes, box=(0, 0, 4, 4), height=2, width=2, dtype="uint8")[0, :, 0, 0]
    assert np.abs(pixel.astype(int) - rgb).max() <= 1


def test_a_gray_picture_is_equal_in_all_channels() -> None:
    out = run(make_picture("gray", 21, 22), (0, 0, 21, 22), (10, 12))
    np.testing.assert_array_equal(out[0], out[1])
    np.testing.assert_array_equal(out[0], out[2])


# ---- resampling against torch ----


@pytest.mark.parametrize("antialias", [True, False])
@pytest.mark.parametrize("size", [(224, 224), (112, 90), (37, 11), (256, 340), (300, 512)])
def test_a_whole_frame_is_resized_as_torch_interpolate_does(size: tuple[int, int], antialias: bool) -> None:
    picture = make_picture("gbrp", 256, 340)
    green, blue, red = (torch.from_numpy(plane.astype(np.float64)) for plane in picture.planes)
    expected = torch.nn.functional.interpolate(
        torch.stack([red, green, blue])[None], size, mode="bilinear", align_corners=False, antialias=antialias
    )[0]
    out = run(picture, whole(picture), size, antialias=antialias)
    np.testing.assert_allclose(out, expected, atol=1e-3, rtol=0)


def test_a_frame_at_its_own_size_is_untouched() -> None:
    picture = make_picture("gbrp", 33, 47)
    green, blue, red = picture.planes
    out = run(picture, whole(picture), (33, 47), dtype="uint8")
    np.testing.assert_array_equal(out, np.stack([red, green, blue]))


def test_a_box_reads_the_pixels_beside_it() -> None:
    # One resampling of the frame: cropping first would repeat the box's own edge.
    plane = np.zeros((1, 8, 8), np.uint8)
    plane[:, :, 4:] = 200
    out = _testing.transform_planes([plane], box=(0, 0, 8, 4), height=8, width=8, color_range="full")[0, 0]
    np.testing.assert_allclose(out[0], [0, 0, 0, 0, 0, 0, 0, 50])


def test_weights_sum_to_one_inside_the_plane() -> None:
    for antialias in (True, False):
        start, weight = _testing.resample_taps(50, first_center=-3.3, step=1.37, num_outputs=45, antialias=antialias)
        np.testing.assert_allclose(weight.sum(axis=1), 1, atol=1e-6)
        assert (weight >= 0).all()
        assert start.min() >= 0
        assert start.max() + weight.shape[1] <= 50


def test_a_ratio_of_one_needs_one_tap() -> None:
    start, weight = _testing.resample_taps(20, first_center=3.5 + 1e-12, step=1.0, num_outputs=10, antialias=True)
    np.testing.assert_array_equal(start, np.arange(3, 13))
    np.testing.assert_array_equal(weight, np.ones((10, 1)))


# ---- chroma siting, rotation, flips ----


def test_left_sited_chroma_is_cosited_with_even_columns_and_between_rows() -> None:
    # U grows by 10 a row or column, so a pixel's U tells where it was sampled.
    gradient = np.arange(0, 200, 10, dtype=np.uint8)
    luma = np.full((1, 40, 40), 128, np.uint8)
    neutral = np.full((1, 20, 20), 128, np.uint8)

    def chroma_seen(u: np.ndarray) -> np.ndarray:
        planes = [luma, np.ascontiguousarray(u[None]), neutral]
        siting = {"chroma_scale": (2, 2), "chroma_offset": (1.0, 0.5), "color_range": "full"}
        blue = _testing.transform_planes(planes, box=(0, 0, 40, 40), height=40, width=40, **siting)[0, 2]
        return (blue - 128) / 1.772 + 128

    columns = chroma_seen(np.broadcast_to(gradient, (20, 20)))[20]
    np.testing.assert_allclose(columns[24:28], [120, 125, 130, 135], atol=1e-3)  # column 24 is chroma column 12
    rows = chroma_seen(np.broadcast_to(gradient[:, None], (20, 20)))[:, 20]
    np.testing.assert_allclose(rows[24:28], [117.5, 122.5, 127.5, 132.5], atol=1e-3)  # chroma row 12 lies between


@pytest.mark.parametrize("hflip", [False, True])
@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
@pytest.mark.parametrize("name", ["yuv420p", "yuv422p", "nv12", "yuv420p10", "p010", "gray"])
@pytest.mark.parametrize("height, width", [(30, 44), (31, 45)])
def test_a_rotated_picture_is_what_turning_its_pixels_gives(
    name: str, height: int, width: int, rotation: int, hflip: bool
) -> None:
    """The reference turns a chroma plane of the luma's size, so that it need not know how siting turns."""
    picture = make_picture(name, height, width)
    upright = []
    for index, plane in enumerate(picture.planes):
        values = (plane.astype(np.int64) >> picture.form.shift).astype(np.float64)
        if index > 0:
            scale, offset = picture.form.chroma_scale, picture.form.chroma_offset
            rows = reference.axis_weights(values.shape[0], 0, height, height, scale[0], offset[0], False)
            columns = reference.axis_weights(values.shape[1], 0, width, width, scale[1], offset[1], False)
            values = rows @ values @ columns.T
        values = np.rot90(values, -rotation // 90)  # rot90 turns counterclockwise
        upright.append(values[:, ::-1] if hflip else values)
    expected = reference.to_rgb(upright, picture.form)
    size = (height, width) if rotation % 180 == 0 else (width, height)
    out = run(picture, (0, 0, *size), size, antialias=False, rotation=rotation, hflip=hflip)
    np.testing.assert_allclose(out, expected, atol=0.02, rtol=0)


def test_a_flip_reverses_the_columns_exactly() -> None:
    picture = make_picture("yuv420p", 50, 61)
    box = (3.5, 5.25, 40.5, 50)
    plain, flipped = run(picture, box, (24, 37)), run(picture, box, (24, 37), flip=True)
    np.testing.assert_array_equal(flipped, plain[:, :, ::-1])


# ---- dtypes and layouts ----


@pytest.mark.parametrize("std", [1e-7, 1e-3, 57.0, 4e6])
def test_half_and_bfloat16_are_the_float32_output_rounded_to_nearest_even(std: float) -> None:
    picture = make_picture("yuv420p", 64, 64)
    options: dict[str, Any] = {"mean": (100.0, 100.0, 100.0), "std": (std, std, std)}
    outputs = {dtype: run(picture, whole(picture), (50, 50), dtype=dtype, **options) for dtype in DTYPES}
    exact = outputs["float32"].copy()
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(outputs["float16"], exact.astype(np.float16))
    bfloat16 = torch.from_numpy(exact).to(torch.bfloat16).view(torch.int16).numpy()
    np.testing.assert_array_equal(outputs["bfloat16"].view(np.int16), bfloat16)


@pytest.mark.parametrize("dtype", DTYPES)
def test_channels_last_holds_the_same_pixels_in_another_order(dtype: str) -> None:
    picture = make_picture("yuv420p", 40, 50)
    options: dict[str, Any] = {"dtype": dtype, **IMAGENET}
    planar = run(picture, whole(picture), (23, 39), **options)
    interleaved = run(picture, whole(picture), (23, 39), channels_last=True, **options)
    assert interleaved.strides[0] == interleaved.itemsize
    np.testing.assert_array_equal(interleaved, planar)


def test_pictures_of_one_call_may_differ_in_box() -> None:
    picture = make_picture("yuv420p", 40, 50)
    arrays = [np.concatenate([array] * 4) for array in picture.arrays]
    boxes = [(0, 0, 40, 50), (0, 0, 40, 50), (3.5, 2, 20, 30), (0, 0, 40, 50)]
    together = _testing.transform_planes(arrays, box=boxes, height=16, width=18, **picture.arguments)
    alone = [run(picture, box, (16, 18)) for box in boxes]
    np.testing.assert_array_equal(together, np.stack(alone))


# ---- every twin equals scalar ----


def guarded_output(size: tuple[int, int], dtype: str, channels_last: bool) -> tuple[np.ndarray, np.ndarray]:
    """Poisoned memory, and a view [1, 3, height, width] into it with guard elements around every row."""
    height, width = size
    guard = 5
    if channels_last:
        memory = np.empty((height + 2, 3 * width + 2 * guard), DTYPES[dtype])
        row, element = memory.strides
        strides = (memory.nbytes, element, row, 3 * element)
        pixels = np.lib.stride_tricks.as_strided(memory[1:-1, guard:-guard], (1, 3, height, width), strides)
    else:
        memory = np.empty((3, height + 2, width + 2 * guard), DTYPES[dtype])
        pixels = memory[None, :, 1:-1, guard:-guard]
    memory.view(np.uint8)[...] = POISON
    return memory, pixels


def written(size: tuple[int, int], dtype: str, channels_last: bool, pixels: np.ndarray) -> np.ndarray:
    """The memory of guarded_output with these pixels in their place."""
    memory, place = guarded_output(size, dtype, channels_last)
    place[...] = pixels
    return memory


def check_twins(picture: Picture, box: Box, size: tuple[int, int], **options: Any) -> None:
    """Every twin writes what scalar writes, bit for bit, and nothing beside it; planes stay as they were."""
    before = [array.copy() for array in picture.arrays]
    channels_last = options.pop("channels_last")
    layout = (size, options["dtype"], channels_last)
    scalar = run(picture, box, size, cpu_level="scalar", **options)
    expected = written(*layout, scalar)
    for level in LEVELS:
        memory, pixels = guarded_output(*layout)
        run(picture, box, size, cpu_level=level, out=pixels, **options)
        np.testing.assert_array_equal(memory.view(np.uint8), expected.view(np.uint8), err_msg=level)
    memory, pixels = guarded_output(*layout)
    run_kernel_on_host(picture, box, size, out=pixels, **options)
    np.testing.assert_array_equal(memory.view(np.uint8), expected.view(np.uint8), err_msg="the CUDA kernel's host twin")
    for array, original in zip(picture.arrays, before, strict=True):
        np.testing.assert_array_equal(array, original)


SOURCES = [(1, 1), (17, 11), (2, 40), (40, 3), (33, 70), (64, 150), (9, 600)]
OUTPUTS = [(1, 1), (3, 2), (5, 7), (17, 11), (4, 16), (9, 33), (8, 80)]


@settings(max_examples=1000, deadline=None, derandomize=True, database=None)
@given(data=st.data())
def test_every_twin_equals_scalar_bit_for_bit(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(FORMATS)), "format")
    height, width = data.draw(st.sampled_from(SOURCES), "source")
    fill, seed = data.draw(st.sampled_from(FILLS), "fill"), data.draw(st.integers(0, 2**16), "seed")
    picture = make_picture(name, height, width, fill, seed)
    size = data.draw(st.sampled_from(OUTPUTS), "output")
    rotation = data.draw(st.sampled_from([0, 0, 90, 180, 270]), "rotation")
    extent = (height, width) if rotation % 180 == 0 else (width, height)
    numbers = [data.draw(st.floats(-0.5, 1.0)) * length for length in extent]
    lengths = [data.draw(st.sampled_from([0.03, 0.4, 0.77, 1.0, 1.6])) * length for length in extent]
    box = data.draw(st.sampled_from([(0.0, 0.0, *map(float, extent)), (*numbers, *lengths)]), "box")
    check_twins(
        picture,
        box,
        size,
        rotation=rotation,
        hflip=data.draw(st.booleans(), "hflip"),
        flip=data.draw(st.booleans(), "flip"),
        antialias=data.draw(st.booleans(), "antialias"),
        dtype=data.draw(st.sampled_from(sorted(DTYPES)), "dtype"),
        channels_last=data.draw(st.booleans(), "channels_last"),
        **data.draw(st.sampled_from([{}, IMAGENET]), "normalization"),
    )


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["yuv420p", "yuv420p10", "nv12"])
def test_every_twin_equals_scalar_at_training_size(name: str, dtype: str, channels_last: bool) -> None:
    picture = make_picture(name, 256, 340)
    check_twins(picture, (0, 42, 256, 256), (224, 224), dtype=dtype, channels_last=channels_last, **IMAGENET)


def test_every_twin_equals_scalar_at_every_ratio() -> None:
    for width in range(16, 1200, 37):  # from enlarging to shrinking by more than any window holds
        for name in ("gray", "gray12"):
            picture = make_picture(name, 3, width, seed=width)
            check_twins(picture, whole(picture), (2, 61), dtype="float32", channels_last=False)


def test_rows_of_odd_addresses_are_read_right() -> None:
    picture = make_picture("yuv420p10", 20, 30)
    expected = run(picture, whole(picture), (12, 14))
    odd = []
    for array in picture.arrays:
        memory = bytearray(array.nbytes + 1)
        moved = np.frombuffer(memory, array.dtype, array.size, offset=1).reshape(array.shape)
        moved[...] = array
        odd.append(moved)
    for level in LEVELS:
        out = run(Picture(picture.name, picture.form, odd), whole(picture), (12, 14), cpu_level=level)
        np.testing.assert_array_equal(out, expected)


GUARD_PAGES = """
import ctypes, mmap, sys
import numpy as np
from pictures import make_picture
from vidload import _core, _testing

libc = ctypes.CDLL(None, use_errno=True)

def fenced(array, at_end):
    '''The array's rows packed tightly against a page that may not be read.'''
    page = mmap.PAGESIZE
    inner = -(-array.nbytes // page) * page
    memory = mmap.mmap(-1, inner + 2 * page)
    base = np.frombuffer(memory, np.uint8).ctypes.data
    for fence in (base, base + page + inner):
        assert libc.mprotect(ctypes.c_void_p(fence), ctypes.c_size_t(page), 0) == 0
    start = page + (inner - array.nbytes if at_end else 0)
    copy = np.frombuffer(memory, array.dtype, array.size, start).reshape(array.shape)
    copy[...] = array
    return copy

for name in ("yuv420p", "yuv422p12", "nv12", "p010"):
    for height, width in ((1, 1), (3, 9), (8, 50), (5, 700)):
        picture = make_picture(name, height, width)
        for at_end in (False, True):
            planes = [fenced(np.ascontiguousarray(array), at_end) for array in picture.arrays]
            for level in _core.supported_cpu_levels():
                for out_width in (1, 20, 64):
                    for rotation in (0, 180):
                        _testing.transform_planes(planes, box=(0, 0, height, width), height=4, width=out_width,
                                               rotation=rotation, cpu_level=level, **picture.arguments)
print("untouched")
"""


def in_subprocess(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    paths = os.pathsep.join([os.path.dirname(__file__), *sys.path])
    environment = {**os.environ, "PYTHONPATH": paths, **environment}
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)


def test_no_level_reads_outside_the_planes() -> None:
    result = in_subprocess(GUARD_PAGES)  # a stray read kills the process
    assert result.stdout.strip() == "untouched", f"exit status {result.returncode}: {result.stderr}"


# ---- levels by name, errors ----

PLANE = np.zeros((1, 12, 12), np.uint8)


@pytest.mark.parametrize("level", LEVELS)
def test_the_environment_can_force_a_level(level: str) -> None:
    result = in_subprocess("from vidload import _core; print(_core.cpu_level())", VIDLOAD_CPU=level)
    assert result.stdout.strip() == level


def test_an_unknown_level_in_the_environment_is_an_error_that_names_the_levels() -> None:
    result = in_subprocess("from vidload import _core; _core.cpu_level()", VIDLOAD_CPU="sse9")
    assert "ValueError: CPU level 'sse9' is unknown; choose scalar, avx2, avx512 or neon" in result.stderr


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"box": (0, 0, 0, 10)}, "height and width positive"),
        ({"box": (0, float("nan"), 10, 10)}, "must be finite"),
        ({"box": (0, 0, 10)}, r"box must be \(top, left, height, width\)"),
        ({"height": 0}, "output size is 0 x 8; height and width must be at least 1"),
        ({"dtype": "int8"}, "dtype is 'int8'; allowed are uint8, float16, bfloat16, float32"),
        ({"color_matrix": "xyz"}, "color_matrix is 'xyz'; allowed are bt601"),
        ({"mean": (0, 0, 0), "std": (1, 0, 1)}, "std positive"),
        ({"mean": (0, 0, 0)}, "mean and std go together"),
        ({"bit_depth": 10}, "bit_depth 10 and shift 0 in samples of 1 bytes"),
        ({"rotation": 45}, "rotation_degrees is 45; allowed are 0, 90, 180 and 270"),
        ({"chroma_scale": (0, 1)}, "chroma_scale must be positive"),
        ({"out": np.zeros((1, 3, 8, 9), np.float32)}, r"out must be an array \[1, 3, 8, 8\]"),
        ({"out": np.zeros((1, 3, 8, 16), np.float32)[..., ::2]}, "neither planar .* nor channels-last"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(changes: dict[str, Any], message: str) -> None:
    planes = [PLANE] * 3
    arguments: dict[str, Any] = {"box": (0, 0, 12, 12), "height": 8, "width": 8, **changes}
    with pytest.raises(ValueError, match=message):
        _testing.transform_planes(planes, **arguments)


@pytest.mark.parametrize(
    "planes, message",
    [
        ([], "planes is empty"),
        ([np.zeros((12, 12), np.uint8)], r"must be arrays \[T, height, width\]"),
        ([np.zeros((1, 12, 12), np.float32)], "must all be uint8 or all uint16"),
        ([PLANE] * 2, "picture has 2 planes; allowed are 1"),
        ([PLANE] * 4, "more than three planes"),
        ([np.zeros((1, 12, 0), np.uint8)], "must hold at least one"),
        ([PLANE, PLANE, PLANE[:, :, :6]], "second and third plane differ in size"),
    ],
)
def test_planes_that_make_no_picture_are_refused(planes: list[np.ndarray], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _testing.transform_planes(planes, box=(0, 0, 12, 12), height=8, width=8)
