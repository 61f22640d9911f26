"""Samplers of other loaders against their published rules, written out here anew: in fractions or whole numbers, frame by frame."""

from __future__ import annotations

import math
from fractions import Fraction
from functools import partial

import numpy as np
import pytest
import torch
from samples import both

import vidload
from vidload import VideoDataset, VideoLoader, sampling
from vidload.sampling import ClipSpec
from vidload.transforms import center_crop, three_crop

NUM_FRAMES = (1, 2, 3, 7, 8, 30, 31, 64, 100, 299, 300)
RATES = (Fraction(25), Fraction(30), Fraction(24), Fraction(30000, 1001), Fraction(60), Fraction(15, 2))


class Uniforms:
    """A Generator that gives out numbers written in the test, over and over."""

    def __init__(self, *values: float) -> None:
        self.values, self.taken = values, 0

    def random(self, size=None):
        count = 1 if size is None else int(np.prod(size))
        drawn = [self.values[(self.taken + i) % len(self.values)] for i in range(count)]
        self.taken += count
        return drawn[0] if size is None else np.array(drawn).reshape(size)


def spec(text: str) -> ClipSpec:
    return ClipSpec.parse(text)


# --- TorchCodec


def torchcodec_clip(start: int, num_frames: int, clip: ClipSpec, policy: str) -> list[int]:
    inside = [
        start + i * clip.frame_interval for i in range(clip.clip_len) if start + i * clip.frame_interval < num_frames
    ]
    while len(inside) < clip.clip_len:
        missing = clip.clip_len - len(inside)
        inside += [inside[-1]] if policy == "repeat_last" else inside[:missing]
    return inside[: clip.clip_len]


@pytest.mark.parametrize("policy", ["repeat_last", "wrap"])
@pytest.mark.parametrize("text", ["1x1x1", "4x1x3", "8x4x10", "3x2x7", "32x2x2", "1x1x40"])
@pytest.mark.parametrize("num_frames", NUM_FRAMES)
def test_clips_at_regular_indices_are_torchcodec_s(num_frames: int, text: str, policy: str) -> None:
    clip = spec(text)
    for start, stop in ((0, None), (0, 5), (-1, None), (2, -1), (0, 10**6)):
        first = start + num_frames if start < 0 else start
        last = (
            max(num_frames - clip.clip_span + 1, 1)
            if stop is None
            else min(stop + num_frames if stop < 0 else stop, num_frames)
        )
        options = {"sampling_range_start": start, "sampling_range_end": stop, "policy": policy}
        if not 0 <= first < last:
            with pytest.raises(ValueError, match="no clip can start"):
                sampling.clips_at_regular_indices(num_frames, None, clip, **options)
            continue
        starts = torch.linspace(first, last - 1, clip.num_clips, dtype=torch.int).tolist()
        expected = [torchcodec_clip(start, num_frames, clip, policy) for start in starts]
        assert sampling.clips_at_regular_indices(num_frames, None, clip, **options).tolist() == expected


@pytest.mark.parametrize("text", ["1x1x1", "4x1x3", "8x4x2", "32x2x2"])
@pytest.mark.parametrize("num_frames", NUM_FRAMES)
def test_clips_at_random_indices_start_wherever_torchcodec_s_can(num_frames: int, text: str) -> None:
    clip = spec(text)
    num_starts = max(num_frames - clip.clip_span + 1, 1)
    uniforms = [0.0, 0.37, 1 - 2**-53]
    frames = sampling.clips_at_random_indices(num_frames, None, clip, Uniforms(*uniforms))
    starts = [int(uniforms[i % 3] * num_starts) for i in range(clip.num_clips)]
    assert frames.tolist() == [torchcodec_clip(start, num_frames, clip, "repeat_last") for start in starts]
    assert starts[0] == 0 and (clip.num_clips < 3 or starts[2] == num_starts - 1)


