"""labels.csv of a prepared set: what its source said of each image, before any choice about unknown labels.

Columns: `Image Index`, `patient` (a number, empty where unknown), `split` (train, val, test or empty), and one for each finding: 1, 0, -1 for
uncertain, empty for not mentioned, a fraction where readers disagree. No patient ID is in it.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Final

import numpy as np

from trainer.data.labels import SPLITS, LabelTable
from trainer.data.packs.damage import DamagedPackError
from trainer.data.packs.prepared import LABELS
from trainer.formats import spreadsheet, tables
from trainer.formats.tables import TableError
from trainer.limits import LimitError

COLUMNS: Final = ("Image Index", "patient", "split")
VIEW, NIH_NAME = "view", "nih_name"
"""Columns before those of the findings; those of the view, and of the name in ChestX-ray14, only where the source has them."""


def as_bytes(table: LabelTable, rows: Sequence[int], nih_names: Mapping[str, str]) -> bytes:
    """These rows of the table as labels.csv; `nih_names` are names in ChestX-ray14 of images that have others here."""
    optional = [*([] if table.views is None else [VIEW]), *([NIH_NAME] if nih_names else [])]
    lines = [spreadsheet.line([*COLUMNS, *optional, *table.findings])]
    for row in rows:
        name, split_index = table.images[row], int(table.split_N[row])
        patient = None if name in table.unidentified else int(table.patients_N[row])
        split = SPLITS[split_index] if split_index >= 0 else ""
        cells = [] if table.views is None else [table.views[row]]
        cells += [nih_names.get(name, "")] if nih_names else []
        lines.append(spreadsheet.line([name, patient, split, *cells, *map(_cell, table.labels_NK[row].tolist())]))
    return "".join(lines).encode()


@lru_cache(maxsize=1024)
def _cell(value: float) -> int | float | None:
    """The label as a cell: the shortest number that is the same float32."""
    if np.isnan(value):
        return None
    return int(value) if value == int(value) else float(str(np.float32(value)))


def parsed(content: bytes, findings: Sequence[str]) -> tuple[LabelTable, dict[str, str]]:
    """The table in the bytes of labels.csv, and names in ChestX-ray14 by image. Raises: DamagedPackError."""
    try:
        rows = tables.rows(content)
        _, header = next(rows, (0, []))
        return _table(rows, tuple(findings), _optional_columns(header, findings))
    except (TableError, LimitError, ValueError) as problem:
        raise DamagedPackError(f"{LABELS}: {problem}") from problem


def _optional_columns(header: list[str], findings: Sequence[str]) -> list[str]:
    """Columns between those of each set and the findings. Raises: TableError for other columns than those of the index."""
    names = [spreadsheet.read(name) for name in header]
    optional = names[len(COLUMNS) : len(names) - len(findings)]
    if optional not in ([], [VIEW], [NIH_NAME], [VIEW, NIH_NAME]) or names != [*COLUMNS, *optional, *findings]:
        raise TableError("its columns are not those of the index")
    return optional


def _table(
    rows: Iterator[tuple[int, list[str]]], findings: tuple[str, ...], optional: list[str]
) -> tuple[LabelTable, dict[str, str]]:
    """Raises: TableError, ValueError."""
    columns = len(COLUMNS) + len(optional)
    others: list[dict[str, str]] = []
    images: list[str] = []
    patients: list[str] = []
    splits: list[int] = []
    labels: list[tuple[float, ...]] = []
    for line, row in rows:
        if len(row) != columns + len(findings):
            raise TableError(f"line {line} has {len(row)} columns")
        image, patient, split = row[: len(COLUMNS)]
        others.append(dict(zip(optional, map(spreadsheet.read, row[len(COLUMNS) : columns]), strict=True)))
        images.append(spreadsheet.read(image))
        patients.append(patient)
        splits.append(SPLITS.index(split) if split else -1)
        labels.append(_values(tuple(row[columns:])))
    if len(set(images)) != len(images):
        raise TableError("it lists an image twice")
    numbers: dict[str, int] = {}
    known = [patient or f"image {image}" for patient, image in zip(patients, images, strict=True)]
    table = LabelTable(
        findings=findings,
        images=tuple(images),
        patients_N=np.array([numbers.setdefault(key, len(numbers)) for key in known], np.int64),
        labels_NK=np.array(labels, np.float32).reshape(-1, len(findings)),
        split_N=np.array(splits, np.int8),
        unidentified=frozenset(image for image, patient in zip(images, patients, strict=True) if not patient),
        views=tuple(other[VIEW] for other in others) if VIEW in optional else None,
    )
    names = zip(images, (other.get(NIH_NAME) for other in others), strict=True)
    return table, {image: nih_name for image, nih_name in names if nih_name}


@lru_cache(maxsize=4096)
def _values(cells: tuple[str, ...]) -> tuple[float, ...]:
    """Labels of one image; cached, as a data set has few combinations. Raises: ValueError."""
    values = tuple(float(cell) if cell else float("nan") for cell in cells)
    if any(not (value == -1 or 0 <= value <= 1) for value, cell in zip(values, cells, strict=True) if cell):
        raise ValueError(f"a label must be -1, or from 0 to 1, got `{','.join(cells)}`")
    return values
