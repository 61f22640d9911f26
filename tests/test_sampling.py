"""Samplers against hand-computed tables, against MMAction2's own choices, and in general (hypothesis).

Tables read as the samplers' specification. `Uniforms` plays a Generator whose draws are written in the test.
"""

from __future__ import annotations

import json
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vidload.sampling import (
    SAMPLERS,
    ClipSpec,
    clips_per_video,
    dense,
    in_bounds,
    segments,
    slowfast,
    slowfast_pyav,
    uniform,
)
from vidload.system.random import rekey, sample_rng

PIPELINES = json.loads((Path(__file__).parent / "fixtures" / "pipelines.json").read_text())
ALMOST_1 = 1 - 2**-53


class Uniforms:
    """A Generator that returns the given uniforms, then fails."""

    def __init__(self, *values):
        self.values = list(values)

    def random(self, size=None):
        drawn, self.values = self.values[: size or 1], self.values[size or 1 :]
        assert len(drawn) == (size or 1), "more draws than the test expects"
        return np.array(drawn) if size else drawn[0]


def spec(text):
    return ClipSpec.parse(text)


# ---- ClipSpec


def test_clip_spec_reads_what_it_prints():
    parsed = ClipSpec.parse("32x2x1")
    assert parsed == ClipSpec(clip_len=32, frame_interval=2, num_clips=1)
    assert str(parsed) == "32x2x1"
    assert parsed.clip_span == 63
    assert pickle.loads(pickle.dumps(parsed)) == parsed


@pytest.mark.parametrize("text", ["", "32", "32x2", "32x2x1x1", "32,2,1", "32x2x-1", "axbxc", "3.5x1x1", None, 8])
def test_a_clip_that_cannot_be_read_is_refused_with_an_example(text):
    with pytest.raises(ValueError, match="for example '32x2x1'"):
        ClipSpec.parse(text)


@pytest.mark.parametrize("text, name", [("0x1x1", "clip_len"), ("1x0x1", "frame_interval"), ("1x1x0", "num_clips")])
def test_a_count_of_zero_is_refused_by_name(text, name):
    with pytest.raises(ValueError, match=f"{name} is 0"):
        ClipSpec.parse(text)


# ---- segments: evaluation


@pytest.mark.parametrize(
    "case", PIPELINES["evaluation_indices"], ids=lambda case: f"{case['clip']}-{case['num_frames']}"
)
def test_segments_evaluates_the_frames_that_mmaction2_does(case):
    assert segments(case["num_frames"], 30.0, spec(case["clip"])).ravel().tolist() == case["indices"]


@pytest.mark.parametrize(
    "clip, num_frames, starts",
    [
        ("1x1x3", 300, [50, 150, 250]),  # 0.5, 1.5 and 2.5 hundreds
        ("1x1x4", 6, [0, 2, 3, 5]),  # 0.75, 2.25, 3.75, 5.25 floored
        ("32x2x1", 300, [118]),  # (300 - 63) // 2
        ("2x2x3", 8, [0, 2, 5]),  # m = 5; 2.5 rounds to the even 2
        ("2x2x3", 10, [0, 4, 7]),  # m = 7; 3.5 rounds to the even 4
        ("2x2x3", 3, [0, 0, 0]),  # exactly one clip long
    ],
)
def test_segments_evaluation_starts_computed_by_hand(clip, num_frames, starts):
    assert segments(num_frames, None, spec(clip))[:, 0].tolist() == starts


# ---- segments: training


@pytest.mark.parametrize(
    "case", PIPELINES["training_start_ranges"], ids=lambda case: f"{case['clip']}-{case['num_frames']}"
)
def test_segments_draws_over_just_the_range_that_mmaction2_does(case):
    clip, num_frames = spec(case["clip"]), case["num_frames"]
    smallest = segments(num_frames, None, clip, Uniforms(*[0.0] * clip.num_clips))
    largest = segments(num_frames, None, clip, Uniforms(*[ALMOST_1] * clip.num_clips))
    assert smallest[:, 0].tolist() == [start % num_frames for start in case["smallest"]]
    assert largest[:, 0].tolist() == [start % num_frames for start in case["largest"]]


