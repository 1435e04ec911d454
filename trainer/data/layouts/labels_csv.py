"""Layout `csv`: `labels.csv`, a table with a column per finding, of any names and number, and other columns."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from trainer.data.columns import columns_of
from trainer.data.label_cells import labels_of
from trainer.data.label_files import (
    IMAGE,
    PATIENT,
    SPLIT,
    Rows,
    check_columns,
    complete_rows,
    header_of,
    patient_column,
    with_known_patients,
)
from trainer.data.labels import FINDINGS, SPLITS, LabelTable
from trainer.data.layouts.csv_columns import default_columns, finding_columns
from trainer.data.layouts.files import single_file
from trainer.data.layouts.source import RawSource, Request
from trainer.data.names import plain
from trainer.data.patients import patient_in_name, patient_of_id
from trainer.data.views import view_of
from trainer.errors import on_one_line
from trainer.label_choices import AS_READ, LabelChoices

REQUIRED: Final = ("labels.csv",)
LABELS_ONLY: Final = REQUIRED
COLUMNS: Final = ()
UNCERTAIN: Final = "ignore"
BLANK: Final = "ignore"

IMAGES: Final = (IMAGE, "Path")
"""Columns with the names of images; the first that a table has is read."""


def read(request: Request) -> RawSource:
    """The labels, with the split of column `split`."""
    path = single_file(request.data, request.entries, REQUIRED[0])
    others = None
    if request.choices.columns() or request.of_run.columns():
        others = default_columns(path, header_of(path))
    table, notes = read_table(
        request.data, path, given=request.given, choices=request.choices, of_run=request.of_run, others=others or ()
    )
    return RawSource(table=table, files=(path,), notes=notes, split_findings=others)


@dataclass(frozen=True)
class _Columns:
    """Names of the findings, and positions of the columns."""

    findings: tuple[str, ...]
    labels: tuple[int, ...]
    image: int
    patient: int | None
    patient_name: str
    split: int | None
    view: int | None


def read_table(
    data: Path,
    path: Path,
    *,
    given: bool,
    choices: LabelChoices = AS_READ,
    of_run: LabelChoices = AS_READ,
    others: Sequence[str] = (),
) -> tuple[LabelTable, tuple[str, ...]]:
    """The labels, and a note where other columns than the 14 of ChestX-ray14 are read.

    Columns `others` are read beside those that the choices name. Raises: InputError with all problems.
    """
    rows = Rows()
    header = header_of(path)
    check_columns(path, header, [_image_column(header), *([SPLIT] if given else [])])
    chosen = finding_columns(path, header, choices, of_run)
    columns = _columns(header, (*chosen, *(name for name in others if name not in chosen)), given=given)
    for where, cells in complete_rows(path, rows.problems):
        _add(rows, where, cells, columns)
    table = rows.table(data, columns.findings)
    known = with_known_patients(table, data, hint=f"add a column `{PATIENT}` to {path.name}")
    return known, _notes(path, chosen)


def _image_column(header: Sequence[str]) -> str:
    return next((name for name in IMAGES if name in header), IMAGE)


def _columns(header: Sequence[str], findings: tuple[str, ...], *, given: bool) -> _Columns:
    patient, views = patient_column(header), columns_of(header, "view")
    return _Columns(
        findings=findings,
        labels=tuple(map(header.index, findings)),
        image=header.index(_image_column(header)),
        patient=patient,
        patient_name=PATIENT if patient is None else header[patient],
        split=header.index(SPLIT) if given else None,
        view=views[0] if views else None,
    )


def _add(rows: Rows, where: str, cells: Sequence[str], columns: _Columns) -> None:
    """Add an image, or a problem."""
    image = plain(cells[columns.image])
    patient = patient_in_name(image) if columns.patient is None else patient_of_id(cells[columns.patient])
    if not cells[columns.image] or (columns.patient is not None and not patient):
        rows.problems.append(f"{where}: {IMAGE} and {columns.patient_name} must not be empty")
        return
    try:
        labels = labels_of(columns.findings, tuple(cells[place] for place in columns.labels))
        split = -1 if columns.split is None else _split_index(cells[columns.split])
    except ValueError as problem:
        rows.problems.append(f"{where}: {problem}")
    else:
        view = "" if columns.view is None else view_of(cells[columns.view])
        rows.add(where, image, patient, labels, split, view=view)


def _split_index(split: str) -> int:
    if split not in SPLITS:
        raise ValueError(f"`{SPLIT}` must be {', '.join(SPLITS[:-1])} or {SPLITS[-1]}, got `{split}`")
    return SPLITS.index(split)


def _notes(path: Path, findings: Sequence[str]) -> tuple[str, ...]:
    if tuple(findings) == FINDINGS:
        return ()
    listed = ", ".join(map(on_one_line, findings))
    return (
        f"findings are the columns {listed} of {path.name}; its other columns are not trained (--findings A,B chooses)",
    )
