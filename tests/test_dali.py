"""VideoLoader(decoder="dali") and dali_pipeline: the dataset's frames, boxes, flips and labels, in pixels made by DALI on the CPU.

Frames must be the very ones that were asked for. Pixels differ from the core's transform within the bounds written here, each beside
its reason. What needs a GPU is at the end, and is skipped without one.
"""

from __future__ import annotations

import gc
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest
import torch
import videos
from waiting import becomes_true, num_threads

import vidload
from vidload import FrameFolderDataset, VideoDataset, VideoLoader
from vidload.transforms import center_crop, random_crop, random_resized_crop, three_crop

pytest.importorskip("nvidia.dali")
pytestmark = pytest.mark.needs_dali

from vidload.dali import DaliBatch, dali_pipeline, samples, unsupported_reason  # noqa: E402
from vidload.dali.graph import build_pipeline  # noqa: E402

videos.VIDEOS |= {
    # 0-255 luma
    "vp9_444_full_range": videos.vp9(
        "g=24:lag-in-frames=0", pixel_format="yuv444p", color={"color_range": 2, "colorspace": 5}
    ),
    # tagged BT.709
    "vp9_bt709": videos.vp9("g=24:lag-in-frames=0", color={"color_range": 1, "colorspace": 1}),
}

# Of 255, mean over a clip: the tests' pictures are all saturated edges, which real ones are not.
NO_CHROMA_LOSS = 0.5  # the same samples: rounding, and clipping before the resize instead of after
CHROMA_TWICE = 3.5  # 4:2:0 with centered chroma: DALI brings chroma to full size first, then resizes it with luma
CHROMA_SHIFTED = 4.5  # 4:2:0 with chroma at the left (MPEG's default), which DALI takes for centered
MEAN_DIFFERENCE = {
    "vp9_444": NO_CHROMA_LOSS,
    "vp9_444_full_range": NO_CHROMA_LOSS,
    "mjpeg_444_odd": NO_CHROMA_LOSS,
    "mjpeg_avi": CHROMA_TWICE,
    "vp9": CHROMA_SHIFTED,
    "vp8": CHROMA_SHIFTED,
    # decoded by the core, with chroma where it belongs
    "h264": CHROMA_TWICE,
    "hevc": CHROMA_TWICE,
    "h264_rotated_90": CHROMA_TWICE,
    "vp9_bt709": CHROMA_TWICE,
}
IMAGENET_STD = 57.38  # the mean of the three


@pytest.fixture
def items(video) -> list[tuple[str, int]]:
    return [(video(name), label) for label, name in enumerate(MEAN_DIFFERENCE)]


@pytest.fixture
def dataset(items) -> VideoDataset:
    return VideoDataset(items, clip="4x2x1", transform=random_resized_crop(32), seed=1)


def epoch_of(loader) -> list[tuple[torch.Tensor, torch.Tensor]]:
    return [(clips.clone(), labels) for clips, labels in loader]


def assert_same(one, other) -> None:
    assert len(one) == len(other)
    for (clips, labels), (other_clips, other_labels) in zip(one, other, strict=True):
        assert labels.tolist() == other_labels.tolist()
        assert torch.equal(clips, other_clips)


def steps_of_255(clips: torch.Tensor, other: torch.Tensor, is_normalized: bool) -> torch.Tensor:
    return (clips.float() - other.float()).abs() * (IMAGENET_STD if is_normalized else 1.0)


def pictures_of(dataset: VideoDataset) -> np.ndarray:
    """The one sample of a uint8 dataset, through DALI: [T, H, W, 3]."""
    ((clips, _),) = VideoLoader(dataset, decoder="dali", num_workers=1)
    return clips[0].numpy()


# --- the same samples as the core


