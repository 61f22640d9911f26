"""The loaders of gpu_loaders.py that need a GPU or DALI; the others are in peers.py, in whose process these run too.

In: jobs, as in peers.py. Out: batches in the GPU's memory (DALI: in the host's too). Libraries that return frames on the GPU are run by
threads, each of which has one decoder at a time; torch crops, resizes and normalizes there. The calls of TorchCodec on CUDA and of
PyNvVideoCodec follow their documentation and have not run yet.
"""

from __future__ import annotations

import json
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from peers import MEAN, SIZE, STD, Batches, Chosen, clip_dataset

ReadOnGpu = Callable[[str, list[int]], torch.Tensor]  # uint8 [T, 3, H, W] on the GPU


def torchcodec_on_cuda() -> ReadOnGpu:
    from torchcodec import decoders

    def read(path: str, frames: list[int]) -> torch.Tensor:
        # "beta" keeps decoders for files alike; releases that have no choice any more do so by default
        choose = getattr(decoders, "set_cuda_backend", None)
        if choose is None:
            decoder = decoders.VideoDecoder(path, device="cuda", seek_mode="approximate")
        else:
            with choose("beta"):
                decoder = decoders.VideoDecoder(path, device="cuda", seek_mode="approximate")
        frames_on_gpu: torch.Tensor = decoder.get_frames_at(frames).data
        return frames_on_gpu

    return read


def pynvvideocodec() -> ReadOnGpu:
    import PyNvVideoCodec

    of_thread = threading.local()

    def read(path: str, frames: list[int]) -> torch.Tensor:
        torch.cuda.set_device(0)
        decoder = getattr(of_thread, "decoder", None)
        if decoder is None:
            of_thread.decoder = decoder = PyNvVideoCodec.SimpleDecoder(
                path,
                gpu_id=0,
                use_device_memory=True,
                output_color_type=PyNvVideoCodec.OutputColorType.RGBP,
                max_width=1920,  # of what it may be reconfigured to; larger maxima cost memory, and speed too, DALI's authors say
                max_height=1088,
            )
        else:
            decoder.reconfigure_decoder(path)
        # a frame is the decoder's memory: copied before the next file
        return torch.stack(
            [torch.utils.dlpack.from_dlpack(frame).clone() for frame in decoder.get_batch_frames_by_index(frames)]
        )

    return read


GPU_READERS: dict[str, Callable[[], ReadOnGpu]] = {
    "torchcodec_cuda": torchcodec_on_cuda,
    "pynvvideocodec": pynvvideocodec,
}


def clip_on_gpu(job: dict[str, Any], frames: torch.Tensor, mean: torch.Tensor, std: torch.Tensor) -> torch.Tensor:
    """float32 [C, T, H, W], or [V, C, T, H, W] where a sample has several clips, of uint8 [V * T, 3, H, W]."""
    top, left, height, width, flip = job["box"]
    crop = frames[:, :, top : top + height, left : left + width].float()
    clips = F.interpolate(crop, (SIZE, SIZE), mode="bilinear")
    clips = (clips.flip(3) if flip else clips).sub(mean).div(std)
    clips = clips.view(-1, job["clip_len"], 3, SIZE, SIZE).transpose(1, 2)
    return clips[0] if len(clips) == 1 else clips


def threads_on_gpu(read: ReadOnGpu, jobs: list[dict[str, Any]], num_workers: int) -> Batches:
    mean, std = (torch.as_tensor(values, device="cuda").view(3, 1, 1) for values in (MEAN, STD))
    pool = ThreadPoolExecutor(num_workers)

    def load(job: dict[str, Any]) -> torch.Tensor:
        return clip_on_gpu(job, read(job["path"], job["frames"]), mean, std)

    def batches(indices: Sequence[int], batch_size: int) -> Iterator[torch.Tensor]:
        waiting = deque(indices)
        running: deque[Any] = deque()
        while waiting or running:
            while waiting and len(running) < num_workers + 2 * batch_size:
                running.append(pool.submit(load, jobs[waiting.popleft()]))
            yield torch.stack([running.popleft().result() for _ in range(min(batch_size, len(running)))])

    return batches


def dali_alone(jobs: list[dict[str, Any]], num_workers: int, device: str) -> Batches:
    """vidload.dali.dali_pipeline, run as users of DALI run pipelines: no VideoLoader."""
    from vidload.dali import dali_pipeline

    made: dict[tuple[str, str, int], tuple[Any, Chosen, Any]] = {}

    def batches(indices: Sequence[int], batch_size: int) -> Iterator[torch.Tensor]:
        first = jobs[indices[0]]
        key = (first["items"], first["clip"], batch_size)
        is_new = key not in made
        if is_new:
            dataset, chosen = clip_dataset(json.loads(Path(first["items"]).read_text()), first["clip"]), Chosen()
            kind = "gpu" if device == "cuda" else "cpu"
            pipeline = dali_pipeline(dataset, batch_size, device=kind, num_threads=num_workers, sampler=chosen)
            made[key] = dataset, chosen, pipeline
        dataset, chosen, pipeline = made[key]
        chosen.indices = [jobs[i]["index"] for i in indices]
        dataset.set_epoch(first["epoch"])
        if not is_new:
            pipeline.reset()
        while True:
            try:
                clips, _ = pipeline.run()
            except StopIteration:
                return
            yield torch.utils.dlpack.from_dlpack(clips.as_tensor())

    return batches


def batches_of(name: str, jobs: list[dict[str, Any]], num_workers: int, device: str) -> Batches:
    if name == "dali":
        return dali_alone(jobs, num_workers, device)
    return threads_on_gpu(GPU_READERS[name](), jobs, num_workers)
