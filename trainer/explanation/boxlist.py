"""Readers of boxes drawn by radiologists: the lists of ChestX-ray14, VinDr-CXR and the RSNA challenge, known by their first line.

NIH's BBox_List_2017.csv    `Image Index`, `Finding Label`, `Bbox [x`, `y`, `w`, `h]`: upper left corner and size, in pixels
                            of 1024 x 1024. The header has three superfluous names. 984 boxes on 880 images, of eight findings.
VinDr-CXR's train.csv       `image_id`, `class_name`, `rad_id`, `x_min`, `y_min`, `x_max`, `y_max`, in pixels of the original
                            image; some copies add its `width` and `height`. A row per reader.
stage_2_train_labels.csv    `patientId`, `x`, `y`, `width`, `height`, `Target`, in pixels of 1024 x 1024
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from trainer.data.layouts import rsna, vindr
from trainer.errors import InputError, listing, on_one_line
from trainer.formats import tables
from trainer.formats.tables import TableError
from trainer.limits import LimitError

SIDE: Final = 1024
"""Width and height in pixels of the images of NIH and of the RSNA challenge; their boxes are in these."""

_COLUMNS: Final = ("Image Index", "Finding Label", "Bbox [x")
_NAMES: Final = {"Infiltrate": "Infiltration", "Pleural Thickening": "Pleural_Thickening"}
"""Names in the list that differ from those of the labels."""

_HINT: Final = (
    "--boxes must be NIH's BBox_List_2017.csv (Image Index, Finding Label, x, y, w, h), train.csv of VinDr-CXR or "
    "stage_2_train_labels.csv of the RSNA challenge"
)


@dataclass(frozen=True)
class DrawnBox:
    """A box on an image, in fractions of its width and height, so that it also fits a smaller copy, or in pixels."""

    image: str
    finding: str
    left: float
    top: float
    right: float
    bottom: float
    in_pixels: bool = False
    """Whether it is in pixels, as the list does not tell the size of the image."""


def read_boxes(path: Path) -> list[DrawnBox]:
    """All boxes of the list. Raises: InputError with every invalid line."""
    try:
        rows = tables.rows(tables.content_of(path))
        _, header = next(rows, (0, []))
        boxes, problems = _parsed(rows, _reader(path, header))
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


_Cells = Sequence[str]
_Reader = Callable[[_Cells], DrawnBox | None]


def _reader(path: Path, header: _Cells) -> _Reader:
    """The reader of a row, by the first line. Raises: InputError for a list of another form."""
    if tuple(header[:3]) == _COLUMNS:
        return _of_nih
    named: dict[tuple[str, ...], Callable[[Mapping[str, str]], DrawnBox | None]] = {_VINDR: _of_vindr, _RSNA: _of_rsna}
    for columns, reader in named.items():
        if set(columns) <= set(header):
            places = {name: header.index(name) for name in (*columns, "width", "height") if name in header}
            return partial(_of_named, reader, places)
    raise InputError(
        f"cannot read the boxes of `{path}`: its first line lacks {_absent(header)} (from `--boxes`)", hint=_HINT
    )


def _of_named(
    reader: Callable[[Mapping[str, str]], DrawnBox | None], places: Mapping[str, int], cells: _Cells
) -> DrawnBox | None:
    return reader({name: cells[place] for name, place in places.items()})


def _absent(header: _Cells) -> str:
    return " and ".join(f"`{name}`" for name in _COLUMNS if name not in header[:3]) or "their order"


def _parsed(rows: Iterator[tuple[int, list[str]]], reader: _Reader) -> tuple[list[DrawnBox], list[str]]:
    boxes, problems = [], []
    for number, cells in rows:
        if not any(cells):
            continue
        try:
            box = reader(cells)
        except (ValueError, IndexError) as problem:
            within = str(problem) if isinstance(problem, _OutsideError) else f"{SIDE} x {SIDE} pixels"
            problems.append(f"line {number}: no box within {within}, got `{on_one_line(','.join(cells))}`")
        else:
            boxes += [] if box is None else [box]
    return boxes, problems


class _OutsideError(ValueError):
    """The text is what a box must be within."""


def _of_nih(cells: _Cells) -> DrawnBox:
    """Raises: ValueError, IndexError."""
    image, finding = cells[:2]
    left, top, width, height = (float(cell) for cell in cells[2:6])
    corners = (left, top, left + width, top + height)
    return _box(image, _NAMES.get(finding, finding), corners, (SIDE, SIDE))


_VINDR: Final = (*vindr.COLUMNS, "x_min", "y_min", "x_max", "y_max")
_RSNA: Final = (*rsna.COLUMNS, "x", "y", "width", "height")


def _of_vindr(cells: Mapping[str, str]) -> DrawnBox | None:
    """None for a reader who found nothing. Raises: ValueError."""
    if cells["class_name"] == vindr.NO_FINDING:
        return None
    corners = tuple(float(cells[name]) for name in ("x_min", "y_min", "x_max", "y_max"))
    size = (float(cells["width"]), float(cells["height"])) if {"width", "height"} <= set(cells) else None
    return _box(cells["image_id"], cells["class_name"], corners, size)


def _of_rsna(cells: Mapping[str, str]) -> DrawnBox | None:
    """None for an image without a box. Raises: ValueError."""
    if cells["Target"] == "0":
        return None
    left, top, width, height = (float(cells[name]) for name in ("x", "y", "width", "height"))
    return _box(cells["patientId"], rsna.FINDINGS[0], (left, top, left + width, top + height), (SIDE, SIDE))


def _box(image: str, finding: str, corners: Sequence[float], size: tuple[float, float] | None) -> DrawnBox:
    """A box in fractions of this size, or in pixels where it is not known. Raises: ValueError."""
    left, top, right, bottom = corners
    width, height = size or (math.inf, math.inf)
    is_box = all(map(math.isfinite, corners)) and 0 <= left < right <= width and 0 <= top < bottom <= height
    if not is_box or not image or not finding:
        raise _OutsideError("its image" if size is None else f"{width:g} x {height:g} pixels")
    if size is None:
        return DrawnBox(image, finding, left, top, right, bottom, in_pixels=True)
    return DrawnBox(image, finding, left / width, top / height, right / width, bottom / height)