def torchcodec_times(
    start: Fraction, between: Fraction, end: Fraction, fps: Fraction, clip_len: int, policy: str
) -> list[int]:
    times = [start + i * between for i in range(clip_len) if start + i * between < end]
    while len(times) < clip_len:
        times += [times[-1]] if policy == "repeat_last" else times[: clip_len - len(times)]
    return [math.floor(time * fps) for time in times]


@pytest.mark.parametrize("policy", ["repeat_last", "wrap"])
@pytest.mark.parametrize("fps", RATES)
@pytest.mark.parametrize("num_frames", (8, 30, 100, 299))
def test_clips_at_timestamps_are_torchcodec_s(num_frames: int, fps: Fraction, policy: str) -> None:
    clip, end = spec("4x1x2"), Fraction(num_frames) / fps
    for between, stop in ((None, None), (Fraction(1, 20), None), (Fraction(1, 10), end - Fraction(1, 50))):
        step = 1 / fps if between is None else between
        last = min(end - 3 * step if stop is None else stop, end)
        options = {
            "seconds_between_frames": between and float(between),
            "sampling_range_end": stop and float(stop),
            "policy": policy,
        }
        if last <= 0:
            with pytest.raises(ValueError, match="no clip can start"):
                sampling.clips_at_random_timestamps(num_frames, float(fps), clip, Uniforms(0.5), **options)
            continue
        starts = [Fraction(u) * last for u in (0.125, 0.71)]
        expected = [torchcodec_times(start, step, end, fps, 4, policy) for start in starts]
        frames = sampling.clips_at_random_timestamps(num_frames, float(fps), clip, Uniforms(0.125, 0.71), **options)
        assert frames.tolist() == expected
        regular = [i * Fraction(1, 5) for i in range(math.ceil(last / Fraction(1, 5)))]
        expected = [torchcodec_times(start, step, end, fps, 4, policy) for start in regular]
        options["seconds_between_clip_starts"] = 0.2
        assert sampling.clips_at_regular_timestamps(num_frames, float(fps), clip, **options).tolist() == expected


def test_a_policy_that_forbids_to_leave_the_video_and_one_that_is_none() -> None:
    with pytest.raises(ValueError, match="policy 'error' forbids"):
        sampling.clips_at_regular_indices(3, None, spec("4x1x1"), policy="error")
    with pytest.raises(ValueError, match="policy is 'loop', must be one of"):
        sampling.clips_at_regular_indices(9, None, spec("4x1x1"), policy="loop")


# --- PyTorchVideo


def pytorchvideo_clip(start: Fraction, seconds: Fraction, num_frames: int, fps: Fraction, clip_len: int) -> list[int]:
    """get_clip: the frames with start <= pts < end; UniformTemporalSubsample: an even spread of them, truncated."""
    inside = [i for i in range(num_frames) if start <= i / fps < start + seconds]
    spread = [Fraction(i * (len(inside) - 1), max(clip_len - 1, 1)) for i in range(clip_len)]
    return [inside[math.floor(place)] for place in spread]


@pytest.mark.parametrize("fps", RATES)
@pytest.mark.parametrize("num_frames", NUM_FRAMES)
@pytest.mark.parametrize("text, seconds", [("8x8x10", None), ("8x1x10", Fraction(2)), ("32x2x3", None), ("16x1x1", Fraction(1, 2)), ("1x1x4", Fraction(1))])  # fmt: skip
def test_clips_of_constant_number_are_pytorchvideo_s(
    text: str, seconds: Fraction | None, num_frames: int, fps: Fraction
) -> None:
    clip = spec(text)
    length = Fraction(clip.clip_len * clip.frame_interval, 30) if seconds is None else seconds
    latest = max(num_frames / fps - length, Fraction(0))
    shown = [float(i / fps) for i in range(num_frames + 1)]
    options = {"clip_seconds": seconds and float(seconds), "shown_seconds": np.array(shown)}
    expected = [
        pytorchvideo_clip(latest * i / clip.num_clips, length, num_frames, fps, clip.clip_len)
        for i in range(clip.num_clips)
    ]
    assert sampling.constant_clips_per_video(num_frames, float(fps), clip, **options).tolist() == expected
    uniforms = (0.0, 0.3, 0.77)
    expected = [
        pytorchvideo_clip(latest * Fraction(uniforms[i % 3]), length, num_frames, fps, clip.clip_len)
        for i in range(clip.num_clips)
    ]
    assert sampling.random_clip(num_frames, float(fps), clip, Uniforms(*uniforms), **options).tolist() == expected


