"""Processes of a job, found by the variable that names it, and their end."""

import os
import signal
from contextlib import suppress
from pathlib import Path

from trainer.layout import JOB


def alive(job: str) -> dict[int, dict[str, str]]:
    """Variables of all processes of this job, by process; those that are dead and not waited for are not among them."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            pairs = (folder / "environ").read_text(errors="replace").split("\0")
            variables = dict(pair.partition("=")[::2] for pair in pairs)
            if variables.get(JOB) == job:
                found[int(folder.name)] = variables
    return found


def worker(job: str, group: int, rank: int) -> int | None:
    """The process of one worker of this gang, None where it has none at the moment: a fork, or what became of its proxy without a server."""
    server = fork_server(job, group)
    for process, variables in alive(job).items():
        is_fork = server is not None and _parent(process) == server and _name(process) == f"worker-{rank}"
        if is_fork or (server is None and _parent(process) == group and variables.get("RANK") == str(rank)):
            return process
    return None


def fork_server(job: str, group: int) -> int | None:
    """The process that forks this gang's workers, None where it has none."""
    servers = (process for process in alive(job) if _name(process) == "fork-server" and _parent(process) == group)
    return next(servers, None)


def kill(process: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(process, signal.SIGKILL)


def kill_all(job: str) -> None:
    """End a job as a node that is lost does."""
    while processes := alive(job):
        for process in sorted(processes):
            kill(process)


def _parent(process: int) -> int:
    with suppress(OSError, ValueError, IndexError):
        return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])
    return 0


def _name(process: int) -> str:
    with suppress(OSError):
        return Path(f"/proc/{process}/comm").read_text(errors="replace").strip()
    return ""
