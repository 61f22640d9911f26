"""Types of the instruments for tests and benches (csrc/testing), which are built beside _core and are no part of a wheel."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from vidload._core import DrawRules, TransformSpec

CUDA_BLOCK: tuple[int, int, int]
CUDA_DESCRIPTOR_BYTES: int

def cuda_fatbin() -> bytes: ...
def cuda_ptx() -> bytes: ...
def host_kernel_address() -> int: ...
def time_kernel(
    device: int, height: int, width: int, out_height: int, out_width: int, num_pictures: int, num_launches: int
) -> float: ...
def time_floor(clips: Sequence[tuple[str, Sequence[int], Sequence[float]]], spec: TransformSpec) -> float: ...
def draw_sample(
    rules: DrawRules,
    seed: int,
    epoch: int,
    index: int,
    draw: int,
    stands_for: int,
    num_frames: int,
    fps: float,
    height: int,
    width: int,
    pixel_aspect: float,
) -> tuple[list[int], npt.NDArray[np.void]]: ...
def load_by_fake_decoder(
    paths: Sequence[str],
    frames: Sequence[int],
    *,
    size: int,
    decoder: str = "nvdec",
    strict: bool = False,
    num_threads: int = 0,
    max_decoders: int = 8,
    refused_frame: int = -1,
    refuses_used_again: bool = False,
) -> tuple[npt.NDArray[np.uint8], dict[str, Any]]: ...
def transform_planes(
    planes: Sequence[npt.NDArray[Any]],
    *,
    box: Any,
    flip: bool = False,
    height: int,
    width: int,
    dtype: str = "float32",
    antialias: bool = True,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    channels_last: bool = False,
    color_matrix: str = "bt601",
    color_range: str = "limited",
    bit_depth: int = 8,
    shift: int = 0,
    chroma_scale: Sequence[float] = (1, 1),
    chroma_offset: Sequence[float] = (0.5, 0.5),
    rotation: int = 0,
    hflip: bool = False,
    cpu_level: str | None = None,
    out: npt.NDArray[Any] | None = None,
) -> npt.NDArray[Any]: ...
def resample_taps(
    source_size: int, *, first_center: float, step: float, num_outputs: int, antialias: bool, flip: bool = False
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]: ...
def color_coefficients(
    color_matrix: str, color_range: str, bit_depth: int = 8, num_planes: int = 3
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]: ...
def describe_pictures(
    planes: Sequence[npt.NDArray[Any]],
    *,
    box: Any,
    flip: bool = False,
    height: int,
    width: int,
    dtype: str = "float32",
    antialias: bool = True,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    channels_last: bool = False,
    color_matrix: str = "bt601",
    color_range: str = "limited",
    bit_depth: int = 8,
    shift: int = 0,
    chroma_scale: Sequence[float] = (1, 1),
    chroma_offset: Sequence[float] = (0.5, 0.5),
    rotation: int = 0,
    hflip: bool = False,
    out: npt.NDArray[Any] | None = None,
) -> tuple[npt.NDArray[np.uint8], list[npt.NDArray[np.uint8]], npt.NDArray[Any]]: ...
def run_descriptors_on_host(descriptors: npt.NDArray[np.uint8], dtype: str) -> None: ...