@pytest.mark.parametrize(
    "clip, transform, options",
    [
        ("4x2x1", random_resized_crop(48), {}),
        ("4x2x1", random_resized_crop((24, 40), antialias=False), {"layout": "NTHWC", "dtype": torch.float16}),
        ("1x1x3", center_crop(64, 80, flip=1.0), {"dtype": torch.bfloat16}),
        ("1x1x3", center_crop(64, 80), {"layout": "NVTHWC"}),
        ("4x2x2", three_crop(48, 64), {}),
        ("4x2x2", three_crop((40, 48), 64), {"layout": "NVTHWC", "dtype": torch.uint8}),
        ("4x2x2", random_crop((40, 48), 60, mean=None, std=None), {"num_repeats": 2}),
        ("4x40x1", center_crop(48, 60), {"out_of_bound": "repeat_last"}),
        ("6x30x1", center_crop(48, 60), {"out_of_bound": "loop"}),
        ("8x1x1", random_crop(48, (56, 70)), {"sampling": "uniform"}),
    ],
)
def test_clips_are_those_of_the_core_within_a_stated_difference(clip, transform, options, items) -> None:
    dataset = VideoDataset(items, clip=clip, transform=transform, seed=3, **options)
    is_normalized = transform.mean is not None and dataset.dtype != torch.uint8
    batches = epoch_of(VideoLoader(dataset, 4, shuffle=True, num_workers=1, decoder="dali"))
    dataset.set_epoch(0)
    expected = epoch_of(VideoLoader(dataset, 4, shuffle=True, num_workers=1))
    assert [len(labels) for _, labels in batches] == [4, 4, 2]
    for (clips, labels), (core_clips, core_labels) in zip(batches, expected, strict=True):
        assert labels.tolist() == core_labels.tolist()
        assert clips.shape == core_clips.shape and clips.dtype == core_clips.dtype and clips.is_contiguous()
        for label, sample in zip(labels.tolist(), steps_of_255(clips, core_clips, is_normalized), strict=True):
            name, allowed = list(MEAN_DIFFERENCE.items())[label]
            assert sample.mean() < allowed, f"{name}: {sample.mean():.2f} of 255"


@pytest.mark.parametrize(
    "name", ["vp9_444", "vp9_444_full_range", "mjpeg_444_odd", "mjpeg_avi", "h264", "h264_rotated_90", "vp9_bt709"]
)
def test_whole_pictures_are_within_one_step_where_chroma_is_full_size_or_centered(name: str, video) -> None:
    reader = vidload.VideoReader(video(name))
    whole = center_crop((reader.height, reader.width), min(reader.height, reader.width))
    dataset = VideoDataset([(video(name), 0)], clip="4x5x1", transform=whole, layout="NTHWC", dtype=torch.uint8)
    expected = dataset[0][0].numpy()
    assert np.abs(pictures_of(dataset).astype(int) - expected).max() <= 1


@pytest.mark.parametrize(
    "name", ["vp9", "vp9_alt_ref", "vp9_temporal_layers", "vp9_odd", "vp9_mp4", "vp8", "mjpeg_avi", "mjpeg_422_mov"]
)
def test_frames_are_exactly_those_asked_for_in_any_order_and_repeated(name: str, video) -> None:
    wanted = np.array([[47, 0, 5, 5, 3, 24, 46, 17, 16, 1]])
    reader = vidload.VideoReader(video(name))
    dataset = VideoDataset(
        [(video(name), 0)],
        clip="10x1x1",
        transform=center_crop((reader.height, reader.width), min(reader.height, reader.width)),
        sampling=lambda num_frames, fps, spec, rng: wanted,
        layout="NTHWC",
        dtype=torch.uint8,
    )
    all_frames = reader.get_frames_at(range(48)).astype(int)
    nearest = [int(np.abs(all_frames - picture).mean((1, 2, 3)).argmin()) for picture in pictures_of(dataset)]
    assert nearest == wanted[0].tolist()


def test_samples_do_not_depend_on_threads_or_batches(dataset) -> None:
    expected = torch.cat([clips for clips, _ in VideoLoader(dataset, 1, num_workers=0, decoder="dali")])
    for batch_size, num_workers in ((3, 0), (4, 2), (10, 1)):
        dataset.set_epoch(0)
        loader = VideoLoader(dataset, batch_size, num_workers=num_workers, decoder="dali")
        assert torch.equal(torch.cat([clips.clone() for clips, _ in loader]), expected)


def test_extracted_frames_are_decoded_by_the_core_and_resized_by_dali(video, tmp_path: Path) -> None:
    folder = tmp_path / "clip"
    folder.mkdir()
    with av.open(video("mjpeg_avi")) as container:
        for number, packet in enumerate(container.demux(video=0), start=1):
            if packet.size:
                (folder / f"img_{number:05d}.jpg").write_bytes(bytes(packet))
    dataset = FrameFolderDataset([(str(folder), 40, 5)], clip="4x3x1", transform=random_resized_crop(48))
    loader = VideoLoader(dataset, decoder="dali", num_workers=1)
    ((clips, labels),) = loader
    assert labels.tolist() == [5]
    assert steps_of_255(clips[0], dataset[0][0], True).mean() < CHROMA_TWICE
    assert loader.stats()["dali_fallbacks"] == {"extracted frames": 1}


