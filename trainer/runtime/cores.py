"""Number of processors that this process may use: those of its affinity, and those of its container's limit."""

import math
import os
from pathlib import Path, PurePosixPath
from typing import Final

CGROUP: Final = Path("/sys/fs/cgroup")
MEMBERSHIP: Final = Path("/proc/self/cgroup")


def usable_cores(root: Path = CGROUP, membership: Path = MEMBERSHIP) -> int:
    """At least 1. A limit of 1.5 processors counts as 2: two processes that each run three quarters of the time lose less than one.

    A container's CPU limit is a quota of its cgroup, and the affinity still names all cores of the node.

    Source: Documentation/admin-guide in the kernel: cgroup-v2.rst (`cpu.max`) and sched-bwc.rst (`cpu.cfs_quota_us` of version 1).
    """
    quotas = [quota for folder in _folders(root, membership) if (quota := _quota(folder)) is not None]
    return max(1, min([len(os.sched_getaffinity(0)), *map(math.ceil, quotas)]))


def threads_per_worker(workers: int) -> int:
    """Threads of each of this many workers of this machine, so that they share its processors; at least 1.

    More threads than processors wait for each other at the end of every operation.
    """
    return max(1, usable_cores() // max(1, workers))


def _folders(root: Path, membership: Path) -> list[Path]:
    """Folders whose limits apply: of this process's cgroup and all above it, as far as the container sees them."""
    folders = [root, root / "cpu", root / "cpu,cpuacct"]
    for line in _text(membership).splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers not in {"", "cpu", "cpu,cpuacct"}:
            continue
        parts = PurePosixPath(path.lstrip("/"))
        if ".." not in parts.parts:
            folders += [root / controllers / each for each in (parts, *parts.parents)]
    return folders


def _quota(folder: Path) -> float | None:
    """Processors that the limit of a cgroup amounts to; None without a limit."""
    text = _text(folder / "cpu.max") or f"{_text(folder / 'cpu.cfs_quota_us')} {_text(folder / 'cpu.cfs_period_us')}"
    try:
        quota, period = map(int, text.split())
    except ValueError:  # `max 100000`, or no such file
        return None
    return quota / period if quota > 0 and period > 0 else None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return ""
