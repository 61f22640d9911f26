"""vidload: video clips straight into PyTorch training batches."""

from vidload import sampling, transforms
from vidload.dataset import FrameFolderDataset, VideoDataset
from vidload.errors import (
    DamagedVideoError,
    FrameIndexError,
    UnreadableVideoError,
    UnsupportedVideoError,
    VideoError,
    VideoNotFoundError,
)
from vidload.index import DatasetIndex, build_index
from vidload.loader import VideoLoader
from vidload.reader import ReadPlan, VideoReader

__version__ = "0.1.0"

__all__ = [
    "DamagedVideoError",
    "DatasetIndex",
    "FrameFolderDataset",
    "FrameIndexError",
    "ReadPlan",
    "UnreadableVideoError",
    "UnsupportedVideoError",
    "VideoDataset",
    "VideoError",
    "VideoLoader",
    "VideoNotFoundError",
    "VideoReader",
    "build_index",
    "sampling",
    "transforms",
]