# --- what DALI would get wrong


@pytest.mark.parametrize(
    "name, on_cpu, on_gpu",
    [
        ("vp9", None, None),
        ("vp9_444", None, "pixel format yuv444p"),
        ("mjpeg_avi", None, None),
        ("h264", "codec h264", None),
        ("h264_10bit", "codec h264", "pixel format yuv420p10le"),
        ("h264_bt601", "codec h264", None),
        ("h264_bt709", "codec h264", "colors other than BT.601"),
        ("vp9_bt709", "colors other than BT.601", "colors other than BT.601"),
        ("h264_rotated_90", "codec h264", "rotation"),
        ("h264_edit_list", "codec h264", "packets that show no frame"),
        ("mpeg2_ts", "codec mpeg2video", "codec mpeg2video"),
    ],
)
def test_videos_that_dali_would_get_wrong_are_told_apart(name: str, on_cpu, on_gpu, video) -> None:
    index = vidload._core.index_file(video(name))
    assert (unsupported_reason(index, "cpu"), unsupported_reason(index, "gpu")) == (on_cpu, on_gpu)


def test_a_stream_that_is_not_the_first_or_that_the_item_names_is_decoded_by_the_core(video, tmp_path: Path) -> None:
    path = str(tmp_path / "two.webm")
    with av.open(path, "w") as out:
        inputs = [av.open(video(name)) for name in ("vp9_odd", "vp9")]
        streams = [out.add_stream_from_template(source.streams.video[0]) for source in inputs]
        for source, stream in zip(inputs, streams, strict=True):
            for packet in source.demux(video=0):
                if packet.dts is not None:
                    packet.stream = stream
                    out.mux(packet)
            source.close()
    transform = center_crop(48, 60)
    assert unsupported_reason(vidload._core.index_file(path, 1)) == "a stream that is not the first"
    items = [(path, 0, None, None, 0), (path, 0, None, None, 1)]
    dataset = VideoDataset(items, clip="4x2x1", transform=transform)
    loader = VideoLoader(dataset, decoder="dali", num_workers=1)
    batches = epoch_of(loader)
    dataset.set_epoch(0)
    for (clips, _), (core_clips, _) in zip(batches, epoch_of(VideoLoader(dataset, num_workers=1)), strict=True):
        assert steps_of_255(clips, core_clips, True).mean() < CHROMA_TWICE
    assert loader.stats()["dali_fallbacks"] == {"a stream that the item names": 2}


def test_stats_count_what_the_core_decoded_and_why(dataset) -> None:
    loader = VideoLoader(dataset, 4, decoder="dali", num_workers=1)
    assert loader.stats()["dali_fallbacks"] == {}
    list(loader)
    assert loader.stats()["dali_fallbacks"] == {"codec h264": 2, "codec hevc": 1, "colors other than BT.601": 1}


def test_strict_makes_errors_of_what_dali_cannot_decode(dataset) -> None:
    loader = VideoLoader(dataset, 4, decoder="dali", strict=True, on_error="skip", num_workers=1)
    decoded = {list(MEAN_DIFFERENCE)[label] for _, labels in loader for label in labels.tolist()}
    assert decoded == {"vp9_444", "vp9_444_full_range", "mjpeg_444_odd", "mjpeg_avi", "vp9", "vp8"}
    reasons = [failure.reason for failure in loader.stats()["failures"]]
    assert "DALI cannot decode this video (codec h264), and strict=True forbids" in reasons[0]
    dataset.set_epoch(0)
    loader = VideoLoader(dataset, 10, decoder="dali", strict=True, num_workers=1)
    with pytest.raises(vidload.UnsupportedVideoError, match="codec h264"):
        next(iter(loader))


