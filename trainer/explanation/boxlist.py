"""Reader of boxes drawn by radiologists: NIH's `BBox_List_2017.csv`.

Columns `Image Index`, `Finding Label`, then `Bbox [x`, `y`, `w`, `h]`: upper left corner and size, in pixels of an image of 1024
x 1024. The header has three superfluous names. 984 boxes on 880 images, of eight findings.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from trainer.errors import InputError, listing, on_one_line
from trainer.formats import tables
from trainer.formats.tables import TableError
from trainer.limits import LimitError

SIDE: Final = 1024
"""Width and height of NIH's images in pixels; boxes are in these."""

_COLUMNS: Final = ("Image Index", "Finding Label", "Bbox [x")
_NAMES: Final = {"Infiltrate": "Infiltration", "Pleural Thickening": "Pleural_Thickening"}
"""Names in the list that differ from those of the labels."""

_HINT: Final = "--boxes must be NIH's BBox_List_2017.csv: Image Index, Finding Label, x, y, w, h"


@dataclass(frozen=True)
class DrawnBox:
    """A box on an image, in fractions of its width and height, so that it also fits a smaller copy."""

    image: str
    finding: str
    left: float
    top: float
    right: float
    bottom: float


def read_boxes(path: Path) -> list[DrawnBox]:
    """All boxes of the list. Raises: InputError with every invalid line."""
    try:
        rows = tables.rows(tables.content_of(path))
        _, header = next(rows, (0, []))
        if tuple(header[:3]) != _COLUMNS:
            raise InputError(
                f"cannot read the boxes of `{path}`: its first line lacks {_absent(header)} (from `--boxes`)",
                hint=_HINT,
            )
        boxes, problems = _parsed(rows)
    except OSError as problem:
        reason = "no such file" if isinstance(problem, FileNotFoundError) else problem.strerror
        raise InputError(f"cannot read boxes: {reason}, got `{path}` (from `--boxes`)", hint=_HINT) from problem
    except (TableError, LimitError) as problem:
        raise InputError(f"cannot read the boxes of `{path}`: {problem} (from `--boxes`)", hint=_HINT) from problem
    if problems:
        raise InputError(f"cannot use {len(problems)} lines of `{path}`:{listing(problems)}", hint=_HINT)
    if not boxes:
        raise InputError(f"cannot use `{path}`: it has no box (from `--boxes`)", hint=_HINT)
    return boxes


def _absent(header: list[str]) -> str:
    return " and ".join(f"`{name}`" for name in _COLUMNS if name not in header[:3]) or "their order"


def _parsed(rows: Iterator[tuple[int, list[str]]]) -> tuple[list[DrawnBox], list[str]]:
    boxes, problems = [], []
    for number, cells in rows:
        if not any(cells):
            continue
        try:
            boxes.append(_box(cells))
        except (ValueError, IndexError):
            problems.append(
                f"line {number}: no box within {SIDE} x {SIDE} pixels, got `{on_one_line(','.join(cells))}`"
            )
    return boxes, problems


def _box(cells: list[str]) -> DrawnBox:
    """Raises: ValueError, IndexError."""
    image, finding = cells[:2]
    x, y, width, height = (float(cell) for cell in cells[2:6])
    whole = all(map(math.isfinite, (x, y, width, height))) and min(x, y) >= 0 and min(width, height) > 0
    if not whole or max(x + width, y + height) > SIDE or not image or not finding:
        raise ValueError
    corners = (x, y, x + width, y + height)
    return DrawnBox(image, _NAMES.get(finding, finding), *(corner / SIDE for corner in corners))
