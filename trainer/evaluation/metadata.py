"""Metadata of images from a data set's table: sex, age and view; nothing that identifies a patient.

Shapes: N images.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from trainer.data.columns import Kind, columns_of
from trainer.data.label_files import csv_rows
from trainer.data.layouts import table_file
from trainer.data.names import Names, plain
from trainer.errors import on_one_line

OLDEST: Final = 100
"""Oldest accepted age in years; higher values are typing errors. Source: NIH's table of 2017 has ages up to 414."""

_IMAGE: Final = "Image Index"

_SEXES: Final = {"m": "M", "male": "M", "man": "M", "f": "F", "female": "F", "woman": "F", "w": "F"}

_VIEWS: Final = {"pa": "PA", "posteroanterior": "PA", "ap": "AP", "anteroposterior": "AP"}

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
    """Metadata of these images, from the data set's own table; None without any.

    Raises: InputError when the table cannot be read.
    """
    path = table_file(root, layout)
    return None if path is None else of_file(path, images)


def of_file(path: Path, images: Sequence[str]) -> Metadata | None:
    """Metadata of these images, from columns under their usual names beside `Image Index`; None without such columns.

    Raises: InputError when it cannot be read.
    """
    table = csv_rows(path)
    _, header = next(table, (0, []))
    columns = {kind: places[0] for kind in _KINDS if (places := columns_of(header, kind))}
    if _IMAGE not in header or not columns:
        return None
    names, image_column = Names(images), header.index(_IMAGE)
    position = {name: row for row, name in enumerate(images)}
    texts: dict[Kind, list[str]] = {kind: [""] * len(images) for kind in _KINDS}
    for _, cells in table:
        image = names.find(plain(cells[image_column])) if image_column < len(cells) else None
        if image is not None:
            for kind, column in columns.items():
                texts[kind][position[image]] = cells[column].strip() if column < len(cells) else ""
    values = Metadata(
        sex_N=np.array([_SEXES.get(text.casefold(), "") for text in texts["sex"]], "<U2"),
        age_N=np.array([years(text) for text in texts["age"]], np.float64),
        view_N=np.array([_view(text) for text in texts["view"]], "<U2"),
    )
    read = {"sex": values.sex_N != "", "age": ~np.isnan(values.age_N), "view": values.view_N != ""}
    notes = [_note(kind, header[column], texts[kind], read[kind]) for kind, column in columns.items()]
    return replace(values, notes=tuple(filter(None, notes)))


def _view(text: str) -> str:
    """Also of `AP_horizontal`, `PA erect`, `postero-anterior` and the like."""
    first = re.split(r"[^a-z]", text.casefold().replace("-", ""))[0]
    return _VIEWS.get(first, "")


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
