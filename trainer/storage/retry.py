"""Retries with exponential back-off."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

FIRST_PAUSE_S: Final = 0.2
LONGEST_PAUSE_S: Final = 10.0
"""Short enough to notice a recovered server soon, long enough that many clients do not overload it."""


@dataclass(frozen=True)
class RetryPolicy:
    """How long a transient error is retried."""

    seconds: float = 30.0
    """Counted from the start of the first attempt. Zero: no retry; otherwise at least one."""

    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep

    def begin(self) -> "Tries":
        """Attempts of one request, the first of which starts now."""
        return Tries(self)


class Tries:
    """Attempts of one request, with pauses that double each time."""

    def __init__(self, policy: RetryPolicy) -> None:
        self._policy = policy
        self.renew()

    def renew(self) -> None:
        """Progress was made: the next failure starts a new retry period."""
        self._since = self._policy.clock()
        self.count = 1

    @property
    def elapsed_s(self) -> float:
        """Time since the first attempt."""
        return self._policy.clock() - self._since

    def another(self) -> bool:
        """Sleep until the next attempt; False, without sleeping, when there is none."""
        left_s = self._policy.seconds - self.elapsed_s
        if self._policy.seconds <= 0 or (left_s <= 0 and self.count > 1):
            return False
        longest_s = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2 ** min(self.count - 1, 10))
        # The last attempt is at the end of the retry time, not up to a whole pause earlier.
        self._policy.sleep(min(longest_s * random.uniform(0.5, 1.0), max(left_s, 0.0)))
        self.count += 1
        return True
