"""Cause reported by a failed container, in its termination message or the last lines of its log."""

import re
from dataclasses import dataclass
from typing import Final

from launcher.status.diagnose.signatures import Signature

BUG: Final = "bug: "
"""Prefix of the trainer's text for an unexpected exception. Source: trainer/errors.py."""

_PEER_LOST: Final = re.compile(
    r"a peer was lost|cannot bring the workers together|[Cc]onnection (?:closed|reset) by peer"
)


@dataclass(frozen=True, kw_only=True)
class ReportedCause:
    """A container's own report of its failure."""

    rank: str
    """Rank of the worker that failed first, empty if unknown."""

    line: str
    """The error, or the last line of a traceback; empty without one."""

    hint: str
    """The trainer's own hint, empty without one."""

    signature: Signature | None

    killed_by: int = 0
    """Signal that killed the worker, 0 if it exited."""

    is_message: bool = False
    """Whether it is the entrypoint's message, not log lines."""

    is_out_of_memory: bool = False
    """Whether the kernel killed the worker for lack of memory; only the entrypoint knows this."""

    stopped: bool = False
    """Whether the entrypoint reports that another failure or a signal caused it."""

    @property
    def is_a_consequence(self) -> bool:
        """Whether this worker failed because of another one."""
        if self.stopped or not (self.line or self.killed_by):
            return True
        return bool(_PEER_LOST.search(self.line) or (self.signature and self.signature.is_a_consequence))

    @property
    def is_silent(self) -> bool:
        """Whether it contains no cause."""
        return not (self.line or self.killed_by)