def test_a_clip_in_which_no_frame_begins_is_an_error() -> None:
    shown = np.array([0.0, 1.0, 2.0])
    with pytest.raises(ValueError, match=r"no frame begins within 0\.5 seconds from 0\.3"):
        sampling.random_clip(2, 1.0, spec("2x1x1"), Uniforms(0.2), clip_seconds=0.5, shown_seconds=shown)


# --- PySlowFast


def pyslowfast_clip_size(clip: ClipSpec, fps: Fraction) -> Fraction:
    return max(Fraction(1), clip.frame_interval * clip.clip_len * fps / 30)


@pytest.mark.parametrize("fps", RATES)
@pytest.mark.parametrize("num_frames", NUM_FRAMES)
@pytest.mark.parametrize("text", ["1x1x3", "2x1x1", "8x8x10", "4x16x1", "32x2x2"])
def test_slowfast_is_pyslowfast_s_also_for_short_videos_and_clips_under_a_frame(
    text: str, num_frames: int, fps: Fraction
) -> None:
    clip = spec(text)
    size = pyslowfast_clip_size(clip, fps)
    slack = max(num_frames - size, Fraction(0))

    def frames(start: Fraction) -> list[float]:
        return [
            float(min(start + i * (size - 1) / max(clip.clip_len - 1, 1), num_frames - 1)) for i in range(clip.clip_len)
        ]

    def is_equal(found: np.ndarray, expected: list[list[float]]) -> bool:
        # a position that is whole but for the rounding of float64 may be truncated either way
        return all(got == int(want) or ((got == round(want) or got == round(want) - 1) and abs(want - round(want)) < 1e-9)
                   for row, wants in zip(found.tolist(), expected, strict=True) for got, want in zip(row, wants, strict=True))  # fmt: skip

    evaluated = sampling.slowfast(num_frames, float(fps), clip)
    assert is_equal(evaluated, [frames(slack * i / clip.num_clips) for i in range(clip.num_clips)])
    trained = sampling.slowfast(num_frames, float(fps), clip, Uniforms(0.31, 0.9))
    assert is_equal(trained, [frames(slack * Fraction((0.31, 0.9)[i % 2])) for i in range(clip.num_clips)])


def test_the_core_draws_slowfast_clips_under_a_frame_as_python_does(video) -> None:
    items = [(video("h264"), 0), (video("vp9"), 1)]
    for clip in ("1x1x4", "2x1x3"):
        named = VideoDataset(
            items, clip=clip, transform=center_crop(16), sampling="slowfast", training=True, fields="frame_indices"
        )
        function = VideoDataset(
            items,
            clip=clip,
            transform=center_crop(16),
            sampling=sampling.slowfast,
            training=True,
            fields="frame_indices",
        )
        assert named[0][2]["frame_indices"].tolist() == function[0][2]["frame_indices"].tolist()


