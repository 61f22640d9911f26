"""The processes that loader_vs_decord.py, frame_vs_video.py and gpu_loaders.py time, and the jobs they are given.

In: files, clip specs. Out: jobs, the same for every loader, and for each loader a Worker that answers commands; peers.py is
the other end of its pipe.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from peers import BATCH_SIZE, STD, clip_dataset

from vidload import _core

CLIPS_PER_ROUND = 32  # 4 batches of 8: 2 for each of 2 workers
MAX_ROUNDS = 9

Item = tuple[str, int] | tuple[str, int, int]  # path, label; or folder of JPEG frames, number of frames, label


@dataclass(frozen=True)
class Case:
    """A set of files with a kind of clip; job numbers [first, first + clips_per_round) are its round 0, and so
    on."""

    set_name: str
    clip: str
    first: int
    clips_per_round: int = CLIPS_PER_ROUND

    def jobs(self, round_number: int, count: int | None = None, step: int = 1) -> list[int]:
        """The arguments of a range of job numbers: the first `count` of the round, or all."""
        start = self.first + round_number * self.clips_per_round
        return [start, start + (self.clips_per_round if count is None else count), step]


class Worker:
    """A peer's process; see peers.py."""

    def __init__(self, name: str, python: str, jobs_file: Path, num_workers: int, device: str = "cpu") -> None:
        self.name = name
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        if python != sys.executable:
            environment["LD_LIBRARY_PATH"] = library_path(python)
            environment.pop("PYTHONPATH", None)
        script = str(Path(__file__).with_name("peers.py"))
        self.process = subprocess.Popen(
            [python, script, name, str(jobs_file), str(num_workers), device],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL if "BENCH_DEBUG" not in os.environ else None,
            text=True,
            env=environment,
        )

    def send(self, **command: Any) -> None:
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it has already exited; receive() reports why
            self.process.stdin.write(json.dumps(command) + "\n")
            self.process.stdin.flush()

    def receive(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        return json.loads(line) if line else {"error": "the process died; BENCH_DEBUG=1 shows its messages"}

    def ask(self, **command: Any) -> dict[str, Any]:
        self.send(**command)
        result = self.receive()
        if "error" in result:
            raise RuntimeError(f"{self.name}: {result['error']}")
        return result

    def timed(self, **command: Any) -> dict[str, float]:
        """Wall and CPU seconds of a command; the latter are summed over the process and its worker
        processes."""
        before = cpu_seconds(self.process.pid)
        seconds = self.ask(**command)["seconds"]
        cpu = cpu_seconds(self.process.pid) - before
        return {"wall": seconds, "cpu": cpu, "clips": len(range(*command["jobs"]))}

    def close(self) -> None:
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # what it never read
            self.process.stdin.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()


def cpu_seconds(pid: int) -> float:
    """Of a process with all its threads, including finished ones, and its children; in steps of 10 ms."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    own = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return own + sum(cpu_seconds(int(child)) for child in children)


def library_path(python: str) -> str:
    """Where a virtual environment keeps the libraries of pip's CUDA packages: TorchCodec links some even for
    the CPU."""
    folders = Path(python).parent.parent.glob("lib/python*/site-packages/nvidia/*/lib")
    return ":".join([*map(str, folders), os.environ.get("LD_LIBRARY_PATH", "")])


def make_jobs(
    sets: Mapping[str, Sequence[Item]],
    folder: Path,
    clips: Sequence[str],
    clips_per_round: int = CLIPS_PER_ROUND,
    num_rounds: int = MAX_ROUNDS,
) -> tuple[list[dict[str, Any]], list[Case]]:
    """What every loader has to load: frames and crops drawn by the dataset, for `num_rounds` rounds of every
    case."""
    jobs: list[dict[str, Any]] = []
    cases = []
    pool = _core.LoaderPool(0)
    for set_name, files in sets.items():
        # Whole rounds that use every file equally often: round r takes the r-th run of clips_per_round of the repeated list.
        items = list(files) * clips_per_round
        items_file = folder / f"{set_name}.json"
        items_file.write_text(json.dumps(items))
        for clip in clips:
            dataset = clip_dataset(items, clip)
            cases.append(Case(set_name, clip, len(jobs), clips_per_round))
            for round_number in range(num_rounds):
                start = round_number * clips_per_round % len(items)
                indices = list(range(start, start + clips_per_round))
                batch = dataset.start_indexing(pool, indices)
                batch.wait()
                for index, info in zip(indices, batch.infos(), strict=True):
                    request = dataset.request(index, round_number, info)
                    jobs.append(
                        {
                            "path": dataset.annotations.path(index),
                            "frames": request.frames.tolist(),
                            "clip_len": dataset.clip.clip_len,
                            "box": [int(value) for value in request.views[0].tolist()[1:]],
                            "items": str(items_file),
                            "clip": clip,
                            "epoch": round_number,
                            "index": index,
                        }
                    )
    return jobs, cases


def start_workers(
    warm_ups: Mapping[str, list[int]], jobs_file: Path, num_workers: int, pythons: Mapping[str, str] | None = None
) -> tuple[dict[str, Worker], dict[str, str], dict[str, str]]:
    """Starts a worker for each name at once and warms each up in turn, with jobs given as arguments of a range.

    Returns (workers, versions, why the missing ones are missing).
    """
    pythons = pythons or {}
    everyone = {name: Worker(name, pythons.get(name, sys.executable), jobs_file, num_workers) for name in warm_ups}
    workers, versions, missing = {}, {}, {}
    for name, worker in everyone.items():
        worker.send(jobs=warm_ups[name])
        answer = worker.receive()
        if "error" in answer:
            missing[name] = answer["error"]
            worker.close()
        else:
            workers[name], versions[name] = worker, answer["version"]
    if "vidload" in missing:
        raise SystemExit(f"vidload itself does not run: {missing['vidload']}")
    return workers, versions, missing


def worst_difference(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Mean absolute difference, on the 0-255 scale, of the clip in which two batches differ most: one wrong frame
    must not disappear in the mean over all clips."""
    if ours.shape != theirs.shape:
        raise RuntimeError(f"batches of different shapes: {theirs.shape}, vidload {ours.shape}")
    return float(max(np.abs(a - b).mean() for a, b in zip(theirs, ours, strict=True)) * STD.mean())


def first_batch(worker: Worker, case: Case, folder: Path) -> np.ndarray:
    """The first batch of a case as the worker loads it, in float32."""
    file = folder / f"{worker.name}.npy"
    worker.ask(do="save", jobs=case.jobs(0, BATCH_SIZE), file=str(file))
    batch: np.ndarray = np.load(file).astype(np.float32)
    file.unlink()
    return batch
