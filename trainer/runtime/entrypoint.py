"""`python -m trainer.runtime.entrypoint`: torchrun as the first process of a pod; its exit code decides whether the job fails or continues.

Takes torchrun's flags and environment and runs it in this process, so that signals reach it. It exits with the failed
worker's own exit code, which torchrun turns into 1, and prints one line in place of torchrun's traceback. Why it failed is
written into the container's termination message (`failure_cause`) if Kubernetes started it.

torchrun starts all workers again after any failure. A worker that fails for good (bad input, a job that cannot continue)
reports its rank and exit code (`failure_report`), and the entrypoint exits at once, without a second try. When torchrun itself
fails for a transient reason (the node with the rendezvous was lost), it is started again in this process. The training operator
fails the job for exit codes below 128, and recreates a pod that exited with any other (docs/decisions/0009).
"""

import gc
import logging
import math
import os
import select
import signal
import socket
import sys
import tempfile
import threading
import time
import uuid
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn

from trainer.errors import InputError, InterruptedByUser, JobFailedError, TryAgainError, on_one_line
from trainer.layout import JOB, LOCAL_RUN, POD_ADDRESS
from trainer.loading import uncollected
from trainer.runtime import failure_cause, parent_watch
from trainer.runtime.cores import threads_per_worker
from trainer.runtime.failure_cause import FailureCause
from trainer.runtime.failure_report import REPORT_FILE, FailureReport, cause_files, earlier_report, reserve_report
from trainer.runtime.fork_server import command, fork_server
from trainer.screen import screen

if TYPE_CHECKING:
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

TERMINATION_MESSAGE: Final = Path("/dev/termination-log")
"""Made by the kubelet, unless the container has another terminationMessagePath; then there is none here, and the log's last lines are taken."""

TERMINATED: Final = 128 + signal.SIGTERM
"""Exit code after a signal to stop. The operator recreates such a pod: it was evicted, drained or preempted, and the job is not over."""

WATCH_S: Final = 0.2
END_S: Final = 1.0
"""Wait between a failure report and SIGTERM to the workers: by then the other workers have seen it."""

STOP_S: Final = 40.0
"""Longest time from SIGTERM to the end of the workers: torchrun gives them 30 s."""

STOP_AFTER_REPORT_S: Final = 10.0
"""Longest time from a failure report (and `END_S`) to the end of the workers: they have nothing left to save."""

LINGER_S: Final = 5.0
"""Extra wait of pods without an error message: the operator deletes the other pods when the first fails, with their logs."""

SAME_TIME_S: Final = 10.0
"""Workers that exit within this time after the first exited by themselves; torchrun kills the others, those that ignore SIGTERM after 30 s."""

LOOPBACK: Final = "127.0.0.1"

NODE_RANK: Final = "PET_NODE_RANK"
"""Number of this node, torchrun's `--node-rank`. Source: Kubeflow Trainer sets it for each pod of a TrainJob."""

STARTS: Final = "TRAINER_ENTRYPOINT_STARTS"
MOST_STARTS: Final = 4
"""How often torchrun is started in one container after transient failures."""

LONG_S: Final = 600.0
"""A torchrun that ran this long made progress, so the start count is reset."""


PRELOADED: Final = ("trainer.commands.train",)
"""What the fork server imports beside torchrun: all that a worker loads up to its first step, which a test compares."""

_OF_BUCKETS: Final = ("boto3.session", "boto3.s3.inject", "botocore.httpsession")
"""What it imports in addition where an argument names a bucket."""

_PROGRAM: Final = {("-m", "trainer"), ("--module", "trainer")}
_OWN_STORE: Final = "TORCH_DISABLE_SHARE_RDZV_TCP_STORE"
"""Workers that are started again then never read the addresses of those that are gone (docs/decisions/0006)."""

_AUTOLOAD: Final = "TORCH_DEVICE_BACKEND_AUTOLOAD"
"""Source: torch's documentation, since 2.5."""


_late_signals: Final[list[int]] = []
"""Signals that arrived after torchrun had ended."""


