"""The loaders that loader_vs_decord.py, frame_vs_video.py and gpu_loaders.py compare, each run in its own process so that
their libraries cannot clash.

In, as JSON lines on stdin: which jobs to load. Out, on stdout: seconds. A job is a video or a folder of JPEG
frames, the frames wanted, and a crop: the same for every loader. Peers run as their users run them: a torch
DataLoader with worker processes (SPDL: its own threads), one FFmpeg thread per decoder, crop and resize by
OpenCV. This file runs in other environments too, so it imports vidload only for vidload itself.

    python bench/peers.py --install     # decord, decord2, SPDL, OpenCV and simplejpeg into bench/data/peers, each in its own folder
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

SIZE = 224
BATCH_SIZE = 8
WARM_STEPS = 2  # before iterations are timed
MEAN = np.array([123.675, 116.28, 103.53], np.float32)
STD = np.array([58.395, 57.12, 57.375], np.float32)

PEERS_FOLDER = Path(__file__).resolve().parent / "data" / "peers"
# pip names of each peer, installed separately: decord2 is imported as "decord" too.
PACKAGES = {
    "decord": ["decord"],
    "torchcodec": ["torchcodec"],
    "pyav": ["av"],
    "opencv": ["opencv-python-headless"],
    "decord2": ["decord2"],
    "spdl": ["spdl-core", "spdl-io"],
    "jpeg": ["simplejpeg"],
    "jpeg_fused": ["simplejpeg"],
    "torchcodec_cuda": ["torchcodec"],
    "pynvvideocodec": ["PyNvVideoCodec"],
    "dali": ["nvidia-dali-cuda130"],
}
INSTALLED_APART = ("decord", "opencv", "decord2", "spdl", "jpeg")

Frames = Any  # uint8 RGB [T, H, W, 3], or a list of [H, W, 3]
ReadFrames = Callable[[str, list[int]], Frames]


# ---- how each library reads frames


def decord_reader() -> ReadFrames:
    import decord

    def read(path: str, frames: list[int]) -> Frames:
        return decord.VideoReader(path, num_threads=1).get_batch(frames).asnumpy()

    return read


def torchcodec_reader() -> ReadFrames:
    from torchcodec.decoders import VideoDecoder

    def read(path: str, frames: list[int]) -> Frames:
        # approximate seeking avoids the scan that "exact" does on each open; these files have a constant frame rate
        decoder = VideoDecoder(path, dimension_order="NHWC", num_ffmpeg_threads=1, seek_mode="approximate")
        return decoder.get_frames_at(frames).data.numpy()

    return read


def pyav_reader() -> ReadFrames:
    import av

    def read(path: str, frames: list[int]) -> Frames:
        images: dict[int, np.ndarray] = {}
        with av.open(path) as container:
            stream = container.streams.video[0]
            stream.codec_context.thread_count = 1
            ticks = 1 / (stream.average_rate * stream.time_base)  # a frame, in time_base
            previous = -1000
            for wanted in sorted(set(frames)):
                if wanted - previous > 24:  # nearer frames are reached sooner by decoding on
                    container.seek(int(wanted * ticks), stream=stream)
                    decoded = container.decode(stream)
                for frame in decoded:
                    if round(frame.pts / ticks) >= wanted:
                        images[wanted] = frame.to_ndarray(format="rgb24")
                        break
                previous = wanted
        return [images[i] for i in frames]

    return read


def opencv_reader() -> ReadFrames:
    import cv2

    def read(path: str, frames: list[int]) -> Frames:
        capture = cv2.VideoCapture(path, cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
        images: dict[int, np.ndarray] = {}
        position = 0
        for wanted in sorted(set(frames)):
            if wanted - position > 24:  # nearer frames are reached sooner by decoding on
                capture.set(cv2.CAP_PROP_POS_FRAMES, wanted)
                position = wanted
            while position < wanted:
                capture.grab()
                position += 1
            _, image = capture.read()
            images[wanted] = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
            position += 1
        capture.release()
        return [images[i] for i in frames]

    return read


def spdl_reader() -> ReadFrames:
    import spdl.io

    def read(path: str, frames: list[int]) -> Frames:
        wanted = sorted(set(frames))
        decoded = spdl.io.sample_decode_video(spdl.io.demux_video(path), wanted)
        images = spdl.io.to_numpy(spdl.io.convert_frames(decoded))
        if wanted == frames:
            return images
        return images[np.searchsorted(wanted, frames)]

    return read


def jpeg_reader() -> ReadFrames:
    """Frames extracted beforehand, as MMAction2 reads them with libjpeg-turbo: every frame is decoded and resized
    whole before its crop is resized. It keeps its size: frames were extracted at the short side wanted."""
    import cv2

    read_fused = fused_jpeg_reader()

    def read(folder: str, frames: list[int]) -> Frames:
        return [cv2.resize(image, image.shape[1::-1]) for image in read_fused(folder, frames)]

    return read


def fused_jpeg_reader() -> ReadFrames:
    """MMAction2's Fuse: only the crops are resized, not the whole frames."""
    import simplejpeg

    def read(folder: str, frames: list[int]) -> Frames:
        images = []
        for number in frames:
            with open(f"{folder}/img_{number + 1:05d}.jpg", "rb") as file:
                images.append(simplejpeg.decode_jpeg(file.read(), colorspace="RGB"))
        return images

    return read


