"""DALI pipelines with VideoLoader's contract: the dataset chooses frames, boxes and flips, NVIDIA DALI makes the pixels.

In: a dataset's requests (vidload.clip_dataset). Out: `dali_pipeline`, for those who run DALI pipelines themselves, and for
VideoLoader(decoder="dali") batches that behave like the core's. A video that DALI would decode wrongly or not at all
(`unsupported_reason`) is decoded by the core to RGB and joins the same pipeline: bad files must be found before DALI sees them, as one bad
sample breaks a pipeline. Random numbers, labels and error handling stay with dataset and loader. Needs nvidia-dali.
"""

from __future__ import annotations

try:
    import nvidia.dali  # noqa: F401
except ImportError as error:
    raise ImportError(
        "vidload.dali needs NVIDIA DALI, which is not installed: pip install nvidia-dali-cuda130 (or -cuda120)"
    ) from error

from vidload.dali.decoder import DaliBatch, DaliDecoder
from vidload.dali.graph import Augment
from vidload.dali.pipeline import dali_pipeline
from vidload.dali.samples import unsupported_reason

__all__ = ["Augment", "DaliBatch", "DaliDecoder", "dali_pipeline", "unsupported_reason"]