@pytest.mark.parametrize("ticks", [512, 1001])
@pytest.mark.parametrize("fps", RATES)
@pytest.mark.parametrize("num_frames", NUM_FRAMES)
@pytest.mark.parametrize("text", ["8x8x10", "4x16x3", "32x2x1", "1x1x3"])
def test_slowfast_pyav_is_pyslowfast_s_two_steps(text: str, num_frames: int, fps: Fraction, ticks: int) -> None:
    clip = spec(text)
    part = max(math.ceil(clip.frame_interval * (clip.clip_len - 1) * float(fps / 30)), 1)
    slack = max(num_frames - part, 0)
    size = float(clip.frame_interval * clip.clip_len) * float(fps) / 30.0
    expected = []
    for i in range(clip.num_clips):
        start = slack * i / clip.num_clips
        first_tick, last_tick = int(start * ticks), int((start + part - 1) * ticks)
        kept = []
        for frame in range(num_frames):
            if frame * ticks >= first_tick:
                kept.append(frame)
                if frame * ticks > last_tick:
                    break
        places = [i * (max(size, 1.0) - 1) / max(clip.clip_len - 1, 1) for i in range(clip.clip_len)]
        expected.append([kept[int(min(place, len(kept) - 1))] for place in places])
    assert sampling.slowfast_pyav(num_frames, float(fps), clip, ticks_per_frame=ticks).tolist() == expected


# --- MMAction2


