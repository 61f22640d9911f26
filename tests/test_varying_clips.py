"""Clips whose frames, length and size follow from the video: their frames and sizes by formulas of this file's own, their pixels by the path
of clips of one shape, and their batches in a list, padded and packed."""

from __future__ import annotations

import math
import pickle
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from samples import is_same
from torch.utils.data import ConcatDataset, DataLoader, Subset

import vidload
from vidload import FrameFolderDataset, VideoDataset, VideoLoader, VideoReader
from vidload.crops import SpatialTransform
from vidload.errors import FrameIndexError, TooManyFailuresError
from vidload.sampling import AllFrames, FramesByTime, SpreadFrames, VaryingClip
from vidload.system.random import sample_rng
from vidload.transforms import center_crop, fit_pixels, random_resized_crop, three_crop

# 48 frames at 25 fps, 48 of varying rate, 1 frame, 2 frames, 48 at 29.97, 48 with a pause of 5 seconds.
CLIPS = ("h264", "h264_vfr", "h264_one_frame", "h264_two_frames", "h264_ntsc", "h264_vfr_gap")
FRAME_FIELDS = ("index", "path", "frame_indices", "pts_seconds", "clip_start_seconds", "fps")


@pytest.fixture
def items(video) -> list[tuple[str, int]]:
    return [(video(name), label) for label, name in enumerate(CLIPS)]


@lru_cache
def times_of(path: str) -> list[Fraction]:
    """When each frame is shown, from the first one's pts, and at last when the video ends: by a decode of the whole file."""
    with av.open(path) as container:
        frames = list(container.decode(video=0))
    end = VideoReader(path).duration_seconds
    return [(frame.pts - frames[0].pts) * frame.time_base for frame in frames] + [Fraction(end)]


def by_time(
    times: list[Fraction],
    fps: float,
    max_frames: int | None,
    start: Fraction,
    end: Fraction,
    frame: str,
    inside: list[int] | None = None,
) -> list[int]:
    """Frame of each moment in [start, end), one by one, in exact numbers. inside: the frames to choose from; None = those of that stretch."""
    rate = Fraction(fps)
    inside = inside or [i for i, time in enumerate(times[:-1]) if start <= time < end]
    count = max(round((end - start) * rate), 1)
    step = 1 / rate
    if max_frames is not None and count > max_frames:
        count, step = max_frames, (end - start) / max_frames
    tolerance = Fraction(1, 2_000_000)
    found = []
    for k in range(count):
        moment = start + k * step
        if frame == "played":
            found.append(max([i for i in inside if times[i] <= moment + tolerance], default=inside[0]))
        else:
            nearest = min(abs(times[i] - moment) for i in inside)
            found.append(min(i for i in inside if abs(times[i] - moment) <= nearest + tolerance))
    return found


def frames_of(dataset: VideoDataset, index: int) -> list[int]:
    return list(dataset[index][2]["frame_indices"])


def of_one_shape(path: str, frames: Any, transform: SpatialTransform, **options: Any) -> torch.Tensor:
    """The pixels of these frames, by the path of clips of one shape: [T, C, H, W]."""
    chosen = np.array([frames])
    dataset = VideoDataset(
        [(path, 0)], clip=f"{len(frames)}x1x1", transform=transform, sampling=lambda *_: chosen, **options
    )
    return dataset[0][0].transpose(0, 1)


# ---- which frames


@pytest.mark.parametrize("frame", ["nearest", "played"])
@pytest.mark.parametrize("fps, max_frames", [(2, None), (7.3, None), (2, 3), (60, None), (60, 11), (0.1, None), (5, 1)])
def test_frames_by_time_are_those_of_an_exact_formula(fps, max_frames, frame, items) -> None:
    clip = FramesByTime(fps, max_frames, frame=frame)
    data = VideoDataset(items, clip=clip, transform=center_crop(16), fields=["frame_indices"])
    for index, (path, _) in enumerate(items):
        times = times_of(path)
        want = by_time(times, fps, max_frames, Fraction(0), times[-1], frame)
        assert frames_of(data, index) == want, path
        assert max_frames is None or len(want) <= max_frames


