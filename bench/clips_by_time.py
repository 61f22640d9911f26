"""Clips by time, against PyAV and TorchCodec in a DataLoader: what video-language models and robot policies load.

Two tasks. "video-language": 64 frames at 2 per second of a part of a 2-minute 720p video, aspect ratio kept, at most 128 x 28 x 28 pixels per
frame. "robot": 3 cameras x 2 moments (0.1 s apart) of 480p videos, 224 x 224. Every loader gives uint8 RGB of the same frames at the same size
(checked before anything is timed) with the same number of workers: processes, threads for vidload. Rounds are interleaved, and medians are over
rounds. Starting workers and the first use of each file are not timed for any loader; TorchCodec seeks approximately, which is faster than its
default, and resizes while it decodes.

    python bench/clips_by_time.py --torchcodec-python ~/torchcodec/bin/python
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

LOADERS = ("vidload", "torchcodec", "pyav")
TITLES = {"vidload": "vidload", "torchcodec": "TorchCodec in a DataLoader", "pyav": "PyAV in a DataLoader"}
MAX_DIFFERENCE = 6.0  # mean absolute, of 255: resizing filters differ, neighboring frames differ more
BATCH_SIZE = 2
ROBOT_BATCH_SIZE = 8
ROBOT_SIZE = (224, 224)
MAX_PIXELS = 128 * 28 * 28
VIDEO_SIZE = (224, 420)  # what fit_pixels makes of 720p; checked in `jobs_of`
DELTAS = (-0.1, 0.0)

Job = dict[str, Any]  # "videos": [[path, moments in seconds], ...]; "size": (height, width)


# ---- the videos


def build(folder: Path) -> tuple[Path, list[Path]]:
    """The 2-minute video, and the cameras' videos; those that are missing are made."""
    import build_data
    from source_clips import decode, source_clips

    folder.mkdir(parents=True, exist_ok=True)
    long_video, cameras = folder / "long_720p.mp4", [folder / f"camera_{k}_480p.mp4" for k in range(3)]
    wanted = [(long_video, "face", (1280, 720), 120, 250), *((path, "water", (854, 480), 30, 2) for path in cameras)]
    for number, (path, source, (width, height), seconds, keyint) in enumerate(wanted):
        if path.exists():
            continue
        variant = build_data.Variant(width, height, Fraction(30), zoom=1.0, x=0.5, y=0.5, phase=0.2 * number)
        pictures = build_data.cropped(decode(source_clips(build_data.DATA / "sources")[source]), variant)
        order = build_data.forwards_and_backwards(len(pictures), seconds * 30, variant.phase)
        print(f"encoding {path.name}", flush=True)
        build_data.encode(pictures, order, variant, keyint, path)
    return long_video, cameras


def jobs_of(folder: Path, num_samples: int) -> dict[str, list[Job]]:
    """What every loader has to load, in order."""
    from vidload.transforms import fit_pixels

    long_video, cameras = build(folder)
    assert fit_pixels(MAX_PIXELS).output_size(720, 1280) == VIDEO_SIZE
    starts = np.linspace(0, 120 - 32, num_samples).round()
    language = [
        {"videos": [[str(long_video), [start + k / 2 for k in range(64)]]], "size": VIDEO_SIZE}
        for start in starts.tolist()
    ]
    moments = np.linspace(0.5, 29, 16 * num_samples).round(1)
    robot = [
        {"videos": [[str(path), [moment + delta for delta in DELTAS]] for path in cameras], "size": ROBOT_SIZE}
        for moment in moments.tolist()
    ]
    return {"video-language": language, "robot": robot}


# ---- the loaders


def read_pyav(path: str, seconds: list[float], size: tuple[int, int]) -> np.ndarray:
    """The frames nearest to these times, rising, as uint8 [T, H, W, 3]. Seeks where the next keyframe but one is nearer than the frame."""
    import av

    result = []
    with av.open(path) as container:
        stream = container.streams.video[0]
        stream.thread_type, stream.codec_context.thread_count = "NONE", 1
        assert stream.time_base is not None
        rate = float(stream.average_rate or 30)
        decoded, at = None, -1.0
        for moment in seconds:
            if decoded is None or moment - at > 2:
                container.seek(int((moment + 0.5 / rate) / stream.time_base), stream=stream)
                decoded = container.decode(stream)
            while True:
                frame = next(decoded)
                at = float(frame.pts * stream.time_base)
                if at >= moment - 0.5 / rate - 1e-6:
                    break
            result.append(frame.reformat(size[1], size[0], "rgb24", interpolation="BILINEAR").to_ndarray())
    return np.stack(result)


