"""vidload: video clips straight into PyTorch training batches."""

from __future__ import annotations

import importlib
import logging
from types import ModuleType

from vidload import augment, cuda, sampling, transforms
from vidload.dataset import FrameFolderDataset, VideoDataset
from vidload.errors import (
    ClipTransformError,
    DamagedVideoError,
    FrameIndexError,
    LostWorkError,
    TooManyFailuresError,
    UnreadableVideoError,
    UnsupportedVideoError,
    VideoError,
    VideoLimitError,
    VideoNotFoundError,
)
from vidload.feature_dataset import FeatureDataset
from vidload.index import DatasetIndex
from vidload.index_building import build_index
from vidload.limits import VideoLimits, get_limits, set_limits
from vidload.loading.loader import VideoLoader
from vidload.multi_video import MultiVideoDataset
from vidload.reader import ReadPlan, StreamSummary, VideoReader, streams
from vidload.system.info import info

__version__ = "0.1.0"

logging.getLogger("vidload.ffmpeg").addHandler(
    logging.NullHandler()
)  # its lines are part of the errors; stderr need not have them too

__all__ = [
    "ClipTransformError",
    "DamagedVideoError",
    "DatasetIndex",
    "FeatureDataset",
    "FrameFolderDataset",
    "FrameIndexError",
    "LostWorkError",
    "MultiVideoDataset",
    "ReadPlan",
    "StreamSummary",
    "TooManyFailuresError",
    "UnreadableVideoError",
    "UnsupportedVideoError",
    "VideoDataset",
    "VideoError",
    "VideoLimitError",
    "VideoLimits",
    "VideoLoader",
    "VideoNotFoundError",
    "VideoReader",
    "augment",
    "build_index",
    "cuda",
    "get_limits",
    "info",
    "sampling",
    "set_limits",
    "streams",
    "transforms",
]

_LAZY_MODULES = ("dali", "models")  # imported when first asked for


def __getattr__(name: str) -> ModuleType:
    if name in _LAZY_MODULES:
        return importlib.import_module(f"vidload.{name}")
    raise AttributeError(f"module 'vidload' has no attribute {name!r}")
