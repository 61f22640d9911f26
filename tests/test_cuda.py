"""VideoLoader(device="cuda") on the stub driver: batches equal the CPU loader's bit for bit, and nothing is left behind.

Each test runs in a forked child (see stub_driver/stub.py), where a stub stands in for the driver and for NVDEC; FFmpeg and vidload are the
real ones. It shows logic, order and arithmetic; speed, drivers and silicon it does not.
"""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import ptx
import pytest
import torch
from PIL import Image

import vidload
from vidload import _core, _testing
from vidload.system import cuda, selftest

sys.path.insert(0, str(Path(__file__).parent / "stub_driver"))
from loading import assert_nothing_left, assert_same, batches, dataset
from stub import Stub, StubBuffer, on_stub_gpu


@pytest.fixture
def h264_files(video) -> list[str]:
    return [video(name) for name in ("h264", "h264_no_b_frames", "h264_b_pyramid_normal", "h264_star")]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.uint8])
@pytest.mark.parametrize("layout", ["NCTHW", "NTHWC"])
@on_stub_gpu
def test_cpu_decoded_clips_on_the_gpu_equal_the_cpu_loaders(h264_files, dtype, layout):
    data = dataset(h264_files, dtype=dtype, layout=layout)
    expected, _ = batches(data)
    Stub.set_lazy()
    made, loader = batches(data, device="cuda", decoder="cpu")
    assert_same(made, expected)
    assert loader.stats()["num_samples"] == 4


@on_stub_gpu
def test_extracted_frames_go_to_the_gpu_too(tmp_path):
    for number in range(1, 9):
        picture = selftest._picture(number, 64, 48)
        Image.fromarray(picture).save(tmp_path / f"img_{number:05}.jpg", quality=95)
    data = vidload.FrameFolderDataset(
        [(str(tmp_path), 8, 0)] * 3, clip="4x2x1", transform=vidload.transforms.random_resized_crop(24)
    )
    expected, _ = batches(data)
    Stub.set_lazy()
    made, _ = batches(data, device="cuda")
    assert_same(made, expected)


@on_stub_gpu
def test_extracted_frames_that_nvdec_is_asked_for_are_counted_or_refused(tmp_path):
    Image.fromarray(selftest._picture(1, 64, 48)).save(tmp_path / "img_00001.jpg")
    data = vidload.FrameFolderDataset(
        [(str(tmp_path), 1, 0)] * 2, clip="1x1x1", transform=vidload.transforms.center_crop(24)
    )
    _, loader = batches(data, device="cuda", decoder="nvdec")
    assert loader.stats()["fallbacks"] == {"codec": 2}
    with pytest.raises(vidload.UnsupportedVideoError, match="JPEG pictures are decoded by the CPU"):
        batches(data, device="cuda", decoder="nvdec", strict=True)
    _, loader = batches(data, device="cuda", strict=True)
    assert loader.stats()["fallbacks"] == {}


@on_stub_gpu
def test_ten_crops_of_several_clips_equal_the_cpu_loaders(video):
    """Many views of one frame are one launch."""
    data = dataset([video("h264")], clip="2x2x3", transform=vidload.transforms.ten_crop(24, short_side=32))
    expected, _ = batches(data)
    made, _ = batches(data, device="cuda", decoder="cpu")
    assert_same(made, expected)
    assert Stub.counter("pictures_made") == 60
    assert Stub.counter("cuLaunchKernel") <= 6


@on_stub_gpu
def test_a_driver_that_knows_no_binary_of_the_kernels_gets_their_ptx(h264_files):
    data = dataset(h264_files)
    expected, _ = batches(data)
    Stub.fail("cuModuleLoadData", 1, 209)  # CUDA_ERROR_NO_BINARY_FOR_GPU
    made, _ = batches(data, device="cuda", decoder="cpu")
    assert_same(made, expected)
    assert Stub.counter("cuModuleLoadData") == 2


NVDEC_VIDEOS = [
    "h264",
    "h264_16_b_frames",
    "h264_b_pyramid_normal",
    "h264_star",
    "h264_open_gop",
    "h264_intra_refresh",
    "h264_slices",
    "h264_mbaff",
    "h264_cropped",
    "h264_full_range",
    "h264_rotated_90",
    "h264_edit_list",
    "h264_ts",
    "hevc",
    "hevc_open_gop",
    "hevc_16_b_frames",
    "hevc_temporal_layers",
    "hevc_10bit",
    "vp9",
    "vp9_alt_ref",
    "vp9_temporal_layers",
]


