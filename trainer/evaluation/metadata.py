"""Metadata of images from a data set's table: sex, age and view; nothing that identifies a patient.

Shapes: N images.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from trainer.data.columns import Kind, columns_of
from trainer.data.label_files import csv_rows
from trainer.data.layouts import file_table, image_tables
from trainer.data.layouts.image_tables import ImageTable
from trainer.data.views import view_of
from trainer.errors import on_one_line
from trainer.label_choices import FRONTAL

OLDEST: Final = 100
"""Oldest accepted age in years; higher values are typing errors. Source: NIH's table of 2017 has ages up to 414."""

_SEXES: Final = {"m": "M", "male": "M", "man": "M", "f": "F", "female": "F", "woman": "F", "w": "F"}

_KINDS: Final[tuple[Kind, ...]] = ("sex", "age", "view")

_SHOWN: Final = 3
"""Values named in a note."""

_YEARS = re.compile(r"(\d{1,4})([YMWD]?)", re.ASCII)


@dataclass(frozen=True, eq=False)
class Metadata:
    """One value per image."""

    sex_N: NDArray[np.str_]
    """`M`, `F`, or empty where unknown."""
    age_N: NDArray[np.float64]
    """Years; nan where unknown."""
    view_N: NDArray[np.str_]
    """`PA`, `AP`, or empty where unknown."""
    notes: tuple[str, ...] = ()
    """Columns whose values are not understood."""

    def rows(self, rows_N: NDArray[np.int64]) -> "Metadata":
        """Metadata of some images."""
        return Metadata(self.sex_N[rows_N], self.age_N[rows_N], self.view_N[rows_N], self.notes)


def of_dataset(root: Path, layout: str, images: Sequence[str]) -> Metadata | None:
    """Metadata of these images, from the data set's own tables; None without any.

    Raises: InputError when a table cannot be read.
    """
    return _of_tables(image_tables(root, layout), images)


def of_file(path: Path, images: Sequence[str]) -> Metadata | None:
    """Metadata of these images, from columns under their usual names beside the image's; None without such columns.

    Raises: InputError when it cannot be read.
    """
    return _of_tables([file_table(path)], images)


def _of_tables(tables: Sequence[ImageTable], images: Sequence[str]) -> Metadata | None:
    texts: dict[Kind, list[str]] = {kind: [""] * len(images) for kind in _KINDS}
    columns: dict[Kind, str] = {}
    position = {name: row for row, name in enumerate(images)}
    for table in tables:
        columns |= _read_table(table, position, texts)
    if not columns:
        return None
    values = Metadata(
        sex_N=np.array([_SEXES.get(text.casefold(), "") for text in texts["sex"]], "<U2"),
        age_N=np.array([years(text) for text in texts["age"]], np.float64),
        view_N=np.array([_view(text) for text in texts["view"]], "<U2"),
    )
    read = {"sex": values.sex_N != "", "age": ~np.isnan(values.age_N), "view": values.view_N != ""}
    notes = [_note(kind, column, texts[kind], read[kind]) for kind, column in columns.items()]
    return replace(values, notes=tuple(filter(None, notes)))


def _read_table(table: ImageTable, position: Mapping[str, int], texts: dict[Kind, list[str]]) -> dict[Kind, str]:
    """Read the cells of each kind at the image's position; returns the names of the columns."""
    rows = csv_rows(table.path)
    _, header = next(rows, (0, []))
    places = {kind: found[0] for kind in _KINDS if (found := columns_of(header, kind))}
    of_image = next((header.index(name) for name in table.columns if name in header), None)
    if of_image is None or not places:
        return {}
    find = table.finder(list(position))
    for _, cells in rows:
        image = find(cells[of_image]) if of_image < len(cells) else None
        if image is not None:
            for kind, place in places.items():
                texts[kind][position[image]] = cells[place].strip() if place < len(cells) else ""
    return {kind: header[place] for kind, place in places.items()}


def _view(text: str) -> str:
    """`PA` or `AP`; empty for lateral images, which are in no group."""
    view = view_of(text)
    return view if view in FRONTAL else ""


def _note(kind: Kind, column: str, texts: Sequence[str], is_read_N: NDArray[np.bool_]) -> str:
    """The subgroups that are lost, where no value of a column is understood; "" otherwise."""
    strange = sorted({text for text in texts if text})
    if not strange or is_read_N.any():
        return ""
    shown = ", ".join(f"`{on_one_line(text)}`" for text in strange[:_SHOWN])
    return f"no subgroups by {kind}: no value of column `{on_one_line(column)}` is understood, such as {shown}"


def years(text: str) -> float:
    """Age in whole years from `58`, `58.0`, `058Y`, `011M` or `003D`; nan for anything else, or above `OLDEST`."""
    match = _YEARS.fullmatch(text.removesuffix(".0"))
    if not match:
        return float("nan")
    value = int(match[1]) if match[2] in {"", "Y"} else int(match[1]) // {"M": 12, "W": 52, "D": 365}[match[2]]
    return float(value) if value <= OLDEST else float("nan")
