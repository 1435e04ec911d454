"""`python -m trainer.runtime.entrypoint`: torchrun for our jobs, the first process of a pod, whose exit code says what is to become of the job.

Takes torchrun's flags and environment and runs it in this process, so that signals reach it. It leaves with the failed
worker's own exit code, which torchrun turns into 1, and one line in place of torchrun's traceback.

torchrun starts all workers again after any failure. A worker that fails for good (bad input, a job that can't go on)
leaves its rank and exit code in the file that TRAINER_VERDICT names, and the gang ends at once: a permanent error is met
once. When torchrun itself gives up for a reason that passes (the node that kept the rendezvous is gone), it is started again
in this same process. The training operator takes codes below 128 for the end of the job, and makes a pod anew that left with
another (docs/decisions/0009).
"""

import fcntl
import logging
import math
import os
import select
import signal
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NoReturn

from trainer.errors import (
    InputError,
    InterruptedByUser,
    JobFailedError,
    RemoteError,
    TimeLimitError,
    TryAgainError,
    on_one_line,
)
from trainer.layout import JOB
from trainer.loading import uncollected
from trainer.runtime import parent_watch
from trainer.screen import screen
from trainer.storage.files import write_file

VERDICT: Final = "TRAINER_VERDICT"
VERDICT_BYTES: Final = 64
"""Reserved for a verdict before it is needed."""

PERMANENT: Final = frozenset(
    {InputError.exit_code, JobFailedError.exit_code, RemoteError.exit_code, TimeLimitError.exit_code}
)
"""Exit codes that no repetition changes. A bucket that refuses is among them; one that can't be reached leaves with "try again"."""

TELLING_S: Final = 20.0
"""How long silent workers wait for the one that tells: starting an interpreter and importing torch on a busy machine."""


COMES_BACK: Final = 128 + signal.SIGTERM
"""Exit code of a gang that was told to stop: whoever stops a pod from outside wants it back later."""

WATCH_S: Final = 0.2
END_S: Final = 1.0
"""From a verdict to the end of the gang: silent peers have noticed then."""

STOP_S: Final = 40.0
"""From SIGTERM to the end of the gang at the latest: torchrun gives its workers 30 s."""

STOP_AFTER_VERDICT_S: Final = 10.0
"""The same after a verdict: then nobody has anything left to save."""

LINGER_S: Final = 5.0
"""So much later than the teller's node leave the others: the operator ends all pods with the first, and their logs are lost."""

STARTS: Final = "TRAINER_GANG_STARTS"
MOST_STARTS: Final = 4
"""How often torchrun is started in one container for reasons that pass."""

LONG_S: Final = 600.0
"""A torchrun that ran so long had got somewhere, and the count begins anew."""


_heard: Final[list[int]] = []
"""Signals that arrived after torchrun had ended."""


@dataclass(frozen=True)
class FailureReport:
    """Which worker has failed for good, and how; `told` says whether on this node somebody has said why."""

    rank: int
    exit_code: int
    told: bool = True


def report_failure(report: FailureReport) -> None:
    """Tell workers that are started after this one not to try again, where the error is permanent."""
    path = os.environ.get(VERDICT)
    if path and report.exit_code in PERMANENT and earlier_report() is None:
        with suppress(OSError):  # then the error is met again
            _write_verdict(path, f"{report.rank} {report.exit_code} {int(report.told)}".encode())


