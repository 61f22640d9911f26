"""vidload: video clips straight into PyTorch training batches."""

from vidload.errors import (
    DamagedVideoError,
    FrameIndexError,
    UnreadableVideoError,
    UnsupportedVideoError,
    VideoError,
    VideoNotFoundError,
)
from vidload.reader import ReadPlan, VideoReader

__version__ = "0.1.0"