def test_a_batch_on_which_dali_fails_is_decoded_by_the_core(dataset, monkeypatch) -> None:
    expected = epoch_of(VideoLoader(dataset, 5, decoder="dali", num_workers=1))
    monkeypatch.setitem(samples.CODECS, "cpu", ("h264", "vp9", "vp8", "mjpeg"))  # a lie: DALI knows no H.264 on the CPU
    dataset.set_epoch(0)
    loader = VideoLoader(dataset, 5, decoder="dali", num_workers=1)
    with pytest.warns(UserWarning, match="DALI failed on one of"):
        batches = epoch_of(loader)
    assert loader.stats()["dali_fallbacks"]["DALI failed"] >= 2  # VP8 and H.264 of one batch
    for (clips, labels), (right, right_labels) in zip(batches, expected, strict=True):
        assert labels.tolist() == right_labels.tolist()
        assert steps_of_255(clips, right, True).mean((1, 2, 3, 4)).max() < CHROMA_SHIFTED
    monkeypatch.undo()
    dataset.set_epoch(0)
    loader.set_epoch(0)
    assert_same(epoch_of(loader), expected)  # and the loader goes on


# --- VideoLoader's contract


def test_each_epoch_is_new_and_set_epoch_repeats_one(dataset) -> None:
    loader = VideoLoader(dataset, 4, shuffle=True, decoder="dali", num_workers=1)
    first, second = epoch_of(loader), epoch_of(loader)
    assert not torch.equal(first[0][0], second[0][0])
    loader.set_epoch(0)
    assert_same(epoch_of(loader), first)


def test_a_fresh_loader_goes_on_in_the_middle_of_an_epoch(dataset) -> None:
    whole = epoch_of(VideoLoader(dataset, 3, shuffle=True, decoder="dali", num_workers=1))
    loader = VideoLoader(dataset, 3, shuffle=True, decoder="dali", num_workers=1)
    loader.set_epoch(0)
    iterator = iter(loader)
    next(iterator), next(iterator)
    state = loader.state_dict()
    assert (state["epoch"], state["next_sample"]) == (0, 6)
    other = VideoLoader(dataset, 3, shuffle=True, decoder="dali", num_workers=2)
    other.load_state_dict(state)
    assert_same(epoch_of(other), whole[2:])


def test_an_iteration_left_early_does_not_leak_into_the_next_or_beside_it(dataset) -> None:
    expected = epoch_of(VideoLoader(dataset, 2, decoder="dali", num_workers=2))
    loader = VideoLoader(dataset, 2, decoder="dali", num_workers=2)
    loader.set_epoch(0)
    for _ in loader:
        break
    loader.set_epoch(0)
    one = iter(loader)
    first = next(one)[0].clone()
    loader.set_epoch(0)
    assert_same(epoch_of(loader), expected)
    assert torch.equal(first, expected[0][0])
    assert torch.equal(next(one)[0], expected[1][0])


def with_bad_files(items, tmp_path: Path) -> list[tuple[str, int]]:
    text = tmp_path / "no_video.mp4"
    text.write_text("these are words")
    return [(str(tmp_path / "missing.mp4"), 100), *items[:4], (str(text), 101), *items[4:]]


def test_errors_come_with_their_batch_and_name_the_file(items, tmp_path: Path) -> None:
    good_first = [*items[:2], (str(tmp_path / "missing.mp4"), 9)]
    dataset = VideoDataset(good_first, clip="2x1x1", transform=center_crop(32, 40))
    iterator = iter(VideoLoader(dataset, 2, decoder="dali", num_workers=1))
    assert next(iterator)[1].tolist() == [0, 1]
    with pytest.raises(vidload.VideoNotFoundError, match=r"missing\.mp4"):
        next(iterator)


def test_a_sampler_that_leaves_the_video_is_an_error_and_not_a_black_picture(video) -> None:
    for frame in (48, -1):
        dataset = VideoDataset(
            [(video("vp9"), 0)],
            clip="2x1x1",
            transform=center_crop(32, 40),
            sampling=lambda *_, frame=frame: np.array([[0, frame]]),
        )
        with pytest.raises(vidload.FrameIndexError, match=rf"vp9\.webm: frame_index {frame} is out of range \[0, 48\)"):
            next(iter(VideoLoader(dataset, decoder="dali", num_workers=1)))


