"""Samplers: which frames of a video make its clips.

In: number of frames, frame rate, a ClipSpec, a Generator (None = evaluation, deterministic). Out: int64 frame
indices [num_clips, clip_len], each in [0, num_frames); ValueError for a video without frames or an argument
that makes no sense. Pure functions; nothing here opens a file. The rules are those of MMAction2 1.2
(segments, dense, uniform) and PySlowFast (slowfast), so that published recipes carry over. The samplers of other
loaders (vidload.published_samplers) and clips whose length depends on the video (vidload.varying_clips) can be
imported from here too. Every random number is one float64 uniform u in [0, 1); randint(k) below means
floor(u * k). The order of draws is part of the contract.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from vidload.clip_spec import (
    OUT_OF_BOUND,
    ClipSpec,
    FrameIndices,
    Sampler,
    check,
    clips_from,
    in_bounds,
    rate_ratio,
    steps_of,
)
from vidload.published_samplers import (
    centered,
    clips_at_random_indices,
    clips_at_random_timestamps,
    clips_at_regular_indices,
    clips_at_regular_timestamps,
    constant_clips_per_video,
    random_clip,
    slowfast_pyav,
    untrimmed,
)
from vidload.varying_clips import AllFrames, FramesByTime, SpreadFrames, VaryingClip

__all__ = [
    "OUT_OF_BOUND",
    "SAMPLERS",
    "AllFrames",
    "ClipSpec",
    "FrameIndices",
    "FramesByTime",
    "Sampler",
    "SpreadFrames",
    "VaryingClip",
    "centered",
    "clips_at_random_indices",
    "clips_at_random_timestamps",
    "clips_at_regular_indices",
    "clips_at_regular_timestamps",
    "clips_per_video",
    "constant_clips_per_video",
    "dense",
    "in_bounds",
    "random_clip",
    "segments",
    "slowfast",
    "slowfast_pyav",
    "uniform",
    "untrimmed",
]


def segments(
    num_frames: int,
    fps: float | None,
    spec: ClipSpec,
    rng: Generator | None = None,
    *,
    out_of_bound: str = "loop",
    keep_tail_frames: bool = False,
    twice_sample: bool = False,
) -> FrameIndices:
    """One clip from each of `num_clips` equal parts (TSN; MMAction2's SampleFrames). `fps` is not used.

    Training, L = clip_len * frame_interval, k = n - L + 1, a = k // num_clips: clip i starts at
    i * a + randint(a) if a > 0; else, if n > max(num_clips, L), at the i-th of sorted draws of randint(k);
    else at round(i * k / num_clips) if a = 0; else at 0.
    Draws: one uniform per clip, none in the last two cases.

    Evaluation: single frames at floor((i + 0.5) * n / num_clips); longer clips, m = max(n - clip_span, 0):
    one clip at m // 2, several at round(i * m / (num_clips - 1)). Rounding is half to even, as NumPy's.

    keep_tail_frames: in training the parts are of equal, fractional length, so that frames left over by the division can be drawn too:
    with a = k / num_clips, clip i starts at floor(i * a + u * a) if k > 0, else at 0.
    twice_sample: evaluation takes twice as many clips (TSM): for single frames also those at floor(i * n / num_clips), after the others;
    for longer clips 2 * num_clips instead of num_clips.
    """
    check(num_frames, out_of_bound)
    num_clips = spec.num_clips
    if rng is not None and keep_tail_frames:
        num_starts = num_frames - spec.clip_len * spec.frame_interval + 1
        length = num_starts / num_clips
        starts = [0] * num_clips
        if num_starts > 0:
            uniforms = rng.random(num_clips).tolist()
            starts = [min(int(i * length + u * length), num_starts - 1) for i, u in enumerate(uniforms)]
    elif rng is not None:
        span = spec.clip_len * spec.frame_interval
        num_starts = num_frames - span + 1
        part = num_starts // num_clips
        if part > 0:
            starts = [i * part + int(u * part) for i, u in enumerate(rng.random(num_clips).tolist())]
        elif num_frames > max(num_clips, span):
            starts = sorted(int(u * num_starts) for u in rng.random(num_clips).tolist())
        elif part == 0:
            step = num_starts / num_clips
            starts = [round(i * step) for i in range(num_clips)]
        else:
            starts = [0] * num_clips
    elif spec.clip_len == 1:
        step = num_frames / num_clips
        starts = [int(i * step + step / 2) for i in range(num_clips)]
        if twice_sample:
            starts += [int(i * step) for i in range(num_clips)]
    else:
        num_clips *= 2 if twice_sample else 1
        slack = max(num_frames - spec.clip_span, 0)
        if num_clips == 1:
            starts = [slack // 2]
        else:
            step = slack / (num_clips - 1)
            starts = [round(i * step) for i in range(num_clips)]
    return clips_from(starts, num_frames, spec, out_of_bound)


def dense(
    num_frames: int,
    fps: float | None,
    spec: ClipSpec,
    rng: Generator | None = None,
    *,
    sample_range: int = 64,
    num_sample_positions: int = 10,
    out_of_bound: str = "loop",
) -> FrameIndices:
    """Clips close together, inside a window of `sample_range` frames (MMAction2's DenseSampleFrames).

    p = max(1, 1 + n - sample_range); clip i starts at (s + i * (sample_range // num_clips)) % n.
    Training: s = randint(p - 1), 0 if p = 1; one draw, made in either case.
    Evaluation: `num_sample_positions` windows, s = floor(linspace(0, p - 1)), so the result has
    num_sample_positions * num_clips rows, window by window.
    """
    check(num_frames, out_of_bound)
    if sample_range < 1 or num_sample_positions < 1:
        raise ValueError(
            f"sampling 'dense': sample_range {sample_range} and num_sample_positions {num_sample_positions} "
            "must be at least 1"
        )
    num_positions = max(1, 1 + num_frames - sample_range)
    step = sample_range // spec.num_clips
    if rng is not None:
        windows = [int(rng.random() * (num_positions - 1))]
    else:
        windows = [int(s) for s in np.linspace(0, num_positions - 1, num=num_sample_positions)]
    starts = [(window + i * step) % num_frames for window in windows for i in range(spec.num_clips)]
    return clips_from(starts, num_frames, spec, out_of_bound)


def uniform(
    num_frames: int,
    fps: float | None,
    spec: ClipSpec,
    rng: Generator | None = None,
    *,
    out_of_bound: str = "loop",
) -> FrameIndices:
    """One frame from each of `clip_len` equal parts of the whole video (MMAction2's UniformSample; UniFormer,
    VideoMAE).

    s = (n - 1) / clip_len. Training: frame i is drawn from [round(s * i), round(s * (i + 1))], both included.
    Evaluation: clip k takes round(s * i) + floor(s / (num_clips + 1) * (k + 1)). `frame_interval` is not used
    and must be 1. Draws: one uniform per frame, clip by clip. No index is outside the video, so
    `out_of_bound` changes nothing.
    """
    check(num_frames, out_of_bound)
    if spec.frame_interval != 1:
        raise ValueError(
            f"sampling 'uniform' spreads the frames over the whole video, so frame_interval must be 1, not "
            f"{spec.frame_interval}; write '{spec.clip_len}x1x{spec.num_clips}'"
        )
    clip_len, num_clips = spec.clip_len, spec.num_clips
    part = (num_frames - 1) / clip_len
    edges = [round(part * i) for i in range(clip_len + 1)]
    if rng is not None:
        uniforms = rng.random(num_clips * clip_len).tolist()
        indices = [
            edges[i] + int(uniforms[k * clip_len + i] * (edges[i + 1] - edges[i] + 1))
            for k in range(num_clips)
            for i in range(clip_len)
        ]
    else:
        shift = part / (num_clips + 1)
        indices = [edges[i] + int(shift * (k + 1)) for k in range(num_clips) for i in range(clip_len)]
    return np.array(indices, dtype=np.int64).reshape(num_clips, clip_len)


def slowfast(
    num_frames: int,
    fps: float | None,
    spec: ClipSpec,
    rng: Generator | None = None,
    *,
    target_fps: float = 30.0,
    use_offset: bool = False,
    out_of_bound: str = "loop",
) -> FrameIndices:
    """PySlowFast's sampling: clips of equal duration, whatever the frame rate.

    c = frame_interval * clip_len * fps / target_fps frames (unknown fps: target_fps), but at least 1; d = max(n - c, 0).
    Training: each clip starts at u * d, a real number; one uniform per clip.
    Evaluation: clip i starts at d * i / num_clips, or with `use_offset` at i * floor(d / (num_clips - 1))
    (one clip: floor(d / 2)).
    The frames are linspace(start, start + c - 1, clip_len), clamped to the video, then truncated, in float64.
    No index is outside the video, so `out_of_bound` changes nothing.
    """
    check(num_frames, out_of_bound)
    num_clips = spec.num_clips
    rate = rate_ratio(fps, target_fps)
    clip_size = max(spec.frame_interval * spec.clip_len * rate, 1.0)
    delta = max(num_frames - clip_size, 0.0)
    if rng is not None:
        starts: NDArray[np.floating] = rng.random(num_clips) * delta
    elif use_offset:
        starts = np.array([delta // 2]) if num_clips == 1 else np.arange(num_clips) * (delta // (num_clips - 1))
    else:
        starts = delta * np.arange(num_clips) / num_clips
    # multiply first: 3 * 63 / 7 is 27, but 3 / 7 * 63 falls just below it and would be truncated to 26
    steps = steps_of(spec.clip_len, 1) * (clip_size - 1) / max(spec.clip_len - 1, 1)
    return np.minimum(starts[:, None] + steps, num_frames - 1).astype(np.int64)


SAMPLERS: dict[str, Sampler] = {
    "segments": segments,
    "dense": dense,
    "uniform": uniform,
    "slowfast": slowfast,
}


def clips_per_video(sampler: Sampler, spec: ClipSpec, is_training: bool, takes: Collection[str] = ()) -> int:
    """Number of rows that `sampler` returns: spec.num_clips, but more for `dense` in evaluation. Calls it once to
    find out, as for a video of 10000 frames at 30 fps, with the arguments that `takes` names (vidload.sampler_options).

    Raises ValueError if the result is not of shape [any, clip_len].
    """
    rng = np.random.Generator(np.random.Philox(key=0)) if is_training else None
    shown = np.arange(10_001) / 30
    known = {"out_of_bound": "loop", "shown_seconds": shown, "segment_seconds": (0.0, float(shown[-1]))}
    indices = np.asarray(sampler(10_000, 30.0, spec, rng, **{name: known[name] for name in takes}))
    if indices.ndim != 2 or indices.shape[0] < 1 or indices.shape[1] != spec.clip_len:
        name = getattr(sampler, "__name__", repr(sampler))
        raise ValueError(
            f"sampling: {name} returned frame indices of shape {list(indices.shape)} for clip '{spec}', "
            f"must be [num_clips, {spec.clip_len}]"
        )
    return int(indices.shape[0])
