"""Several videos per sample, in step: which frames, by index arithmetic as robot datasets do it and by exact times; their pixels, by one
dataset per camera; and a loader's promises."""

from __future__ import annotations

import pickle
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from samples import both, is_same
from torch.utils.data import ConcatDataset

import vidload
from vidload import MultiVideoDataset, VideoDataset, VideoLoader, VideoReader
from vidload.errors import FrameIndexError
from vidload.transforms import center_crop, fit_pixels, random_resized_crop, three_crop

FIELDS = ("mask", "index", "path", "frame_indices", "pts_seconds", "clip_start_seconds", "fps")
DELTAS = (-0.2, -0.04, 0.0, 0.04, 1.0)


@pytest.fixture
def cameras(video) -> dict[str, str]:
    """Three videos of 48 frames at 25 fps, of two codecs."""
    return {"front": video("h264"), "wrist": video("vp9"), "top": video("h264_star")}


def one_frame(path: str, frame: int, transform: Any) -> torch.Tensor:
    chosen = np.array([[frame]])
    return VideoDataset([(path, 0)], clip="1x1x1", transform=transform, sampling=lambda *_: chosen)[0][0][:, 0]


def test_frames_are_those_of_index_arithmetic_in_every_episode_of_a_long_file(cameras) -> None:
    # Two episodes of 20 and 28 frames in each file; all frames are at i / 25 s.
    fps, ends = 25, [(0, 20), (20, 48)]
    episodes = [
        ({name: (path, first / fps, last / fps) for name, path in cameras.items()}, number, last - first)
        for number, (first, last) in enumerate(ends)
    ]
    data = MultiVideoDataset.from_episodes(
        episodes, fps=fps, delta_seconds=DELTAS, transform=center_crop(16), fields=FIELDS, tolerance_seconds=1e-4
    )
    assert len(data) == 48
    steps = [round(delta * fps) for delta in DELTAS]
    for index in (0, 1, 5, 19, 20, 21, 40, 47):
        clip, label, fields = data[index]
        first, last = ends[index >= 20]
        want = [min(max(index + step, first), last - 1) for step in steps]
        assert label == (index >= 20)
        assert fields["frame_indices"].tolist() == [want] * 3
        assert fields["mask"].tolist() == [[first <= index + step < last for step in steps]] * 3
        assert fields["path"] == cameras and fields["fps"].tolist() == [25.0] * 3
        assert clip.shape == data.sample_shape == (3, 3, 5, 16, 16)
        for view, (path, frames) in enumerate(zip(cameras.values(), fields["frame_indices"], strict=True)):
            seconds = VideoReader(path).pts_seconds
            assert fields["pts_seconds"][view].tolist() == seconds[frames].tolist()
            for t in (0, 4):
                assert torch.equal(clip[view, :, t], one_frame(path, int(frames[t]), data.transform))


@pytest.mark.parametrize("frame", ["nearest", "played"])
def test_cameras_of_other_rates_give_the_frames_of_the_same_moments(frame, video) -> None:
    videos = {
        "slow": video("h264"),
        "fast": video("h264_ntsc"),
        "uneven": video("h264_vfr"),
        "still": video("h264_one_frame"),
    }
    deltas = (-0.5, -0.11, 0.0, 0.3)
    items = [(videos, 0, seconds) for seconds in (0.0, 0.25, 0.777, 1.2)]
    data = MultiVideoDataset(
        items, delta_seconds=deltas, transform=center_crop(16), frame=frame, fields=["frame_indices", "mask"]
    )
    for index, (_, _, seconds) in enumerate(items):
        fields = data[index][2]
        for view, path in enumerate(videos.values()):
            with av.open(path) as container:
                decoded = list(container.decode(video=0))
            times = [(picture.pts - decoded[0].pts) * picture.time_base for picture in decoded]
            end = Fraction(VideoReader(path).duration_seconds)
            for t, delta in enumerate(deltas):
                moment = Fraction(seconds + delta)
                is_inside = 0 <= moment < end
                found = int(fields["frame_indices"][view, t])
                assert bool(fields["mask"][view, t]) == is_inside
                if not is_inside:
                    assert found == (0 if moment < 0 else len(times) - 1)
                elif frame == "played":
                    assert found == max(i for i, time in enumerate(times) if time <= moment + Fraction(1, 10**6))
                else:
                    nearest = min(abs(time - moment) for time in times)
                    assert abs(times[found] - moment) <= nearest + Fraction(1, 10**6)


