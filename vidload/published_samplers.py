"""The samplers of other loaders, by their published rules: TorchCodec's, PyTorchVideo's, PySlowFast's PyAV path, and MMAction2's for
untrimmed videos and for AVA.

In and out as in vidload.sampling, in float64; a dataset also passes the further arguments that a sampler names (vidload.sampler_options).
Set a sampler's options with functools.partial: `sampling=partial(vidload.sampling.constant_clips_per_video, clip_seconds=2)`.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from vidload.clip_spec import ClipSpec, FrameIndices, check, rate_ratio, steps_of

_POLICIES = ("repeat_last", "wrap", "error")
_TOLERANCE_SECONDS = 5e-7  # times that went through a float once must still find their frame

Seconds = NDArray[np.float64]

# --- TorchCodec


def clips_at_random_indices(
    num_frames: int,
    fps: float | None,
    spec: ClipSpec,
    rng: Generator | None = None,
    *,
    sampling_range_start: int = 0,
    sampling_range_end: int | None = None,
    policy: str = "repeat_last",
) -> FrameIndices:
    """TorchCodec's: clips that start anywhere in [sampling_range_start, sampling_range_end), by default wherever they fit.

    Negative ends of the range count from the video's. policy, for frames past the end: "repeat_last", "wrap" (the clip's own frames
    again) or "error". Draws: one uniform per clip. ValueError in evaluation (no rng), or if the range is empty.
    """
    if rng is None:
        raise ValueError("sampling: clips_at_random_indices is random: it needs training=True")
    start, stop = _range_of_indices(num_frames, spec, sampling_range_start, sampling_range_end)
    starts = [start + int(u * (stop - start)) for u in rng.random(spec.num_clips).tolist()]
    return _at_indices(starts, num_frames, spec, policy)


def clips_at_regular_indices(
    num_frames: int,
    fps: float | None,
    spec: ClipSpec,
    rng: Generator | None = None,
    *,
    sampling_range_start: int = 0,
    sampling_range_end: int | None = None,
    policy: str = "repeat_last",
) -> FrameIndices:
    """TorchCodec's: clips whose starts are spread evenly from sampling_range_start to sampling_range_end - 1; otherwise as
    `clips_at_random_indices`. The starts are those of torch.linspace with an integer dtype: truncated, from either end to the middle."""
    start, stop = _range_of_indices(num_frames, spec, sampling_range_start, sampling_range_end)
    last, num_clips = stop - 1, spec.num_clips
    step = (last - start) / max(num_clips - 1, 1)
    starts = [
        int(start + step * i) if i < num_clips // 2 or num_clips == 1 else int(last - step * (num_clips - 1 - i))
        for i in range(num_clips)
    ]
    return _at_indices(starts, num_frames, spec, policy)


def clips_at_random_timestamps(
    num_frames: int,
    fps: float | None,
    spec: ClipSpec,
    rng: Generator | None = None,
    *,
    seconds_between_frames: float | None = None,
    sampling_range_start: float = 0.0,
    sampling_range_end: float | None = None,
    policy: str = "repeat_last",
    shown_seconds: Seconds | None = None,
) -> FrameIndices:
    """TorchCodec's: the frames shown at start + i * seconds_between_frames (None: 1 / fps), the start anywhere in
    [sampling_range_start, sampling_range_end), by default wherever the clip fits.

    Times count from the first frame of what is sampled; `frame_interval` is not used and must be 1. Draws: one uniform per clip.
    ValueError in evaluation (no rng), or if the range is empty: the video is shorter than a clip.
    """
    if rng is None:
        raise ValueError("sampling: clips_at_random_timestamps is random: it needs training=True")
    shown, between, start, stop = _range_of_times(
        num_frames, fps, spec, seconds_between_frames, sampling_range_start, sampling_range_end, shown_seconds
    )
    starts = rng.random(spec.num_clips) * (stop - start) + start
    return _at_times(starts, between, shown, spec, policy)


def clips_at_regular_timestamps(
    num_frames: int,
    fps: float | None,
    spec: ClipSpec,
    rng: Generator | None = None,
    *,
    seconds_between_clip_starts: float = 1.0,
    seconds_between_frames: float | None = None,
    sampling_range_start: float = 0.0,
    sampling_range_end: float | None = None,
    policy: str = "repeat_last",
    shown_seconds: Seconds | None = None,
) -> FrameIndices:
    """TorchCodec's: a clip every seconds_between_clip_starts; otherwise as `clips_at_random_timestamps`. A long video gives more clips than a
    short one, whatever spec.num_clips is: use it with VideoReader, or for videos that are all equally long."""
    if not seconds_between_clip_starts > 0:
        raise ValueError(f"sampling: seconds_between_clip_starts is {seconds_between_clip_starts}, must be above 0")
    shown, between, start, stop = _range_of_times(
        num_frames, fps, spec, seconds_between_frames, sampling_range_start, sampling_range_end, shown_seconds
    )
    return _at_times(np.arange(start, stop, seconds_between_clip_starts), between, shown, spec, policy)


# --- PyTorchVideo


def random_clip(
    num_frames: int,
    fps: float | None,
    spec: ClipSpec,
    rng: Generator | None = None,
    *,
    clip_seconds: float | None = None,
    shown_seconds: Seconds | None = None,
) -> FrameIndices:
    """PyTorchVideo's RandomClipSampler (RandomMultiClipSampler for several clips) with UniformTemporalSubsample(clip_len).

    A clip starts at u * max(duration - clip_seconds, 0); of the k frames that begin within clip_seconds from there it takes
    floor(linspace(0, k - 1, clip_len)). clip_seconds: None = clip_len * frame_interval / 30. Draws: one uniform per clip. ValueError in
    evaluation (no rng), or where no frame begins in a clip.
    """
    if rng is None:
        raise ValueError(
            "sampling: random_clip is random: it needs training=True; evaluate with constant_clips_per_video"
        )
    return _in_seconds(rng.random(spec.num_clips).tolist(), num_frames, fps, spec, clip_seconds, shown_seconds)


def constant_clips_per_video(
    num_frames: int,
    fps: float | None,
    spec: ClipSpec,
    rng: Generator | None = None,
    *,
    clip_seconds: float | None = None,
    shown_seconds: Seconds | None = None,
) -> FrameIndices:
    """PyTorchVideo's ConstantClipsPerVideoSampler(clip_seconds, num_clips) with UniformTemporalSubsample(clip_len): clip i starts at
    max(duration - clip_seconds, 0) * i / num_clips; otherwise as `random_clip`. Nothing is random."""
    shares = [i / spec.num_clips for i in range(spec.num_clips)]
    return _in_seconds(shares, num_frames, fps, spec, clip_seconds, shown_seconds)


# --- PySlowFast


def slowfast_pyav(
    num_frames: int,
    fps: float | None,
    spec: ClipSpec,
    rng: Generator | None = None,
    *,
    target_fps: float = 30.0,
    use_offset: bool = False,
    ticks_per_frame: float = 512.0,
) -> FrameIndices:
    """PySlowFast's sampling with DATA.DECODING_BACKEND pyav, for a constant frame rate: it decodes a part of the video, then samples
    that part.

    The part: c = max(ceil(frame_interval * (clip_len - 1) * fps / target_fps), 1) frames from a start as in `slowfast` (u * d, or evaluation's),
    whose ends are cut to whole ticks of the container (`ticks_per_frame`: 512 in FFmpeg's mp4 at whole rates, 1001 at 29.97); the frames
    within, and one more. Of these k frames floor(linspace(0, C - 1, clip_len)), clamped to k - 1, with C =
    max(frame_interval * clip_len * fps / target_fps, 1). Draws: one uniform per clip.
    """
    check(num_frames, "loop")
    rate = rate_ratio(fps, target_fps)
    if not ticks_per_frame > 0:
        raise ValueError(f"sampling 'slowfast_pyav': ticks_per_frame is {ticks_per_frame}, must be above 0")
    num_clips = spec.num_clips
    part_size = max(math.ceil(spec.frame_interval * (spec.clip_len - 1) * rate), 1)
    clip_size = max(spec.frame_interval * spec.clip_len * rate, 1.0)
    slack = max(num_frames - part_size, 0)
    if rng is not None:
        starts = [u * slack for u in rng.random(num_clips).tolist()]
    elif use_offset:
        starts = [slack // 2] if num_clips == 1 else [i * (slack // (num_clips - 1)) for i in range(num_clips)]
    else:
        starts = [slack * i / num_clips for i in range(num_clips)]
    within = steps_of(spec.clip_len, 1) * (clip_size - 1) / max(spec.clip_len - 1, 1)
    clips = []
    for start in starts:
        first = math.ceil(int(start * ticks_per_frame) / ticks_per_frame)
        last = math.floor(int((start + part_size - 1) * ticks_per_frame) / ticks_per_frame)
        first = min(first, num_frames - 1)
        end = min(last + 1, num_frames - 1)  # the first one beyond is kept too
        clips.append(first + np.minimum(within, end - first).astype(np.int64))
    return np.stack(clips)


# --- MMAction2


def untrimmed(num_frames: int, fps: float | None, spec: ClipSpec, rng: Generator | None = None) -> FrameIndices:
    """MMAction2's UntrimmedSampleFrames: clips of clip_len neighboring frames around every frame_interval-th one, from frame_interval // 2
    on (of a shorter video the last frame), clamped to the video. A long video gives more clips than a short one, whatever spec.num_clips
    is: use it with VideoReader, or for videos that are all equally long. Nothing is random."""
    check(num_frames, "loop")
    centers = np.arange(min(spec.frame_interval // 2, num_frames - 1), num_frames, spec.frame_interval)
    around = np.arange(spec.clip_len) - spec.clip_len // 2
    frames: FrameIndices = np.clip(centers[:, None] + around, 0, num_frames - 1)
    return frames


def centered(
    num_frames: int,
    fps: float | None,
    spec: ClipSpec,
    rng: Generator | None = None,
    *,
    shown_seconds: Seconds | None = None,
    segment_seconds: tuple[float, float] | None = None,
) -> FrameIndices:
    """A clip around a moment (AVA; MMAction2's SampleAVAFrames): the middle of the item's [start_seconds, end_seconds), beyond which the
    clip may reach, or the middle of the video. The item of an AVA label at second t is (path, label, t - 0.5, t + 0.5).

    c = the frame shown then; frames c + (i - clip_len // 2) * frame_interval, clamped to the video. Training adds to each frame an offset
    from [-ceil(frame_interval / 2), ceil(frame_interval / 2)), one uniform each. All num_clips clips have the same center.
    """
    check(num_frames, "loop")
    shown = _shown(num_frames, fps, shown_seconds)
    start, end = (0.0, float(shown[-1])) if segment_seconds is None else segment_seconds
    center = _frame_at(shown, np.array([(start + end) / 2]))[0]
    frames = center + (np.arange(spec.clip_len) - spec.clip_len // 2) * spec.frame_interval
    clips: FrameIndices = np.tile(frames, (spec.num_clips, 1))
    if rng is not None:
        reach = (spec.frame_interval + 1) // 2
        clips = clips + np.floor(rng.random(clips.shape) * (2 * reach)).astype(np.int64) - reach
    clips = np.clip(clips, 0, num_frames - 1)
    return clips


# --- shared


def _range_of_indices(num_frames: int, spec: ClipSpec, start: int, stop: int | None) -> tuple[int, int]:
    check(num_frames, "loop")
    start += num_frames if start < 0 else 0
    if stop is None:
        stop = max(num_frames - spec.clip_span + 1, 1)
    else:
        stop = min(stop + num_frames if stop < 0 else stop, num_frames)
    if not 0 <= start < stop:
        raise ValueError(f"sampling: no clip can start in [{start}, {stop}) of a video of {num_frames} frames")
    return start, stop


def _at_indices(starts: list[int], num_frames: int, spec: ClipSpec, policy: str) -> FrameIndices:
    frames = np.array(starts, np.int64)[:, None] + steps_of(spec.clip_len, spec.frame_interval)
    return _filled(frames, (frames < num_frames).sum(axis=1), policy)


def _filled(frames: FrameIndices, num_inside: NDArray[np.int64], policy: str) -> FrameIndices:
    """Each row's first `num_inside` entries, at least one, and what the policy puts behind them."""
    if policy not in _POLICIES:
        raise ValueError(f"sampling: policy is {policy!r}, must be one of {_POLICIES}")
    clip_len = frames.shape[1]
    if policy == "error" and (num_inside < clip_len).any():
        raise ValueError("sampling: a clip reaches beyond the end of the video, which policy 'error' forbids")
    places = np.arange(clip_len)
    counts = num_inside[:, None]
    places = places % counts if policy == "wrap" else np.minimum(places, counts - 1)
    filled: FrameIndices = np.take_along_axis(frames, places, axis=1)
    return filled


def _shown(num_frames: int, fps: float | None, shown_seconds: Seconds | None) -> Seconds:
    """As vidload.sampler_options has it, but from the first frame of what is sampled; by the frame rate where nothing else is known."""
    if shown_seconds is not None:
        from_first: Seconds = shown_seconds - shown_seconds[0]
        return from_first
    if not fps or not fps > 0 or not math.isfinite(fps):
        raise ValueError("sampling: neither the times of the frames nor a frame rate is known")
    shown: Seconds = np.arange(num_frames + 1) / fps
    return shown


def _frame_at(shown: Seconds, seconds: Seconds) -> FrameIndices:
    """The frames that are shown at these times."""
    frames = np.searchsorted(shown, seconds + _TOLERANCE_SECONDS, side="right") - 1
    return np.clip(frames, 0, len(shown) - 2).astype(np.int64)


def _range_of_times(
    num_frames: int,
    fps: float | None,
    spec: ClipSpec,
    between: float | None,
    start: float,
    stop: float | None,
    shown_seconds: Seconds | None,
) -> tuple[Seconds, float, float, float]:
    check(num_frames, "loop")
    if spec.frame_interval != 1:
        raise ValueError(
            f"sampling by time goes by seconds_between_frames, so frame_interval must be 1, not {spec.frame_interval}"
        )
    shown = _shown(num_frames, fps, shown_seconds)
    end = float(shown[-1])
    if between is None:
        between = 1 / fps if fps else end / num_frames
    if not between > 0:
        raise ValueError(f"sampling: seconds_between_frames is {between}, must be above 0")
    stop = min(end - (spec.clip_len - 1) * between if stop is None else stop, end)
    if not 0 <= start < stop:
        raise ValueError(
            f"sampling: no clip can start in [{start:g}, {stop:g}) seconds of a video of {end:g}; is it shorter than a clip?"
        )
    return shown, between, start, stop


def _at_times(starts: Seconds, between: float, shown: Seconds, spec: ClipSpec, policy: str) -> FrameIndices:
    times = starts[:, None] + np.arange(spec.clip_len) * between
    return _filled(_frame_at(shown, times), (times < shown[-1]).sum(axis=1), policy)


def _in_seconds(
    shares: list[float],
    num_frames: int,
    fps: float | None,
    spec: ClipSpec,
    clip_seconds: float | None,
    shown_seconds: Seconds | None,
) -> FrameIndices:
    """Clips that start at these shares of the time in which they can."""
    check(num_frames, "loop")
    if clip_seconds is None:
        clip_seconds = spec.clip_len * spec.frame_interval / 30
    if not clip_seconds > 0:
        raise ValueError(f"sampling: clip_seconds is {clip_seconds}, must be above 0")
    shown = _shown(num_frames, fps, shown_seconds)
    latest = max(float(shown[-1]) - clip_seconds, 0.0)
    clips = []
    for share in shares:
        begins = np.array([latest * share, latest * share + clip_seconds]) - _TOLERANCE_SECONDS
        first, stop = np.searchsorted(shown[:-1], begins).tolist()
        if first == stop:
            raise ValueError(f"sampling: no frame begins within {clip_seconds:g} seconds from {latest * share:g}")
        clips.append(
            first + (np.arange(spec.clip_len) * (stop - first - 1) / max(spec.clip_len - 1, 1)).astype(np.int64)
        )
    return np.stack(clips)