@pytest.mark.parametrize(
    "clip, num_frames, uniforms, starts",
    [
        ("1x1x3", 300, [0.0, 0.5, ALMOST_1], [0, 150, 299]),  # parts of 100 frames
        ("1x1x3", 302, [0.99, 0.99, 0.99], [99, 199, 299]),  # the two frames left over are never drawn
        ("32x2x1", 300, [ALMOST_1], [236]),  # 237 starts
        ("4x2x3", 10, [0.9, 0.1, 0.5], [0, 1, 2]),  # 3 starts, one for each part
        ("4x2x3", 9, [0.9, 0.1, 0.5], [0, 1, 1]),  # 2 starts for 3 clips: sorted draws
        ("4x2x8", 8, [], [0, 0, 0, 0, 0, 1, 1, 1]),  # 1 start, no more frames than clips: around(i / 8)
        ("4x2x1", 7, [], [0]),  # shorter than a clip
    ],
)
def test_segments_training_starts_computed_by_hand(clip, num_frames, uniforms, starts):
    rng = Uniforms(*uniforms)
    indices = segments(num_frames, None, spec(clip), rng)
    assert indices[:, 0].tolist() == starts
    assert rng.values == []


# ---- frames past the end


@pytest.mark.parametrize("out_of_bound, frames", [("loop", [0, 4, 8, 2]), ("repeat_last", [0, 4, 8, 8])])
def test_frames_past_the_end_wrap_or_repeat_the_last_of_the_clip(out_of_bound, frames):
    assert segments(10, None, spec("4x4x1"), None, out_of_bound=out_of_bound).tolist() == [frames]


def test_each_clip_repeats_its_own_last_frame():
    indices = np.array([[0, 4, 8, 12], [3, 7, 11, 15]])
    assert in_bounds(indices, 10, "repeat_last").tolist() == [[0, 4, 8, 8], [3, 7, 7, 7]]
    assert in_bounds(indices, 10, "loop").tolist() == [[0, 4, 8, 2], [3, 7, 1, 5]]


def test_a_video_of_one_frame_gives_that_frame_to_every_clip():
    for sampler in SAMPLERS.values():
        for rng in (None, sample_rng(0, 0, 0)):
            indices = sampler(1, 30.0, spec("8x1x2"), rng)
            assert indices.shape[1] == 8 and not indices.any()


# ---- dense, uniform, slowfast


def test_dense_starts_computed_by_hand():
    # n = 100, range 64: p = 37 positions; clips 16 frames apart
    assert dense(100, None, spec("4x1x4"), Uniforms(0.0))[:, 0].tolist() == [0, 16, 32, 48]
    assert dense(100, None, spec("4x1x4"), Uniforms(ALMOST_1))[:, 0].tolist() == [35, 51, 67, 83]
    # n = 40: one position; starts past the end wrap
    assert dense(40, None, spec("2x1x4"), Uniforms(0.7)).tolist() == [[0, 1], [16, 17], [32, 33], [8, 9]]


def test_dense_evaluation_takes_ten_windows_unless_told_otherwise():
    clip = spec("1x1x2")
    starts = dense(100, None, clip)[:, 0]
    assert starts.reshape(10, 2)[:, 0].tolist() == [0, 4, 8, 12, 16, 20, 24, 28, 32, 36]
    assert starts.reshape(10, 2)[:, 1].tolist() == [32, 36, 40, 44, 48, 52, 56, 60, 64, 68]
    assert dense(100, None, clip, num_sample_positions=1).tolist() == [[0], [32]]


def test_uniform_frames_computed_by_hand():
    # n = 9, 4 parts of s = 2: [0, 2], [2, 4], [4, 6], [6, 8], both ends included
    clip = spec("4x1x1")
    assert uniform(9, None, clip, Uniforms(0.0, 0.0, 0.0, 0.0)).tolist() == [[0, 2, 4, 6]]
    assert uniform(9, None, clip, Uniforms(*[ALMOST_1] * 4)).tolist() == [[2, 4, 6, 8]]
    assert uniform(9, None, clip).tolist() == [[1, 3, 5, 7]]
    # n = 6, s = 1.25: edges round(0, 1.25, 2.5, 3.75, 5) = 0 1 2 4 5; two clips at thirds of a part, floored
    assert uniform(6, None, spec("4x1x2")).tolist() == [[0, 1, 2, 4], [0, 1, 2, 4]]