@pytest.mark.parametrize("name", NVDEC_VIDEOS)
@on_stub_gpu
def test_nvdec_clips_equal_the_cpu_loaders(video, name):
    data = dataset([video(name)] * 4, clip="3x5x2", layout="NVCTHW")
    expected, _ = batches(data)
    Stub.add_videos([video(name)])
    Stub.set_lazy()
    made, loader = batches(data, device="cuda", decoder="nvdec")
    stats = loader.stats()
    assert stats["fallbacks"] == {}
    assert stats["num_nvdec_samples"] == 4
    assert Stub.counter("unknown_pictures") == 0
    assert_same(made, expected)
    assert_nothing_left()


@on_stub_gpu
def test_packets_that_nothing_depends_on_are_not_decoded_by_nvdec_either(video):
    path = video("h264_star")
    Stub.add_videos([path])
    data = dataset([path], clip="2x16x1", sampling=lambda *_: torch.tensor([[16, 32]]).numpy())
    _, loader = batches(data, device="cuda", decoder="nvdec", num_workers=1)
    stats = loader.stats()
    assert stats["num_packets_decoded"] == 2
    # Beside them, each span's keyframe again until its last frame has come out.
    assert Stub.counter("pictures_decoded") <= 2 + 2 * 3


@pytest.mark.parametrize("name", ["h264", "hevc_10bit"])
@on_stub_gpu
def test_from_file_to_batch_by_nvdec_and_the_ptx_of_nvcc(video, name):
    """The whole way: FFmpeg, the stub NVDEC, and what nvcc made of the kernel, run by the interpreter, memory checked."""
    path = video(name)
    Stub.add_videos([path])
    size = 20
    data = dataset(
        [path] * 2, clip="2x9x1", transform=vidload.transforms.random_resized_crop(size), dtype=torch.float16
    )
    expected, _ = batches(data)
    kernels = ptx.parse(_testing.cuda_ptx().decode())
    names, problems = [], []

    def interpret(kernel: str, descriptors: int, count: int) -> None:
        names.append(kernel)
        try:
            run(kernel, descriptors, count)
        except Exception as error:  # a callback from C has nobody to raise to
            problems.append(error)

    def run(kernel: str, descriptors: int, count: int) -> None:
        memory = ptx.Memory()
        for device_address, host_address, num_bytes in Stub.allocations():
            array = np.ctypeslib.as_array((ctypes.c_uint8 * num_bytes).from_address(host_address))
            memory.add(array, f"{num_bytes} bytes", is_writable=device_address in StubBuffer.addresses)
        num_bytes = count * _testing.CUDA_DESCRIPTOR_BYTES
        memory.add(np.ctypeslib.as_array((ctypes.c_uint8 * num_bytes).from_address(descriptors)), "descriptors")
        block = _testing.CUDA_BLOCK
        grid = (-(-size // block[0]), -(-size // block[1]), count)
        ptx.launch(kernels[kernel], grid, block, [descriptors.to_bytes(8, "little")], memory)

    Stub.run_kernels_by(interpret)
    made, loader = batches(data, device="cuda", decoder="nvdec", num_workers=1)
    assert problems == []
    assert names == ["vidload_transform_float16"] * 4
    assert loader.stats()["num_nvdec_samples"] == 2
    assert_same(made, expected)


# --- decoders are reused


@on_stub_gpu
def test_200_clips_of_one_size_take_one_nvdec_decoder_a_thread(video):
    names = ["h264_b_pyramid_normal", "h264_b_pyramid_strict"]
    paths = [video(name) for name in names]
    data = dataset([paths[i % 2] for i in range(200)], clip="2x2x1", transform=vidload.transforms.center_crop(16))
    expected, _ = batches(data, batch_size=20)
    Stub.add_videos(paths)
    made, loader = batches(data, batch_size=20, device="cuda", decoder="nvdec")
    assert_same(made, expected)
    assert loader.stats()["num_nvdec_samples"] == 200
    assert loader.stats()["num_nvdec_creations"] == Stub.counter("decoders_created") <= 2
    assert_nothing_left()


@on_stub_gpu
def test_a_reused_decoder_gives_no_frame_of_the_file_before(tmp_path, monkeypatch):
    """Pictures of the last file are still inside the decoder when the next one starts, under the same packet numbers."""
    picture = selftest._picture
    # I0 P4 B2 b1 b3: frame 1 leaves P4 and B2 inside.
    options = {
        "g": "24",
        "bf": "3",
        "x264-params": "b-adapt=0:scenecut=0",
    }
    monkeypatch.setitem(selftest.CLIPS, "h264", ("libx264", "yuv420p", options))
    readers = []
    for first in (0, 100):
        monkeypatch.setattr(selftest, "_picture", lambda index, *size, first=first: picture(first + index, *size))
        path = tmp_path / f"{first}.mkv"
        selftest.encode_clip("h264", path, 64, 48)
        Stub.add_videos([path])
        readers.append((vidload.VideoReader(path), vidload.VideoReader(path, device="cuda", decoder="nvdec")))
    for wanted in range(12):
        for (on_cpu, on_gpu), frame in zip(readers, (1, wanted), strict=True):
            assert torch.equal(Stub.read(on_gpu[frame]), torch.from_numpy(on_cpu[frame])), (wanted, frame)
    assert Stub.counter("decoders_created") == 1


@on_stub_gpu
def test_the_pool_of_nvdec_decoders_is_capped(video):
    names = ["h264", "h264_cropped", "h264_portrait", "hevc", "vp9"]
    paths = [video(name) for name in names]
    data = dataset(paths * 4)
    expected, _ = batches(data)
    Stub.add_videos(paths)
    cuda.set_max_decoders("cuda", 2)
    made, _ = batches(data, device="cuda", decoder="nvdec")
    assert_same(made, expected)
    assert _core.num_nvdec_decoders(0) <= 2
    assert Stub.counter("live_decoders") <= 2


# --- what NVDEC cannot have is decoded by the CPU, visibly


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("h264_10bit", "depth"),
        ("h264_422", "chroma"),
        ("h264_tiny", "too_small"),
        ("av1", "codec"),
        ("mpeg4", "codec"),
        ("vp9_odd", "odd_size"),
        ("h264_raw", "irregular"),
        ("h264_resolution_change", "irregular"),  # parameter sets change on the way
    ],
)
@on_stub_gpu
def test_a_stream_that_nvdec_refuses_is_decoded_by_the_cpu_and_counted(video, name, reason):
    data = dataset([video(name)] * 2)
    expected, _ = batches(data)
    made, loader = batches(data, device="cuda", decoder="nvdec")
    assert_same(made, expected)
    assert loader.stats()["fallbacks"] == {reason: 2}
    assert loader.stats()["num_nvdec_samples"] == 0