def test_two_frames_per_second_of_a_known_video(video) -> None:
    data = VideoDataset([(video("h264"), 0)], clip=FramesByTime(2), transform=center_crop(16), fields=["frame_indices"])
    # 1.92 s: 0, 0.5, 1 and 1.5 s; 0.5 s is half way between frames 12 and 13, and the earlier one is taken.
    assert frames_of(data, 0) == [0, 12, 25, 37]


@pytest.mark.parametrize("start, end", [(0.5, 1.5), (0.51, 1.49), (None, 0.7), (1.2, None), (1.0, 99.0)])
@pytest.mark.parametrize("frame", ["nearest", "played"])
def test_moments_begin_with_the_segment_and_frames_stay_within_it(start, end, frame, video) -> None:
    path = video("h264")
    clip = FramesByTime(8, frame=frame)
    data = VideoDataset([(path, 0, start, end)], clip=clip, transform=center_crop(16), fields=["frame_indices"])
    times = times_of(path)
    first, last = Fraction(start or 0), min(Fraction(end or 99), times[-1])
    assert frames_of(data, 0) == by_time(times, 8, None, first, last, frame)


def test_a_part_of_so_many_seconds_is_random_in_training_and_in_the_middle_otherwise(video) -> None:
    path = video("h264")
    times = times_of(path)
    options = {"transform": center_crop(16), "fields": ["frame_indices"], "seed": 5}
    clip = FramesByTime(5, duration_seconds=0.8)
    middle = VideoDataset([(path, 0)] * 4, clip=clip, **options)
    start = (times[-1] - Fraction(4, 5)) / 2
    everywhere = list(range(48))
    assert frames_of(middle, 0) == by_time(times, 5, None, start, start + Fraction(4, 5), "nearest", everywhere)
    random = VideoDataset([(path, 0)] * 4, clip=clip, training=True, **options)
    for index in range(4):
        uniform = sample_rng(5, 0, index).random()
        start = Fraction(uniform) * (times[-1] - Fraction(4, 5))
        want = by_time(times, 5, None, start, start + Fraction(4, 5), "nearest", everywhere)
        assert frames_of(random, index) == want
    assert len({tuple(frames_of(random, index)) for index in range(4)}) > 1
    random.set_epoch(1)
    assert sample_rng(5, 1, 0).random() != sample_rng(5, 0, 0).random()


def test_a_longer_duration_than_the_segment_is_the_segment(video) -> None:
    options = {"transform": center_crop(16), "fields": ["frame_indices"], "training": True}
    whole = VideoDataset([(video("h264"), 0)], clip=FramesByTime(5), **options)
    longer = VideoDataset([(video("h264"), 0)], clip=FramesByTime(5, duration_seconds=60), **options)
    assert frames_of(longer, 0) == frames_of(whole, 0)


@pytest.mark.parametrize("count", [1, 2, 7, 47, 48, 49, 1000])
def test_spread_frames_are_linspace_rounded_and_never_more_than_there_are(count, video) -> None:
    data = VideoDataset(
        [(video("h264"), 0), (video("h264"), 0, 0.4, 0.8)], clip=SpreadFrames(count), transform=center_crop(16), fields=["frame_indices"]
    )  # fmt: skip
    for index, (first, last) in enumerate([(0, 47), (10, 19)]):
        n = min(count, last - first + 1)
        want = [first + round(k * (last - first) / max(n - 1, 1)) for k in range(n)]
        assert frames_of(data, index) == want


def test_all_frames_of_a_segment_and_of_a_video(video) -> None:
    data = VideoDataset(
        [(video("h264"), 0, 0.4, 0.8), (video("h264"), 0)], clip=AllFrames(), transform=center_crop(16), fields=["frame_indices"]
    )  # fmt: skip
    assert frames_of(data, 0) == list(range(10, 20))
    assert frames_of(data, 1) == list(range(48))