READERS: dict[str, Callable[[], ReadFrames]] = {
    "decord": decord_reader,
    "torchcodec": torchcodec_reader,
    "pyav": pyav_reader,
    "opencv": opencv_reader,
    "decord2": decord_reader,
    "spdl": spdl_reader,
    "jpeg": jpeg_reader,
    "jpeg_fused": fused_jpeg_reader,
}


# ---- from frames to a batch


def clip_of(job: dict[str, Any], read: ReadFrames) -> np.ndarray:
    """float32 [C, T, H, W], or [V, C, T, H, W] where a sample has several clips."""
    import cv2

    frames, clip_len = job["frames"], job["clip_len"]
    top, left, height, width, flip = job["box"]
    clip = np.empty((len(frames) // clip_len, 3, clip_len, SIZE, SIZE), np.float32)
    for i, frame in enumerate(read(job["path"], frames)):
        image = cv2.resize(frame[top : top + height, left : left + width], (SIZE, SIZE))
        if flip:
            image = cv2.flip(image, 1)
        for c, plane in enumerate(cv2.split(image)):  # fastest way found: half the time of cv2.subtract and multiply
            out = clip[i // clip_len, c, i % clip_len]
            np.multiply(plane, 1 / STD[c], out=out)
            out -= MEAN[c] / STD[c]
    return clip[0] if len(clip) == 1 else clip


class Jobs:
    """A map-style dataset."""

    def __init__(self, jobs: list[dict[str, Any]], read: ReadFrames) -> None:
        self.jobs, self.read = jobs, read

    def __len__(self) -> int:
        return len(self.jobs)

    def __getitem__(self, i: int) -> Any:
        import torch

        return torch.from_numpy(clip_of(self.jobs[i], self.read))


class Chosen:
    """A sampler whose indices change between epochs, so that worker processes persist."""

    indices: Sequence[int] = ()

    def __len__(self) -> int:
        return len(self.indices)

    def __iter__(self) -> Iterator[int]:
        return iter(self.indices)


# Called with job numbers and a batch size, returns batches.
Batches = Callable[[Sequence[int], int], Iterable[Any]]


def data_loader(name: str, jobs: list[dict[str, Any]], num_workers: int, device: str = "cpu") -> Batches:
    """A torch DataLoader over a peer's reader; for a GPU, batches go there through pinned memory."""
    import cv2
    import torch
    from torch.utils.data import DataLoader

    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    dataset: Any = Jobs(jobs, READERS[name]())  # what DataLoader takes for a dataset without being one by class
    loaders: dict[int, tuple[Chosen, Any]] = {}

    def batches(indices: Sequence[int], batch_size: int) -> Any:
        if batch_size not in loaders:
            chosen = Chosen()
            loaders[batch_size] = (
                chosen,
                DataLoader(
                    dataset,
                    batch_size,
                    sampler=chosen,
                    num_workers=num_workers,
                    persistent_workers=True,
                    pin_memory=device == "cuda",
                ),
            )
        chosen, loader = loaders[batch_size]
        chosen.indices = indices
        return (batch.cuda(non_blocking=True) for batch in loader) if device == "cuda" else loader

    return batches


def spdl_loader(jobs: list[dict[str, Any]], num_workers: int) -> Batches:
    """SPDL's own pipeline of threads."""
    import cv2
    import torch
    from spdl.pipeline import PipelineBuilder

    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    read = READERS["spdl"]()

    def batches(indices: Sequence[int], batch_size: int) -> Any:
        pipeline = (
            PipelineBuilder()
            .add_source([jobs[i] for i in indices])
            .pipe(
                lambda job: torch.from_numpy(clip_of(job, read)),
                concurrency=num_workers,
                output_order="input",
            )
            .aggregate(batch_size)
            .pipe(torch.stack)
            .add_sink(2)
            .build(num_threads=num_workers)
        )
        with pipeline.auto_stop():
            yield from pipeline.get_iterator()

    return batches


def clip_dataset(items: Sequence[tuple[Any, ...]], clip: str) -> Any:
    """The dataset of items (path, label) or (folder, num_frames, label)."""
    from vidload import FrameFolderDataset, VideoDataset, transforms

    # OpenCV's resize does not antialias, so to give the same pixels this must not either
    options: dict[str, Any] = {"clip": clip, "transform": transforms.random_resized_crop(SIZE, antialias=False)}
    return (FrameFolderDataset if len(items[0]) == 3 else VideoDataset)(items, **options)


def vidload_loader(
    jobs: list[dict[str, Any]], num_workers: int, loaders: dict[Any, Any] | None = None, **options: Any
) -> Batches:
    """VideoLoader with `options`; a job is identified by its dataset, epoch and index, so sampling is part of what is
    timed. `loaders` gets those that are created: (sampler, loader)."""
    from vidload import VideoLoader

    loaders = {} if loaders is None else loaders

    def batches(indices: Sequence[int], batch_size: int) -> Any:
        first = jobs[indices[0]]
        key = (first["items"], first["clip"], batch_size)
        if key not in loaders:
            dataset = clip_dataset(json.loads(Path(first["items"]).read_text()), first["clip"])
            chosen = Chosen()
            loader = VideoLoader(dataset, batch_size, sampler=chosen, num_workers=num_workers, **options)
            loaders[key] = chosen, loader
        chosen, loader = loaders[key]
        chosen.indices = [jobs[i]["index"] for i in indices]
        loader.set_epoch(first["epoch"])
        return (clips for clips, _ in loader)

    return batches


# ---- what else vidload is asked


def floor_seconds(jobs: list[dict[str, Any]], num_threads: int) -> float:
    """Seconds that the bare loop in C++ takes for the jobs, in `num_threads` threads at once."""
    from concurrent.futures import ThreadPoolExecutor

    from vidload import _core, _testing

    spec = _core.TransformSpec(SIZE, SIZE, "float32", False, MEAN.tolist(), STD.tolist())
    clips = [(job["path"], job["frames"], [float(value) for value in job["box"]]) for job in jobs]
    shares = [clips[i::num_threads] for i in range(num_threads)]
    with ThreadPoolExecutor(num_threads) as pool:
        seconds = list(pool.map(lambda share: _testing.time_floor(share, spec), shares))
    return max(seconds)


def overhead_microseconds(batches: Batches, indices: range) -> float:
    """CPU time of the calling thread per clip: sampling, submission, hand-over."""
    start = time.thread_time()
    for _ in batches(indices, BATCH_SIZE):
        pass
    return (time.thread_time() - start) / len(indices) * 1e6


def seconds_per_iteration(batches: Batches, indices: range, batch_size: int, step_seconds: float) -> float:
    """Of a training loop whose step is a timer that stands for the accelerator. Meanwhile the loader has the cores, as in training.

    The first WARM_STEPS batches are not timed: workers start, and what they prepared meanwhile is used up.
    """
    steps = iter(batches(indices, batch_size))
    for _ in range(WARM_STEPS):
        next(steps)
        time.sleep(step_seconds)
    start, num_steps = time.perf_counter(), 0
    for _ in steps:
        time.sleep(step_seconds)
        num_steps += 1
    return (time.perf_counter() - start) / num_steps


def nvdec_stats(loaders: dict[Any, tuple[Chosen, Any]]) -> dict[str, Any]:
    """What vidload's loaders say of NVDEC, summed: decoders made, samples decoded by it, and why others were not."""
    fallbacks: dict[str, int] = {}
    total = {"num_nvdec_creations": 0, "num_nvdec_samples": 0}
    for _, loader in loaders.values():
        stats = loader.stats()
        for key in total:
            total[key] += stats[key]
        for reason, count in {**stats["fallbacks"], **stats.get("dali_fallbacks", {})}.items():
            fallbacks[reason] = fallbacks.get(reason, 0) + count
    return {**total, "fallbacks": fallbacks}


def peak_megabytes() -> float:
    """Peak resident memory. Not from getrusage, whose value a child process inherits from its parent."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1000


# ---- the process


def version(name: str) -> str:
    """Raises PackageNotFoundError if it is not installed; importing cannot tell decord2 from decord."""
    if name.startswith("vidload"):
        import vidload

        return vidload.__version__
    return metadata.version(PACKAGES[name][0])


def serve(name: str, jobs_file: str, num_workers: int, device: str) -> None:
    """Answers commands until stdin ends. vidload_nvdec is vidload with decoder="nvdec", and so on."""
    # answers go to the real stdout; what libraries print goes to stderr
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def answer(**message: Any) -> None:
        print(json.dumps(message), file=answers, flush=True)

    if not name.startswith("vidload"):
        sys.path[:0] = [str(folder(needed)) for needed in (name, "opencv") if folder(needed).is_dir()]
    jobs: list[dict[str, Any]] = json.loads(Path(jobs_file).read_text())
    loaders: dict[Any, Any] = {}  # vidload's own
    try:
        found = version(name)
        if name.startswith("vidload"):
            decoder = name.partition("_")[2] or "auto"
            batches = vidload_loader(jobs, num_workers, loaders, device=device, decoder=decoder)
        elif name == "spdl":
            batches = spdl_loader(jobs, num_workers)
        elif name in READERS:
            batches = data_loader(name, jobs, num_workers, device)
        else:
            import gpu_peers

            batches = gpu_peers.batches_of(name, jobs, num_workers, device)
        warm_up = range(*json.loads(sys.stdin.readline())["jobs"])
        num_clips = sum(len(clips) for clips in batches(warm_up, BATCH_SIZE)) if warm_up else 0
        if num_clips != len(warm_up):  # SPDL continues without failed clips
            raise RuntimeError(f"{num_clips} of {len(warm_up)} clips could be loaded; BENCH_DEBUG=1 shows its messages")
    except Exception as error:  # whatever keeps a peer from working is reported, and the rest run
        words = "not installed" if isinstance(error, metadata.PackageNotFoundError) else f"{error}".split("\n")[0]
        answer(error=words)
        return
    answer(version=found)
    for line in sys.stdin:
        command = json.loads(line)
        indices = range(*command["jobs"])
        if command["do"] == "time":
            start = time.perf_counter()
            shapes = [tuple(batch.shape) for batch in batches(indices, BATCH_SIZE)]
            if device == "cuda":
                import torch

                torch.cuda.synchronize()
            seconds = time.perf_counter() - start
            answer(seconds=seconds, num_clips=sum(shape[0] for shape in shapes))
        elif command["do"] == "save":
            pixels = [np.array(batch.cpu()) for batch in batches(indices, BATCH_SIZE)]  # a copy: memory is used again
            np.save(command["file"], np.concatenate(pixels).astype(np.float16))
            answer()
        elif command["do"] == "floor":
            answer(seconds=floor_seconds([jobs[i] for i in indices], command["num_threads"]))
        elif command["do"] == "steps":
            seconds = seconds_per_iteration(batches, indices, command["batch_size"], command["step_seconds"])
            answer(seconds=seconds)
        elif command["do"] == "overhead":
            answer(microseconds=overhead_microseconds(batches, indices))
        elif command["do"] == "memory":
            answer(megabytes=peak_megabytes())
        elif command["do"] == "nvdec":
            answer(**nvdec_stats(loaders))


def folder(name: str) -> Path:
    """Where the peer is installed, if it is one of those installed separately."""
    return PEERS_FOLDER / PACKAGES[name][0]


def install() -> None:
    for name in INSTALLED_APART:
        command = [sys.executable, "-m", "pip", "install", "--no-deps", "--upgrade", "--quiet"]
        subprocess.run([*command, "--target", str(folder(name)), *PACKAGES[name]], check=True)


if __name__ == "__main__":
    if sys.argv[1:] == ["--install"]:
        install()
    elif len(sys.argv) != 5:
        print(__doc__)
    else:
        serve(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4])
