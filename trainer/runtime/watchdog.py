"""Exit of a worker that makes no progress.

A peer that hangs blocks all others in a collective, and those of accelerators have no timeout. The main thread reports
what it does; a second thread checks that it moves on. When it does not, the process exits, and torchrun restarts all
workers from the newest checkpoint.
"""

import faulthandler
import gc
import math
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Final

from trainer.errors import TryAgainError
from trainer.runtime.failure_cause import FailureCause
from trainer.runtime.failure_report import leave_cause

POLL_S: Final = 1.0

COMPILING: Final = 3
"""The first steps of an attempt may take this many times longer, as kernels and graphs are compiled."""

Advance = Callable[[int, str], None]
Shown = Callable[[str, int], AbstractContextManager[Advance]]

_TRAINER: Final = str(Path(__file__).parents[1])


class Watchdog:
    """Monitors the main thread and exits the process when a task takes too long."""

    def __init__(
        self,
        limit_s: float,
        report: Callable[[str], None],
        *,
        clock: Callable[[], float] = time.monotonic,
        leave: Callable[[int], object] = os._exit,
    ) -> None:
        self.limit_s = limit_s
        self._report = report
        self._clock = clock
        self._leave = leave
        self._main = threading.main_thread().ident or 0
        self._doing = ""
        self._since_s, self._ends_s = clock(), math.inf

    def heartbeat(self, doing: str, *, timeout_scale: float = 1.0, most_s: float = math.inf) -> None:
        """Record a new task of the main thread, limited to `timeout_scale` times the limit and to `most_s`."""
        self._doing, self._since_s = doing, self._clock()
        self._ends_s = self._since_s + min(timeout_scale * self.limit_s, most_s)

    def pause(self) -> None:
        """Stop monitoring until the next heartbeat: only the peer that does the work knows its progress."""
        self._ends_s = math.inf

    @contextmanager
    def progress(self, shown: Shown, what: str, total: int) -> Iterator[Advance]:
        """Progress shown by `shown`, monitored until its end."""
        with shown(what, total) as advance:
            self.heartbeat(what, timeout_scale=COMPILING)

            def advance_and_report(done: int, words: str) -> None:
                self.heartbeat(what, timeout_scale=COMPILING)
                advance(done, words)

            yield advance_and_report
        self.pause()

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Check every second within the block."""
        over = threading.Event()
        thread = threading.Thread(target=self._watch, args=(over,), name="watchdog", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
            faulthandler.cancel_dump_traceback_later()

    def _watch(self, over: threading.Event) -> None:
        while not over.wait(POLL_S):
            # If a vendor's library never releases the GIL, this thread cannot run either: faulthandler's timer exits
            # then.
            faulthandler.dump_traceback_later(2 * COMPILING * self.limit_s, exit=True)
            self.check()

    def check(self) -> None:
        """Exit when the time is over; called every second by the monitoring thread."""
        if self._clock() > self._ends_s:
            error = (
                f"cannot continue: no progress for {self._clock() - self._since_s:.0f} s in {self._doing}"
                f"{self._place()} (`--hang-after`); this worker or a peer hangs, or a peer was lost"
            )
            self._report(f"error: {error}")
            leave_cause(FailureCause(error=error, is_a_consequence=True))
            self._leave(TryAgainError.exit_code)

    def _place(self) -> str:
        """The main thread's position in this package."""
        with _without_collection():
            frame = sys._current_frames().get(self._main)  # noqa: SLF001 - the only access to another thread's stack
        while frame is not None and not frame.f_code.co_filename.startswith(_TRAINER):
            frame = frame.f_back
        return f", at {Path(frame.f_code.co_filename).name}:{frame.f_lineno}" if frame else ""


@contextmanager
def _without_collection() -> Iterator[None]:
    """No garbage collection within the block.

    Before Python 3.11.9 and 3.12.3, `sys._current_frames` holds a lock of the interpreter while it allocates. A collection that starts then
    may let another thread run that waits for this lock, and both wait for ever. Source: CPython issue 106883.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