def main(argv: list[str], message: Path = TERMINATION_MESSAGE) -> int:
    """Run torchrun, again where that may help; the exit code of the first worker that failed, 0 when none did."""
    # The first process of a container ignores signals that it has no handler for; torchrun sets its own once it is loaded.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(TERMINATED))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    starter = parent_watch.taken()
    if starter is not None:
        parent_watch.watch(
            starter, lambda: _kill_children_and_exit(TERMINATED, "the process that started this is gone")
        )
    # A run of --local inside a pod, as in a notebook, must not describe that pod.
    place = None if LOCAL_RUN in os.environ else message
    started_s = time.monotonic()
    try:
        code = _run(argv, place)
    except (_NoFolderError, _NoAddressError) as problem:
        sys.stderr.write(f"{problem}\n")
        failure_cause.write_message(place, failure_cause.of_exception(problem))
        return problem.exit_code
    if code != TryAgainError.exit_code:
        return code
    starts = 1 if time.monotonic() - started_s > LONG_S else int(os.environ.get(STARTS, "1"))
    if starts >= MOST_STARTS:
        return code
    if _late_signals:
        return _stopped(signal.Signals(_late_signals[0]), place)
    sys.stderr.write(f"starting the workers again ({starts} of {MOST_STARTS - 1})\n")
    failure_cause.write_message(place, None)  # the new start may succeed
    return _start_again(argv, starts + 1, starter)


def _run(argv: list[str], message: Path | None) -> int:
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    os.environ.setdefault(_OWN_STORE, "1")
    os.environ.setdefault(JOB, uuid.uuid4().hex)
    os.environ[parent_watch.PARENT] = str(os.getpid())
    forks = _prepare_to_fork(argv)
    # torch takes seconds to load; nothing but this function needs it
    with uncollected(), _no_backends() if forks else nullcontext():
        from torch.distributed import DistError  # noqa: PLC0415
        from torch.distributed.elastic.multiprocessing.api import SignalException  # noqa: PLC0415
        from torch.distributed.elastic.multiprocessing.errors import ChildFailedError  # noqa: PLC0415
        from torch.distributed.elastic.rendezvous.api import RendezvousError  # noqa: PLC0415
        from torch.distributed.run import parse_args, run  # noqa: PLC0415

    arguments = parse_args(argv)
    arguments.local_addr = arguments.local_addr or _own_address(arguments.nnodes)
    arguments.rdzv_conf = with_store_host(arguments.rdzv_conf, os.environ)
    os.environ.setdefault("OMP_NUM_THREADS", str(_threads(arguments.nproc_per_node)))
    oom_kills = failure_cause.oom_kills()
    exit_codes: dict[int, int] = {}
    with _folder() as folder, _workers(arguments, folder) if forks else nullcontext(), _collected_in_this_thread():
        # torchrun reports at length what we report in a line, and torch's C++ with its whole stack.
        logging.disable(logging.ERROR)
        with _watched(folder / "report", message):
            try:
                try:
                    run(arguments)
                finally:
                    _note_signals()
            except ChildFailedError as failure:
                rank, first = failure.get_first_failure()
                report = earlier_report() or FailureReport(rank, first.exitcode)
                exit_codes = _exit_codes(failure, first.timestamp)
            except SignalException as stop:  # in torchrun, or just after it
                _note_signals()
                reported = earlier_report()
                if reported is None:
                    return _stopped(stop.sigval, message)
                report = reported
            except (DistError, RendezvousError) as problem:
                return _rendezvous_failed(problem, message)
            else:
                return 0
        failure_cause.write_message(message, _cause(report, exit_codes, oom_kills))
        return _failed(report)


def _prepare_to_fork(argv: list[str]) -> bool:
    """Whether the workers will be forks of this process, which then must load torch as they would.

    Only those of `-m trainer`, whose modules are known, and on Linux: elsewhere a fork of a process with torch is not safe.
    """
    if not sys.platform.startswith("linux") or "PYTHON_EXEC" in os.environ:
        return False
    at = next((at for at, words in enumerate(pairwise(argv)) if words in _PROGRAM), None)
    if at is None:
        return False
    parser = ArgumentParser(add_help=False)
    parser.add_argument("--nproc-per-node", "--nproc_per_node", default=os.environ.get("PET_NPROC_PER_NODE", "1"))
    workers = parser.parse_known_args(argv[:at])[0].nproc_per_node
    if workers.isdigit():  # OpenMP reads it when torch is loaded
        os.environ.setdefault("OMP_NUM_THREADS", str(_threads(workers)))
    return bool(workers.isdigit())


@contextmanager
def _no_backends() -> Iterator[None]:
    """For the block, torch loads no backends of other packages: Gaudi's must be loaded in each worker, as it reads LOCAL_RANK."""
    before = os.environ.get(_AUTOLOAD)
    os.environ[_AUTOLOAD] = "0"
    try:
        yield
    finally:
        os.environ.pop(_AUTOLOAD)
        if before is not None:
            os.environ[_AUTOLOAD] = before


