"""How much work a clip on the GPU takes, counted on the stub driver: pictures mapped, decoders made and kept, bytes uploaded, waits.

Each test runs in a forked child; see stub_driver/stub.py. Pixels are compared as well: less work must not be other work.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import vidload
from vidload import _core
from vidload.system import cuda

sys.path.insert(0, str(Path(__file__).parent / "stub_driver"))
from loading import assert_nothing_left, assert_same, batches, dataset
from stub import Stub, on_stub_gpu


def frames_of(*numbers: int):
    """A sampling function: these frames of every video."""
    return lambda *_: np.array([numbers])


# --- pictures that nobody wants are not mapped


@pytest.mark.parametrize(
    "name", ["h264", "h264_16_b_frames", "h264_b_pyramid_normal", "h264_open_gop", "hevc", "hevc_open_gop", "vp9"]
)
@on_stub_gpu
def test_nvdec_maps_the_wanted_pictures_alone(video, name):
    path = video(name)
    Stub.add_videos([path])
    data = dataset([path] * 3, clip="3x1x1", sampling=frames_of(5, 11, 20))
    expected, _ = batches(data)
    made, loader = batches(data, device="cuda", decoder="nvdec", num_workers=1)
    assert_same(made, expected)
    assert loader.stats()["fallbacks"] == {}
    assert Stub.counter("pictures_decoded") > 9
    assert Stub.counter("maps") == 9
    assert_nothing_left()


@on_stub_gpu
def test_a_vp9_picture_that_a_later_packet_shows_is_not_lost(video):
    """That packet is a few bytes long. The picture was decoded with an earlier one, which nobody wanted."""
    path = video("vp9_alt_ref")
    Stub.add_videos([path])
    data = dataset([path], clip="40x1x1", sampling=frames_of(*range(40)))
    expected, _ = batches(data)
    made, loader = batches(data, device="cuda", decoder="nvdec", num_workers=1)
    assert_same(made, expected)
    assert loader.stats()["fallbacks"] == {}


# --- decoders in use and decoders kept


@on_stub_gpu
def test_as_many_decoders_are_used_at_once_as_there_are_engines_and_one_more(video):
    path = video("h264")
    Stub.add_videos([path])
    Stub.nvcuvid.stub_set_num_engines(2)
    Stub.set_delays(300)
    data = dataset([path] * 48, clip="2x2x1", transform=vidload.transforms.center_crop(16))
    expected, _ = batches(data, batch_size=8)
    made, loader = batches(data, batch_size=8, num_workers=6, device="cuda", decoder="nvdec")
    assert_same(made, expected)
    assert 2 <= loader.stats()["num_nvdec_creations"] <= 3
    assert Stub.counter("live_decoders") <= 3


@on_stub_gpu
def test_videos_of_several_sizes_in_turn_keep_their_decoders(video):
    """Two in use at once with four kinds of video: each clip had made the decoder of another kind go."""
    names = ["h264", "h264_cropped", "h264_portrait", "hevc"]
    paths = [video(name) for name in names]
    Stub.add_videos(paths)
    data = dataset(paths * 10, clip="2x2x1", transform=vidload.transforms.center_crop(16))
    expected, _ = batches(data, batch_size=8)
    made, loader = batches(data, batch_size=8, num_workers=2, device="cuda", decoder="nvdec")
    assert_same(made, expected)
    assert loader.stats()["num_nvdec_samples"] == 40
    assert loader.stats()["num_nvdec_creations"] <= 8
    assert _core.num_nvdec_decoders(0) <= 8


@on_stub_gpu
def test_videos_of_two_sizes_do_not_close_each_others_decoders_where_all_may_be_in_use(video):
    """Every third sample had found only decoders of the other size idle, while those of its own were in use."""
    paths = [video("h264"), video("h264_cropped")]
    Stub.add_videos(paths)
    Stub.set_delays(300)
    order = random.Random(3).choices(paths, k=160)
    data = dataset(order, clip="2x2x1", transform=vidload.transforms.center_crop(16))
    expected, _ = batches(data, batch_size=8)
    cuda.set_max_decoders("cuda", 4)
    made, loader = batches(data, batch_size=8, num_workers=4, device="cuda", decoder="nvdec")
    assert_same(made, expected)
    assert loader.stats()["num_nvdec_samples"] == 160
    assert loader.stats()["num_nvdec_creations"] <= 16
    assert Stub.counter("live_decoders") <= 4


@on_stub_gpu
def test_decoders_that_are_used_no_more_make_room_for_others(video):
    """Where one of the wanted kind is in use already: it is waited for at first only."""
    paths = [video("h264"), video("h264_cropped")]
    Stub.add_videos(paths)
    data = dataset([paths[0]] * 16 + [paths[1]] * 120, clip="2x2x1", transform=vidload.transforms.center_crop(16))
    expected, _ = batches(data, batch_size=8)
    cuda.set_max_decoders("cuda", 2)
    Stub.set_delays(300)
    made, loader = batches(data, batch_size=8, num_workers=4, device="cuda", decoder="nvdec")
    assert_same(made, expected)
    assert 4 <= loader.stats()["num_nvdec_creations"] <= 10


@on_stub_gpu
def test_decoders_beyond_a_lowered_limit_go(video):
    names = ["h264", "h264_cropped", "h264_portrait", "hevc"]
    paths = [video(name) for name in names]
    Stub.add_videos(paths)
    batches(dataset(paths), num_workers=1, device="cuda", decoder="nvdec")
    assert _core.num_nvdec_decoders(0) == 4
    cuda.set_max_decoders("cuda", 1)
    assert _core.num_nvdec_decoders(0) == Stub.counter("live_decoders") == 1


# --- what goes up


def uploaded(path: str, transform: object) -> int:
    """Bytes for 4 pictures of a video that the CPU decodes, which the driver must have seen too. The pictures are the CPU's."""
    data = dataset([path], clip="4x3x1", transform=transform)
    expected, _ = batches(data)
    before = Stub.counter("bytes_uploaded")
    made, loader = batches(data, num_workers=1, device="cuda", decoder="cpu")
    assert_same(made, expected)
    count = loader.stats()["bytes_uploaded"]
    assert count == Stub.counter("bytes_uploaded") - before
    return count