def test_uniform_refuses_a_frame_interval():
    with pytest.raises(ValueError, match="write '16x1x1'"):
        uniform(100, None, spec("16x2x1"))


@pytest.mark.parametrize(
    "num_frames, fps, clip, uniforms, frames",
    [
        (300, 30.0, "8x8x1", [0.0], [0, 9, 18, 27, 36, 45, 54, 63]),  # c = 64: steps of 63 / 7
        (300, 30.0, "8x8x1", [0.5], [118, 127, 136, 145, 154, 163, 172, 181]),
        (300, 15.0, "8x8x1", [0.0], [0, 4, 8, 13, 17, 22, 26, 31]),  # half the rate, half the frames
        (300, 60.0, "8x8x1", [0.0], [0, 18, 36, 54, 72, 90, 108, 127]),
        (300, None, "8x8x1", [0.0], [0, 9, 18, 27, 36, 45, 54, 63]),  # rate unknown
        (40, 30.0, "8x8x1", [0.9], [0, 9, 18, 27, 36, 39, 39, 39]),  # clamped, not wrapped
        (164, 30.0, "8x8x1", [0.123], [12, 21, 30, 39, 48, 57, 66, 75]),  # start 12.3, truncated last
        (164, 30.0, "4x16x1", [0.999], [99, 120, 141, 162]),
        (300, 30.0, "1x1x3", [0.0, 0.25, 0.5], [0, 74, 149]),
    ],
)
def test_slowfast_training_frames_computed_by_hand(num_frames, fps, clip, uniforms, frames):
    assert slowfast(num_frames, fps, spec(clip), Uniforms(*uniforms)).ravel().tolist() == frames


def test_slowfast_evaluation_starts_computed_by_hand():
    # n = 164, c = 64, d = 100
    assert slowfast(164, 30.0, spec("8x8x4"))[:, 0].tolist() == [0, 25, 50, 75]
    assert slowfast(164, 30.0, spec("8x8x4"), use_offset=True)[:, 0].tolist() == [0, 33, 66, 99]
    assert slowfast(165, 30.0, spec("8x8x1"), use_offset=True)[:, 0].tolist() == [50]
    assert slowfast(165, 30.0, spec("8x8x1"))[:, 0].tolist() == [0]


# ---- all samplers


def test_no_frames_to_sample_is_an_error():
    for sampler in SAMPLERS.values():
        with pytest.raises(ValueError, match="a video of 0 frames"):
            sampler(0, 30.0, spec("8x1x1"), None)


def test_an_unknown_out_of_bound_is_refused():
    with pytest.raises(ValueError, match=r"out_of_bound is 'wrap', must be one of \('loop', 'repeat_last'\)"):
        segments(10, 30.0, spec("8x1x1"), None, out_of_bound="wrap")


@given(
    sampler=st.sampled_from(sorted(SAMPLERS)),
    num_frames=st.integers(1, 700),
    fps=st.sampled_from([None, 0.0, 1.0, 14.985, 25.0, 29.97, 30.0, 60.0, 120.0, float("nan")]),
    clip=st.builds(ClipSpec, st.integers(1, 40), st.integers(1, 20), st.integers(1, 12)),
    seed=st.none() | st.integers(0, 2**64 - 1),
    out_of_bound=st.sampled_from(["loop", "repeat_last"]),
)
def test_every_sampler_gives_whole_clips_of_frames_inside_the_video(sampler, num_frames, fps, clip, seed, out_of_bound):
    if sampler == "uniform":
        clip = ClipSpec(clip.clip_len, 1, clip.num_clips)

    def sample():
        rng = None if seed is None else sample_rng(seed, 0, 0)
        return SAMPLERS[sampler](num_frames, fps, clip, rng, out_of_bound=out_of_bound)

    indices = sample()
    assert indices.dtype == np.int64
    assert indices.shape == (clips_per_video(SAMPLERS[sampler], clip, seed is not None), clip.clip_len)
    assert indices.min() >= 0 and indices.max() < num_frames
    assert np.array_equal(indices, sample())
    if sampler == "segments" and num_frames >= clip.clip_len * clip.frame_interval:
        assert (np.diff(indices, axis=1) == clip.frame_interval).all()  # nothing wrapped
        assert (np.diff(indices[:, 0]) >= 0).all()