def _write_verdict(path: str, content: bytes) -> None:
    """In the room that `_folder` has reserved: a full disk is one of the errors to be told."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:  # there is none, or a link
        write_file(Path(path), content)
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        if earlier_report() is None:
            os.pwrite(descriptor, content.ljust(VERDICT_BYTES), 0)
    finally:
        os.close(descriptor)


def await_report(exit_code: int) -> None:
    """Wait until the worker that tells a permanent error has told it; then this one, which is silent, may leave.

    torchrun ends all workers of a node when the first has left. On a node whose workers are all silent nobody gives a
    verdict, so the wait is bounded.
    """
    until = time.monotonic() + TELLING_S
    while VERDICT in os.environ and exit_code in PERMANENT and earlier_report() is None and time.monotonic() < until:
        time.sleep(0.05)


def earlier_report() -> FailureReport | None:
    """What this gang has failed of for good before, None when it has not."""
    try:
        rank, exit_code, told = map(int, Path(os.environ[VERDICT]).read_text(encoding="ascii").split())
        return FailureReport(rank, exit_code, bool(told)) if exit_code in PERMANENT else None
    except (KeyError, OSError, ValueError):
        return None


def main(argv: list[str]) -> int:
    """Run torchrun, again where that may help; the exit code of the first worker that failed, 0 when none did."""
    # The first process of a container is deaf to signals that it has no handler for; torchrun sets its own once it is loaded.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(COMES_BACK))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    starter = parent_watch.taken()
    if starter is not None:
        parent_watch.watch(starter, lambda: _leave_now(COMES_BACK, "who started this is gone"))
    started_s = time.monotonic()
    try:
        code = _run(argv)
    except _NoFolderError as problem:
        sys.stderr.write(f"{problem}\n")
        return problem.exit_code
    if code != TryAgainError.exit_code:
        return code
    starts = 1 if time.monotonic() - started_s > LONG_S else int(os.environ.get(STARTS, "1"))
    if starts >= MOST_STARTS:
        return code
    if _heard:
        return _stopped(signal.Signals(_heard[0]))
    sys.stderr.write(f"starting the workers again ({starts} of {MOST_STARTS - 1})\n")
    return _start_again(argv, starts + 1, starter)


def _run(argv: list[str]) -> int:
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    os.environ.setdefault(JOB, uuid.uuid4().hex)
    os.environ[parent_watch.PARENT] = str(os.getpid())
    # torch takes seconds to load; workers need only the verdict from this module
    with uncollected():
        from torch.distributed import DistError  # noqa: PLC0415
        from torch.distributed.elastic.multiprocessing.api import SignalException  # noqa: PLC0415
        from torch.distributed.elastic.multiprocessing.errors import ChildFailedError  # noqa: PLC0415
        from torch.distributed.elastic.rendezvous.api import RendezvousError  # noqa: PLC0415
        from torch.distributed.run import parse_args, run  # noqa: PLC0415

    # torchrun says at length what we say in a line, and torch's C++ with its whole stack.
    logging.disable(logging.ERROR)
    arguments = parse_args(argv)
    os.environ.setdefault("OMP_NUM_THREADS", str(_threads(arguments.nproc_per_node)))
    with _folder() as folder:
        with _watched(folder / "verdict"):
            try:
                try:
                    run(arguments)
                finally:
                    _note_signals()
            except ChildFailedError as failure:
                rank, first = failure.get_first_failure()
                report = earlier_report() or FailureReport(rank, first.exitcode)
            except SignalException as stop:  # in torchrun, or just after it
                _note_signals()
                told = earlier_report()
                if told is None:
                    return _stopped(stop.sigval)
                report = told
            except (DistError, RendezvousError) as problem:
                sys.stderr.write(
                    f"error: cannot bring the workers together: {on_one_line(' '.join(str(problem).split()))}\n"
                )
                return TryAgainError.exit_code
            else:
                return 0
        return _failed(report)


def _note_signals() -> None:
    """Replace torchrun's handlers, which raise an exception, by ones that note the signal: this process ends soon, and must not start workers again."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, lambda heard, _: _heard.append(heard))


class _NoFolderError(InputError):
    """There is no room for a file of a few bytes."""


@contextmanager
def _folder() -> Iterator[Path]:
    """A folder of this gang alone, gone after the block. Raises: _NoFolderError."""
    with ExitStack() as held:
        try:
            folder = Path(held.enter_context(tempfile.TemporaryDirectory(prefix="gang-")))
            (folder / "verdict").write_bytes(b" " * VERDICT_BYTES)
        except OSError as problem:
            raise _NoFolderError(
                f"cannot start the workers: no temporary file can be written: {str(problem.strerror or problem).lower()}",
                hint="make room, or TMPDIR names another place",
            ) from problem
        yield folder