def test_each_camera_may_have_moments_of_its_own(cameras) -> None:
    """All frames are at i / 25 s: frame i + round(25 * delta), or the last of the camera's again, with False, behind its own."""
    deltas = {"top": [0.2], "front": [-0.2, 0.0, 0.08], "wrist": (0.0, -0.04)}  # in any order
    data = MultiVideoDataset.from_episodes(
        [(cameras, 0, 48)], fps=25, delta_seconds=deltas, transform=center_crop(16), fields=FIELDS
    )
    for index in (0, 20, 46):
        clip, _, fields = data[index]
        assert clip.shape == data.sample_shape == (3, 3, 3, 16, 16)
        for view, (name, path) in enumerate(cameras.items()):
            want = [index + round(25 * delta) for delta in deltas[name]]
            mask = [0 <= frame < 48 for frame in want] + [False] * (3 - len(want))
            frames = [min(max(frame, 0), 47) for frame in [*want, *[want[-1]] * (3 - len(want))]]
            assert fields["mask"][view].tolist() == mask
            assert fields["frame_indices"][view].tolist() == frames
            assert all(torch.equal(clip[view, :, t], one_frame(path, frames[t], data.transform)) for t in range(3))
    assert data.delta_seconds == {"front": (-0.2, 0.0, 0.08), "wrist": (0.0, -0.04), "top": (0.2,)}
    assert "frames [-0.2, 0.0, 0.08] of front, [0.0, -0.04] of wrist, [0.2] of top, in seconds" in repr(data)
    both(data, 4)


def test_every_loader_gives_the_same_batches(cameras) -> None:
    items = [(cameras, {"task": k, "action": np.full(3, k, np.float32)}, 0.3 * k) for k in range(6)]
    for layout in ("NVCTHW", "NVTCHW", "NVTHWC"):
        data = MultiVideoDataset(
            items, delta_seconds=(-0.1, 0.0), transform=random_resized_crop(16), fields=FIELDS, layout=layout, seed=4
        )
        batches = both(data, 4)
        assert batches[0][0].shape == (4, *data.sample_shape) and batches[0][2]["mask"].shape == (4, 3, 2)
        assert batches[0][1]["task"].tolist() == [0, 1, 2, 3]


def test_a_random_crop_is_the_same_for_each_camera(video) -> None:
    videos = {"left": video("h264"), "right": video("h264")}
    data = MultiVideoDataset([(videos, k, 0.4) for k in range(4)], transform=random_resized_crop(16), seed=1)
    assert all(torch.equal(*data[index][0]) for index in range(4))
    assert not torch.equal(data[0][0], data[1][0])


def test_packets_that_moments_share_are_decoded_once(cameras) -> None:
    data = MultiVideoDataset([(cameras, 0, 1.0)], delta_seconds=(-0.04, 0.0, 0.0), transform=center_crop(16))
    loader = VideoLoader(data, 1)
    list(loader)
    stats = loader.stats()
    want = 0
    for path in cameras.values():
        with VideoReader(path) as reader:
            want += reader.plan([24, 25]).num_packets_decoded
    assert stats["num_packets_decoded"] == want
    assert stats["num_samples"] == 3 and stats["num_frames"] == 9  # a task per file


def test_a_frame_that_is_too_far_from_its_moment_is_an_error(video) -> None:
    videos = {"front": video("h264"), "wrist": video("h264_vfr_gap")}  # nothing is shown anew for 5 s after frame 19
    for frame in ("nearest", "played"):
        data = MultiVideoDataset([(videos, 0, 1.6)], transform=center_crop(16), tolerance_seconds=0.02, frame=frame)
        with pytest.raises(FrameIndexError, match=r"h264_vfr_gap.*the frame for 1.600000 seconds is shown at 0.76"):
            data[0]
    assert MultiVideoDataset([(videos, 0, 1.6)], transform=center_crop(16))[0][2]["mask"].all()


@pytest.fixture
def with_bad(cameras, tmp_path: Path) -> list[Any]:
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(b"no video")
    return [(cameras, 0, 0.1), ({**cameras, "top": bad}, 1, 0.1), (cameras, 2, 0.5)]


def test_one_bad_camera_fails_its_sample_alone(with_bad) -> None:
    data = MultiVideoDataset(with_bad, transform=center_crop(16), fields=FIELDS)
    with pytest.raises(vidload.VideoError, match=r"bad\.mp4"):
        list(VideoLoader(data, 3))
    ((clips, labels, fields),) = VideoLoader(data, 3, on_error="skip")
    assert labels.tolist() == [0, 2] and fields["index"].tolist() == [0, 2]
    assert torch.equal(clips, torch.stack([data[0][0], data[2][0]]))
    loader = VideoLoader(data, 3, on_error="substitute")
    ((clips, labels, fields),) = loader
    other = int(fields["index"][1])
    assert other in (0, 2) and labels[1] == other and torch.equal(clips[1], data[other][0])
    assert loader.stats()["failures"][0].path.endswith("bad.mp4")


def test_an_episode_past_the_end_of_its_file_names_the_file(cameras) -> None:
    videos = {name: (path, 30.0, 40.0) for name, path in cameras.items()}
    with pytest.raises(FrameIndexError, match=r"h264.*no frame is shown within \[30, 40\) seconds"):
        MultiVideoDataset([(videos, 0, 0.0)], transform=center_crop(16))[0]