def test_clips_per_video_counts_what_a_sampler_returns():
    assert clips_per_video(segments, spec("8x8x3"), is_training=False) == 3
    assert clips_per_video(dense, spec("8x8x3"), is_training=True) == 3
    assert clips_per_video(dense, spec("8x8x3"), is_training=False) == 30
    with pytest.raises(ValueError, match=r"first_frames returned frame indices of shape \[8\] .* \[num_clips, 8\]"):

        def first_frames(num_frames, fps, spec, rng):
            return np.arange(spec.clip_len)

        clips_per_video(first_frames, spec("8x8x3"), is_training=True)


def test_draws_of_segments_are_uniform_over_its_part():
    clip = spec("1x1x2")
    starts = np.array([segments(20, None, clip, sample_rng(3, 0, i))[:, 0] for i in range(4000)])
    counts = np.bincount(starts[:, 0], minlength=10)
    # 400 expected for each; 5 standard deviations of a binomial count are 95
    assert len(counts) == 10 and abs(counts - 400).max() < 95
    assert abs(np.corrcoef(starts.T)[0, 1]) < 5 / 4000**0.5


# ---- the random numbers themselves


def philox_uniforms(key, counter):
    """The first four float64 uniforms of Philox-4x64-10 (Salmon et al. 2011), in plain integers."""
    mask = 2**64 - 1
    c, k = [1, 0, 0, counter & mask], [key[0] & mask, key[1] & mask]  # NumPy counts up before the first block
    for _ in range(10):
        product0, product1 = 0xD2E7470EE14C6C93 * c[0], 0xCA5A826395121157 * c[2]
        c = [(product1 >> 64) ^ c[1] ^ k[0], product1 & mask, (product0 >> 64) ^ c[3] ^ k[1], product0 & mask]
        k = [(k[0] + 0x9E3779B97F4A7C15) & mask, (k[1] + 0xBB67AE8584CAA73B) & mask]
    return [(word >> 11) * 2.0**-53 for word in c]


@pytest.mark.parametrize("seed, epoch, index", [(0, 0, 0), (1, 2, 3), (-1, 0, 2**40), (2**64 - 1, 7, 1)])
def test_the_numbers_of_a_sample_are_philox_keyed_by_seed_epoch_and_index(seed, epoch, index):
    assert sample_rng(seed, epoch, index).random(4).tolist() == philox_uniforms((seed, epoch), index)


def test_a_sample_keeps_its_numbers_forever():
    # a change here changes every user's clips for a given seed
    assert sample_rng(1, 2, 3).random(2).tolist() == [0.06344102965932141, 0.707504754819708]


def test_seed_epoch_and_index_each_change_the_numbers():
    streams = {sample_rng(*key).random() for key in [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (2**64 - 1, 0, 0)]}
    assert len(streams) == 5


def test_rekey_forgets_what_was_drawn_before():
    rng = sample_rng(0, 0, 0)
    rng.random(3)
    rng.integers(100, dtype=np.int32)  # leaves half a word behind
    rekey(rng, 5, 6, 7)
    fresh = sample_rng(5, 6, 7)
    assert rng.integers(100, size=3, dtype=np.int32).tolist() == fresh.integers(100, size=3, dtype=np.int32).tolist()
    assert rng.random() == fresh.random()


def test_threads_do_not_disturb_each_other():
    def draw(index):
        return sample_rng(9, 1, index).random(50).tolist()

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(draw, range(200))) == [draw(index) for index in range(200)]


@pytest.mark.parametrize("sampler", [slowfast, slowfast_pyav])
@pytest.mark.parametrize("target_fps", [0, -30.0, float("nan")])
def test_a_target_rate_without_sense_is_refused(sampler, target_fps):
    with pytest.raises(ValueError, match=r"target_fps is .*, must be above 0"):
        sampler(100, 25.0, ClipSpec.parse("8x8x1"), target_fps=target_fps)
