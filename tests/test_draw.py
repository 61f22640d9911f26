"""The core draws a batch's frames and boxes as vidload.sampling, vidload.crops and ClipDataset.request define them, bit for bit."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import vidload
from vidload import VideoDataset, VideoLoader, _testing, transforms
from vidload.system.random import sample_rng

CROPS = {
    "random_resized": transforms.random_resized_crop((24, 40)),
    "random_resized, rarely fits": transforms.random_resized_crop(24, area=(0.9, 1), ratio=(2, 3), flip=1),
    "multi_scale": transforms.multi_scale_crop(224, max_wh_scale_gap=2),
    "multi_scale, 13": transforms.multi_scale_crop((112, 96), (1.0, 0.7), 13, short_side=128),
    "random": transforms.random_crop(40, (48, 64)),
    "random, fixed": transforms.random_crop((40, 32), 48, flip=0),
    "center": transforms.center_crop(40, 48),
    "center, flipped by chance": transforms.center_crop((16, 40), 48, flip=0.3),
    "center, square pixels": transforms.center_crop((32, 40), 48, square_pixels=True),
    "random_resized, square pixels": transforms.random_resized_crop(24, square_pixels=True),
    "three": transforms.three_crop(40, 48),
    "ten": transforms.ten_crop(40, 48, flip=0.5),
}
SAMPLINGS = ("segments", "dense", "uniform", "slowfast")
CLIPS = ("1x1x3", "8x4x1", "16x2x5", "1x1x1", "32x2x1", "4x1x2")


def dataset(sampling: str, clip: str, crop: str, training: bool, out_of_bound: str, num_repeats: int) -> VideoDataset:
    return VideoDataset(
        [("a.mp4", 0)],
        clip=clip,
        transform=CROPS[crop],
        sampling=sampling,
        training=training,
        out_of_bound=out_of_bound,
        num_repeats=num_repeats,
        seed=-7,
    )


def drawn(data: VideoDataset, *what) -> tuple[list, np.ndarray]:
    assert data._rules is not None
    return _testing.draw_sample(data._rules, data.seed % 2**64, *what)


@given(
    sampling=st.sampled_from(SAMPLINGS),
    clip=st.sampled_from(CLIPS),
    crop=st.sampled_from(sorted(CROPS)),
    training=st.booleans(),
    out_of_bound=st.sampled_from(("loop", "repeat_last")),
    num_repeats=st.integers(1, 3),
    num_frames=st.one_of(st.integers(1, 12), st.integers(1, 100), st.integers(1, 100_000)),
    fps=st.sampled_from((0.0, 7.5, 25.0, 29.97, 30.0, 60.0, float("inf"))),
    height=st.integers(1, 400),
    width=st.integers(1, 400),
    epoch=st.integers(0, 5),
    aspect=st.sampled_from(((1, 1), (16, 11), (1, 3))),
    draw=st.integers(0, 3),
    stands_for=st.sampled_from((-1, 0, 12)),
)
def test_the_core_draws_what_the_definition_draws(
    sampling,
    clip,
    crop,
    training,
    out_of_bound,
    num_repeats,
    num_frames,
    fps,
    height,
    width,
    epoch,
    aspect,
    draw,
    stands_for,
) -> None:
    if sampling == "uniform" and "x1x" not in clip:
        clip = "8x1x2"
    data = dataset(sampling, clip, crop, training, out_of_bound, num_repeats)
    index = 1_000_003
    try:
        info = SimpleNamespace(
            num_frames=num_frames,
            average_fps=fps,
            height=height,
            width=width,
            index=SimpleNamespace(sample_aspect_ratio=aspect),
        )
        expected = data.request(index, epoch, info, draw, stands_for)  # type: ignore[arg-type]
    except ValueError as error:
        with pytest.raises(ValueError) as caught:
            drawn(data, epoch, index, draw, stands_for, num_frames, fps, height, width, aspect[0] / aspect[1])
        assert str(caught.value) == str(error)
        return
    frames, views = drawn(data, epoch, index, draw, stands_for, num_frames, fps, height, width, aspect[0] / aspect[1])
    assert frames == expected.frames.tolist()
    assert views.tolist() == expected.views.tolist()


def test_a_long_row_of_numbers_is_numpy_s() -> None:
    """11 views of 64 frames take more than a hundred numbers, block after block."""
    data = VideoDataset([("a.mp4", 0)], clip="64x1x11", transform=CROPS["center"], sampling="uniform", training=True)
    frames, _ = drawn(data, 3, 9, 0, -1, 10_000_000, 25.0, 48, 48, 1.0)
    rng = sample_rng(0, 3, 9)
    assert frames == vidload.sampling.uniform(10_000_000, 25.0, data.clip, rng).ravel().tolist()


def test_what_only_python_can_draw_is_drawn_there(video) -> None:
    path = video("h264")
    plain = VideoDataset([(path, 0)] * 2, clip="2x1x1", transform=CROPS["center"])
    own = [
        VideoDataset([(path, 0)] * 2, clip="2x1x1", transform=CROPS["center"], sampling=vidload.sampling.segments),
        VideoDataset([(path, 0, 0.0, 100.0)] * 2, clip="2x1x1", transform=CROPS["center"]),
    ]
    assert plain._rules is not None and all(data._rules is None for data in own)
    expected = next(iter(VideoLoader(plain, 2)))[0]
    assert all(torch.equal(next(iter(VideoLoader(data, 2)))[0], expected) for data in own)


def test_a_picture_that_cannot_hold_the_crop_is_the_caller_s_error(video) -> None:
    data = VideoDataset([(video("h264"), 0)] * 2, clip="2x1x1", transform=transforms.center_crop((16, 400), 48))
    with pytest.raises(
        ValueError, match=r"center_crop: a crop of 16x400 does not fit into a picture.*larger short_side"
    ):
        next(iter(VideoLoader(data, 2, on_error="skip")))
