"""`python -m trainer.gang`: torchrun for our jobs, with a readable end.

Takes torchrun's flags and environment and runs it in this process, so that signals reach it. When a worker fails it
leaves with that worker's own exit code, which torchrun turns into 1, and one line in place of torchrun's traceback.

torchrun starts all workers again after any failure. A worker that fails for good (bad input, a job that can't go on)
leaves its rank and exit code in the file that TRAINER_VERDICT names; workers that are started again see it and leave at
once, so that a permanent error is met once.
"""

import logging
import os
import signal
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from trainer.errors import InputError, InterruptedByUser, JobFailedError, TryAgainError

VERDICT: Final = "TRAINER_VERDICT"

PERMANENT: Final = frozenset({InputError.exit_code, JobFailedError.exit_code})
"""Exit codes that no repetition changes."""

TELLING_S: Final = 20.0
"""How long silent workers wait for the one that tells: starting an interpreter and importing torch on a busy machine."""


@dataclass(frozen=True)
class Verdict:
    """Which worker has failed for good, and how."""

    rank: int
    exit_code: int


def give_verdict(verdict: Verdict) -> None:
    """Tell workers that are started after this one not to try again, where the error is permanent."""
    path = os.environ.get(VERDICT)
    if path and verdict.exit_code in PERMANENT and earlier_verdict() is None:
        with suppress(OSError):  # then the error is met again
            Path(path).write_text(f"{verdict.rank} {verdict.exit_code}", encoding="ascii")


def await_verdict(exit_code: int) -> None:
    """Wait until the worker that tells a permanent error has told it; then this one, which is silent, may leave.

    torchrun ends all workers of a node when the first has left. On a node whose workers are all silent nobody gives a
    verdict, so the wait is bounded.
    """
    until = time.monotonic() + TELLING_S
    while VERDICT in os.environ and exit_code in PERMANENT and earlier_verdict() is None and time.monotonic() < until:
        time.sleep(0.05)


def earlier_verdict() -> Verdict | None:
    """What this gang has failed of for good before, None when it has not."""
    try:
        rank, exit_code = Path(os.environ[VERDICT]).read_text(encoding="ascii").split()
        return Verdict(int(rank), int(exit_code))
    except (KeyError, OSError, ValueError):
        return None


def main(argv: list[str]) -> int:
    """Run torchrun; the exit code of the first worker that failed, 0 when none did."""
    # torch takes seconds to load; workers need only the verdict from this module
    from torch.distributed import DistError  # noqa: PLC0415
    from torch.distributed.elastic.multiprocessing.api import SignalException  # noqa: PLC0415
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError  # noqa: PLC0415
    from torch.distributed.elastic.rendezvous.api import RendezvousError  # noqa: PLC0415
    from torch.distributed.run import parse_args, run  # noqa: PLC0415

    logging.disable(logging.ERROR)  # torchrun says at length what we say in a line
    arguments = parse_args(argv)
    os.environ.setdefault("OMP_NUM_THREADS", str(_threads(arguments.nproc_per_node)))
    with tempfile.TemporaryDirectory(prefix="gang-") as folder:
        os.environ[VERDICT] = str(Path(folder) / "verdict")
        try:
            run(arguments)
        except ChildFailedError as failure:
            rank, first = failure.get_first_failure()
            return _failed(earlier_verdict() or Verdict(rank, first.exitcode))
        except SignalException as stop:  # whoever stops a pod from outside wants it back later
            sys.stderr.write(f"stopped by {stop.sigval.name}\n")
            return InterruptedByUser.exit_code if stop.sigval == signal.SIGINT else TryAgainError.exit_code
        except (DistError, RendezvousError) as problem:
            sys.stderr.write(f"error: cannot bring the workers together: {' '.join(str(problem).split())}\n")
            return TryAgainError.exit_code
    return 0


def _failed(verdict: Verdict) -> int:
    code = verdict.exit_code
    sys.stderr.write(f"worker {verdict.rank} failed with {_named(code)}\n")
    return code if code > 0 else 128 - code


def _threads(workers: str) -> int:
    """This node's cores shared among its workers; torchrun would give each one thread, and a warning."""
    return max(1, len(os.sched_getaffinity(0)) // max(1, int(workers))) if workers.isdigit() else 1


def _named(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
