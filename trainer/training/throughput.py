"""Throughput of an epoch."""

import time
from typing import Final

from trainer.data.loader import Batches

WARMING_UP_STEPS: Final = 3
"""First steps of an epoch excluded from images/s: they compile, allocate and start threads."""


class Meter:
    """Throughput of an epoch without its first steps; with them where it has fewer, and they do not compile."""

    def __init__(self, loader: Batches, global_batch: int, *, compiles: bool) -> None:
        self._loader, self._global_batch, self._compiles = loader, global_batch, compiles
        self._utilisations: list[float] = []
        self._restart(0)

    def _restart(self, steps: int) -> None:
        self._skipped, self._steps = steps, steps
        self._start_s, self._waited_s = self._last = time.perf_counter(), self._loader.waited_s

    def count(self, steps: int, *, measured: bool = True) -> None:
        """Set the number of finished steps; those since the last call count, with their time, where they are `measured`."""
        if not measured:
            self._leave_out(steps - self._steps)
        self._last = time.perf_counter(), self._loader.waited_s
        self._steps = steps
        if self._compiles and steps < WARMING_UP_STEPS:
            self._skipped = steps
        if steps == WARMING_UP_STEPS:
            self._restart(steps)

    def _leave_out(self, steps: int) -> None:
        """Leave out the newest steps and their time."""
        since_s, waited_s = self._last
        self._skipped += steps
        self._start_s += time.perf_counter() - since_s
        self._waited_s += self._loader.waited_s - waited_s

    def images_per_s(self) -> float:
        """Images per second over all workers; nan before there is a measured step."""
        steps = self._steps - self._skipped
        return steps * self._global_batch / self._elapsed_s() if steps else float("nan")

    def data_wait_share(self) -> float:
        """Share of time that this rank waited for data."""
        return (self._loader.waited_s - self._waited_s) / self._elapsed_s()

    def note_utilisation(self, share: float | None) -> None:
        """Record the device's utilisation, if reported."""
        if share is not None:
            self._utilisations.append(share)

    def utilisation(self) -> float | None:
        """Mean of the recorded values, 0 to 1; None without any."""
        return sum(self._utilisations) / len(self._utilisations) if self._utilisations else None

    def _elapsed_s(self) -> float:
        return max(1e-9, time.perf_counter() - self._start_s)
