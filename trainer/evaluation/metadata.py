"""Metadata of images from a data set's table: sex, age and view; nothing that identifies a patient.

Shapes: N images.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from trainer.data.label_files import csv_rows
from trainer.data.layouts import table_file

OLDEST: Final = 100
"""Oldest accepted age in years; higher values are typing errors. Source: NIH's table of 2017 has ages up to 414."""

_IMAGE, _AGE, _SEX, _VIEW = "Image Index", "Patient Age", "Patient Gender", "View Position"

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

    def rows(self, rows_N: NDArray[np.int64]) -> "Metadata":
        """Metadata of some images."""
        return Metadata(self.sex_N[rows_N], self.age_N[rows_N], self.view_N[rows_N])


def of_dataset(root: Path, layout: str, images: Sequence[str]) -> Metadata | None:
    """Metadata of these images, from the data set's own table; None without any.

    Raises: InputError when the table cannot be read.
    """
    path = table_file(root, layout)
    return None if path is None else of_file(path, images)


def of_file(path: Path, images: Sequence[str]) -> Metadata | None:
    """Metadata of these images, from NIH's table or a labels.csv with its columns; None without any.

    Raises: InputError when it cannot be read.
    """
    table = csv_rows(path)
    _, header = next(table, (0, []))
    if _IMAGE not in header or not {_AGE, _SEX, _VIEW} & set(header):
        return None
    columns = [header.index(name) if name in header else -1 for name in (_IMAGE, _SEX, _AGE, _VIEW)]
    position = {name: row for row, name in enumerate(images)}
    sex_N, view_N = (np.full(len(images), "", "<U2") for _ in range(2))
    age_N = np.full(len(images), np.nan)
    for _, cells in table:
        image, sex, age, view = (cells[column] if 0 <= column < len(cells) else "" for column in columns)
        row = position.get(image)
        if row is not None:
            sex_N[row] = sex if sex in {"M", "F"} else ""
            age_N[row] = years(age)
            view_N[row] = view if view in {"PA", "AP"} else ""
    has_any = bool((sex_N != "").any() or (view_N != "").any() or not np.isnan(age_N).all())
    return Metadata(sex_N, age_N, view_N) if has_any else None


def years(text: str) -> float:
    """Age in whole years from `58`, `058Y`, `011M` or `003D`; nan for anything else, or above `OLDEST`."""
    match = _YEARS.fullmatch(text)
    if not match:
        return float("nan")
    value = int(match[1]) if match[2] in {"", "Y"} else int(match[1]) // {"M": 12, "W": 52, "D": 365}[match[2]]
    return float(value) if value <= OLDEST else float("nan")
