"""Crop policies against boxes computed by hand, against MMAction2's own boxes, and in general (hypothesis).

A box is (top, left, height, width, flip) in pixels of the source picture. `Uniforms` plays a Generator whose
draws are written in the test: flip first, then the policy's own.
"""

from __future__ import annotations

import itertools
import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vidload import transforms
from vidload.system.random import sample_rng
from vidload.transforms import (
    center_crop,
    multi_scale_crop,
    random_crop,
    random_resized_crop,
    ten_crop,
    three_crop,
)

PIPELINES = json.loads((Path(__file__).parent / "fixtures" / "pipelines.json").read_text())
ALMOST_1 = 1 - 2**-53
RANDOM = [random_resized_crop, multi_scale_crop, random_crop]
FIXED = [center_crop, three_crop, ten_crop]


class Uniforms:
    """A Generator that returns the given uniforms, then fails."""

    def __init__(self, *values):
        self.values = list(values)

    def random(self, size=None):
        drawn, self.values = self.values[: size or 1], self.values[size or 1 :]
        assert len(drawn) == (size or 1), "more draws than the test expects"
        return np.array(drawn) if size else drawn[0]


def in_resized(boxes, height, width, short_side=256):
    """Boxes as (x0, y0, x1, y1) in the picture resized to `short_side`: the terms of MMAction2's
    pipelines."""
    scale = short_side / min(height, width)
    scale_y = int(height * scale + 0.5) / height
    scale_x = int(width * scale + 0.5) / width
    top, left, box_height, box_width, _ = np.asarray(boxes).T
    edges = [left * scale_x, top * scale_y, (left + box_width) * scale_x, (top + box_height) * scale_y]
    return np.stack(edges, axis=1)


# ---- MMAction2's boxes


@pytest.mark.parametrize("case", PIPELINES["crop_boxes"], ids=lambda case: f"{case['width']}x{case['height']}")
@pytest.mark.parametrize("source_scale", [1, 3, 4])
def test_fixed_crops_are_those_of_mmaction2_whatever_the_source_size(case, source_scale):
    height, width = case["height"] * source_scale, case["width"] * source_scale
    for transform, expected in [
        (center_crop(224), case["center_224"]),
        (three_crop(256), case["three_256"]),
        (ten_crop(224), case["ten_224"]),
    ]:
        boxes = transform.boxes(height, width)
        np.testing.assert_allclose(in_resized(boxes, height, width), expected, atol=1e-9)
        assert boxes[:, 4].tolist() == ([0, 1] * 5 if transform.num_crops == 10 else [0] * len(boxes))


@pytest.mark.parametrize("case", PIPELINES["resized_to_short_side_256"], ids=lambda c: f"{c['width']}x{c['height']}")
def test_the_short_side_is_resized_as_in_mmaction2(case):
    # the box of a 256 crop covers 256 of the resized pixels, so it tells the resized size
    width, height = case["width"], case["height"]
    _, _, box_height, box_width, _ = center_crop(256).boxes(height, width)[0]
    assert [256 / box_width * width, 256 / box_height * height] == pytest.approx(case["resized_short_256"])
    _, _, box_height, box_width, _ = center_crop(256).boxes(width, height)[0]  # on its side
    assert [256 / box_height * width, 256 / box_width * height] == pytest.approx(case["resized_short_256"])


def test_the_long_side_is_rounded_to_the_nearest_pixel():
    # 400 * 256 / 240 = 426.67 becomes 427, so a 256 crop covers 256 / 427 of the 400 pixels
    assert center_crop(256).boxes(240, 400)[0, 3] == pytest.approx(256 / 427 * 400)
    assert center_crop(256).boxes(400, 240)[0, 2] == pytest.approx(256 / 427 * 400)


@pytest.mark.parametrize("case", PIPELINES["multi_scale_boxes"], ids=lambda case: case["used_by"])
def test_multi_scale_crop_can_give_just_the_boxes_that_mmaction2_can(case):
    transform = {
        "tsn": multi_scale_crop(224),
        "tsm": multi_scale_crop(224, positions=13),
        "i3d": multi_scale_crop(224, (1, 0.8), max_wh_scale_gap=0),
    }[case["used_by"]]
    steps = np.arange(130) / 130 + 1e-6  # 130 = 10 size pairs x 13 positions: every choice is met
    boxes = {
        tuple(transform.boxes(case["height"], case["width"], Uniforms(0, u, v))[0, :4].tolist())
        for u, v in itertools.product(steps, steps)
    }
    edges = sorted([left, top, left + width, top + height] for top, left, height, width in boxes)
    assert edges == case["distinct_boxes_xyxy"]


# ---- random policies, draw by draw


