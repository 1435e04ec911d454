"""Leaving when nothing moves: a peer that hangs holds all others in a collective, and those of accelerators know no timeout.

The main thread tells what it does; a second thread looks whether it still does something else than before. Whoever leaves is
started again by torchrun with all others, and goes on from the newest checkpoint.
"""

import faulthandler
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

LOOK_S: Final = 1.0

COMPILING: Final = 3
"""The first steps of a start may take so many times longer: they compile."""

Advance = Callable[[int, str], None]
Shown = Callable[[str, int], AbstractContextManager[Advance]]

_OURS: Final = str(Path(__file__).parent)


class Watchdog:
    """Notes what the main thread does, and leaves the process when that takes too long."""

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
        """Note that the main thread has got to something new, which may take `timeout_scale` times the limit, and `most_s`."""
        self._doing, self._since_s = doing, self._clock()
        self._ends_s = self._since_s + min(timeout_scale * self.limit_s, most_s)

    def pause(self) -> None:
        """Wait with whatever comes next: only the peer that does the work can tell how it goes."""
        self._ends_s = math.inf

    @contextmanager
    def progress(self, shown: Shown, what: str, total: int) -> Iterator[Advance]:
        """Progress as `shown` shows it, which is watched until its end."""
        with shown(what, total) as advance:
            self.heartbeat(what, timeout_scale=COMPILING)

            def seen(done: int, words: str) -> None:
                self.heartbeat(what, timeout_scale=COMPILING)
                advance(done, words)

            yield seen
        self.pause()

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Look every second within the block."""
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
        while not over.wait(LOOK_S):
            # Should a call into a vendor's library never give the interpreter back, this thread sleeps as well.
            faulthandler.dump_traceback_later(2 * COMPILING * self.limit_s, exit=True)
            self.look()

    def look(self) -> None:
        """Leave where the time is over; what the watching thread does each second."""
        if self._clock() > self._ends_s:
            said = (
                f"cannot go on: nothing has moved for {self._clock() - self._since_s:.0f} s in {self._doing}"
                f"{self._place()} (`--hang-after`); a peer hangs or is gone"
            )
            self._report(f"error: {said}")
            leave_cause(FailureCause(error=said, is_a_consequence=True))
            self._leave(TryAgainError.exit_code)

    def _place(self) -> str:
        """Where in our own code the main thread is."""
        frame = sys._current_frames().get(self._main)  # noqa: SLF001 - the only way to another thread's stack
        while frame is not None and not frame.f_code.co_filename.startswith(_OURS):
            frame = frame.f_back
        return f", at {Path(frame.f_code.co_filename).name}:{frame.f_lineno}" if frame else ""