@pytest.mark.parametrize("name", ["h264", "hevc_10bit", "h264_rotated_90", "h264_422", "vp9_odd"])
@on_stub_gpu
def test_only_the_rows_and_columns_of_the_crop_go_up(video, name):
    path = video(name)
    with vidload.VideoReader(path) as reader:
        side = min(reader.height, reader.width)
    whole = uploaded(path, vidload.transforms.center_crop(16, short_side=16))
    middle = uploaded(path, vidload.transforms.center_crop(side // 4, short_side=side))
    assert middle < whole / 4


@on_stub_gpu
def test_a_picture_goes_up_in_one_copy(video):
    uploads = []
    for clip_len in (2, 6):
        data = dataset([video("h264")], clip=f"{clip_len}x2x1")
        before = Stub.counter("cuMemcpyHtoDAsync_v2")
        batches(data, num_workers=1, device="cuda", decoder="cpu")
        uploads.append(Stub.counter("cuMemcpyHtoDAsync_v2") - before)
    assert uploads == [2 + 1, 6 + 1]  # and the tables of the clip's box


@pytest.mark.parametrize("decoder", ["cpu", "nvdec"])
@on_stub_gpu
def test_pictures_are_decoded_while_the_work_on_earlier_ones_is_still_to_come(video, decoder):
    """On streams that run nothing until they must, the host never waits as long as there is staging memory: 4 pictures."""
    Stub.add_videos([video("h264")])
    data = dataset([video("h264")], clip="4x3x1")
    expected, _ = batches(data, batch_size=1)
    Stub.set_lazy()
    loader = vidload.VideoLoader(data, batch_size=1, num_workers=1, device="cuda", decoder=decoder, prefetch_factor=1)
    loader.set_epoch(0)
    iterator = iter(loader)
    clips, _ = next(iterator)
    assert Stub.counter("pictures_made") >= 4
    assert Stub.counter("host_waits") == 0
    assert torch.equal(Stub.read(clips), expected[0])