def read_torchcodec(path: str, seconds: list[float], size: tuple[int, int]) -> Any:
    """As read_pyav, but a tensor [T, 3, H, W]."""
    from torchcodec.decoders import VideoDecoder
    from torchcodec.transforms import Resize

    decoder = VideoDecoder(path, seek_mode="approximate", num_ffmpeg_threads=1, transforms=[Resize(size)])
    rate = decoder.metadata.average_fps
    indices = [min(round(moment * rate), decoder.metadata.num_frames - 1) for moment in seconds]
    return decoder.get_frames_at(indices).data


class PeerDataset:
    """Samples uint8 [V, T, 3, H, W], as a map-style dataset."""

    def __init__(self, name: str, jobs: list[Job]) -> None:
        self.name, self.jobs = name, jobs

    def __len__(self) -> int:
        return len(self.jobs)

    def __getitem__(self, index: int) -> Any:
        import torch

        torch.set_num_threads(1)
        job = self.jobs[index]
        size = tuple(job["size"])
        if self.name == "torchcodec":
            return torch.stack([read_torchcodec(path, seconds, size) for path, seconds in job["videos"]])
        clips = [read_pyav(path, seconds, size) for path, seconds in job["videos"]]
        return torch.from_numpy(np.stack(clips)).permute(0, 1, 4, 2, 3).contiguous()


def loader_of(name: str, task: str, jobs: list[Job], num_workers: int) -> Any:
    """Iterates over batches of a task."""
    batch_size = BATCH_SIZE if task == "video-language" else ROBOT_BATCH_SIZE
    if name != "vidload":
        from torch.utils.data import DataLoader

        return DataLoader(
            PeerDataset(name, jobs),  # type: ignore[arg-type]
            batch_size,
            num_workers=num_workers,
            persistent_workers=True,
        )
    import torch

    import vidload
    from vidload.sampling import FramesByTime
    from vidload.transforms import fit_pixels

    if task == "video-language":
        items = [(job["videos"][0][0], 0, job["videos"][0][1][0], job["videos"][0][1][0] + 32) for job in jobs]
        clip = FramesByTime(fps=2, max_frames=64)
        dataset: Any = vidload.VideoDataset(items, clip=clip, transform=fit_pixels(MAX_PIXELS), dtype=torch.uint8)
    else:
        episodes = [
            ({str(k): path for k, (path, _) in enumerate(job["videos"])}, 0, job["videos"][0][1][-1]) for job in jobs
        ]
        dataset = vidload.MultiVideoDataset(
            episodes, delta_seconds=DELTAS, transform=WholePicture(ROBOT_SIZE), dtype=torch.uint8, layout="NVTCHW"
        )
    return vidload.VideoLoader(dataset, batch_size, num_workers=num_workers)


def WholePicture(size: tuple[int, int]) -> Any:
    """A policy of vidload.transforms: the whole picture, stretched to one size."""
    from vidload.crops import SpatialTransform

    class Whole(SpatialTransform):
        def _boxes(self, height: int, width: int, flip: float, rng: Any) -> Any:
            return np.array([[0.0, 0.0, height, width, flip]])

    return Whole(size, 0.0, None, None, True, False)


def clips_of(batch: Any) -> list[Any]:
    """The clips of a batch of any loader, [V, T, 3, H, W] each."""
    if not isinstance(batch, list):
        return list(batch)
    return [clip if clip.ndim == 5 else clip[None] for clip in batch[0]]


# ---- measuring


def work(name: str, jobs_file: Path, num_workers: int) -> None:
    """Another process's end: answers {"task"} on standard input with {"seconds"}, {"save"} with a file of the first batch."""
    tasks = json.loads(jobs_file.read_text())
    loaders = {task: loader_of(name, task, jobs, num_workers) for task, jobs in tasks.items()}
    for line in sys.stdin:
        command = json.loads(line)
        try:
            started = time.perf_counter()
            count = 0
            for batch in loaders[command["task"]]:
                clips = clips_of(batch)
                if count == 0 and "save" in command:
                    np.save(command["save"], np.stack([clip.numpy() for clip in clips]))
                count += len(clips)
            answer: dict[str, Any] = {"seconds": time.perf_counter() - started, "count": count}
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)