@contextmanager
def _watched(report: Path) -> Iterator[None]:
    """For the block: end the gang soon after a verdict, and at all events some time after it was told to stop.

    Without the first torchrun would start its workers again, to meet the same error. Without the second it may wait
    in its shutdown for a rendezvous whose node is gone, and hold the accelerators until the pod's grace period is over.
    """
    os.environ[VERDICT] = str(report)
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)  # tells of signals whoever handles them
    over = threading.Event()
    thread = threading.Thread(target=_watch, args=(reader, over), daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        signal.set_wakeup_fd(before)
        os.close(reader)
        os.close(writer)


def _watch(signals: int, over: threading.Event) -> None:
    ends_at_s, code, times_told = math.inf, COMES_BACK, 0
    while not over.is_set() and time.monotonic() < ends_at_s:
        told = os.read(signals, 64) if select.select([signals], [], [], WATCH_S)[0] else b""
        times_told += told.count(signal.SIGTERM)
        if times_told > 1:
            _leave_now(code, "told to stop again")
        report = earlier_report()
        if ends_at_s < math.inf:
            continue
        if times_told:
            ends_at_s = time.monotonic() + STOP_S
        elif report is not None and not over.wait(END_S):
            ends_at_s, code = time.monotonic() + STOP_AFTER_VERDICT_S, report.exit_code
            times_told -= 1  # the one that follows is ours
            os.kill(os.getpid(), signal.SIGTERM)
    if not over.is_set():
        _end_now(code)


def _leave_now(code: int, why: str) -> NoReturn:
    """End the workers and this process at once, and leave nothing of it."""
    with suppress(OSError):  # whoever read it may be gone as well
        sys.stderr.write(f"{why}: ending at once\n")
        sys.stderr.flush()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError, ValueError, IndexError):
            if int(stat.read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()[1]) == os.getpid():
                os.kill(int(stat.parent.name), signal.SIGKILL)
    _end_now(code)


def _end_now(code: int) -> NoReturn:
    """Leave without waiting for anything; the folder of the verdict goes too."""
    with suppress(OSError, KeyError):
        report = Path(os.environ[VERDICT])
        report.unlink(missing_ok=True)
        report.parent.rmdir()
    os._exit(code)


def _start_again(argv: list[str], starts: int, starter: int | None) -> NoReturn:
    """Become a new gang in this process; nothing of the old one may hold the rendezvous' port."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda *_: os._exit(COMES_BACK))
    time.sleep(1.0)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})  # kept until the new one hears it
    os.environ[STARTS] = str(starts)
    sys.stderr.flush()
    end = min(65536, os.sysconf("SC_OPEN_MAX"))
    if starter is None:
        os.closerange(3, end)
    else:
        parent_watch.handed_on(starter)
        os.closerange(3, starter)
        os.closerange(starter + 1, end)
    os.execv(sys.executable, [sys.executable, "-m", "trainer.runtime.entrypoint", *argv])  # noqa: S606 - ourselves


def _stopped(sigval: signal.Signals) -> int:
    sys.stderr.write(f"stopped by {sigval.name}\n")
    return InterruptedByUser.exit_code if sigval == signal.SIGINT else COMES_BACK


def _failed(report: FailureReport) -> int:
    """Say which worker failed, and how; the code to leave with, which a repetition would not change unless it is 75."""
    code = report.exit_code
    if not report.told:
        signal.signal(signal.SIGTERM, lambda *_: _end_now(code))
        time.sleep(LINGER_S)
        return code
    sys.stderr.write(f"worker {report.rank} failed with {_named(code)}\n")
    return code if 0 < code < 128 else JobFailedError.exit_code


def _threads(workers: str) -> int:
    """This node's cores shared among its workers; torchrun would give each one thread, and a warning."""
    return max(1, len(os.sched_getaffinity(0)) // max(1, int(workers))) if workers.isdigit() else 1


def _named(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    return f"signal {-code}" + {
        signal.SIGKILL: " (killed, as for want of memory)",
        signal.SIGBUS: " (bus error, as when /dev/shm is full)",
    }.get(signal.Signals(-code), "")


if __name__ == "__main__":
    screen()
    sys.exit(main(sys.argv[1:]))