@contextmanager
def _workers(arguments: Namespace, folder: Path) -> Iterator[None]:
    """For the block, the fork server; torchrun's arguments are changed so that it takes its workers from there."""
    if arguments.no_python or arguments.run_path or getattr(arguments, "numa_binding", None):
        yield
        return
    program = ["-u", "-m", arguments.training_script, *arguments.training_script_args]
    modules = PRELOADED + (_OF_BUCKETS if any("s3://" in word for word in program) else ())
    arguments.module, arguments.no_python = False, True
    arguments.training_script, *arguments.training_script_args = command(folder, program)
    with fork_server(folder, modules):
        yield


@contextmanager
def _collected_in_this_thread() -> Iterator[None]:
    """Collect garbage at the end of the block only. Otherwise a timer of torchrun's rendezvous may be collected in its own thread: it
    waits for this thread, and a traceback is printed.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.collect()
        gc.enable()


def _note_signals() -> None:
    """Replace torchrun's handlers, which raise an exception, by ones that note the signal: this process ends soon, and must not start workers again."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, lambda heard, _: _late_signals.append(heard))


class _NoFolderError(InputError):
    """Not even a file of a few bytes can be written."""


class _NoAddressError(InputError):
    """The other nodes could not reach this one."""


def _own_address(nodes: str) -> str | None:
    """Address under which this machine's workers meet if none is given; None leaves it to torchrun, which takes the machine's name.

    Workers of one node need no name, which laptops often can't resolve: they would wait for each other in vain. torchrun
    orders nodes by name, so that rank 0 is in a job's first pod; a pod's address is used only where its name does not resolve.

    Raises: _NoAddressError when there are several nodes and this machine's name does not resolve.
    """
    if nodes in {"1", "1:1"}:
        return LOOPBACK
    name = socket.getfqdn()
    try:
        socket.getaddrinfo(name, None)
    except OSError as problem:
        if os.environ.get(POD_ADDRESS):
            return os.environ[POD_ADDRESS]
        raise _NoAddressError(
            f"cannot start the workers: this machine's own name does not resolve, got `{on_one_line(name)}`",
            hint="--local-addr ADDRESS, or PET_LOCAL_ADDR, with its address in the network; or add the name to /etc/hosts",
        ) from problem
    return None


def with_store_host(conf: str, environment: Mapping[str, str]) -> str:
    """Torchrun's `--rdzv-conf`, with the node that hosts the store named where the controller numbers the nodes.

    Otherwise torchrun resolves the endpoint's name to find out, which after a restart is still that of a deleted pod for some
    seconds: then no node hosts the store, and all wait in vain until the timeout (measured: docs/decisions/0031).
    """
    rank = environment.get(NODE_RANK)
    if rank is None or environment.get("PET_RDZV_BACKEND") != "c10d" or environment.get("PET_NNODES") == "1":
        return conf
    return conf if "is_host" in conf else ",".join(filter(None, [conf, f"is_host={str(rank == '0').lower()}"]))


@contextmanager
def _folder() -> Iterator[Path]:
    """A temporary folder for the reports of these workers, removed after the block. Raises: _NoFolderError."""
    with ExitStack() as held:
        try:
            folder = Path(held.enter_context(tempfile.TemporaryDirectory(prefix="entrypoint-")))
            reserve_report(folder / "report")
        except OSError as problem:
            raise _NoFolderError(
                f"cannot start the workers: no temporary file can be written: {str(problem.strerror or problem).lower()}",
                hint="free space there, or set TMPDIR to another directory",
            ) from problem
        yield folder


@contextmanager
def _watched(report: Path, message: Path | None) -> Iterator[None]:
    """For the block: stop the workers soon after a failure report, and kill them some time after SIGTERM.

    Without the first, torchrun would start its workers again, into the same error. Without the second, its shutdown may wait
    for a rendezvous whose node was lost, and hold the accelerators until the pod's grace period is over.
    """
    os.environ[REPORT_FILE] = str(report)
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)  # receives signals whichever handler is set
    over = threading.Event()
    thread = threading.Thread(target=_watch, args=(reader, over, message), daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        signal.set_wakeup_fd(before)
        os.close(reader)
        os.close(writer)


def _watch(signals: int, over: threading.Event, message: Path | None) -> None:
    ends_at_s, code, sigterms = math.inf, TERMINATED, 0
    while not over.is_set() and time.monotonic() < ends_at_s:
        received = os.read(signals, 64) if select.select([signals], [], [], WATCH_S)[0] else b""
        sigterms += received.count(signal.SIGTERM)
        if sigterms > 1:
            _kill_children_and_exit(code, "SIGTERM received again")
        report = earlier_report()
        if ends_at_s < math.inf:
            continue
        if sigterms:
            ends_at_s = time.monotonic() + STOP_S
        elif report is not None and not over.wait(END_S):
            failure_cause.write_message(message, _cause(report, {}, None))  # now: the exit may be forced
            ends_at_s, code = time.monotonic() + STOP_AFTER_REPORT_S, report.exit_code
            sigterms -= 1  # the one that follows is ours
            os.kill(os.getpid(), signal.SIGTERM)
    if not over.is_set():
        _exit_now(code)


def _kill_children_and_exit(code: int, why: str) -> NoReturn:
    """Kill the workers and exit, removing the report folder."""
    with suppress(OSError):  # the reader of stderr may have exited
        sys.stderr.write(f"{why}: ending at once\n")
        sys.stderr.flush()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError, ValueError, IndexError):
            if int(stat.read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()[1]) == os.getpid():
                os.kill(int(stat.parent.name), signal.SIGKILL)
    _exit_now(code)


