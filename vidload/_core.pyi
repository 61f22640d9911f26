"""Types of the compiled module. Private: users import vidload."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

Int64s = npt.NDArray[np.int64]

# (num_frames, average_fps, height, width, index); the index is None for a folder of frames.
SampleInfo = tuple[int, float, int, int, PacketIndex | None]

def versions() -> dict[str, Any]: ...
def video_limits() -> dict[str, Any]: ...
def set_video_limits(values: dict[str, Any]) -> None: ...

class PacketIndex:
    num_frames: int
    num_packets: int
    is_regular: bool
    is_byte_addressable: bool
    is_cut_short: bool
    note: str
    stamp: tuple[int, int]
    stream_number: int
    sample_aspect_ratio: tuple[int, int]
    container: str
    codec: str
    pixel_format: str
    width: int
    height: int
    coded_width: int
    coded_height: int
    rotation: int
    is_mirrored: bool
    color_space: int
    color_range: int
    color_primaries: int
    color_transfer: int
    time_base: tuple[int, int]
    average_fps: float
    duration_seconds: float
    frame_pts: Int64s
    frame_packet: npt.NDArray[np.int32]
    packet_offsets: Int64s
    packet_sizes: npt.NDArray[np.int32]
    packet_flags: npt.NDArray[np.uint8]
    def to_bytes(self) -> bytes: ...
    @staticmethod
    def from_bytes(bytes: bytes) -> PacketIndex: ...

def index_file(path: str, stream: int = -1, must_decode: bool = False) -> PacketIndex: ...
def streams(path: str) -> list[tuple[int, str, str, int, int, bool]]: ...
def file_stamp(path: str) -> tuple[int, int]: ...
def clear_index_cache() -> None: ...
def index_cache_bytes() -> int: ...

class VideoReader:
    def __init__(self, path: str, stream: int = -1, allow_damaged: bool = False) -> None: ...
    @staticmethod
    def of_bytes(data: Any, stream: int = -1, allow_damaged: bool = False) -> VideoReader: ...
    @staticmethod
    def of_file(file: Any, name: str, stream: int = -1, allow_damaged: bool = False) -> VideoReader: ...
    @property
    def index(self) -> PacketIndex: ...
    def plan(self, frames: Int64s) -> tuple[list[tuple[int, int]], int, int, int, int]: ...
    def read_rgb(self, frames: Int64s, height: int, width: int) -> npt.NDArray[np.uint8]: ...
    def read_rgb_to_device(
        self,
        frames: Int64s,
        height: int,
        width: int,
        device: int,
        decoder: str,
        strict: bool,
        out: int,
        consumer: int,
    ) -> None: ...
    def read_planes(self, frames: Int64s) -> list[tuple[npt.NDArray[Any], ...]]: ...

class TransformSpec:
    def __init__(
        self,
        height: int,
        width: int,
        dtype: str,
        antialias: bool,
        mean: Sequence[float] | None,
        std: Sequence[float] | None,
    ) -> None: ...

class DrawRules:
    def __init__(
        self,
        *,
        sampling: str,
        clip: tuple[int, int, int],
        num_repeats: int,
        is_training: bool,
        repeats_last: bool,
        crop: str,
        size: tuple[int, int],
        flip: float,
        square_pixels: bool,
    ) -> None: ...
    short_side: tuple[int, int]
    area_and_log_ratio: tuple[float, float, float, float]
    num_positions: int
    crop_sizes: Sequence[tuple[int, int]]
    def draw(
        self,
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
    ) -> tuple[list[int], list[tuple[int, float, float, float, float, bool]]]: ...

CUDA_DESCRIPTOR_BYTES: int

def has_cuda_kernels() -> bool: ...
def why_no_cuda_driver() -> str: ...
def cuda_devices() -> tuple[int, list[dict[str, Any]]]: ...
def nvdec_capabilities(device: int) -> dict[str, dict[str, dict[str, int]]]: ...
def num_nvdec_decoders(device: int) -> int: ...
def set_max_nvdec_decoders(device: int, count: int) -> None: ...
def cuda_memory_held() -> tuple[int, int]: ...
def host_kernel_address() -> int: ...
def time_kernel(
    device: int, height: int, width: int, out_height: int, out_width: int, num_pictures: int, num_launches: int
) -> float: ...

class LoaderPool:
    def __init__(self, num_threads: int, device: int = -1, decoder: str = "auto", strict: bool = False) -> None: ...
    def set_consumer(self, stream: int) -> None: ...
    @property
    def is_usable(self) -> bool: ...
    def stats(self) -> dict[str, Any]: ...

class IndexFile:
    def __init__(self, path: str) -> None: ...

def frame_name(name_format: str, number: int) -> str: ...

class Batch:
    def __init__(
        self,
        pool: LoaderPool,
        paths: Sequence[str | bytes],
        stored: Int64s | None = None,
        index_file: IndexFile | None = None,
        streams: Sequence[int] | None = None,
    ) -> None: ...
    @staticmethod
    def of_frames(
        pool: LoaderPool,
        folders: Sequence[str | bytes],
        name_format: str,
        first_numbers: Sequence[int],
        num_frames: Sequence[int],
    ) -> Batch: ...
    def wait(self, timeout_seconds: float = -1.0) -> bool: ...
    def cancel(self) -> None: ...
    def infos(self) -> list[SampleInfo | None]: ...
    def errors(self) -> list[Any]: ...
    def draw(
        self,
        spec: TransformSpec,
        rules: DrawRules,
        seed: int,
        epoch: int,
        indices: Sequence[int],
        draws: Sequence[int],
        stands_for: int,
        fps: float,
        out: int,
        strides: tuple[int, int, int, int, int, int],
        memory: torch.Tensor,
    ) -> None: ...
    def decode(
        self,
        spec: TransformSpec,
        clip_len: int,
        frames: list[Int64s | None],
        views: list[npt.NDArray[np.float64] | None],
        out: int,
        strides: tuple[int, int, int, int, int, int],
        memory: torch.Tensor,
    ) -> None: ...

class Buffer:
    @property
    def nbytes(self) -> int: ...
    @property
    def address(self) -> int: ...
    def __buffer__(self, flags: int, /) -> memoryview: ...

class MemoryPool:
    def __init__(self, allocate: Callable[[int], tuple[int, object]] | None = None) -> None: ...
    def take(self, nbytes: int) -> Buffer: ...
    @property
    def num_bytes(self) -> int: ...

def time_floor(clips: Sequence[tuple[str, Sequence[int], Sequence[float]]], spec: TransformSpec) -> float: ...
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
def cpu_level() -> str: ...
def supported_cpu_levels() -> list[str]: ...
