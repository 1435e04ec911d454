"""Wait for a lock of another process, with a message every minute and a time limit."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from trainer.errors import KnownError

POLL_S: Final = 0.5
REPORT_S: Final = 60.0

LONGEST_S: Final = 100 * 60.0
"""Longest wait; shorter than other ranks wait for this one (`process_group.AGREEMENT_TIMEOUT`)."""


@dataclass(frozen=True)
class Waiting:
    """Callbacks of a wait."""

    report: Callable[[str], None] = lambda _: None
    """Gets a message at once and then every minute."""
    beat: Callable[[], None] = lambda: None
    """Called at each poll, so that the watchdog does not take the wait for a hang."""
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
    """Call `is_taken` until it returns true, having taken the lock.

    `line` returns the message for the minutes waited, `too_long` the error after the limit in minutes.

    Raises: that error, after `LONGEST_S`; as `is_taken`.
    """
    begun_s = waiting.clock()
    reported_s = begun_s - REPORT_S
    while not is_taken():
        waiting.beat()
        now_s = waiting.clock()
        if now_s - begun_s > LONGEST_S:
            raise too_long(LONGEST_S / 60)
        if now_s - reported_s >= REPORT_S:
            reported_s = now_s
            waiting.report(line((now_s - begun_s) / 60))
        waiting.sleep(POLL_S)