def test_a_segment_past_the_end_names_the_file_and_the_times(video) -> None:
    for clip in (FramesByTime(2), SpreadFrames(4), AllFrames()):
        data = VideoDataset([(video("h264"), 0, 5.0, 6.0)], clip=clip, transform=center_crop(16))
        with pytest.raises(
            FrameIndexError, match=r"h264.*no frame is shown within \[5, 6\) seconds; the video lasts 1.92"
        ):
            data[0]


@dataclass(frozen=True)
class Backwards(VaryingClip):
    def frames(self, shown_seconds: Any, start_seconds: float, end_seconds: float, rng: Any = None) -> Any:
        return np.arange(len(shown_seconds) - 1)[::-1][:5]


@dataclass(frozen=True)
class Wrong(VaryingClip):
    result: Any

    def frames(self, *_: Any) -> Any:
        return self.result


def test_a_rule_of_your_own_is_used_and_checked(video) -> None:
    data = VideoDataset([(video("h264"), 0)], clip=Backwards(), transform=center_crop(16), fields=["frame_indices"])
    assert frames_of(data, 0) == [47, 46, 45, 44, 43]
    for result in (np.array([48]), np.array([-1]), np.zeros(0, np.int64), [1, 2], np.zeros((1, 2), np.int64)):
        with pytest.raises(ValueError, match=r"Wrong.*returned .* for .*h264.*within \[0, 48\)"):
            VideoDataset([(video("h264"), 0)], clip=Wrong(result), transform=center_crop(16))[0]


@pytest.mark.parametrize("make, message", [
    (lambda: FramesByTime(0), "fps is 0, must be a number above 0"),
    (lambda: FramesByTime(math.nan), "fps is nan"),
    (lambda: FramesByTime(2, 0), "max_frames is 0, must be an integer of at least 1"),
    (lambda: FramesByTime(2, duration_seconds=-1.0), "duration_seconds is -1.0"),
    (lambda: FramesByTime(2, frame="closest"), "frame is 'closest', must be one of nearest, played"),
    (lambda: SpreadFrames(0), "num_frames is 0"),
    (lambda: fit_pixels(783), "max_pixels is 783, which has no room for one tile of 28x28 = 784 pixels"),
    (lambda: fit_pixels(784, multiple=0), "multiple is 0"),
    (lambda: fit_pixels(784, min_pixels=785), "min_pixels is 785, must be within"),
])  # fmt: skip
def test_arguments_that_make_no_sense_are_refused(make, message) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_a_dataset_refuses_what_has_no_meaning_with_such_clips(items) -> None:
    for options, message in [
        ({"sampling": "dense"}, "leave out sampling and num_repeats"),
        ({"num_repeats": 2}, "leave out sampling and num_repeats"),
        ({"layout": "NVTCHW"}, "clips of varying length have one view each; use 'NTCHW'"),
        ({"transform": three_crop(16)}, "have one view each, but the transform has 3 crops"),
    ]:
        with pytest.raises(ValueError, match=message):
            VideoDataset(items, **{"clip": FramesByTime(2), "transform": center_crop(16), **options})


# ---- which size


def smart_resize(height: int, width: int, factor: int, min_pixels: int, max_pixels: int) -> tuple[int, int]:
    """As published with Qwen2-VL, in the words of this test."""
    sides = [max(factor, factor * round(side / factor)) for side in (height, width)]
    area = sides[0] * sides[1]
    if area > max_pixels:
        scale = math.sqrt(height * width / max_pixels)
        sides = [max(factor, factor * math.floor(side / scale / factor)) for side in (height, width)]
    elif area < min_pixels:
        scale = math.sqrt(min_pixels / (height * width))
        sides = [factor * math.ceil(side * scale / factor) for side in (height, width)]
    return sides[0], sides[1]


