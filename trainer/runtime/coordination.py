"""Decisions of all workers during training, made over the CPU process group: stop, or save a checkpoint now.

SIGTERM reaches only some workers and only rank 0 checks the time, but all must act at the same step. They exchange
flags every few steps, about every two seconds by the slowest worker's step time, which is part of the exchange.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import torch

from trainer.runtime.preemption import Stop
from trainer.runtime.process_group import WorkerGroup

REACT_S: Final = 2.0
MOST_STEPS: Final = 50
"""Most steps between two exchanges, for very short steps."""


@dataclass(frozen=True)
class ControlFlags:
    """Requests of at least one worker."""

    stop: bool = False
    """A worker received SIGTERM."""
    deadline: bool = False
    """The deadline has passed."""
    checkpoint: bool = False
    """The last checkpoint is old enough."""
    failure: bool = False
    """The run must end; rank 0 knows why."""

    @property
    def end(self) -> bool:
        """Whether training ends here."""
        return self.stop or self.deadline or self.failure


class Coordination:
    """This worker's side of the exchange."""

    def __init__(
        self,
        group: WorkerGroup,
        stop: Stop,
        *,
        ends_at_s: float,
        checkpoint_every_s: float,
        failed: Callable[[], bool],
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._group, self._stop, self._failed = group, stop, failed
        self._ends_at_s, self._checkpoint_every_s = ends_at_s, checkpoint_every_s
        self._clock, self._now = clock, now
        self._counted = self._synced = 0
        self._next_sync = 1
        self._synced_s = self._saved_s = clock()

    def saved(self) -> None:
        """Record the time of a checkpoint."""
        self._saved_s = self._clock()

    def after_step(self) -> ControlFlags:
        """Requests after one more step, or batch of an evaluation; none between exchanges. Collective: all ranks call it."""
        self._counted += 1
        return self.sync() if self._counted >= self._next_sync else ControlFlags()

    def sync(self) -> ControlFlags:
        """Requests now. Collective: all ranks call it."""
        now_s = self._clock()
        steps = max(1, self._counted - self._synced)
        is_rank0 = self._group.world.is_rank0
        flags = [
            self._stop.wanted,
            is_rank0 and self._now() >= self._ends_at_s,
            is_rank0 and now_s - self._saved_s >= self._checkpoint_every_s,
            is_rank0 and self._failed(),
            (now_s - self._synced_s) / steps,
        ]
        *any_flags, step_s = self._group.largest(torch.tensor(flags, dtype=torch.float64)).tolist()
        self._synced, self._synced_s = self._counted, self._clock()
        self._next_sync = self._counted + max(1, min(MOST_STEPS, int(REACT_S / max(step_s, 1e-6))))
        return ControlFlags(*map(bool, any_flags))
