"""Labels that readers of the images gave, in columns beside NIH's text-mined `Finding Labels`: YES or NO.

Source: Google's adjudicated labels of ChestX-ray14 (Majkowska et al. 2020): `Fracture`, `Pneumothorax`, `Airspace
opacity`, `Nodule or mass`, and `Set Id`, the part of each image.
"""

from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np

from trainer.data.label_files import IMAGE, LABELS, PATIENT, csv_rows
from trainer.data.labels import SPLITS, LabelTable
from trainer.errors import InputError, listing

SET: Final = "Set Id"

_NIH: Final = {IMAGE, LABELS, PATIENT, SET, "Follow-up #", "Patient Age", "Patient Gender", "View Position", ""}
_NIH_BEGINNINGS: Final = ("OriginalImage", "Height]", "y]")

_VALUES: Final = {"YES": 1, "NO": 0, "TRUE": 1, "FALSE": 0, "1": 1, "0": 0, "1.0": 1, "0.0": 0}
_UNKNOWN: Final = {"", "-1", "-1.0", "UNCERTAIN", "UNSURE"}
"""Values that make a column no less one of labels, but that are not evaluated."""


def columns_of(path: Path) -> tuple[str, ...]:
    """Names of the columns with labels of readers. Raises: InputError when the file cannot be read."""
    table = csv_rows(path)
    _, header = next(table, (0, []))
    others = _others(header)
    if not others:
        return ()
    is_label = dict.fromkeys(others, True)
    has_value = dict.fromkeys(others, False)
    for _, cells in table:
        if len(cells) != len(header):  # the cells cannot be assigned to names
            if {"YES", "NO"} & {cell.upper() for cell in cells}:
                return tuple(others)
            continue
        for name, column in others.items():
            value = cells[column].upper()
            is_label[name] = is_label[name] and (value in _VALUES or value in _UNKNOWN)
            has_value[name] = has_value[name] or value in _VALUES
    return tuple(name for name in others if is_label[name] and has_value[name])


def read(path: Path, mined: LabelTable, columns: Collection[str]) -> LabelTable:
    """The labels of these columns and the parts of `Set Id`, for the images of the text-mined table of the same file.

    Raises: InputError with all problems.
    """
    table = csv_rows(path)
    _, header = next(table, (0, []))
    position = {name: header.index(name) for name in columns}
    set_column = next((number for number, name in enumerate(header) if name.casefold() == SET.casefold()), None)
    labels_NK = np.zeros((len(mined), len(position)), np.float32)
    split_N = np.full(len(mined), -1, np.int8)
    problems = [f"column `{name}` more than once" for name in position if header.count(name) > 1]
    for row, (line, cells) in enumerate(table):
        if len(cells) != len(header):
            problems.append(f"line {line}: {len(cells)} columns instead of {len(header)}")
            continue
        for k, (name, column) in enumerate(position.items()):
            value = _VALUES.get(cells[column].upper())
            if value is None:
                problems.append(f"line {line}: `{name}` must be YES or NO, got `{cells[column]}`")
            labels_NK[row, k] = value or 0
        if set_column is not None:
            split_N[row] = _split_index(cells[set_column], line, problems)
    if problems:
        raise InputError(
            f"cannot read the labels of readers: {len(problems):,} problem{'s' * (len(problems) != 1)}, got `{path}` "
            f"(from `--labels`){listing(problems)}",
            hint="correct the file; no row is skipped or guessed",
        )
    return replace(mined, findings=tuple(position), labels_NK=labels_NK, split_N=split_N)


def _others(header: Sequence[str]) -> dict[str, int]:
    """Columns that NIH's table does not have, with their position."""
    return {
        name: column
        for column, name in enumerate(header)
        if name not in _NIH and name.casefold() != SET.casefold() and not name.startswith(_NIH_BEGINNINGS)
    }


def _split_index(text: str, line: int, problems: list[str]) -> int:
    part = text.casefold()
    if part in SPLITS:
        return SPLITS.index(part)
    problems.append(f"line {line}: `{SET}` must be {', '.join(SPLITS[:-1])} or {SPLITS[-1]}, got `{text}`")
    return -1
