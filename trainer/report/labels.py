"""Labels in figures: cut to the width there is, and still different from each other. Does not import torch."""

import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

_CUT: Final = "…"


@lru_cache(maxsize=4096)
def text_width(text: str, size_px: float) -> float:
    """Width of a line of text in pixels, in DejaVu Sans, which is as wide as the fonts of browsers; wide letters count in full."""
    from matplotlib.font_manager import FontProperties  # noqa: PLC0415 - importing matplotlib takes a second
    from matplotlib.textpath import text_to_path  # noqa: PLC0415

    wide = sum(unicodedata.east_asian_width(letter) in "WF" for letter in text)
    rest = "".join(letter for letter in text if unicodedata.east_asian_width(letter) not in "WF")
    font = FontProperties(family="DejaVu Sans", size=size_px)
    width, _, _ = text_to_path.get_text_width_height_descent(rest, font, ismath=False) if rest else (0.0, 0.0, 0.0)
    return float(width) + wide * size_px


def fitted(names: Sequence[str], width_px: float, size_px: float) -> list[str]:
    """The names, without their middle where they are wider than this; equal ones without what all have in front, or numbered."""
    cut = [_cut(name, width_px, size_px) for name in names]
    if len(set(cut)) == len(set(names)):
        return cut
    shared = _shared_words(names)
    shown: list[str] = []
    for name in names:
        rest = f"{_CUT}{name[shared:]}" if shared else name
        label, nth = _cut(rest, width_px, size_px), 1
        while label in shown:
            nth += 1
            suffix = f" ({nth})"
            label = _cut(rest, width_px - text_width(suffix, size_px), size_px) + suffix
        shown.append(label)
    return shown


def _shared_words(names: Sequence[str]) -> int:
    """Length of what all names have in front, up to the end of a word; 0 for a single name."""
    different = list(dict.fromkeys(names))
    if len(different) < 2:
        return 0
    shared = _shared_letters(min(different), max(different))
    return max(shared.rfind(mark) + 1 for mark in " _-.,/")


def _shared_letters(first: str, second: str) -> str:
    """What both have in front; of the first and the last in order it is what all have."""
    length = next((at for at, pair in enumerate(zip(first, second, strict=False)) if pair[0] != pair[1]), None)
    return first[:length]


def _cut(text: str, width_px: float, size_px: float) -> str:
    """The text without its middle, if it is too wide."""
    kept = len(text)
    short = text
    while kept > 1 and text_width(short, size_px) > width_px:
        kept -= 1
        head = (kept + 1) // 2
        short = f"{text[:head].rstrip()}{_CUT}{text[len(text) - (kept - head) :].lstrip()}" if kept > 1 else _CUT
    return short