@on_stub_gpu
def test_pictures_beyond_the_gpus_limit_are_decoded_by_the_cpu(video):
    Stub.nvcuvid.stub_set_limits(48, 16, 100, 100, 100)
    data = dataset([video("h264")])
    expected, _ = batches(data)
    made, loader = batches(data, device="cuda", decoder="nvdec")
    assert_same(made, expected)
    assert loader.stats()["fallbacks"] == {"too_large": 1}


@on_stub_gpu
def test_auto_decodes_small_pictures_on_the_cpu_and_says_so(h264_files):
    _, loader = batches(dataset(h264_files), device="cuda")
    assert loader.decoder == "auto"
    assert loader.stats()["fallbacks"] == {"small_picture": 4}


@on_stub_gpu
def test_strict_fails_where_nvdec_cannot(video):
    with pytest.raises(vidload.UnsupportedVideoError, match=r"NVDEC cannot decode it \(depth: .*strict=True"):
        batches(dataset([video("h264_10bit")]), device="cuda", decoder="nvdec", strict=True)


@pytest.mark.parametrize(
    ("function", "nth", "reason"),
    [
        ("cuvidCreateDecoder", 0, "create_failed"),
        ("cuvidCreateDecoder", 1, "create_failed"),
        ("cuvidMapVideoFrame64", 0, "map_failed"),
        ("cuvidMapVideoFrame64", 3, "map_failed"),
        ("cuvidDecodePicture", 5, None),
    ],
)
@on_stub_gpu
def test_a_failing_decoder_costs_no_clip(h264_files, function, nth, reason):
    data = dataset(h264_files)
    expected, _ = batches(data)
    Stub.add_videos(h264_files)
    Stub.set_lazy()
    Stub.fail(function, nth)
    made, loader = batches(data, device="cuda", decoder="nvdec", num_workers=1)
    assert_same(made, expected)
    fallbacks = loader.stats()["fallbacks"]
    if reason is not None:
        assert set(fallbacks) == {reason}
    assert sum(fallbacks.values()) == 4 - loader.stats()["num_nvdec_samples"]
    assert_nothing_left()


