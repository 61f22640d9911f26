"""Who decodes a video, where there is hardware for it: shown by a decoder without hardware behind the interfaces that any new one implements.

Its pictures are gray, as bright as their frame's number (csrc/testing/bind_fake_decoder.cpp).
"""

from __future__ import annotations

import numpy as np
import pytest

import vidload
from vidload import _testing

FRAMES = [3, 40, 3, 17]
SIZE = 24


def load(*paths: str, frames: list[int] = FRAMES, **options):
    return _testing.load_by_fake_decoder(list(paths), frames, size=SIZE, **options)


def is_by_the_fake(pixels: np.ndarray) -> bool:
    expected = np.broadcast_to(np.array(FRAMES).reshape(-1, 1, 1, 1), pixels.shape[1:])
    return all(np.array_equal(clip, expected) for clip in pixels)


@pytest.mark.parametrize("num_threads", [0, 3])
def test_hardware_decodes_what_it_can(video, num_threads: int) -> None:
    pixels, counts = load(*[video("h264")] * 5, num_threads=num_threads)
    assert is_by_the_fake(pixels)
    assert counts["num_by_hardware"] == counts["num_samples"] == 5
    assert counts["num_frames"] == 5 * len(FRAMES)
    assert counts["num_decoders_opened"] == 0 and counts["fallbacks"] == {}
    assert counts["num_fakes_opened"] <= max(num_threads, 1)


def test_an_open_decoder_is_used_for_other_files_that_it_fits(video) -> None:
    _, counts = load(*[video("h264")] * 6, num_threads=3, max_decoders=1)
    assert counts["num_fakes_opened"] == 1


def test_the_decoder_used_longest_ago_makes_room_for_another(video) -> None:
    one, other = video("h264"), video("h264_full_range")
    _, counts = load(one, one, other, other, one, max_decoders=1)
    assert counts["num_fakes_opened"] == 3
    _, counts = load(one, one, other, other, one, max_decoders=2)
    assert counts["num_fakes_opened"] == 2


def test_software_decodes_where_it_is_asked_for(video) -> None:
    pixels, counts = load(video("h264"), decoder="cpu")
    assert not is_by_the_fake(pixels)
    assert counts["num_by_hardware"] == 0 and counts["fallbacks"] == {}


def test_software_decodes_what_hardware_cannot(video) -> None:
    pixels, counts = load(video("vp9"))
    expected, _ = load(video("vp9"), decoder="cpu")
    assert np.array_equal(pixels, expected)
    assert counts["fallbacks"] == {"codec": 1} and counts["num_decoders_opened"] == 1


def test_software_decodes_anew_what_hardware_gives_up_on_the_way(video) -> None:
    pixels, counts = load(video("h264"), refused_frame=17)
    expected, _ = load(video("h264"), decoder="cpu")
    assert np.array_equal(pixels, expected)
    assert counts["fallbacks"] == {"decode_failed": 1}
    assert counts["num_frames"] == len(FRAMES)  # each counted once


def test_a_decoder_that_fails_on_a_second_video_is_replaced_before_software_is_tried(video) -> None:
    pixels, counts = load(video("h264"), video("h264"), refused_frame=17, refuses_used_again=True)
    assert is_by_the_fake(pixels)
    assert counts["num_fakes_opened"] == 2 and counts["fallbacks"] == {}


@pytest.mark.parametrize("strict", [False, True])
def test_auto_leaves_small_pictures_to_software_also_where_it_is_strict(video, strict: bool) -> None:
    pixels, counts = load(video("h264"), decoder="auto", strict=strict)
    assert not is_by_the_fake(pixels)
    assert counts["fallbacks"] == {"small_picture": 1}


@pytest.mark.parametrize(
    "name, options, reason", [("vp9", {}, "codec"), ("h264", {"refused_frame": 40}, "decode_failed")]
)
def test_strict_fails_where_hardware_cannot(video, name: str, options: dict[str, int], reason: str) -> None:
    with pytest.raises(vidload.UnsupportedVideoError, match=rf"the fake cannot decode it \({reason}: .*strict=True"):
        load(video(name), strict=True, **options)
