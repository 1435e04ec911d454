"""What a failed container says of its end: in its termination message or, without one, in the last lines of its log."""

import re
from dataclasses import dataclass
from typing import Final

from launcher.status.diagnose.signatures import Signature

BUG: Final = "bug: "
"""How the trainer begins the text of an exception that it does not know. Source: trainer/errors.py."""

_PEER_LOST: Final = re.compile(
    r"a peer was lost|cannot bring the workers together|[Cc]onnection (?:closed|reset) by peer"
)


@dataclass(frozen=True, kw_only=True)
class ReportedCause:
    """What a container says of its failure."""

    rank: str
    """Of the worker that failed first, empty when nobody says."""

    line: str
    """The error, or a traceback's last line; empty when there is none."""

    hint: str
    """What the trainer itself advises, empty without."""

    signature: Signature | None

    killed_by: int = 0
    """The signal that ended the worker, 0 when it left by itself."""

    is_message: bool = False
    """Whether the entrypoint wrote it, and not just a log."""

    is_out_of_memory: bool = False
    """Whether the kernel ended the worker for lack of memory, which only the entrypoint knows."""

    stopped: bool = False
    """Whether the entrypoint says that another failure, or a signal, brought it about."""

    @property
    def is_a_consequence(self) -> bool:
        """Whether this worker failed because another one had."""
        if self.stopped or not (self.line or self.killed_by):
            return True
        return bool(_PEER_LOST.search(self.line) or (self.signature and self.signature.is_a_consequence))

    @property
    def is_silent(self) -> bool:
        """Whether it says nothing."""
        return not (self.line or self.killed_by)
