"""The wish to stop, as SIGTERM brings it: preemption, a drained node, a suspended job, a deleted pod.

It reaches one pod, whose torchrun passes it to its workers and kills them 30 s later. While a run trains, the first is only noted, so
that all workers can stop at one step and commit it; the second ends the worker at once. Before and after there is nothing to save
and the signal kills as it always does.
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
"""How long a worker may go on after SIGTERM. Source: torchrun, 30 s from SIGTERM to SIGKILL; the rest is for leaving."""


class StopError(TryAgainError):
    """A worker was told to stop."""

    is_a_consequence = True


class Stop:
    """Whether this worker was told to stop, and when."""

    def __init__(
        self, *, clock: Callable[[], float] = time.monotonic, leave: Callable[[int], object] = os._exit
    ) -> None:
        self._clock = clock
        self._leave = leave
        self._told_s: float | None = None

    @property
    def wanted(self) -> bool:
        """Whether this worker was told to stop."""
        return self._told_s is not None

    def left_s(self) -> float:
        """Seconds left for saving; those of a worker that was told now, where this one was not told at all."""
        return SAVING_S if self._told_s is None else max(0.0, self._told_s + SAVING_S - self._clock())

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Note SIGTERM within the block in place of dying of it."""
        before = signal.signal(signal.SIGTERM, self._told)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, before)

    def _told(self, _number: int, _frame: FrameType | None) -> None:
        if self.wanted:
            self._leave(TryAgainError.exit_code)
        self._told_s = self._clock()


def stopped(step: int) -> StopError:
    """What to say once a run has stopped because it was told to."""
    return StopError(
        f"stopped at step {step}, as SIGTERM asked", hint="the same command goes on from the newest checkpoint"
    )
