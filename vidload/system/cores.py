"""How many cores this process may use: the least of its affinity and its cgroup's CPU quota, shared among the ranks of this machine."""

from __future__ import annotations

import math
import os
from pathlib import Path


def affinity_cores() -> int:
    """Cores on which the scheduler may run this process."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cgroup_cores(root: str = "/sys/fs/cgroup", membership: str = "/proc/self/cgroup") -> float:
    """The CPU quota of this process's cgroup and those above it (version 2, else 1), in cores; infinity if there is none."""
    try:
        lines = Path(membership).read_text().splitlines()
    except OSError:
        lines = []
    quotas = [math.inf]
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":  # version 2
            folder = Path(root, path.lstrip("/"))
            while True:
                quotas.append(_quota_v2(folder / "cpu.max"))
                if folder == Path(root) or Path(root) not in folder.parents:
                    break
                folder = folder.parent
        elif "cpu" in controllers.split(","):
            # In a container the path is the host's, and the mounted root is the process's own group.
            quotas += [_quota_v1(Path(root, "cpu", path.lstrip("/"))), _quota_v1(Path(root, "cpu"))]
    quotas.append(_quota_v2(Path(root, "cpu.max")))
    return min(quotas)


def _quota_v2(file: Path) -> float:
    try:
        quota, period = file.read_text().split()
        return math.inf if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError):
        return math.inf


def _quota_v1(folder: Path) -> float:
    try:
        quota = int((folder / "cpu.cfs_quota_us").read_text())
        return math.inf if quota <= 0 else quota / int((folder / "cpu.cfs_period_us").read_text())
    except (OSError, ValueError):
        return math.inf


def available_cores() -> int:
    """Cores for this rank, at least 1. `LOCAL_WORLD_SIZE` (set by torchrun) says how many ranks share the machine."""
    cores = min(affinity_cores(), cgroup_cores())
    try:
        ranks = max(1, int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
    except ValueError:
        ranks = 1
    return max(1, int(cores / ranks))
