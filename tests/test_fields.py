"""Fields: what a sample tells beside its clip and label, the same from dataset[i], a plain DataLoader and VideoLoader, and true."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from samples import both
from torch.utils.data import DataLoader, Subset, WeightedRandomSampler

import vidload
from vidload import FrameFolderDataset, VideoDataset, VideoLoader
from vidload.fields import FIELDS
from vidload.transforms import center_crop, random_resized_crop, three_crop

CLIPS = ("h264", "vp9", "mpeg4", "h264_star")


@pytest.fixture
def items(video) -> list[tuple[str, int]]:
    return [(video(name), label) for label, name in enumerate(CLIPS)]


def own_sampler(num_frames, fps, spec, rng):
    return np.array([[3, 1, 1, 2]])


@pytest.mark.parametrize("sampling", ["segments", "dense", "slowfast", own_sampler])
def test_frame_indices_and_times_are_those_of_the_clip_s_pixels(sampling, items) -> None:
    data = VideoDataset(
        items, clip="4x2x1", transform=center_crop(24), sampling=sampling, training=True, seed=4, fields=FIELDS
    )
    for _, labels, fields in both(data):
        for i, label in enumerate(labels.tolist()):
            frames = fields["frame_indices"][i]
            reader = vidload.VideoReader(items[label][0])
            again = VideoDataset(
                [items[label]], clip="4x1x1", transform=center_crop(24), sampling=lambda *_, f=frames: f.numpy()[None]
            )
            assert torch.equal(again[0][0], data[label][0])
            assert fields["pts_seconds"][i].tolist() == reader.pts_seconds[frames.numpy()].tolist()
            assert fields["clip_start_seconds"][i] == reader.pts_seconds[frames[0]] - reader.pts_seconds[0]
            assert fields["fps"][i] == reader.average_fps
            assert (fields["index"][i], fields["path"][i]) == (label, items[label][0])


def test_views_have_the_frames_of_their_clips(items) -> None:
    data = VideoDataset(
        items, clip="4x1x2", transform=three_crop(24), training=False, num_repeats=2, fields=["frame_indices", "clip_start_seconds"]
    )  # fmt: skip
    (clips, _, fields), *_ = both(data)
    frames = fields["frame_indices"]
    assert frames.shape == (3, 12, 4) == (*clips.shape[:2], 4)
    one_crop = frames.view(3, 2, 3, 2, 4)  # repeats, crops, clips
    assert torch.equal(one_crop, one_crop[:, :1, :1].expand_as(one_crop))
    assert (one_crop[..., 0, :] != one_crop[..., 1, :]).all()
    assert fields["clip_start_seconds"].shape == (3, 12)


def test_seconds_of_segments_count_from_the_video_s_first_frame(video) -> None:
    data = VideoDataset(
        [(video("h264"), 0, 0.4, 0.8)], clip="1x1x1", transform=center_crop(16), fields=["clip_start_seconds", "frame_indices"]
    )  # fmt: skip
    assert data[0][2]["frame_indices"].tolist() == [15]
    assert data[0][2]["clip_start_seconds"] == pytest.approx(15 / 25)
    both(data)


def test_a_video_drawn_again_tells_its_new_frames(items) -> None:
    data = VideoDataset(items, clip="1x1x1", transform=random_resized_crop(16), fields=["frame_indices"])
    sampler = WeightedRandomSampler([0, 1.0, 0, 0], 12)
    frames = torch.cat([fields["frame_indices"] for *_, fields in VideoLoader(data, 4, sampler=sampler)])
    assert len(set(frames.flatten().tolist())) > 4


def test_fields_follow_skipped_and_substituted_samples(items, tmp_path: Path) -> None:
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(b"no video")
    data = VideoDataset(
        [items[0], (str(bad), 9), *items[1:]], clip="2x1x1", transform=center_crop(16), fields=["index", "path"]
    )
    ((clips, labels, fields),) = VideoLoader(data, 5, on_error="skip")
    assert len(clips) == 4 and fields["index"].tolist() == [0, 2, 3, 4] and labels.tolist() == [0, 1, 2, 3]
    ((_, labels, fields),) = VideoLoader(data, 5, on_error="substitute")
    other = int(fields["index"][1])
    assert other != 1 and fields["path"][1] == data.annotations.path(other) and labels[1] == data.label(other)


def test_a_subset_tells_the_index_in_its_dataset(items) -> None:
    data = VideoDataset(items, clip="1x1x1", transform=center_crop(16), fields="index")
    ((*_, fields),) = both(Subset(data, [3, 1]))
    assert fields["index"].tolist() == [3, 1]


def test_a_collate_function_and_single_samples_get_fields_too(items) -> None:
    data = VideoDataset(items, clip="1x1x1", transform=center_crop(16), fields=["index", "pts_seconds"])
    samples = list(VideoLoader(data, batch_size=None))
    assert [fields["index"] for *_, fields in samples] == [0, 1, 2, 3]
    for kind in (VideoLoader, DataLoader):
        (batch,) = kind(data, 4, collate_fn=list)
        assert [fields["pts_seconds"].shape for *_, fields in batch] == [(1,)] * 4


def test_folders_of_frames_have_times_by_their_frame_rate(video, tmp_path: Path) -> None:
    from PIL import Image

    for number, frame in enumerate(vidload.VideoReader(video("h264")).get_frames_at(range(20)), 1):
        Image.fromarray(frame).save(tmp_path / f"img_{number:05}.jpg")
    data = FrameFolderDataset(
        [(str(tmp_path), 20, 0)], clip="4x2x1", transform=center_crop(16), average_fps=10.0, fields=FIELDS
    )
    ((*_, fields),) = both(data)
    assert fields["frame_indices"].tolist() == [[6, 8, 10, 12]]
    assert fields["pts_seconds"].tolist() == [[0.6, 0.8, 1.0, 1.2]] and fields["fps"].tolist() == [10.0]


def test_an_unknown_field_is_refused_with_the_known_ones(items) -> None:
    with pytest.raises(ValueError, match="field 'duration' is not one of index, path, frame_indices"):
        VideoDataset(items, clip="1x1x1", transform=center_crop(16), fields=["index", "duration"])
