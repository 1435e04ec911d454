"""Find the failed rank and its error in the last log lines of a container."""

import re
from typing import Final

from launcher.status.diagnose.reported import BUG, ReportedCause
from launcher.status.diagnose.signatures import signature_of

_TIME: Final = re.compile(r"^\d{4}-\d\d-\d\dT[\d:.]+(?:Z|[-+]\d\d:\d\d) ")
_RANKED: Final = re.compile(r"^\[rank (\d+)\] ")
_FAILED_WORKER: Final = re.compile(r"^worker (\d+) failed with (exit code|signal) (\d+)$")
_ERROR: Final = re.compile(r"^error: (?!a peer failed)")
_EXCEPTION: Final = re.compile(r"^[A-Za-z_][\w.]*(?:Error|Exception|Exit|Interrupt|Warning|Iteration)\b")


def read_tail(tail: str) -> ReportedCause:
    """The failed rank and its error, from the last log lines of a pod."""
    lines = [_TIME.sub("", line) for line in tail.splitlines()]
    failed_worker = next((match for match in map(_FAILED_WORKER.match, reversed(lines)) if match), None)
    rank = failed_worker[1] if failed_worker else ""
    known = signature_of(lines)
    if known:
        signature, line = known
        own = _error([line, *lines], _rank_of(line))
        # For a bug, the trainer's hint is only general advice; the signature's is better.
        hint = own[2] if own and own[1] in line and not own[1].startswith(BUG) else ""
        text = _RANKED.sub("", line).removeprefix("error: ").removeprefix(BUG)
        return ReportedCause(rank=_rank_of(line) or rank, line=text, hint=hint, signature=signature)
    found = _error(lines, rank) or _error(lines, "") or _exception(lines) or ("", "", "")
    killed_by = int(failed_worker[3]) if failed_worker and failed_worker[2] == "signal" else 0
    return ReportedCause(rank=found[0] or rank, line=found[1], hint=found[2], signature=None, killed_by=killed_by)


def _error(lines: list[str], rank: str) -> tuple[str, str, str] | None:
    """Rank, text and hint of the trainer's first `error:` line, of one rank or of any."""
    for number, line in enumerate(lines):
        mine, text = _rank_of(line), _RANKED.sub("", line)
        if _ERROR.match(text) and rank in {"", mine}:
            rest = (_RANKED.sub("", later) for later in lines[number + 1 :] if _rank_of(later) == mine)
            hint = next((later.removeprefix("hint: ") for later in rest if later.startswith("hint: ")), "")
            return mine, text.removeprefix("error: "), hint
    return None


def _exception(lines: list[str]) -> tuple[str, str, str] | None:
    """Rank and last line of the first traceback."""
    inside = False
    for line in lines:
        text = _RANKED.sub("", line)
        if text.startswith("Traceback (most recent call last)"):
            inside = True
        elif inside and _EXCEPTION.match(text):
            return _rank_of(line), text, ""
    return None


def _rank_of(line: str) -> str:
    match = _RANKED.match(line)
    return match[1] if match else ""