@pytest.mark.parametrize(
    "function",
    ["cuMemAlloc_v2", "cuMemAllocHost_v2", "cuMemcpyHtoDAsync_v2", "cuLaunchKernel", "cuEventRecord", "cuStreamCreate"],
)
@pytest.mark.parametrize("nth", [1, 2, 5])
@pytest.mark.parametrize("decoder", ["cpu", "nvdec"])
@on_stub_gpu
def test_a_failing_driver_call_is_an_error_and_the_loader_recovers(h264_files, function, nth, decoder):
    data = dataset(h264_files)
    expected, _ = batches(data)
    Stub.add_videos(h264_files)
    _core.cuda_devices()
    Stub.fail(function, nth)
    loader = vidload.VideoLoader(data, batch_size=2, num_workers=2, device="cuda", decoder=decoder)
    try:
        for _ in loader:
            pass
    except (vidload.VideoError, RuntimeError) as error:
        assert "CUDA: cannot" in str(error)
    Stub.succeed()
    loader.set_epoch(0)
    made = [Stub.read(clips) for clips, _ in loader]
    assert torch.equal(torch.cat(made), torch.cat(expected))
    assert Stub.context_depth() == 0


@pytest.mark.parametrize(
    "function", ["cuMemAlloc_v2", "cuMemAllocHost_v2", "cuMemcpyHtoDAsync_v2", "cuLaunchKernel", "cuEventRecord"]
)
@pytest.mark.parametrize("on_error", ["skip", "substitute"])
@on_stub_gpu
def test_a_failing_gpu_is_no_bad_video(h264_files, function, on_error):
    data = dataset(h264_files * 50)
    loader = vidload.VideoLoader(data, batch_size=2, num_workers=2, device="cuda", decoder="cpu", on_error=on_error)
    _core.cuda_devices()
    Stub.fail(function, 0)
    iterator = iter(loader)
    with pytest.raises(RuntimeError, match="CUDA: cannot"):
        next(iterator)
    with pytest.raises(RuntimeError, match="was ended by RuntimeError"):
        next(iterator)
    assert loader.stats()["failures"] == []


@pytest.mark.parametrize(("function", "is_lost"), [("cuvidCreateDecoder", False), ("cuvidMapVideoFrame64", True)])
@on_stub_gpu
def test_where_only_nvdec_may_decode_its_failing_is_no_bad_video(h264_files, function, is_lost):
    Stub.add_videos(h264_files)
    loader = vidload.VideoLoader(
        dataset(h264_files * 3),
        batch_size=2,
        num_workers=2,
        device="cuda",
        decoder="nvdec",
        strict=True,
        on_error="skip",
    )
    list(loader)
    cuda.set_max_decoders("cuda", 1)
    Stub.fail(function, 0)
    if is_lost:
        Stub.library.stub_fail(b"cuStreamCreate", 0, 700)  # CUDA_ERROR_ILLEGAL_ADDRESS
    with pytest.raises(RuntimeError, match="CUDA: "):
        for _ in range(3):
            list(loader)
    assert loader.stats()["failures"] == []


@on_stub_gpu
def test_damaged_videos_fail_as_they_do_on_the_cpu(video):
    paths = [video("h264"), video("h264_damaged"), video("h264_star")]
    data = dataset(paths, clip="8x2x1", transform=vidload.transforms.center_crop(32))
    expected, plain = batches(data, on_error="substitute")
    Stub.add_videos([paths[0], paths[2]])
    made, loader = batches(data, on_error="substitute", device="cuda", decoder="cpu")
    assert_same(made, expected)
    assert loader.stats()["num_failed"] == plain.stats()["num_failed"]


# --- order with the consumer's work, without host waits


@on_stub_gpu
def test_a_batch_is_written_after_what_the_consumer_had_queued_and_before_what_it_queues_next(h264_files):
    """A buffer that the consumer's stream still reads may be written only after it: here the consumer overwrites what it was given."""
    data = dataset(h264_files * 3)
    expected, _ = batches(data, batch_size=2)
    Stub.set_lazy()
    loader = vidload.VideoLoader(data, batch_size=2, num_workers=2, device="cuda", decoder="cpu")
    data.set_epoch(0)
    made = []
    for clips, _ in loader:
        Stub.library.stub_run_created_streams()  # the consumer is slow, the loader's streams are not
        made.append(Stub.read(clips))
        # Queued, not run: it runs before any later write to this buffer, or spoils it.
        Stub.library.stub_fill(clips.data_ptr(), 0x77, clips.numel() * 4, Stub.stream)
        del clips
    assert_same(made, expected)