@pytest.mark.parametrize("multiple", [14, 28, 32])
@pytest.mark.parametrize("tiles, min_tiles", [(128, 0), (128, 16), (768, 128), (16384, 4), (5, 1)])
def test_sizes_are_those_of_smart_resize_wherever_that_keeps_its_budget(multiple, tiles, min_tiles) -> None:
    unit = multiple**2
    transform = fit_pixels(tiles * unit, min_pixels=min_tiles * unit, multiple=multiple)
    rng = np.random.default_rng(3)
    sizes = [(720, 1280), (1080, 1920), (1920, 1080), (480, 640), (7, 9), (1, 1), (27, 29), (2160, 3840), (100, 100)]
    sizes += [tuple(size) for size in rng.integers(1, 4000, (300, 2)).tolist()]
    num_equal = 0
    for height, width in sizes:
        size = transform.output_size(height, width)
        assert size[0] % multiple == size[1] % multiple == 0 and 0 < size[0] * size[1] <= tiles * unit
        want = smart_resize(height, width, multiple, min_tiles * unit, tiles * unit)
        if want[0] * want[1] <= tiles * unit:
            assert size == want, (height, width)
            num_equal += 1
    assert num_equal > 250


def test_the_budget_holds_for_a_very_long_picture() -> None:
    assert fit_pixels(6 * 784).output_size(20, 9000) == (28, 6 * 28)
    assert fit_pixels(784).output_size(9000, 20) == (28, 28)
    assert fit_pixels(4 * 784, min_pixels=4 * 784).output_size(28, 29) == (28, 56)


def test_pixels_that_are_not_square_are_fitted_as_shown_if_wanted() -> None:
    assert fit_pixels(10**6, multiple=14, square_pixels=True).output_size(576, 720, 16 / 15) == (574, 770)
    assert fit_pixels(10**6, multiple=14).output_size(576, 720, 16 / 15) == (574, 714)


@dataclass(frozen=True, repr=False)
class WholePicture(SpatialTransform):
    """At one size, whatever the video's."""

    def _boxes(self, height: int, width: int, flip: float, rng: Any) -> Any:
        return np.array([[0, 0, height, width, flip]], np.float64)


@pytest.mark.parametrize("name", ["h264", "h264_portrait", "h264_rotated_90", "h264_tiny", "h264_ntsc"])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_a_fitted_clip_has_the_pixels_of_the_whole_picture_at_that_size(name, dtype, video) -> None:
    transform = fit_pixels(9 * 784, mean=(120, 110, 100), std=(60, 50, 55))
    clip, _, fields = VideoDataset(
        [(video(name), 0)], clip=FramesByTime(4), transform=transform, dtype=dtype, fields=["frame_indices"]
    )[0]
    with VideoReader(video(name)) as reader:
        size = smart_resize(reader.height, reader.width, 28, 0, 9 * 784)
    assert clip.shape[1:] == (3, *size)
    whole = WholePicture(size, 0.0, (120, 110, 100), (60, 50, 55), True, False)
    assert torch.equal(clip, of_one_shape(video(name), fields["frame_indices"].tolist(), whole, dtype=dtype))


def test_clips_of_one_length_may_be_fitted_too_with_views(items) -> None:
    data = VideoDataset(items[:2], clip="3x2x2", transform=fit_pixels(9 * 784), fields=["frame_indices"])
    ((clips, _, fields),) = VideoLoader(data, 2)
    assert data.layout == "NVCTHW" and data.sample_shape == (2, 3, 3, None, None)
    for (path, _), clip, frames in zip(items, clips, fields["frame_indices"], strict=False):
        whole = WholePicture((56, 84), 0.0, data.transform.mean, data.transform.std, True, False)
        assert clip.shape == (2, 3, 3, 56, 84) and frames.shape == (2, 3)
        for view in range(2):
            assert torch.equal(clip[view].transpose(0, 1), of_one_shape(path, frames[view].tolist(), whole))


# ---- batches


def of_plain_loader(data: Any, batch_as: str, batch_size: int = 3) -> list[Any]:
    base = data.dataset if isinstance(data, Subset) else data
    return list(DataLoader(data, batch_size, collate_fn=partial(base.collate, batch_as=batch_as)))