def test_skip_and_substitute_happen_before_dali_and_choose_what_the_core_path_chooses(items, tmp_path: Path) -> None:
    dataset = VideoDataset(with_bad_files(items, tmp_path), clip="2x1x1", transform=center_crop(32, 40), seed=2)
    for on_error, num_labels in (("skip", 10), ("substitute", 12)):
        dataset.set_epoch(0)
        loader = VideoLoader(dataset, 5, on_error=on_error, decoder="dali", num_workers=2)
        labels = [batch_labels.tolist() for _, batch_labels in loader]
        dataset.set_epoch(0)
        core_labels = [
            batch_labels.tolist() for _, batch_labels in VideoLoader(dataset, 5, on_error=on_error, num_workers=2)
        ]
        assert labels == core_labels
        assert sum(map(len, labels)) == num_labels
        assert loader.stats()["num_failed"] >= 2
        assert "DALI failed" not in loader.stats()["dali_fallbacks"]


def test_batches_of_a_batch_sampler_may_grow_and_subsets_and_many_labels_work(items) -> None:
    dataset = VideoDataset(
        [(path, [label, label + 1]) for path, label in items], clip="2x1x1", transform=center_crop(32, 40)
    )
    batches = [[0], [3, 1, 2, 4, 0], [2, 1]]
    subset = torch.utils.data.Subset(dataset, [5, 6, 7, 8, 9])
    loader = VideoLoader(subset, batch_sampler=batches, decoder="dali", num_workers=1, collate_fn=list)
    labels = [[label[0] for _, label in batch] for batch in loader]
    assert labels == [[5 + place for place in batch] for batch in batches]