@on_stub_gpu
def test_the_host_does_not_wait_for_the_gpu_a_frame(video):
    path = video("h264")
    Stub.add_videos([path])
    data = dataset([path] * 8, clip="8x2x1", transform=vidload.transforms.center_crop(32))
    list(vidload.VideoLoader(data, batch_size=8, num_workers=1, device="cuda", decoder="nvdec"))
    assert Stub.counter("cuLaunchKernel") == 64
    assert Stub.counter("host_waits") == 0  # with streams that run at once; any wait that found work undone would count
    assert Stub.counter("cuStreamSynchronize") <= 2


@on_stub_gpu
def test_staging_memory_does_not_grow_with_the_number_of_clips(h264_files):
    loader = vidload.VideoLoader(dataset(h264_files * 8), batch_size=4, num_workers=2, device="cuda", decoder="cpu")
    list(loader)
    after_one = (_core.cuda_memory_held(), Stub.counter("live_allocations"), loader.stats()["memory_bytes"])
    for _ in range(3):
        for batch in loader:
            del batch
    held = (_core.cuda_memory_held(), Stub.counter("live_allocations"), loader.stats()["memory_bytes"])
    assert held[0][0] <= after_one[0][0] * 1.5
    assert held[1] <= after_one[1]
    assert held[2] <= after_one[2]


@on_stub_gpu
def test_a_loader_that_goes_away_leaves_no_memory_behind(h264_files):
    loader = vidload.VideoLoader(dataset(h264_files * 4), batch_size=2, num_workers=2, device="cuda", decoder="cpu")
    iterator = iter(loader)
    next(iterator)
    del iterator, loader
    assert _core.cuda_memory_held() == (0, 0)
    assert Stub.counter("live_streams") == 0
    assert Stub.counter("live_events") == 0
    assert Stub.counter("live_pinned") == 0
    assert Stub.counter("live_allocations") == 0


# --- threads, devices, processes


@pytest.mark.parametrize("decoder", ["cpu", "nvdec"])
@on_stub_gpu
def test_threads_under_random_delays_make_the_same_batches(h264_files, decoder):
    data = dataset(h264_files * 4)
    expected, _ = batches(data, batch_size=4)
    Stub.add_videos(h264_files)
    Stub.set_lazy()
    Stub.set_delays(300)
    made, _ = batches(data, batch_size=4, num_workers=6, prefetch_factor=3, device="cuda", decoder=decoder)
    assert_same(made, expected)
    assert_nothing_left()


@on_stub_gpu
def test_one_process_drives_two_devices(h264_files):
    data = dataset(h264_files)
    expected, _ = batches(data)
    Stub.add_videos(h264_files)
    Stub.set_num_devices(2)
    loaders = [
        vidload.VideoLoader(data, batch_size=3, num_workers=2, device=f"cuda:{i}", decoder="nvdec") for i in range(2)
    ]
    for loader in loaders:
        loader.set_epoch(0)
    for (one, _), (other, _), right in zip(*loaders, expected, strict=True):
        assert torch.equal(Stub.read(one), right)
        assert torch.equal(Stub.read(other), right)


@on_stub_gpu
def test_a_device_that_is_not_there_is_named(h264_files):
    with pytest.raises(RuntimeError, match="device 3 was asked for; there are 1"):
        list(vidload.VideoLoader(dataset(h264_files), device="cuda:3"))


@on_stub_gpu
def test_no_device_at_all_is_said(h264_files):
    Stub.set_num_devices(0)
    with pytest.raises(RuntimeError, match="CUDA: cannot start the driver"):
        list(vidload.VideoLoader(dataset(h264_files), device="cuda"))


@on_stub_gpu
def test_a_child_forked_after_cuda_was_started_is_refused_with_a_clear_error(h264_files):
    loader = vidload.VideoLoader(dataset(h264_files), num_workers=1, device="cuda", decoder="cpu")
    next(iter(loader))
    child = os.fork()
    if child == 0:
        try:
            next(iter(loader))
            status = 1
        except RuntimeError as error:
            status = 0 if "forked after CUDA had been started" in str(error) else 2
        except BaseException:
            status = 3
        os._exit(status)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0


