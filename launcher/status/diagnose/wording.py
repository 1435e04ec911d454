"""How a diagnosis puts things: times, text of others on one line, and the commands to type."""

from datetime import datetime

from trainer.errors import on_one_line

LENGTH = 240
"""Characters of another program's text that a sentence quotes."""


def quoted(text: str, length: int = LENGTH) -> str:
    """Text of others, which may be anything, on one line and cut."""
    line = on_one_line(" ".join(text.split()))
    return line if len(line) <= length else f"{line[: length - 1].rstrip()}…"


def lasting(since: datetime | None, now: datetime) -> str:
    """`40s`, `4m`, `3h`, `2d`: two digits at most where they suffice; `?` when nobody knows."""
    if since is None:
        return "?"
    seconds = max(0, int((now - since).total_seconds()))
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds >= 2 * size:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


def counted(number: int, noun: str) -> str:
    """`1 node`, `3 nodes`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def resubmit(change: str) -> str:
    """The next step where the job itself has to change."""
    return f"delete the job and submit it again with {change}"
