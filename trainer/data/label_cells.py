"""Cells of labels in tables: present, absent, uncertain, left blank, or a soft label."""

import math
import re
from array import array
from collections.abc import Iterable
from functools import lru_cache
from typing import Final

UNCERTAIN: Final = -1.0
"""A label that the data set gives as uncertain, before `--uncertain` says what it counts as."""

BLANK: Final = math.nan
"""A label that the data set leaves blank, before `--blank` says what it counts as."""

BLANK_TEXTS: Final = frozenset({"", "nan"})

_NUMBER: Final = re.compile(r"-?\d{0,20}\.?\d{0,20}", re.ASCII)


def as_bytes(values: Iterable[float]) -> bytes:
    """Labels of one image as float32."""
    return array("f", values).tobytes()


@lru_cache(maxsize=1 << 12)
def label_value(text: str) -> float:
    """1.0, 0.0, `UNCERTAIN`, `BLANK`, or a soft label between 0 and 1. Raises: ValueError for any other text."""
    if text.casefold() in BLANK_TEXTS:
        return BLANK
    try:
        value = float(text) if _NUMBER.fullmatch(text) else math.inf
    except ValueError:  # such as `-.`
        value = math.inf
    if 0 <= value <= 1 or value == UNCERTAIN:
        return value + 0.0  # no negative zero
    raise ValueError(f"must be 1, 0, -1 for uncertain, blank, or between 0 and 1, got `{text}`")


@lru_cache(maxsize=1 << 16)
def labels_of(findings: tuple[str, ...], cells: tuple[str, ...]) -> bytes:
    """The labels of one image from its cells; cached, as a data set has few combinations.

    Raises: ValueError that names the finding.
    """
    values = []
    for name, text in zip(findings, cells, strict=True):
        try:
            values.append(label_value(text))
        except ValueError as problem:
            raise ValueError(f"{name} {problem}") from None
    return as_bytes(values)