def test_random_resized_crop_computed_by_hand():
    # half the area of 200 x 400, ratio (3/4 * 4/3) ** 0.5 = 1: a square of 200; room 0 down, 200 right
    transform = random_resized_crop(224, area=(0.0001, 0.9999))
    assert transform.boxes(200, 400, Uniforms(0.9, 0.5, 0.5, 0.3, 0.5)).tolist() == [[0, 100, 200, 200, 0]]
    # the largest area of 4:3 in 300 x 400 is all of it; flipped
    transform = random_resized_crop(224, area=(0.08, 1))
    box = transform.boxes(300, 400, Uniforms(0.1, ALMOST_1, ALMOST_1, 0.5, 0.5))
    assert box.tolist() == [[0, 0, 300, 400, 1]]


def test_random_resized_crop_reaches_the_last_pixel():
    # a quarter of 400 x 400 as a square: 200, the last place is 200
    box = random_resized_crop(224, area=(0.25, 0.25), ratio=(1, 1)).boxes(
        400, 400, Uniforms(0, 0, 0, ALMOST_1, ALMOST_1)
    )
    assert box.tolist() == [[200, 200, 200, 200, 1]]


def test_random_resized_crop_tries_again_until_a_crop_fits():
    # the whole area as 4:3 is too tall for 100 x 1000: sqrt(100000 / 1.333) = 274; 0.08 of it fits
    rng = Uniforms(0.9, ALMOST_1, ALMOST_1, 0.5, 0.5, *(0.0, ALMOST_1, 0.0, 0.0))
    assert random_resized_crop(224).boxes(100, 1000, rng).tolist() == [[0, 0, 77, 103, 0]]
    assert rng.values == []


def test_random_resized_crop_falls_back_to_the_centered_square_after_ten_tries():
    rng = Uniforms(0.9, *[ALMOST_1, 0.5, 0.5, 0.5] * 10)
    assert random_resized_crop(224).boxes(100, 1000, rng).tolist() == [[0, 450, 100, 100, 0]]
    assert rng.values == []


def test_random_crop_computed_by_hand():
    # short side drawn from 256..320 as 256 + floor(0.5 * 65) = 288: 288 x 576; room 64 and 352
    box = random_crop(224).boxes(144, 288, Uniforms(0.9, 0.5, 0.25, 0.5))
    assert box.tolist() == [[16 / 2, 176 / 2, 112, 112, 0]]
    # the largest short side and the last pixel are reached, so that all are equally likely
    box = random_crop(224).boxes(320, 320, Uniforms(0.9, ALMOST_1, 0, 0))
    assert box.tolist() == [[0, 0, 224, 224, 0]]
    box = random_crop(224, short_side=256).boxes(256, 340, Uniforms(0.9, 0.5, ALMOST_1, ALMOST_1))
    assert box.tolist() == [[32, 116, 224, 224, 0]]


def test_a_side_near_the_output_size_becomes_it_in_multi_scale_crop():
    # floor(256 * 0.88) = 225 and floor(256 * 0.87) = 222 become 224; floor(256 * 0.89) = 227 stays
    for scale, side in [(0.88, 224), (0.87, 222 + 2), (0.89, 227)]:
        box = multi_scale_crop(224, (scale,)).boxes(256, 256, Uniforms(0.9, 0, 0))
        assert box[0, 2:4].tolist() == [side, side]


def test_a_flip_happens_with_its_probability():
    for policy in RANDOM:
        flips = np.array([policy(224).boxes(256, 340, sample_rng(0, 0, i))[0, 4] for i in range(2000)])
        assert abs(flips.sum() - 1000) < 5 * 500**0.5
        assert not any(policy(224, flip=0).boxes(256, 340, sample_rng(0, 0, i))[0, 4] for i in range(50))
        assert all(policy(224, flip=1).boxes(256, 340, sample_rng(0, 0, i))[0, 4] for i in range(50))


def test_the_probability_of_a_flip_does_not_move_the_crop():
    for policy in RANDOM:
        boxes = [policy(224, flip=flip).boxes(256, 340, sample_rng(0, 0, 1))[:, :4] for flip in (0, 0.5, 1)]
        assert (boxes[0] == boxes[1]).all() and (boxes[0] == boxes[2]).all()


# ---- all policies


@given(
    policy=st.sampled_from(RANDOM + FIXED),
    height=st.integers(1, 3000),
    width=st.integers(1, 3000),
    seed=st.integers(0, 2**32),
    size=st.sampled_from([224, 256, (112, 112), (160, 256), (256, 170)]),
)
def test_boxes_lie_inside_the_picture_and_are_the_same_every_time(policy, height, width, seed, size):
    transform = policy(size)
    try:
        boxes = transform.boxes(height, width, sample_rng(seed, 0, 0))
    except ValueError as error:
        assert "does not fit" in str(error)  # 256 wide of a picture that is not
        return
    assert boxes.dtype == np.float64 and boxes.shape == (transform.num_crops, 5)
    top, left, box_height, box_width, flip = boxes.T
    assert (box_height > 0).all() and (box_width > 0).all() and np.isin(flip, [0, 1]).all()
    assert (top >= 0).all() and (left >= 0).all()
    assert (top + box_height <= height * (1 + 1e-12)).all() and (left + box_width <= width * (1 + 1e-12)).all()
    assert np.array_equal(boxes, transform.boxes(height, width, sample_rng(seed, 0, 0)))