def run(args: argparse.Namespace) -> dict[str, Any]:
    from timing import machine
    from workers import library_path

    jobs = jobs_of(args.data, args.samples)
    jobs_file = args.data / "jobs.json"
    jobs_file.write_text(json.dumps(jobs))
    pythons = {"torchcodec": args.torchcodec_python or sys.executable}
    processes: dict[str, subprocess.Popen[str]] = {}
    for name in args.loaders:
        python = pythons.get(name, sys.executable)
        environment = None if python == sys.executable else {"LD_LIBRARY_PATH": library_path(python), "PATH": ""}
        command = [python, __file__, "--work", name, "--jobs", str(jobs_file), "--num-workers", str(args.num_workers)]
        pipe = subprocess.PIPE
        processes[name] = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment)

    def ask(name: str, **command: Any) -> dict[str, Any]:
        process = processes[name]
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(json.dumps(command) + "\n")
        process.stdin.flush()
        return dict(json.loads(process.stdout.readline() or '{"error": "the process died"}'))

    result: dict[str, Any] = {"machine": machine(), "num_workers": args.num_workers, "tasks": {}, "missing": {}}
    try:
        for task, of_task in jobs.items():
            rounds: dict[str, list[float]] = {}
            differences: dict[str, float] = {}
            ours: Any = None
            for name in args.loaders:
                file = args.data / f"{name}.npy"
                answer = ask(name, task=task, save=str(file))
                if "error" in answer:
                    result["missing"][f"{TITLES[name]}, {task}"] = answer["error"]
                    continue
                pictures = np.load(file).astype(np.float32)
                ours = pictures if ours is None else ours
                differences[name] = float(np.abs(pictures - ours).mean(axis=(-1, -2, -3)).max())
                file.unlink()
                if differences[name] > MAX_DIFFERENCE:
                    raise RuntimeError(f"{task}: {name} gives other frames: {differences[name]:.1f} of 255")
                rounds[name] = []
            for _ in range(args.rounds):
                for name, seconds in rounds.items():
                    answer = ask(name, task=task)
                    assert answer["count"] == len(of_task), answer
                    seconds.append(answer["seconds"])
            result["tasks"][task] = {"samples": len(of_task), "seconds": rounds, "differences": differences}
    finally:
        for process in processes.values():
            assert process.stdin is not None
            process.stdin.close()
            process.wait(30)
    return result


def report(result: dict[str, Any]) -> str:
    """The result as Markdown."""
    from timing import Rounds, markdown_table, ratio

    about = result["machine"]
    rows = []
    for task, of_task in result["tasks"].items():
        rates = {
            name: Rounds(tuple(of_task["samples"] / value for value in seconds))
            for name, seconds in of_task["seconds"].items()
        }
        ours = rates["vidload"]
        for name, rate in rates.items():
            rows.append(
                [task, TITLES[name], str(rate), f"{ratio(ours, rate):.2f}x", f"{of_task['differences'][name]:.1f}"]
            )
    missing = "".join(f"\nMissing: {name} ({why})." for name, why in result["missing"].items())
    return (
        f"# Clips by time\n\n{about['cpu']}, {about['cores']} cores, {result['num_workers']} workers; load at start "
        f"{about['load_at_start']}. Samples per second, median over rounds ± half the range.\n\n"
        + markdown_table(["task", "loader", "samples/s", "vidload is", "difference of 255"], rows)
        + f"\n{missing}"
    )


def main() -> None:
    here = Path(__file__).resolve().parent
    parser = argparse.ArgumentParser(description="Clips by time: vidload against PyAV and TorchCodec in a DataLoader.")
    parser.add_argument("--data", type=Path, default=here / "data" / "clips_by_time", help="folder of the videos")
    parser.add_argument(
        "--output", type=Path, default=here / "results" / "clips_by_time", help="path of the results, without suffix"
    )
    parser.add_argument("--num-workers", type=int, default=2)
    parser.add_argument(
        "--samples", type=int, default=8, help="of the video-language task (the robot task has 16 times as many)"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--loaders", nargs="+", choices=LOADERS, default=list(LOADERS))
    parser.add_argument("--torchcodec-python", help="a Python with TorchCodec, if this one lacks it")
    parser.add_argument("--work", choices=LOADERS, help=argparse.SUPPRESS)
    parser.add_argument("--jobs", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.work:
        work(args.work, args.jobs, args.num_workers)
        return
    result = run(args)
    args.output.parent.mkdir(parents=True, exist_ok=True)
    args.output.with_suffix(".json").write_text(json.dumps(result, indent=1))
    text = report(result)
    args.output.with_suffix(".md").write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
