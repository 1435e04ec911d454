"""Text elements of diagnoses: durations, quoted text, and commands."""

from datetime import datetime

from trainer.errors import on_one_line

LENGTH = 240
"""Maximum characters of quoted text from other programs."""


def quoted(text: str, length: int = LENGTH) -> str:
    """Text from another program, on one line and cut, between two words if they are not too long."""
    line = on_one_line(" ".join(text.split()))
    if len(line) <= length:
        return line
    start, space, _ = line[:length].rpartition(" ")
    return f"{start if space and len(start) >= length // 2 else line[: length - 1].rstrip()}…"


def lasting(since: datetime | None, now: datetime) -> str:
    """A duration such as `40s`, `4m`, `3h`, `2d`; `?` if unknown."""
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
    """Next step when the job itself must change."""
    return f"delete the job and submit it again with {change}"