@pytest.mark.parametrize("batch_as", ["list", "padded", "packed"])
@pytest.mark.parametrize("layout", ["NTCHW", "NCTHW", "NTHWC"])
@pytest.mark.parametrize("fields", [(), FRAME_FIELDS])
def test_every_loader_gives_the_same_batches(batch_as, layout, fields, items) -> None:
    data = VideoDataset(
        items, clip=FramesByTime(4, 5), transform=random_resized_crop(24), layout=layout, fields=fields, seed=2
    )
    plain = of_plain_loader(data, batch_as)
    for num_workers in (0, 3):
        loader = VideoLoader(data, 3, num_workers=num_workers, batch_as=batch_as)
        loader.set_epoch(0)
        assert is_same(list(loader), plain)


@pytest.mark.parametrize("layout, axis", [("NTCHW", 0), ("NCTHW", 1), ("NTHWC", 0)])
def test_padded_and_packed_batches_hold_the_clips_of_the_list(layout, axis, items) -> None:
    data = VideoDataset(
        items, clip=FramesByTime(4, 5), transform=center_crop(24), layout=layout, fields=FRAME_FIELDS, dtype=torch.uint8
    )
    loaders = [VideoLoader(data, 6, batch_as=batch_as) for batch_as in ("list", "padded", "packed")]
    for listed, padded, packed in zip(*loaders, strict=True):
        clips, _, fields = listed
        lengths = [clip.shape[axis] for clip in clips]
        assert len(set(lengths)) > 1
        assert padded[0].shape[:1] == (len(clips),) and padded[0].shape[1 + axis] == max(lengths)
        assert packed[0].shape[axis] == sum(lengths) and packed[2]["offsets"].tolist() == [0, *np.cumsum(lengths)]
        assert padded[2]["mask"].tolist() == [[t < length for t in range(max(lengths))] for length in lengths]
        for i, (clip, length) in enumerate(zip(clips, lengths, strict=True)):
            row, start = padded[0][i], packed[2]["offsets"][i]
            assert torch.equal(row.narrow(axis, 0, length), clip)
            assert not row.narrow(axis, length, max(lengths) - length).any()
            assert torch.equal(packed[0].narrow(axis, int(start), length), clip)
            for name in ("frame_indices", "pts_seconds"):
                assert torch.equal(packed[2][name][start : start + length], fields[name][i])
                assert torch.equal(padded[2][name][i, :length], fields[name][i])
                assert not padded[2][name][i, length:].any()


def test_pts_seconds_are_those_of_the_file(items) -> None:
    data = VideoDataset(items, clip=FramesByTime(3), transform=center_crop(16), fields=["pts_seconds", "frame_indices"])
    ((_, _, fields),) = VideoLoader(data, len(items), batch_as="packed")
    with_offset = zip(items, fields["offsets"][:-1].tolist(), fields["offsets"][1:].tolist(), strict=True)
    for (path, _), start, stop in with_offset:
        with av.open(path) as container:
            stamps = [frame.pts * frame.time_base for frame in container.decode(video=0)]
        frames = fields["frame_indices"][start:stop].tolist()
        assert fields["pts_seconds"][start:stop].tolist() == pytest.approx([float(stamps[i]) for i in frames], abs=1e-9)


def test_clips_of_a_list_lie_one_after_the_other_in_one_block(items) -> None:
    data = VideoDataset(items, clip=FramesByTime(4), transform=fit_pixels(9 * 784), dtype=torch.uint8)
    ((clips, _),) = VideoLoader(data, len(items))
    address = clips[0].data_ptr()
    for clip in clips:
        assert clip.data_ptr() == address and clip.is_contiguous()
        address += clip.nbytes


def test_a_batch_that_is_kept_is_not_written_again(items) -> None:
    data = VideoDataset(items, clip=FramesByTime(4), transform=center_crop(24), dtype=torch.uint8)
    for batch_as in ("list", "padded", "packed"):
        loader = VideoLoader(data, 2, batch_as=batch_as)
        kept = [batch[0] for batch in loader]
        copies = [[clip.clone() for clip in clips] for clips in kept]
        list(loader)
        assert all(
            torch.equal(a, b) for one, two in zip(kept, copies, strict=True) for a, b in zip(one, two, strict=True)
        )


