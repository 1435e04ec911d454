"""Read the termination message of a failed container: the entrypoint's line, or the last log lines added by the kubelet."""

import signal
from typing import Final

from launcher.status.diagnose.log_tail import read_tail
from launcher.status.diagnose.reported import BUG, ReportedCause
from launcher.status.diagnose.signatures import signature_of
from trainer.runtime.failure_cause import KILLED_BY, OUT_OF_MEMORY, PROBABLY_OUT_OF_MEMORY, FailureCause, parse_line

LONGEST: Final = 16_384
"""Characters of a message that are parsed; the kubelet keeps 4,096 bytes, and 12 KiB for all containers of a pod."""


def read_message(message: str) -> ReportedCause:
    """The failed rank and its error, from a termination message."""
    cause = parse_line(message[-LONGEST:])
    return read_tail(message[-LONGEST:]) if cause is None else _of_entrypoint(cause)


def _of_entrypoint(cause: FailureCause) -> ReportedCause:
    known = signature_of([cause.error])
    # For a bug, and for a signal, the trainer has only general advice.
    prefer_signature = known is not None and cause.error.startswith((BUG, KILLED_BY))
    is_out_of_memory = cause.error.startswith(OUT_OF_MEMORY)
    ran_out = is_out_of_memory or cause.error.startswith(PROBABLY_OUT_OF_MEMORY)
    return ReportedCause(
        rank="" if cause.rank is None else str(cause.rank),
        line=cause.error.removeprefix(BUG) if prefer_signature else cause.error,
        hint="" if prefer_signature else cause.hint,
        signature=known[0] if known else None,
        killed_by=signal.SIGKILL if ran_out else 0,
        is_message=True,
        is_out_of_memory=is_out_of_memory,
        stopped=cause.is_a_consequence,
    )