def _exit_now(code: int) -> NoReturn:
    """Exit without waiting for anything; the folder of the report is removed too."""
    with suppress(OSError, KeyError):
        folder = Path(os.environ[REPORT_FILE]).parent
        for path in folder.iterdir():
            path.unlink(missing_ok=True)
        folder.rmdir()
    os._exit(code)


def _start_again(argv: list[str], starts: int, starter: int | None) -> NoReturn:
    """Replace this process by a new start of it; no open file of the old one may hold the port of the rendezvous."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda *_: os._exit(TERMINATED))
    time.sleep(1.0)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})  # pending until the new start handles it
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


def _exit_codes(failure: "ChildFailedError", first_s: float) -> dict[int, int]:
    """Exit codes by rank of the workers that ended by themselves, negative for signals; torchrun ends the others after the first."""
    return {
        rank: each.exitcode
        for rank, each in failure.failures.items()
        if each.exitcode != -signal.SIGTERM and each.timestamp - first_s < SAME_TIME_S
    }


def _cause(report: FailureReport, exit_codes: Mapping[int, int], oom_kills: int | None) -> FailureCause | None:
    """Why this pod failed; None where only its log may tell, as of a worker that crashed before it could leave a cause.

    `oom_kills` is the kernel's count at the start.
    """
    causes = failure_cause.left(cause_files())
    reported = [cause for cause in causes if cause.rank == report.rank] if earlier_report() else []
    now = failure_cause.oom_kills()
    grown = None if now is None or oom_kills is None else now - oom_kills
    killed = (failure_cause.of_signal(-code, rank=rank, new_oom_kills=grown) for rank, code in exit_codes.items())
    known = [*reported, *filter(None, killed), *(cause for cause in causes if not cause.is_a_consequence)]
    if known:
        return known[0]
    is_silent = bool(set(exit_codes) - {cause.rank for cause in causes})
    return None if is_silent or not causes else causes[0]


def _stopped(sigval: signal.Signals, message: Path | None) -> int:
    sys.stderr.write(f"stopped by {sigval.name}\n")
    stops = [cause for cause in failure_cause.left(cause_files()) if cause.is_a_consequence]
    received = FailureCause(
        error=f"received {sigval.name}, as in a deletion, an eviction or a preemption", is_a_consequence=True
    )
    failure_cause.write_message(message, stops[0] if stops else received)
    return InterruptedByUser.exit_code if sigval == signal.SIGINT else TERMINATED


def _rendezvous_failed(problem: Exception, message: Path | None) -> int:
    """Report that torchrun itself failed, with or without workers; the exit code."""
    said = f"cannot bring the workers together: {on_one_line(' '.join(str(problem).split()))}"
    sys.stderr.write(f"error: {said}\n")
    failure_cause.write_message(message, FailureCause(error=said, is_a_consequence=True))
    return TryAgainError.exit_code


def _failed(report: FailureReport) -> int:
    """Print which worker failed, and how; returns the exit code. Only 75 is worth another try."""
    code = report.exit_code
    if not report.explained:
        signal.signal(signal.SIGTERM, lambda *_: _exit_now(code))
        time.sleep(LINGER_S)
        return code
    sys.stderr.write(f"worker {report.rank} failed with {_named(code)}\n")
    return code if 0 < code < 128 else JobFailedError.exit_code


def _threads(workers: str) -> int:
    """This node's processors shared among its workers; torchrun would give each one thread, and a warning."""
    return threads_per_worker(int(workers)) if workers.isdigit() else 1


def _named(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    return f"signal {-code}" + {
        signal.SIGKILL: " (killed, probably out of memory)",
        signal.SIGBUS: " (bus error, as when /dev/shm is full)",
    }.get(signal.Signals(-code), "")


if __name__ == "__main__":
    screen()
    sys.exit(main(sys.argv[1:]))