@pytest.fixture
def with_bad(items, tmp_path: Path) -> list[tuple[str, int]]:
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(b"no video")
    damaged = tmp_path / "damaged.mp4"
    data = bytearray(Path(items[0][0]).read_bytes())
    at = data.index(b"mdat") + 2000
    data[at : at + 400] = bytes(400)
    damaged.write_bytes(data)
    return [items[0], (str(bad), 7), items[1], (str(damaged), 8), items[4]]


@pytest.mark.parametrize("batch_as", ["list", "padded", "packed"])
def test_failed_samples_are_left_out_of_every_kind_of_batch(batch_as, with_bad) -> None:
    options = {"clip": FramesByTime(9), "transform": center_crop(24), "fields": FRAME_FIELDS}
    data = VideoDataset(with_bad, **options)
    (batch,) = VideoLoader(data, 5, on_error="skip", batch_as=batch_as)
    (want,) = VideoLoader(Subset(data, [0, 2, 4]), 5, batch_as=batch_as)
    assert is_same(batch, want)
    assert batch[2]["index"].tolist() == [0, 2, 4]


@pytest.mark.parametrize("batch_as", ["list", "padded", "packed"])
def test_substitutes_of_another_length_find_their_place(batch_as, with_bad) -> None:
    data = VideoDataset(with_bad, clip=FramesByTime(9), transform=center_crop(24), fields=FRAME_FIELDS)
    loader = VideoLoader(data, 5, on_error="substitute", batch_as=batch_as)
    (batch,) = loader
    indices = batch[2]["index"].tolist()
    assert indices[0::2] == [0, 2, 4] and set(indices) <= {0, 2, 4}
    assert loader.stats()["num_failed"] >= 2
    want = data.collate([data[index] for index in indices], batch_as)  # evaluation: a substitute's clip is its own
    assert is_same(batch, want)


def test_the_first_failure_is_raised_with_its_path(with_bad) -> None:
    data = VideoDataset(with_bad, clip=FramesByTime(9), transform=center_crop(24))
    with pytest.raises(vidload.VideoError, match=r"bad\.mp4"):
        list(VideoLoader(data, 5, batch_as="packed"))


def test_a_batch_without_any_good_sample_is_left_out(with_bad, tmp_path: Path) -> None:
    data = VideoDataset([with_bad[1], with_bad[1], with_bad[0]], clip=FramesByTime(2), transform=center_crop(24))
    batches = list(VideoLoader(data, 2, on_error="skip", batch_as="packed"))
    assert [batch[1].tolist() for batch in batches] == [[0]]
    none = VideoDataset([with_bad[1]] * 3, clip=FramesByTime(2), transform=center_crop(24))
    with pytest.raises(TooManyFailuresError, match="no sample of epoch 0 could be loaded"):
        list(VideoLoader(none, 2, on_error="skip", batch_as="padded"))
    past_the_end = VideoDataset([(with_bad[0][0], 0, 50.0, 60.0)] * 2, clip=AllFrames(), transform=center_crop(24))
    with pytest.raises(TooManyFailuresError, match="no frame is shown within"):
        list(VideoLoader(past_the_end, 2, on_error="skip", batch_as="packed"))


