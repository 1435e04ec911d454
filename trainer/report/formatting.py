"""Numbers, names and places for readers; `-` is an undefined number."""

import re
from typing import Final

from trainer.evaluation.document import Interval, Proportion, decimals

NONE: Final = "-"
NO_INTERVAL: Final = "no interval"
_PERCENT = "\u00a0%"

_PLACE = re.compile(r"(?:[A-Za-z][A-Za-z0-9+.-]*://|(?<![\w./])~?/|(?<!\w)[A-Za-z]:\\)[^\s`'\",;()]*")


def number(value: float | None, digits: int = 3) -> str:
    """A number with this many decimals."""
    return NONE if value is None or value != value else decimals(value, digits)  # noqa: PLR0124 - only nan differs from itself


def percent(value: float | None, digits: int = 1) -> str:
    """A share as a percentage."""
    return NONE if value is None else f"{100 * value:.{digits}f}{_PERCENT}"


def interval(one: Interval, digits: int = 3, *, signed: bool = False) -> str:
    """A number with its interval in brackets, or that it has none; `signed` for differences, with a plus where they are above 0."""
    if one["value"] is None:
        return NONE
    known = [bound for bound in (one["value"], one["low"], one["high"]) if bound is not None]
    value, *bounds = (f"{'+' if signed and bound > 0 else ''}{decimals(bound, digits)}" for bound in known)
    return f"{value} ({' to '.join(bounds)})" if len(bounds) == 2 else f"{value} ({NO_INTERVAL})"


def proportion(one: Proportion) -> str:
    """A share with its interval, or that it has none, and counts."""
    shown = percent(one["value"])
    if one["low"] is not None and one["high"] is not None:
        shown += f" ({100 * one['low']:.1f} to {percent(one['high'])})"
    elif one["value"] is not None:
        shown += f" ({NO_INTERVAL})"
    return f"{shown}, {one['correct']:,} of {one['total']:,}"


def count(value: int | None) -> str:
    """A whole number with separators."""
    return NONE if value is None else f"{value:,}"


def size(size_bytes: float | None) -> str:
    """Amount of memory; 0 means that the device does not report it."""
    if not size_bytes:
        return NONE
    return f"{size_bytes / 2**30:.2f} GiB" if size_bytes >= 2**30 else f"{size_bytes / 2**20:.0f} MiB"


def duration(seconds: float | None) -> str:
    """Duration in its two most significant units."""
    if seconds is None:
        return NONE
    if seconds < 60:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    hours, minutes, rest = whole // 3600, whole % 3600 // 60, whole % 60
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def finding(name: str, most: int = 40) -> str:
    """Name of a finding or class for readers, without its middle when very long, as names often differ at their end."""
    text = name.replace("_", " ")
    return text if len(text) <= most else f"{text[: most // 2].rstrip()}…{text[1 - (most - most // 2) :].lstrip()}"


def last_name(place: str) -> str:
    """Last part of a path or URL: published text must not name a machine, bucket or login."""
    text = place.split("?", 1)[0].split("#", 1)[0] if "://" in place else place
    return re.split(r"[/\\]", text.rstrip("/\\"))[-1].rpartition("@")[2]


def without_places(text: str) -> str:
    """The text with every path and URL cut to its last part."""
    return _PLACE.sub(lambda place: last_name(place[0]), text)
