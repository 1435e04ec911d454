"""Captions below pictures: text of any length and script, wrapped, with samples of colours; does not import torch.

Text is drawn in a band of its own, so that it neither covers an image nor leaves the picture. Sizes are in pixels.
"""

import math
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

from PIL import Image, ImageDraw, ImageFont

from trainer.report.drawing import styled

Font = ImageFont.FreeTypeFont

NOT_CLINICAL: Final = "Not for clinical use"

LEAST_TEXT_PX: Final = 13
"""Smallest height of text that is legible at the picture's own size."""

_PICTURE_PER_TEXT: Final = 48
"""Side of an image by the height of its text: 21 pixels for 1024, so 12 when it is shown 600 pixels wide."""

_LEAST_EMS: Final = 20
"""Least width of a caption, in heights of its text."""

MOST_CHARACTERS: Final = 20_000
"""Longer texts are cut: a model's file may have names of any length."""

_PAPER: Final = (255, 255, 255)
_INK: Final = (24, 24, 24)
_LINE_EMS: Final = 1.35
_MARGIN_EMS: Final = 0.6
_BETWEEN_EMS: Final = 0.3


@dataclass(frozen=True, eq=False)
class Entry:
    """A paragraph of a caption."""

    text: str
    is_title: bool = False
    sample: Image.Image | None = None
    """Drawn before the text."""


def text_px(size: tuple[int, int]) -> int:
    """Height of text that is legible beside an image of this size, also when it is shown smaller."""
    return max(LEAST_TEXT_PX, round(math.sqrt(size[0] * size[1]) / _PICTURE_PER_TEXT))


def with_caption(picture: Image.Image, columns: Sequence[Sequence[Entry]], px: int) -> Image.Image:
    """The picture, in the upper left corner, above its caption."""
    whole = room_above_caption(picture.size, columns, px, picture.mode)
    whole.paste(picture, (0, 0))
    return whole


def room_above_caption(
    size: tuple[int, int], columns: Sequence[Sequence[Entry]], px: int, mode: str = "RGB"
) -> Image.Image:
    """A white picture with room for one of this size in its upper left corner, above a caption in columns.

    A narrow one gets white beside it. Columns that would be too narrow stand one below the other.
    """
    width = max(size[0], _LEAST_EMS * px)
    if width < len(columns) * _LEAST_EMS * px:
        columns = [[entry for column in columns for entry in column]]
    bands = [caption(column, width // len(columns), px).convert(mode) for column in columns]
    whole = Image.new(mode, (width, size[1] + max(band.height for band in bands)), "white")
    for number, band in enumerate(bands):
        whole.paste(band, (round(number * width / len(bands)), size[1]))
    return whole


def caption(entries: Sequence[Entry], width: int, px: int) -> Image.Image:
    """The entries in this width, as high as they need, on white; the outermost pixels stay white."""
    margin, line_height = round(_MARGIN_EMS * px), round(_LINE_EMS * px)
    rows: list[tuple[Entry, int, list[str], Font]] = []
    for entry in entries:
        indent = margin + (entry.sample.width + margin if entry.sample else 0)
        text, font = _readable(entry.text, px, is_bold=entry.is_title)
        rows.append((entry, indent, wrapped(text, width - indent - margin, font), font))
    between = round(_BETWEEN_EMS * px)
    height = 2 * margin + sum(len(lines) * line_height for _, _, lines, _ in rows) + between * (len(rows) - 1)
    band = Image.new("RGB", (width, height), _PAPER)
    draw, top = ImageDraw.Draw(band), margin
    for entry, indent, lines, font in rows:
        if entry.sample:
            band.paste(entry.sample, (margin, top + (line_height - entry.sample.height) // 2))
        for line in lines:
            draw.text((indent, top + px), line, fill=_INK, font=font, anchor="ls")
            top += line_height
        top += between
    return band


def wrapped(text: str, width: float, font: Font) -> list[str]:
    """The text in lines no wider than this, broken at spaces, and inside a word only where it is wider by itself."""
    lines, line = [], ""
    for word in text.split(" "):
        longer = f"{line} {word}" if line else word
        if font.getlength(longer) <= width:
            line = longer
            continue
        *full, line = [*([line] if line else []), *_pieces(word, width, font)]
        lines += full
    return [*lines, line]


def _pieces(word: str, width: float, font: Font) -> list[str]:
    pieces, piece = [], ""
    for char in word:
        is_mark = unicodedata.category(char).startswith("M")  # belongs to the letter before it
        if piece and not is_mark and font.getlength(piece + char) > width:
            pieces.append(piece)
            piece = ""
        piece += char
    return [*pieces, piece]


def _readable(text: str, px: int, *, is_bold: bool) -> tuple[str, Font]:
    """The text and a font that has its characters: DejaVu, which comes with matplotlib, else an installed one.

    Characters that no font has are written as their escapes: a name stays a name, where boxes would look all alike.
    """
    text = text if len(text) <= MOST_CHARACTERS else f"{text[: MOST_CHARACTERS - 1]}…"
    own = _own_fonts()[is_bold]
    needed = frozenset(map(ord, text))
    if needed <= _characters(own):
        return text, _opened(own, px)
    other = next((path for path in _installed_fonts() if needed <= _characters(path)), None)
    if other is not None:
        return text, _opened(other, px)
    known = _characters(own)
    shown = (char if ord(char) in known else char.encode("unicode_escape").decode() for char in text)
    return "".join(shown), _opened(own, px)


@lru_cache(maxsize=16)
def _opened(path: str, px: int) -> Font:
    return ImageFont.truetype(path, px)


@lru_cache(maxsize=1)
def _own_fonts() -> tuple[str, str]:
    """Regular and bold."""
    from matplotlib import get_data_path  # noqa: PLC0415 - would delay the start of each training process

    folder = Path(get_data_path(), "fonts/ttf")
    return str(folder / "DejaVuSans.ttf"), str(folder / "DejaVuSans-Bold.ttf")


@lru_cache(maxsize=1)
@styled()
def _installed_fonts() -> tuple[str, ...]:
    """Fonts of this machine, regular ones first, without matplotlib's, of which one has a box for every character."""
    from matplotlib import font_manager, get_data_path  # noqa: PLC0415 - see above

    entries = [one for one in font_manager.fontManager.ttflist if not one.fname.startswith(get_data_path())]
    entries.sort(key=lambda one: (one.style != "normal", one.weight not in {400, "normal", "regular"}, one.fname))
    return tuple(dict.fromkeys(one.fname for one in entries))


@lru_cache(maxsize=512)
def _characters(path: str) -> frozenset[int]:
    """Characters of a font; none if it cannot be read."""
    from matplotlib.ft2font import FT2Font  # noqa: PLC0415 - see above

    try:
        return frozenset(FT2Font(path).get_charmap())
    except (OSError, RuntimeError):
        return frozenset()
