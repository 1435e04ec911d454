"""How long something that fails is tried again."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

FIRST_PAUSE_S: Final = 0.2
LONGEST_PAUSE_S: Final = 10.0
"""So that a server that comes back is noticed soon, and many clients do not keep it down."""


@dataclass(frozen=True)
class RetryPolicy:
    """How long a fault that may pass is waited out."""

    seconds: float = 30.0
    """From the first failure's attempt on. Zero: everything is tried once; else what fails is tried at least twice."""

    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep

    def begin(self) -> "Tries":
        """The tries of one request, of which the first begins now."""
        return Tries(self)


class Tries:
    """One request's attempts and the pauses between them, each about twice as long as the one before."""

    def __init__(self, policy: RetryPolicy) -> None:
        self._policy = policy
        self.renew()

    def renew(self) -> None:
        """Something was achieved: whatever fails from now on is a new fault."""
        self._since = self._policy.clock()
        self.count = 1

    @property
    def elapsed_s(self) -> float:
        """Time since the first attempt began."""
        return self._policy.clock() - self._since

    def another(self) -> bool:
        """Wait until the next attempt is due; False, at once, when there is to be none."""
        left_s = self._policy.seconds - self.elapsed_s
        if self._policy.seconds <= 0 or (left_s <= 0 and self.count > 1):
            return False
        longest_s = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2 ** min(self.count - 1, 10))
        # The last attempt is at the end of the time that was granted, not a whole pause before it.
        self._policy.sleep(min(longest_s * random.uniform(0.5, 1.0), max(left_s, 0.0)))
        self.count += 1
        return True
