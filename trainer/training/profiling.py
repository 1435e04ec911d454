"""`--profile`: a trace of a few steps by torch.profiler, written into the run."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import torch
from torch.autograd.profiler_util import FunctionEventAvg

from trainer.layout import TRACE
from trainer.runtime.watchdog import COMPILING
from trainer.training.run import Run
from trainer.training.throughput import WARMING_UP_STEPS

TOP: Final = 8
"""Operations in the log."""


class StepProfiler:
    """Profiles the first steps of this start after its warm-up, on rank 0 where `--profile` asks for it."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._left = (run.config.profile or 0) if run.is_rank0 else 0
        self._seen = 0
        self._profiler: torch.profiler.profile | None = None

    def after_step(self) -> bool:
        """Call after each step of training: starts after the warm-up, and ends after the requested steps.

        Returns whether the profile has made the step longer.
        """
        if not self._left:
            return False
        self._seen += 1
        if self._profiler is None:
            if self._seen >= WARMING_UP_STEPS:
                self._profiler = torch.profiler.profile(activities=self._run.device.profiled())
                self._run.watchdog.heartbeat("starting the profiler", timeout_scale=COMPILING)
                self._profiler.start()
                return True
            return False
        self._left -= 1
        if not self._left:
            self.end()
        return True

    def end(self) -> None:
        """End a profile that has begun, write its trace into the run and log its operations; call at the end of an epoch."""
        if self._profiler is None:
            return
        steps = (self._run.config.profile or 0) - self._left
        profiler, self._profiler = self._profiler, None
        if not steps:
            profiler.stop()  # the next epoch begins another
            return
        self._left = 0
        self._run.watchdog.heartbeat("writing the profile", timeout_scale=COMPILING)
        torch.zeros((), device=self._run.on).item()  # what is queued on the device belongs to the profile
        profiler.stop()
        self._run.prefix.writer.queue_file(TRACE, _trace(profiler))
        self._run.reporter.line(
            f"profile of {steps} step{'s' if steps > 1 else ''}: `{TRACE}` in the run; by operation:"
        )
        for line in top_operations(list(profiler.key_averages())):
            self._run.reporter.line(line)

    def report_missing(self) -> None:
        """Call after the last step: log that there is no profile, where one was requested."""
        if self._left:
            self._run.reporter.line(
                f"no profile: it begins after {WARMING_UP_STEPS} steps of this start and ends with the epoch, and there was no step between"
            )


def _trace(profiler: torch.profiler.profile) -> bytes:
    """Chrome's trace format, compressed."""
    with tempfile.TemporaryDirectory(prefix="profile-") as folder:
        path = Path(folder) / "trace.json.gz"
        profiler.export_chrome_trace(str(path))
        return path.read_bytes()


def top_operations(averages: list[FunctionEventAvg]) -> Iterator[str]:
    """A line for each of the operations with most time of their own, on the device where it has recorded any, otherwise on the host."""
    on_device = any(each.self_device_time_total for each in averages)
    times = {each.key: (each.self_device_time_total if on_device else each.self_cpu_time_total) for each in averages}
    calls = {each.key: each.count for each in averages}
    total = sum(times.values()) or 1.0
    for name in sorted(times, key=lambda name: -times[name])[:TOP]:
        yield f"  {times[name] / total:6.1%} {times[name] / 1e3:9.2f} ms {calls[name]:6d} calls  {str(name)[:80]}"