@pytest.mark.parametrize("batch_as", ["list", "padded", "packed"])
def test_a_clip_of_a_file_with_fewer_frames_than_its_headers_say_is_drawn_again(
    batch_as, video, tmp_path: Path
) -> None:
    """The last packet gives no frame, though its header is in order: the clip drawn first was a frame longer than the one decoded."""
    index = VideoReader(video("av1_low_delay"))._index
    data = bytearray(Path(video("av1_low_delay")).read_bytes())
    start, size = int(index.packet_offsets[47]), int(index.packet_sizes[47])
    data[start + 2 : start + size] = b"\xff" * (size - 2)
    path = tmp_path / "av1.mp4"
    path.write_bytes(data)
    intact, fields = [(video("av1_low_delay"), 0, 0.0, 1.87)], ["frame_indices"]
    crop = center_crop(24)
    for num_workers in (0, 2):
        vidload._core.clear_index_cache()
        items = [(video("h264"), 0), (str(path), 1), (video("h264_two_frames"), 2)]
        loader = VideoLoader(
            VideoDataset(items, clip=AllFrames(), transform=crop, fields=fields),
            3,
            num_workers=num_workers,
            batch_as=batch_as,
        )
        (batch,) = loader
        assert loader.stats()["num_files_decoded"] >= 1 and loader.stats()["num_failed"] == 0
        want = VideoDataset([items[0], intact[0], items[2]], clip=AllFrames(), transform=crop, fields=fields)
        samples = [want[index] for index in range(3)]
        assert [len(clip) for clip, *_ in samples] == [48, 47, 2]
        expected = want.collate(samples, batch_as)
        assert is_same([batch[0], batch[2]], [expected[0], expected[2]])


@pytest.mark.parametrize("batch_as", ["list", "padded", "packed"])
@pytest.mark.parametrize(
    "function",
    [lambda clip: clip.mul_(2), lambda clip: clip[::2], lambda clip: clip + 1],
    ids=["in place", "shorter", "new"],
)
def test_a_clip_transform_gets_each_clip_alone(function, batch_as, items) -> None:
    data = VideoDataset(items, clip=FramesByTime(6), transform=center_crop(16), clip_transform=function)
    assert is_same(list(VideoLoader(data, 4, batch_as=batch_as)), of_plain_loader(data, batch_as, 4))


def test_what_cannot_be_joined_is_told(items) -> None:
    for function, message in [
        (lambda clip: clip[:, : len(clip)], "joins clips that differ in length alone, got"),
        (lambda clip: "a clip", "joins tensors, got str"),
    ]:
        data = VideoDataset(items[:3], clip=FramesByTime(2), transform=center_crop(16), clip_transform=function)
        with pytest.raises(ValueError, match=message):
            list(VideoLoader(data, 3, batch_as="packed"))


def test_a_loader_refuses_what_its_batches_cannot_be(items) -> None:
    varying = VideoDataset(items, clip=FramesByTime(2), transform=center_crop(16))
    fitted = VideoDataset(items, clip=FramesByTime(2), transform=fit_pixels(784))
    fixed = VideoDataset(items, clip="2x1x1", transform=center_crop(16))
    for make, message in [
        (lambda: VideoLoader(varying, 2, batch_as="stacked"), "batch_as 'stacked' is not one of list, padded, packed"),
        (lambda: VideoLoader(fixed, 2, batch_as="list"), r"all samples have the shape \[3, 2, 16, 16\]"),
        (lambda: VideoLoader(fitted, 2, batch_as="packed"), "they differ in height and width: use batch_as='list'"),
        (lambda: VideoLoader(fitted, 2, batch_as="padded"), "they differ in height and width: use batch_as='list'"),
        (lambda: VideoLoader(varying, 2, batch_as="packed", collate_fn=list), "cannot be used with a collate_fn"),
        (lambda: VideoLoader(varying, None, batch_as="packed"), "or without batches"),
        (lambda: VideoLoader(varying, 2, decoder="dali"), "DALI makes clips of one shape"),
        (lambda: VideoLoader(ConcatDataset([varying, fixed]), 2), "samples of one kind: sample_shape"),
    ]:
        with pytest.raises(ValueError, match=message):
            make()


def test_collate_functions_batch_transforms_and_single_samples_see_the_clips(items) -> None:
    data = VideoDataset(items, clip=FramesByTime(2), transform=center_crop(16))
    want = [data[index] for index in range(len(items))]
    (samples,) = VideoLoader(data, len(items), collate_fn=list)
    assert is_same(samples, want)
    assert is_same(list(VideoLoader(data, None)), want)
    (batch,) = VideoLoader(data, len(items), batch_as="packed", batch_transform=lambda batch: batch[2]["offsets"])
    assert batch.tolist() == [0, *np.cumsum([len(clip) for clip, _ in want])]


