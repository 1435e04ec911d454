"""Failure reports of workers to the entrypoint of their pod, and to workers that torchrun starts after them.

A worker with a permanent failure (bad input, a job that cannot continue) writes its rank and exit code to the file that
`REPORT_FILE` names. The cause of a failure, permanent or not, is next to it in one file for each worker.
"""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from trainer.errors import InputError, JobFailedError, RemoteError, TimeLimitError
from trainer.runtime import failure_cause
from trainer.runtime.failure_cause import FailureCause
from trainer.runtime.world import World, read_world
from trainer.storage.files import write_file

REPORT_FILE: Final = "TRAINER_FAILURE_REPORT"
"""Environment variable with the path of the report, which the entrypoint sets; without it nothing is reported."""

REPORT_BYTES: Final = 64
"""Size of the reserved file."""

PERMANENT: Final = frozenset(
    {InputError.exit_code, JobFailedError.exit_code, RemoteError.exit_code, TimeLimitError.exit_code}
)
"""Exit codes of errors that a retry cannot fix; a bucket that refuses access is one, an unreachable bucket is not."""

AWAIT_REPORT_S: Final = 20.0
"""Time for silent workers to wait for the one that reports: it starts an interpreter and imports torch on a busy machine."""


@dataclass(frozen=True)
class FailureReport:
    """Rank and exit code of a worker with a permanent failure."""

    rank: int
    exit_code: int
    explained: bool = True
    """Whether a worker of this node printed the error."""


def reserve_report(path: Path) -> None:
    """Create the file for the report, blank. Raises: OSError."""
    path.write_bytes(b" " * REPORT_BYTES)


def report_failure(report: FailureReport) -> None:
    """Report a permanent error, so that workers started later do not try again."""
    path = os.environ.get(REPORT_FILE)
    if path and report.exit_code in PERMANENT and earlier_report() is None:
        with suppress(OSError):  # a later worker then fails with the same error itself
            _write_report(path, f"{report.rank} {report.exit_code} {int(report.explained)}".encode())


def _write_report(path: str, content: bytes) -> None:
    """Written into the reserved space: a full disk is one of the errors to be reported."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:  # it is missing, or a link
        write_file(Path(path), content)
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        if earlier_report() is None:
            os.pwrite(descriptor, content.ljust(REPORT_BYTES), 0)
    finally:
        os.close(descriptor)


def await_report(exit_code: int) -> None:
    """Wait until the worker that prints a permanent error has reported it; this one is silent and can then exit.

    torchrun ends all workers of a node when the first has exited. On a node where all workers are silent none reports, so the
    wait is bounded.
    """
    until = time.monotonic() + AWAIT_REPORT_S
    while (
        REPORT_FILE in os.environ and exit_code in PERMANENT and earlier_report() is None and time.monotonic() < until
    ):
        time.sleep(0.05)


def earlier_report() -> FailureReport | None:
    """The permanent error of an earlier worker of this pod, None without one."""
    try:
        rank, exit_code, explained = map(int, Path(os.environ[REPORT_FILE]).read_text(encoding="ascii").split())
        return FailureReport(rank, exit_code, bool(explained)) if exit_code in PERMANENT else None
    except (KeyError, OSError, ValueError):
        return None


_step: int | None = None


def note_step(step: int) -> None:
    """Record the training step, for the cause of a failure."""
    global _step  # noqa: PLW0603 - a process is at one step
    _step = step


def reserve_cause() -> None:
    """Reserve space for this worker's cause, and remove that of an earlier start of this worker."""
    path = _cause_file()
    if path is not None:
        failure_cause.reserve(path)


def leave_cause(cause: FailureCause) -> None:
    """Write the cause of this worker's failure for the entrypoint."""
    path = _cause_file()
    if path is not None:
        failure_cause.leave(path, replace(cause, rank=this_worker().rank, step=_step))


def cause_files() -> Iterator[Path]:
    """The files in which workers of this pod write causes."""
    report = os.environ.get(REPORT_FILE)
    return Path(report).parent.glob(_cause_name("*")) if report else iter(())


def _cause_file() -> Path | None:
    report = os.environ.get(REPORT_FILE)
    return Path(report).with_name(_cause_name(str(this_worker().local_rank))) if report else None


def _cause_name(local_rank: str) -> str:
    return f"cause-{local_rank}"


def this_worker() -> World:
    """This process in the world of workers; a single one when the environment is incomplete."""
    try:
        return read_world()
    except InputError:
        return World()
