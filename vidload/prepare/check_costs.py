"""What training from a dataset will cost, predicted from what `vidload check` has measured.

In: checked files. Out: for each clip spec the packets and milliseconds of a clip, clips per second per core, and core-hours per epoch; and
what `vidload prepare` would change about that, from the beginnings of a few videos.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidload.errors import VideoError
from vidload.prepare.check_file import CheckSettings, check_file
from vidload.prepare.costs import CLIP_SPECS
from vidload.prepare.encode import encode_video
from vidload.prepare.settings import PROFILES, EncodeSettings, describe
from vidload.sampling import ClipSpec

_TRIAL_FRAMES = 128  # of each video that is encoded for the estimate: enough for a clip of any spec
_WORTH = 1.5  # times the clips per second, for the clip spec that gains most, from which on preparing is said to pay


@dataclass(frozen=True)
class ClipPrediction:
    """What random training clips of one spec cost, on one core like those of this machine.

    Attributes:
        clip: the spec.
        num_packets: decoded for a clip, mean over the dataset.
        milliseconds: of processor time for a clip: its packets, and cropping and resizing its frames to 224x224.
        clips_per_second: on one core.
        core_hours_per_epoch: one clip for each row.
    """

    clip: str
    num_packets: float
    milliseconds: float
    clips_per_second: float
    core_hours_per_epoch: float


@dataclass
class _Group:
    """Files of one codec and size, which share what a packet costs."""

    num_rows: int = 0
    packets: NDArray[np.float64] = field(default_factory=lambda: np.zeros(len(CLIP_SPECS)))  # a clip, summed over rows
    num_packets_timed: int = 0
    decode_seconds: float = 0.0
    transform_seconds: float = 0.0  # a frame, summed over the files where it was measured
    num_transforms: int = 0


class ClipCosts:
    """Adds up what clips of many files cost. Memory grows with the number of codecs and picture sizes, not of files."""

    def __init__(self) -> None:
        self._groups: dict[tuple[str, int, int], _Group] = defaultdict(_Group)

    def add(self, facts: dict[str, Any], num_rows: int = 1) -> None:
        """A file, as asdict(CheckedFile) has it, that `num_rows` rows name."""
        group = self._groups[facts["codec"], facts["width"], facts["height"]]
        group.num_rows += num_rows
        group.packets += num_rows * np.array(facts["packets_per_clip"])
        group.num_packets_timed += facts["num_packets_timed"]
        group.decode_seconds += facts["decode_seconds"]
        if facts["transform_seconds"] > 0:
            group.transform_seconds += facts["transform_seconds"]
            group.num_transforms += 1

    def prediction(self) -> tuple[ClipPrediction, ...]:
        """One for each of CLIP_SPECS; none if nothing was measured."""
        groups = list(self._groups.values())
        num_rows = sum(group.num_rows for group in groups)
        timed = sum(group.num_packets_timed for group in groups)
        if not timed:
            return ()
        usual_packet = sum(group.decode_seconds for group in groups) / timed
        usual_frame = _mean(sum(g.transform_seconds for g in groups), sum(g.num_transforms for g in groups), 0.0)
        predictions = []
        for number, clip in enumerate(CLIP_SPECS):
            spec = ClipSpec.parse(clip)
            seconds = 0.0
            for group in groups:
                packet = _mean(group.decode_seconds, group.num_packets_timed, usual_packet)
                frame = _mean(group.transform_seconds, group.num_transforms, usual_frame)
                seconds += group.packets[number] * packet + group.num_rows * spec.clip_len * spec.num_clips * frame
            predictions.append(
                ClipPrediction(
                    clip=clip,
                    num_packets=float(sum(group.packets[number] for group in groups)) / num_rows,
                    milliseconds=1000 * float(seconds) / num_rows,
                    clips_per_second=num_rows / float(seconds),
                    core_hours_per_epoch=float(seconds) / 3600,
                )
            )
        return tuple(predictions)


def _mean(total: float, count: int, otherwise: float) -> float:
    return total / count if count else otherwise


@dataclass(frozen=True)
class PrepareEstimate:
    """What `vidload prepare` would cost and gain: an estimate from the beginnings of a few videos, which were encoded for it.

    Attributes:
        settings: how they were encoded, in words.
        num_videos, num_frames: how many were encoded.
        num_bytes: of the whole prepared dataset, estimated.
        core_hours: to encode it, estimated.
        psnr: luma PSNR of the worst of those videos, dB.
        clips: what clips of the prepared videos cost.
        gains: clips per second as a multiple of today's, for each of CLIP_SPECS.
        is_worthwhile: whether the clip spec that gains most gets 1.5 times the clips per second or more.
    """

    settings: str
    num_videos: int
    num_frames: int
    num_bytes: int
    core_hours: float
    psnr: float
    clips: tuple[ClipPrediction, ...]
    gains: tuple[float, ...]
    is_worthwhile: bool


def estimate_prepare(
    paths: Sequence[str],
    today: Sequence[ClipPrediction],
    *,
    num_frames: int,
    num_rows: int,
    settings: EncodeSettings = PROFILES["balanced"],
) -> PrepareEstimate | None:
    """Encodes the beginnings of videos in a temporary folder, and checks them like any others.

    Args:
        paths: the videos.
        today: what clips of the dataset cost now.
        num_frames, num_rows: of the whole dataset.

    Returns: None if none of the videos can be encoded.
    """
    costs = ClipCosts()
    psnrs, num_bytes, num_encoded, seconds = [], 0, 0, 0.0
    with tempfile.TemporaryDirectory(prefix="vidload-") as folder:
        for number, path in enumerate(paths):
            output = os.path.join(folder, f"{number}.mp4")
            start = time.process_time()
            try:
                video = encode_video(path, output, settings, max_frames=_TRIAL_FRAMES)
                seconds += time.process_time() - start
                checked = check_file(output, "", CheckSettings())
            except VideoError:
                continue
            psnrs.append(video.psnr)
            num_bytes += video.num_bytes
            num_encoded += video.num_frames
            costs.add(vars(checked))
    clips = costs.prediction()
    if not clips or not today:
        return None
    gains = tuple(after.clips_per_second / before.clips_per_second for before, after in zip(today, clips, strict=True))
    scale = num_rows / len(psnrs)  # an epoch of the prepared dataset has as many rows as one of today's
    return PrepareEstimate(
        settings=describe(settings),
        num_videos=len(psnrs),
        num_frames=num_encoded,
        num_bytes=round(num_bytes / num_encoded * num_frames),
        core_hours=seconds / num_encoded * num_frames / 3600,
        psnr=min(psnrs),
        clips=tuple(
            ClipPrediction(
                clip.clip, clip.num_packets, clip.milliseconds, clip.clips_per_second, clip.core_hours_per_epoch * scale
            )
            for clip in clips
        ),
        gains=gains,
        is_worthwhile=max(gains) >= _WORTH,
    )


def epochs_to_pay(today: Sequence[ClipPrediction], estimate: PrepareEstimate) -> dict[str, float]:
    """After how many epochs encoding has paid for itself in core-hours, for each clip spec that gains by it."""
    saved = {
        before.clip: before.core_hours_per_epoch - after.core_hours_per_epoch
        for before, after in zip(today, estimate.clips, strict=True)
    }
    return {clip: estimate.core_hours / hours for clip, hours in saved.items() if hours > 0}