def test_without_a_driver_a_gpu_loader_says_so_and_the_cpu_works(h264_files):
    if _core.why_no_cuda_driver() == "":
        pytest.skip("this machine has a CUDA driver")
    with pytest.raises(RuntimeError, match=r"no CUDA driver|no CUDA kernels"):
        vidload.VideoLoader(dataset(h264_files), device="cuda")
    assert len(batches(dataset(h264_files))[0]) == 2


@pytest.mark.parametrize("device", ["mps", "meta"])
def test_other_devices_are_refused(h264_files, device):
    with pytest.raises(ValueError, match="neither 'cpu' nor a CUDA device"):
        vidload.VideoLoader(dataset(h264_files), device=device)


def test_nvdec_needs_a_gpu(h264_files):
    with pytest.raises(ValueError, match="needs device='cuda'"):
        vidload.VideoLoader(dataset(h264_files), decoder="nvdec")


# --- VideoReader


@pytest.mark.parametrize("decoder", ["cpu", "nvdec"])
@on_stub_gpu
def test_reader_frames_on_the_gpu_equal_those_on_the_cpu(video, decoder):
    path = video("h264_rotated_90")
    Stub.add_videos([path])
    wanted = [40, 3, 3, 17, -1]
    expected = vidload.VideoReader(path).get_frames_at(wanted)
    Stub.set_lazy()
    frames = vidload.VideoReader(path, device="cuda", decoder=decoder).get_frames_at(wanted)
    assert torch.equal(Stub.read(frames), torch.from_numpy(expected))
    assert (Stub.counter("decoders_created") > 0) == (decoder == "nvdec")
    assert_nothing_left()


@on_stub_gpu
def test_reader_of_bytes_gives_frames_on_the_gpu_too(video):
    data = Path(video("vp9")).read_bytes()
    frames = vidload.VideoReader(data, device="cuda")[10:13]
    assert torch.equal(Stub.read(frames), torch.from_numpy(vidload.VideoReader(data)[10:13]))


@on_stub_gpu
def test_a_strict_reader_fails_where_nvdec_cannot(video):
    reader = vidload.VideoReader(video("h264_422"), device="cuda", decoder="nvdec", strict=True)
    with pytest.raises(vidload.UnsupportedVideoError, match="NVDEC cannot decode it \\(chroma"):
        reader.get_frames_at([0])


# --- the bench


@pytest.fixture
def bench(monkeypatch):
    folder = Path(__file__).parents[1] / "bench"
    if not folder.is_dir():
        pytest.skip("bench/ is not part of an installed package")
    monkeypatch.syspath_prepend(str(folder))


@pytest.mark.parametrize("decoder", ["cpu", "nvdec", "auto"])
@on_stub_gpu
def test_the_bench_loads_the_same_jobs_to_a_gpu_as_to_the_cpu(bench, video, tmp_path, decoder):
    import peers
    import workers

    path = video("h264_star")
    Stub.add_videos([path])
    jobs, (case,) = workers.make_jobs({"small": [(path, 0)]}, tmp_path, ["2x2x1"], clips_per_round=16, num_rounds=1)
    indices = range(*case.jobs(0))
    expected = [batch.clone() for batch in peers.vidload_loader(jobs, 2)(indices, 8)]
    loaders: dict[Any, Any] = {}
    batches_on_gpu = peers.vidload_loader(jobs, 2, loaders, device="cuda", decoder=decoder)
    made = [Stub.read(batch) for batch in batches_on_gpu(indices, 8)]
    assert_same(made, expected)
    stats = peers.nvdec_stats(loaders)
    assert stats["num_nvdec_samples"] == (16 if decoder == "nvdec" else 0)
    assert stats["fallbacks"] == ({"small_picture": 16} if decoder == "auto" else {})


@on_stub_gpu
def test_the_bench_tells_what_nvml_says_and_how_fast_the_kernel_is(bench):
    """Its figures mean nothing here: the stub runs kernels on the host."""
    import gpu_loaders

    with gpu_loaders.GpuMeter(gpu_loaders.nvml.Gpu("0000:3b:00.0")) as meter:
        while not meter.summary(0):
            pass
    assert meter.summary(2**28) == {
        "decoder_percent": 37.0,
        "gpu_megabytes": 2**28 / 1e6,
    }  # no more does this NVML know
    (line,) = gpu_loaders.kernel_lines(torch.device("cuda", 0), [64], num_pictures=1, num_launches=1)
    assert line.startswith("kernel, 128x64 to 224x224 float16: ")
    assert gpu_loaders.default_gpu_threads(9) == 2