def test_a_forked_child_makes_a_pipeline_of_its_own(video) -> None:
    script = (
        "import gc, os, sys, torch, vidload\n"
        "torch.set_num_threads(1)  # torch's own threads do not survive a fork\n"
        "dataset = vidload.VideoDataset([(sys.argv[1], 0)] * 4, clip='2x1x1', transform=vidload.transforms.center_crop(16))\n"
        "loader = vidload.VideoLoader(dataset, 2, num_workers=2, decoder='dali')\n"
        "expected = next(iter(loader))[0].clone()\n"
        "pid = os.fork()\n"
        "if pid == 0:\n"
        "    good = torch.equal(next(iter(loader))[0], expected)\n"
        "    del loader\n"
        "    gc.collect()\n"
        "    os._exit(0 if good else 1)\n"
        "print(os.waitpid(pid, 0)[1], len(list(loader)))\n"
    )
    command = [sys.executable, "-c", script, video("vp9")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.stdout == "0 2\n", done.stderr


def test_loaders_leave_no_threads_and_no_batches_behind(dataset) -> None:
    def use() -> None:
        loader = VideoLoader(dataset, 2, decoder="dali", num_workers=2)
        next(iter(loader))
        left = iter(loader)
        next(left)

    use()
    gc.collect()
    before = num_threads()
    for _ in range(3):
        use()
        gc.collect()
    assert becomes_true(lambda: num_threads() <= before), (num_threads(), before)
    assert not [thing for thing in gc.get_objects() if type(thing) is DaliBatch]


def test_without_dali_the_loader_says_what_to_install(dataset, monkeypatch) -> None:
    monkeypatch.delitem(sys.modules, "vidload.dali")
    monkeypatch.delattr(vidload, "dali")
    monkeypatch.setitem(sys.modules, "nvidia.dali", None)
    with pytest.raises(ImportError, match="pip install nvidia-dali-cuda130"):
        VideoLoader(dataset, decoder="dali")


def test_bad_arguments_are_named(dataset, items) -> None:
    with pytest.raises(ValueError, match="decoder 'DALI' is not one of auto, cpu, nvdec, dali"):
        VideoLoader(dataset, decoder="DALI")
    with pytest.raises(ValueError, match="augment holds DALI operators"):
        VideoLoader(dataset, augment=lambda clips: clips)
    with pytest.raises(ValueError, match="device 'tpu' is not one of cpu, gpu"):
        dali_pipeline(dataset, device="tpu")
    with pytest.raises(ValueError, match="DALI has no bfloat16"):
        dali_pipeline(VideoDataset(items, clip="1x1x1", transform=center_crop(8), dtype=torch.bfloat16))


# --- the pipeline by itself


def run_epoch(pipeline) -> list[tuple[torch.Tensor, torch.Tensor]]:
    batches = []
    while True:
        try:
            outputs = pipeline.run()
        except StopIteration:
            pipeline.reset()
            return batches
        clips, labels = (torch.from_dlpack(output.as_tensor()).clone() for output in outputs)
        batches.append((clips, labels))


def test_a_pipeline_gives_the_batches_of_the_loader_epoch_by_epoch(dataset) -> None:
    pipeline = dali_pipeline(dataset, 4, num_threads=1, shuffle=True)
    loader = VideoLoader(dataset, 4, shuffle=True, num_workers=1, decoder="dali")
    for epoch in range(2):
        batches = run_epoch(pipeline)
        loader.set_epoch(epoch)
        assert_same(batches, epoch_of(loader))


def test_a_pipeline_works_in_dalis_own_iterator(dataset) -> None:
    base_iterator = pytest.importorskip("nvidia.dali.plugin.base_iterator")
    pytorch = pytest.importorskip("nvidia.dali.plugin.pytorch")
    iterator = pytorch.DALIGenericIterator(
        [dali_pipeline(dataset, 4, num_threads=1)],
        ["clips", "labels"],
        auto_reset=True,
        last_batch_policy=base_iterator.LastBatchPolicy.PARTIAL,
    )
    for _ in range(2):
        assert [batch["labels"].flatten().tolist() for (batch,) in iterator] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


def test_a_pipeline_raises_for_a_bad_video(tmp_path: Path) -> None:
    dataset = VideoDataset([(str(tmp_path / "missing.mp4"), 0)], clip="1x1x1", transform=center_crop(8))
    with pytest.raises(vidload.VideoNotFoundError, match=r"missing\.mp4"):
        dali_pipeline(dataset, num_threads=1).run()


def test_own_operators_see_cropped_rgb_and_come_before_flip_and_normalization(items) -> None:
    dataset = VideoDataset(
        items[:3], clip="4x2x1", transform=random_resized_crop(32), seed=4, layout="NTHWC", dtype=torch.uint8
    )
    ((clips, _),) = VideoLoader(dataset, 3, num_workers=1, decoder="dali")
    dataset.set_epoch(0)
    ((inverted, _),) = VideoLoader(dataset, 3, num_workers=1, decoder="dali", augment=lambda clips: clips ^ 255)
    assert torch.equal(inverted, 255 - clips)


def test_the_example_runs_and_tells_what_vidload_decoded() -> None:
    example = Path(__file__).parents[1] / "examples" / "dali_augment.py"
    done = subprocess.run([sys.executable, str(example)], capture_output=True, text=True, timeout=120)
    assert "batch 4: clips float32 [8, 3, 16, 64, 64]" in done.stdout, done.stderr
    assert "decoded by vidload for DALI: {'codec h264': 32}" in done.stdout


# --- on a GPU


def test_the_graph_for_a_gpu_can_be_made_without_one(dataset) -> None:
    pipeline = dali_pipeline(dataset, 4, device="gpu", num_threads=1)
    if not torch.cuda.is_available():
        with pytest.raises(RuntimeError, match="CUDA is not available"):
            pipeline.build()


def test_the_graph_for_a_gpu_decodes_by_nvdec_and_does_all_that_follows_there(dataset) -> None:
    """Without a device number DALI checks and serializes the graph on any machine."""
    pipeline = build_pipeline(dataset, 4, "gpu", None, 1, None, source=None, prefetch_queue_depth=1)  # type: ignore[arg-type]
    assert len(pipeline.serialize()) > 1000
    devices: dict[str, set[str]] = {}
    for operator in pipeline._ops:
        name = getattr(operator._op, "_schema_name", type(operator._op).__name__)  # the external source has none
        devices.setdefault(name, set()).add(operator._op._device)
    assert devices["Video"] == {"mixed"}
    assert devices["ExternalSource"] == {"cpu"}
    for name in ("Merge", "Resize", "SequenceRearrange", "CropMirrorNormalize", "Reshape"):
        assert devices[name] == {"gpu"}, name


@pytest.mark.needs_cuda
def test_a_gpu_pipeline_gives_the_clips_of_the_core(dataset) -> None:
    expected = torch.cat([clips.clone() for clips, _ in VideoLoader(dataset, 10, num_workers=1)])
    clips, labels = dali_pipeline(dataset, 10, device="gpu", num_threads=2).run()
    found = torch.from_dlpack(clips.as_tensor()).cpu()
    assert torch.from_dlpack(labels.as_tensor()).flatten().tolist() == list(range(10))
    assert steps_of_255(found, expected, True).mean((1, 2, 3, 4)).max() < CHROMA_SHIFTED