@pytest.mark.parametrize("policy", RANDOM + FIXED)
def test_a_policy_can_be_compared_pickled_and_printed(policy):
    transform = policy((112, 96), antialias=False, mean=None, std=None)
    assert transform == policy((112, 96), antialias=False, mean=None, std=None)
    assert transform != policy((112, 96))
    assert len({transform, policy((112, 96)), policy((112, 96))}) == 2
    assert pickle.loads(pickle.dumps(transform)) == transform
    assert eval(repr(transform), vars(transforms)) == transform


def test_policies_default_to_imagenet_normalization_and_antialias():
    for policy in RANDOM + FIXED:
        transform = policy(224)
        assert transform.size == (224, 224) and transform.antialias
        assert transform.mean == (123.675, 116.28, 103.53) and transform.std == (58.395, 57.12, 57.375)
        assert transform.flip == (0.5 if policy in RANDOM else 0)
        assert transform.is_random == (policy in RANDOM)
    assert [policy(224).num_crops for policy in RANDOM + FIXED] == [1, 1, 1, 1, 3, 10]


def test_a_fixed_crop_is_flipped_when_asked():
    assert center_crop(224, flip=1).boxes(256, 340).tolist() == [[16, 58, 224, 224, 1]]
    assert center_crop(224, flip=0.5).boxes(256, 340, Uniforms(0.4)).tolist() == [[16, 58, 224, 224, 1]]
    assert center_crop(224, flip=0.5).is_random
    assert ten_crop(224, flip=1).boxes(256, 340)[:, 4].tolist() == [1, 0] * 5


def test_three_crop_of_a_square_goes_from_left_to_right():
    assert three_crop(224).boxes(256, 256)[:, :2].tolist() == [[16, 0], [16, 32], [16, 16]]


def test_three_crop_smaller_than_the_short_side_is_centered_across_it():
    assert three_crop(224).boxes(256, 340)[:, :2].tolist() == [[16, 0], [16, 116], [16, 58]]
    assert three_crop(224).boxes(340, 256)[:, :2].tolist() == [[0, 16], [116, 16], [58, 16]]


def test_a_random_policy_without_an_rng_is_an_error():
    with pytest.raises(ValueError, match="random_resized_crop: a random policy needs an rng"):
        random_resized_crop(224).boxes(256, 340, None)


def test_a_crop_larger_than_the_resized_picture_is_an_error_with_both_sizes():
    message = "center_crop: a crop of 224x448 does not fit into a picture of 480x640 resized to 256x341"
    with pytest.raises(ValueError, match=message):
        center_crop((224, 448)).boxes(480, 640)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: center_crop(0), "size is 0"),
        (lambda: center_crop(320), "short_side is 256, must be at least 320"),
        (lambda: random_crop(224, (200, 300)), "short_side is 200, must be at least 224"),
        (lambda: random_crop(224, (300, 256)), r"short_side is \(300, 256\), must be \(smallest, largest\)"),
        (lambda: random_crop(224, flip=1.5), r"flip is 1.5, must be a probability in \[0, 1\]"),
        (lambda: random_resized_crop(224, area=(0.5, 2)), "cannot cover more than the picture"),
        (lambda: random_resized_crop(224, area=(0, 1)), r"area is \(0, 1\), must be \(smallest, largest\)"),
        (lambda: random_resized_crop(224, ratio=(2, 1)), r"ratio is \(2, 1\)"),
        (lambda: multi_scale_crop(224, ()), r"scales is \(\)"),
        (lambda: multi_scale_crop(224, (1.2,)), r"scales is \(1.2,\)"),
        (lambda: multi_scale_crop(224, positions=9), "positions is 9, must be 5 or 13"),
        (lambda: center_crop(224, mean=None), "give both mean and std, or None for both"),
        (lambda: center_crop(224, std=(1, 1)), "must be 3 numbers each"),
        (lambda: center_crop(224, std=(0, 1, 1)), "std above 0"),
        (
            lambda: center_crop(224, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)),
            "are on the 0-1 scale; multiply both by 255",
        ),
    ],
)
def test_a_bad_argument_is_refused_with_its_value(make, message):
    with pytest.raises(ValueError, match=message):
        make()
