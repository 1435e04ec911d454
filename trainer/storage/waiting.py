"""Wait for a lock that another process holds, with a message at once and then each minute, and a limit."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from trainer.errors import KnownError

LOOK_S: Final = 0.5
SAY_S: Final = 60.0

LONGEST_S: Final = 100 * 60.0
"""Longest wait, shorter than peers wait for this worker (`distributed.AGREEMENT_TIMEOUT`)."""


@dataclass(frozen=True)
class Waiting:
    """Callbacks of a wait."""

    report: Callable[[str], None] = lambda _: None
    """Gets a line at once and then each minute."""
    beat: Callable[[], None] = lambda: None
    """Called at each look, so that a watchdog does not take the wait for a hang."""
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


SILENT: Final = Waiting()


def wait_until(
    is_taken: Callable[[], bool],
    waiting: Waiting,
    *,
    line: Callable[[float], str],
    too_long: Callable[[float], KnownError],
) -> None:
    """Call `is_taken` until it has taken the lock.

    `line` returns the message for a number of minutes waited, `too_long` the error for the longest wait in minutes.

    Raises: that error, after `LONGEST_S`; as `is_taken`.
    """
    begun_s = waiting.clock()
    told_s = begun_s - SAY_S
    while not is_taken():
        waiting.beat()
        now_s = waiting.clock()
        if now_s - begun_s > LONGEST_S:
            raise too_long(LONGEST_S / 60)
        if now_s - told_s >= SAY_S:
            told_s = now_s
            waiting.report(line((now_s - begun_s) / 60))
        waiting.sleep(LOOK_S)
