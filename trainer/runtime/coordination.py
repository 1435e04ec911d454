"""What all workers agree on while they train, over the processors' channel: to stop, or to keep a checkpoint now.

Only some workers are told to stop and only one looks at the clock, but all must act at the same step. They talk every few steps:
about every two seconds of the slowest, as they find out by talking.
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
"""So many steps at most between two exchanges, however quick they are."""


@dataclass(frozen=True)
class ControlFlags:
    """What at least one worker wants."""

    stop: bool = False
    """It was told to."""
    deadline: bool = False
    """The run's time is over."""
    checkpoint: bool = False
    """The last one is old enough."""
    failure: bool = False
    """The run may not go on; the primary knows why."""

    @property
    def end(self) -> bool:
        """Whether training is to end here."""
        return self.stop or self.deadline or self.failure


class Coordination:
    """This worker's part in the exchange."""

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
        self._counted = self._talked = 0
        self._talks_at = 1
        self._talked_s = self._saved_s = clock()

    def saved(self) -> None:
        """Note that a checkpoint was taken."""
        self._saved_s = self._clock()

    def after_step(self) -> ControlFlags:
        """What is wanted after one more step, or batch of an evaluation; nothing where it is not asked yet. All ranks call it."""
        self._counted += 1
        return self.asked() if self._counted >= self._talks_at else ControlFlags()

    def asked(self) -> ControlFlags:
        """What is wanted now. All ranks call it."""
        now_s = self._clock()
        steps = max(1, self._counted - self._talked)
        leads = self._group.world.is_rank0
        mine = [
            self._stop.wanted,
            leads and self._now() >= self._ends_at_s,
            leads and now_s - self._saved_s >= self._checkpoint_every_s,
            leads and self._failed(),
            (now_s - self._talked_s) / steps,
        ]
        *flags, step_s = self._group.largest(torch.tensor(mine, dtype=torch.float64)).tolist()
        self._talked, self._talked_s = self._counted, self._clock()
        self._talks_at = self._counted + max(1, min(MOST_STEPS, int(REACT_S / max(step_s, 1e-6))))
        return ControlFlags(*map(bool, flags))