def test_several_datasets_and_parts_of_them_share_a_batch(items) -> None:
    first = VideoDataset(items[:3], clip=FramesByTime(3), transform=center_crop(16), fields=["path", "pts_seconds"])
    second = VideoDataset(items[2:], clip=SpreadFrames(4), transform=center_crop(16), fields=["path", "pts_seconds"])
    both = ConcatDataset([first, Subset(second, [3, 1, 0])])
    samples = [*map(first.__getitem__, range(3)), *map(second.__getitem__, [3, 1, 0])]
    for batch_as in ("list", "padded", "packed"):
        (batch,) = VideoLoader(both, 6, batch_as=batch_as)
        assert is_same(batch, first.collate(samples, batch_as))


def test_a_run_that_was_interrupted_resumes_with_the_same_batches(items) -> None:
    data = VideoDataset(
        items * 2, clip=FramesByTime(3, duration_seconds=0.7), transform=random_resized_crop(16), seed=8
    )
    whole = list(VideoLoader(data, 2, shuffle=True, batch_as="packed", num_workers=2))
    loader = VideoLoader(data, 2, shuffle=True, batch_as="packed", num_workers=1)
    loader.set_epoch(0)
    taken = iter(loader)
    start = [next(taken) for _ in range(2)]
    resumed = VideoLoader(data, 2, shuffle=True, batch_as="packed", num_workers=0)
    resumed.load_state_dict(loader.state_dict())
    assert is_same([*start, *resumed], whole)


def test_datasets_and_loaders_pickle(items) -> None:
    data = VideoDataset(items, clip=FramesByTime(3), transform=fit_pixels(4 * 784))
    copy = pickle.loads(pickle.dumps(data))
    assert is_same([copy[0]], [data[0]])
    loader = pickle.loads(pickle.dumps(VideoLoader(data, 2)))
    assert is_same(list(loader), list(VideoLoader(copy, 2)))
    processes = DataLoader(data, 2, num_workers=1, collate_fn=data.collate)
    assert is_same(list(processes), list(VideoLoader(copy, 2)))


def test_folders_of_frames_have_clips_by_time_too(video, tmp_path: Path) -> None:
    from PIL import Image

    for number, frame in enumerate(VideoReader(video("h264")).get_frames_at(range(20)), 1):
        Image.fromarray(frame).save(tmp_path / f"img_{number:05}.jpg")
    data = FrameFolderDataset(
        [(str(tmp_path), 20, 0), (str(tmp_path), 7, 0)],
        clip=FramesByTime(2), transform=center_crop(16), average_fps=10.0, fields=["frame_indices"],
    )  # fmt: skip
    ((clips, _, fields),) = VideoLoader(data, 2)
    assert [frames.tolist() for frames in fields["frame_indices"]] == [[0, 5, 10, 15], [0]]
    assert [len(clip) for clip in clips] == [4, 1]


def test_what_varies_is_shown_as_such(items) -> None:
    data = VideoDataset(items, clip=FramesByTime(2, 64), transform=fit_pixels(4 * 784))
    assert "FramesByTime(fps=2, max_frames=64" in repr(
        data
    ) and "float32 [*, 3, *, *] TCHW, as each video has it" in repr(data)
    assert "list of 2 float32 [*, 3, *, *]" in repr(VideoLoader(data, 2))


@pytest.mark.parametrize("layout", ["NTCHW", "NVTCHW"])
def test_time_before_channels_is_a_layout_of_clips_of_one_shape_too(layout, items) -> None:
    data = VideoDataset(items[:2], clip="4x2x1", transform=center_crop(16), layout=layout)
    other = VideoDataset(items[:2], clip="4x2x1", transform=center_crop(16), layout=layout.replace("TC", "CT"))
    ((clips, _),) = VideoLoader(data, 2)
    ((want, _),) = VideoLoader(other, 2)
    assert clips.is_contiguous() and torch.equal(clips, want.transpose(-3, -4))
