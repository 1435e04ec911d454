"""Operations that a device leaves to the host, by the vendor's counters: each makes the device wait."""

from collections.abc import Mapping

from trainer.devices import FALLBACK
from trainer.training.run import Run
from trainer.training.throughput import WARMING_UP_STEPS


class Fallbacks:
    """Watches the counters of an epoch after its warm-up, in which an operation may run on the host once."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._warm: Mapping[str, int] | None = None

    def after_step(self, number: int) -> None:
        """Call after each step of the epoch, counted from 1."""
        if number == WARMING_UP_STEPS:
            self._warm = self._run.device.counters()

    def report(self) -> None:
        """Warn on rank 0 of operations that have run on the host since the warm-up, by name; of none where the epoch was not longer."""
        counters, warm = self._run.device.counters(), self._warm
        if warm is None:
            return
        names = sorted(name for name, count in counters.items() if count > warm.get(name, 0))
        fallbacks = [name.removeprefix(FALLBACK) for name in names if name.startswith(FALLBACK)]
        if fallbacks and self._run.is_rank0:
            self._run.reporter.line(
                f"warning: {self._run.device.name} has no {', '.join(fallbacks)}: still run on the host after the warm-up, which "
                "makes steps slow"
            )
