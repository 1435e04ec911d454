"""What a data set's table tells of each image beside its labels: sex, age and view; nothing that tells who it is.

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
"""Years; more are typing errors. Source: the 2017 edition of NIH's table has ages up to 414."""

_IMAGE, _AGE, _SEX, _VIEW = "Image Index", "Patient Age", "Patient Gender", "View Position"

_YEARS = re.compile(r"(\d{1,4})([YMWD]?)", re.ASCII)


@dataclass(frozen=True, eq=False)
class Metadata:
    """One value an image."""

    sex_N: NDArray[np.str_]
    """`M`, `F`, or nothing where unknown."""
    age_N: NDArray[np.float64]
    """Years; nan where unknown."""
    view_N: NDArray[np.str_]
    """`PA`, `AP`, or nothing where unknown."""

    def rows(self, rows_N: NDArray[np.int64]) -> "Metadata":
        """Those of some images."""
        return Metadata(self.sex_N[rows_N], self.age_N[rows_N], self.view_N[rows_N])


def of_dataset(root: Path, layout: str, images: Sequence[str]) -> Metadata | None:
    """Of these images, from the data set's own table; None where it has none or tells nothing.

    Raises: InputError when the table can't be read.
    """
    path = table_file(root, layout)
    return None if path is None else of_file(path, images)


def of_file(path: Path, images: Sequence[str]) -> Metadata | None:
    """Of these images, from NIH's table or a labels.csv that kept its columns; None where it tells nothing.

    Raises: InputError when it can't be read.
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
    tells = bool((sex_N != "").any() or (view_N != "").any() or not np.isnan(age_N).all())
    return Metadata(sex_N, age_N, view_N) if tells else None


def years(text: str) -> float:
    """Age in whole years from `58`, `058Y`, `011M` or `003D`; nan for anything else and for more than anyone lives."""
    match = _YEARS.fullmatch(text)
    if not match:
        return float("nan")
    value = int(match[1]) if match[2] in {"", "Y"} else int(match[1]) // {"M": 12, "W": 52, "D": 365}[match[2]]
    return float(value) if value <= OLDEST else float("nan")
