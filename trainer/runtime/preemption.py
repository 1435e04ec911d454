"""SIGTERM handling: preemption, a drained node, a suspended job, a deleted pod.

The signal reaches one pod, whose torchrun forwards it to its workers and kills them 30 s later. During training, the
first SIGTERM is only recorded, so that all workers stop at the same step and commit it; the second ends the worker at
once. Before and after training there is nothing to save, and the signal kills as usual.
"""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

from trainer.errors import TryAgainError

SAVING_S: Final = 20.0
"""Time to save after SIGTERM. Source: torchrun, 30 s from SIGTERM to SIGKILL; the rest is for exiting."""


class StopError(TryAgainError):
    """A worker received SIGTERM."""

    is_a_consequence = True


class Stop:
    """Whether this worker received SIGTERM, and when."""

    def __init__(
        self, *, clock: Callable[[], float] = time.monotonic, leave: Callable[[int], object] = os._exit
    ) -> None:
        self._clock = clock
        self._leave = leave
        self._received_s: float | None = None

    @property
    def wanted(self) -> bool:
        """Whether this worker received SIGTERM."""
        return self._received_s is not None

    def left_s(self) -> float:
        """Seconds left for saving; all of them where this worker received no SIGTERM."""
        return SAVING_S if self._received_s is None else max(0.0, self._received_s + SAVING_S - self._clock())

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Record SIGTERM within the block instead of ending."""
        before = signal.signal(signal.SIGTERM, self._receive)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, before)

    def _receive(self, _number: int, _frame: FrameType | None) -> None:
        if self.wanted:
            self._leave(TryAgainError.exit_code)
        self._received_s = self._clock()


def stopped(step: int) -> StopError:
    """Error of a run that stopped after SIGTERM."""
    return StopError(
        f"stopped at step {step} after SIGTERM", hint="the same command continues from the newest checkpoint"
    )


@contextmanager
def ending_at_sigterm() -> Iterator[None]:
    """Exit with code 75 at a SIGTERM within the block: for work that the next start continues, wherever it was ended.

    The first process of a container has no default action for signals, and without a handler would go on until it is killed.
    Source: pid_namespaces(7).
    """
    before = signal.signal(signal.SIGTERM, _end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _end(_number: int, _frame: FrameType | None) -> None:
    os.write(2, b"error: stopped after SIGTERM\n\nhint: the same command continues\n")  # sys.stderr may be in use
    os._exit(TryAgainError.exit_code)