def test_a_run_resumes_and_a_dataset_pickles_and_joins_others(cameras) -> None:
    items = [(cameras, k, 0.1 * k) for k in range(8)]
    data = MultiVideoDataset(items, transform=random_resized_crop(16), fields=FIELDS)
    whole = list(VideoLoader(data, 2, shuffle=True))
    loader = VideoLoader(data, 2, shuffle=True, num_workers=2)
    loader.set_epoch(0)
    taken = iter(loader)
    first = next(taken)
    resumed = VideoLoader(data, 2, shuffle=True, num_workers=0)
    resumed.load_state_dict(loader.state_dict())
    assert is_same([first, *resumed], whole)
    copy = pickle.loads(pickle.dumps(data))
    copy.set_epoch(0)
    data.set_epoch(0)
    assert is_same(copy[3], data[3])
    ((_, labels, _),) = VideoLoader(ConcatDataset([data, copy]), 16)
    assert labels.tolist() == [*range(8), *range(8)]


def test_an_index_file_saves_the_scans(cameras, tmp_path: Path) -> None:
    vidload.build_index(list(cameras.values()), tmp_path / "index.arrow")
    data = MultiVideoDataset([(cameras, 0, 0.5)], transform=center_crop(16), index=tmp_path / "index.arrow")
    loader = VideoLoader(data, 1)
    ((clips, _, _),) = loader
    assert torch.equal(clips[0], MultiVideoDataset([(cameras, 0, 0.5)], transform=center_crop(16))[0][0])


def test_what_makes_no_sense_is_refused_by_name(cameras) -> None:
    crop = {"transform": center_crop(16)}
    for make, message in [
        (lambda: MultiVideoDataset([(cameras, 0)], **crop), r"item 0: expected \(videos, label, seconds\)"),
        (lambda: MultiVideoDataset([], **crop), "no samples in the sequence"),
        (lambda: MultiVideoDataset([(cameras, 0, -1.0)], **crop), "item 0: seconds is -1.0"),
        (lambda: MultiVideoDataset([("a.mp4", 0, 0.0)], **crop), "videos must be a dict"),
        (lambda: MultiVideoDataset([(cameras, 0, 0.0), ({"front": "a.mp4"}, 0, 0.0)], **crop),
         r"item 1: cameras are \['front'\], but \['front', 'top', 'wrist'\]"),
        (lambda: MultiVideoDataset([(cameras, 0, 0.0)], delta_seconds=(), **crop), "delta_seconds is"),
        (lambda: MultiVideoDataset([(cameras, 0, 0.0)], delta_seconds={"front": [0]}, **crop),
         r"delta_seconds has the cameras \['front'\], the items have \['front', 'top', 'wrist'\]"),
        (lambda: MultiVideoDataset([(cameras, 0, 0.0)], delta_seconds={key: ["a"] for key in cameras}, **crop),
         r"delta_seconds\['front'\] is \['a'\], must be numbers"),
        (lambda: MultiVideoDataset([(cameras, 0, 0.0)], frame="first", **crop), "frame is 'first'"),
        (lambda: MultiVideoDataset([(cameras, 0, 0.0)], tolerance_seconds=-1, **crop), "tolerance_seconds is -1"),
        (lambda: MultiVideoDataset([(cameras, 0, 0.0)], transform=three_crop(16)), "need one crop of one size"),
        (lambda: MultiVideoDataset([(cameras, 0, 0.0)], transform=fit_pixels(784)), "need one crop of one size"),
        (lambda: MultiVideoDataset([(cameras, 0, 0.0)], layout="NCTHW", **crop), "use 'NVCTHW'"),
        (lambda: MultiVideoDataset([(cameras, 0, 0.0)], fields=["masks"], **crop), "field 'masks' is not one of .*mask"),
        (lambda: MultiVideoDataset.from_episodes([(cameras, 0, 0)], 25, **crop), "episode 0: expected"),
        (lambda: MultiVideoDataset([(cameras, 0, 0.0), ({**cameras, "top": ("a.mp4", 2.0, 1.0)}, 0, 0.0)], **crop),
         r"episode 1, camera 'top': \[start_seconds, end_seconds\) is \[2.0, 1.0\), which contains no time"),
        (lambda: MultiVideoDataset([({"front": 7}, 0, 0.0)], **crop), "episode 0, camera 'front': expected .* got 7"),
        (lambda: MultiVideoDataset.from_episodes([], 25, **crop), "episodes: none in the sequence"),
        (lambda: MultiVideoDataset.from_episodes([(cameras, 0, 5)], 0, **crop), "fps is 0"),
        (lambda: VideoLoader(MultiVideoDataset([(cameras, 0, 0.0)], **crop), decoder="dali"), "one video per sample"),
        (lambda: VideoDataset([("a.mp4", 0)], clip="1x1x1", fields=["mask"], **crop), "field 'mask' is not one of"),
    ]:  # fmt: skip
        with pytest.raises(ValueError, match=message):
            make()


def test_its_repr_tells_cameras_and_moments(cameras) -> None:
    data = MultiVideoDataset.from_episodes([(cameras, 0, 40)], 25, delta_seconds=(-0.1, 0.0), transform=center_crop(16))
    text = repr(data)
    assert "MultiVideoDataset: 40 samples of 3 files" in text
    assert "frames [-0.1, 0.0] seconds from a moment, of front, wrist, top; 3 views" in text