@pytest.mark.parametrize("num_frames", NUM_FRAMES)
@pytest.mark.parametrize("clip_len, interval", [(1, 16), (5, 8), (4, 1), (16, 2)])
def test_untrimmed_is_mmaction2_s(clip_len: int, interval: int, num_frames: int) -> None:
    centers = list(range(interval // 2, num_frames, interval)) or [num_frames - 1]
    expected = [
        [min(max(center - clip_len // 2 + i, 0), num_frames - 1) for i in range(clip_len)] for center in centers
    ]
    assert sampling.untrimmed(num_frames, None, ClipSpec(clip_len, interval)).tolist() == expected


@pytest.mark.parametrize("clip_len, interval", [(32, 2), (4, 16), (5, 3), (1, 1)])
@pytest.mark.parametrize("second", [0, 1, 7, 14])
def test_centered_is_mmaction2_s_for_ava(second: int, clip_len: int, interval: int) -> None:
    clip, num_frames, fps = ClipSpec(clip_len, interval), 450, 30
    center = fps * second
    frames = list(range(center - clip_len // 2 * interval, center + (clip_len + 1) // 2 * interval, interval))
    segment = (second - 0.5, second + 0.5)
    evaluated = sampling.centered(num_frames, fps, clip, segment_seconds=segment)
    assert evaluated.tolist() == [[min(max(frame, 0), num_frames - 1) for frame in frames]]
    low, high = -interval // 2, (interval + 1) // 2
    for u, offset in ((0.0, low), (1 - 2**-53, high - 1)):
        trained = sampling.centered(num_frames, fps, clip, Uniforms(u), segment_seconds=segment)
        assert trained.tolist() == [[min(max(frame + offset, 0), num_frames - 1) for frame in frames]]


@pytest.mark.parametrize("num_frames", NUM_FRAMES)
@pytest.mark.parametrize("text", ["1x1x8", "1x1x3", "8x2x4"])
def test_twice_sample_and_keep_tail_frames_are_mmaction2_s(text: str, num_frames: int) -> None:
    clip = spec(text)
    step = Fraction(num_frames, clip.num_clips)
    if clip.clip_len == 1:
        starts = [math.floor(step * i + step / 2) for i in range(clip.num_clips)] + [
            math.floor(step * i) for i in range(clip.num_clips)
        ]
    else:
        slack, count = max(num_frames - clip.clip_span, 0), 2 * clip.num_clips
        starts = [round(Fraction(slack * i, count - 1)) for i in range(count)]
    found = sampling.segments(num_frames, None, clip, twice_sample=True)[:, 0]
    assert found.tolist() == [start % num_frames for start in starts]
    uniforms = (0.0, 0.4, 1 - 2**-53)
    num_starts = num_frames - clip.clip_len * clip.frame_interval + 1
    length = num_starts / clip.num_clips
    starts = [min(int(i * length + length * uniforms[i % 3]), num_starts - 1) for i in range(clip.num_clips)]
    starts = starts if num_starts > 0 else [0] * clip.num_clips
    found = sampling.segments(num_frames, None, clip, Uniforms(*uniforms), keep_tail_frames=True)[:, 0]
    assert found.tolist() == starts


def test_tail_frames_that_the_division_leaves_over_are_drawn() -> None:
    largest = Uniforms(1 - 2**-53)
    assert sampling.segments(302, None, spec("1x1x3"), largest)[-1, 0] == 299
    assert sampling.segments(302, None, spec("1x1x3"), largest, keep_tail_frames=True)[-1, 0] == 301


# --- in a dataset


@pytest.mark.parametrize(
    "sampler, training",
    [
        (sampling.random_clip, True),
        (partial(sampling.constant_clips_per_video, clip_seconds=0.5), False),
        (sampling.clips_at_random_indices, True),
        (sampling.clips_at_random_timestamps, True),
        (partial(sampling.clips_at_regular_indices, policy="wrap"), False),
        (sampling.slowfast_pyav, True),
        (sampling.centered, True),
        (partial(sampling.segments, keep_tail_frames=True), True),
        (partial(sampling.segments, twice_sample=True), False),
    ],
)
def test_samplers_load_in_any_loader(sampler, training: bool, video) -> None:
    items = [(video(name), i, 0.2, 1.6) for i, name in enumerate(("h264", "vp9", "mpeg4"))]
    data = VideoDataset(
        items, clip="2x1x2", transform=center_crop(16), sampling=sampler, training=training, fields="frame_indices"
    )
    both(data)


def test_times_are_the_video_s_own_where_its_rate_varies(video) -> None:
    reader = vidload.VideoReader(video("h264_vfr"))
    starts = []
    data = VideoDataset(
        [(video("h264_vfr"), 0)],
        clip="1x1x1",
        transform=center_crop(16),
        sampling=lambda n, fps, spec, rng, shown_seconds: starts.append(shown_seconds) or np.array([[0]]),
    )
    data[0]
    assert starts[-1][:-1].tolist() == pytest.approx((reader.pts_seconds - reader.pts_seconds[0]).tolist())
    assert starts[-1][-1] == pytest.approx(reader._index.duration_seconds)


def test_a_centered_clip_reaches_beyond_its_segment(video) -> None:
    data = VideoDataset(
        [(video("h264"), 0, 0.5, 1.5)], clip="5x10x1", transform=center_crop(16), sampling=sampling.centered, fields="frame_indices"
    )  # fmt: skip
    assert data[0][2]["frame_indices"].tolist() == [5, 15, 25, 35, 45]


def test_a_sampler_s_error_names_the_video(video) -> None:
    data = VideoDataset(
        [(video("h264"), 0)], clip="4x1x1", transform=center_crop(16), training=True,
        sampling=partial(sampling.clips_at_random_timestamps, seconds_between_frames=5.0),
    )  # fmt: skip
    with pytest.raises(ValueError, match=r"h264\.mp4: sampling: no clip can start in .* is it shorter than a clip"):
        list(VideoLoader(data))


# --- PySlowFast's spatial crops


@pytest.mark.parametrize("height, width", [(256, 340), (340, 256), (256, 341), (480, 640), (256, 256)])
def test_three_crop_in_pyslowfast_s_order(height: int, width: int) -> None:
    """spatial_idx 0, 1, 2: the left, the middle (rounded up) and the right end, or top to bottom of an upright picture."""
    boxes = three_crop(224, 256, order="pyslowfast").boxes(height, width)
    scale = 256 / min(height, width)
    resized = int(height * scale + 0.5), int(width * scale + 0.5)
    room = resized[0] - 224, resized[1] - 224
    middle = math.ceil(room[0] / 2), math.ceil(room[1] / 2)
    places = (
        [(0, middle[1]), middle, (room[0], middle[1])]
        if height > width
        else [(middle[0], 0), middle, (middle[0], room[1])]
    )
    expected = [(top * height / resized[0], left * width / resized[1]) for top, left in places]
    assert boxes[:, :2].tolist() == [pytest.approx(place) for place in expected]


def test_an_order_of_crops_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="order is 'lmr', must be 'mmaction2' or 'pyslowfast'"):
        three_crop(224, order="lmr")
