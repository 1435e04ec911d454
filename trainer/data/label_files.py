"""Rows of label files, for the readers of all layouts. All problems are collected; nothing is guessed."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from operator import itemgetter
from pathlib import Path
from typing import Final

import numpy as np

from trainer.data.columns import columns_of
from trainer.data.labels import LabelTable
from trainer.errors import InputError, listing
from trainer.formats import tables
from trainer.formats.tables import TableError
from trainer.limits import TABLE_ROWS, LimitError

IMAGE: Final = "Image Index"

PATIENT: Final = "Patient ID"

LABELS: Final = "Finding Labels"

SPLIT: Final = "split"


@dataclass
class Rows:
    """Rows read so far, and problems."""

    where: dict[str, str] = field(default_factory=dict)
    """Image name to its place in the files, in row order."""
    patients: list[str] = field(default_factory=list)
    labels: list[bytes] = field(default_factory=list)
    """As `label_cells.as_bytes` gives them."""
    splits: list[int] = field(default_factory=list)
    views: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def add(self, where: str, image: str, patient: str, labels: bytes, split: int, *, view: str = "") -> None:
        if image in self.where:
            self.problems.append(f"{where}: `{image}` is listed twice, first in {self.where[image]}")
            return
        self.where[image] = where
        self.patients.append(patient)
        self.labels.append(labels)
        self.splits.append(split)
        self.views.append(view)

    def table(self, data: Path, findings: tuple[str, ...]) -> LabelTable:
        """The table. Raises: InputError with all problems."""
        if self.problems:
            raise InputError(
                f"cannot read the labels of `{data}`: {counted(self.problems)}{listing(self.problems)}",
                hint="correct these files; no row is skipped or guessed",
            )
        numbers: dict[tuple[str, str], int] = {}
        known = [(patient, "" if patient else image) for image, patient in zip(self.where, self.patients, strict=True)]
        return LabelTable(
            findings=findings,
            images=tuple(self.where),
            patients_N=np.array([numbers.setdefault(key, len(numbers)) for key in known], dtype=np.int64),
            labels_NK=np.frombuffer(b"".join(self.labels), np.float32).reshape(-1, len(findings)).copy(),
            split_N=np.array(self.splits, dtype=np.int8),
            unidentified=frozenset(image for patient, image in known if not patient),
            views=tuple(self.views) if any(self.views) else None,
        )


def counted(problems: Sequence[str]) -> str:
    return "1 problem" if len(problems) == 1 else f"{len(problems)} problems"


def images_in_words(count: int) -> str:
    return "1 image" if count == 1 else f"{count} images"


def text_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Number and text of non-blank lines."""
    with _read_errors(path):
        for number, line in enumerate(tables.lines(tables.content_of(path)), start=1):
            if number > TABLE_ROWS:
                raise LimitError(f"it has more than {TABLE_ROWS:,} lines")
            if line.strip():
                yield number, line.strip()


def csv_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Line number and cells of non-blank rows; the first row has the column names. Raises: InputError."""
    with _read_errors(path):
        yield from tables.rows(tables.content_of(path))


@contextmanager
def _read_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, LimitError, TableError) as problem:
        reason = getattr(problem, "strerror", None) or str(problem)
        raise InputError(
            f"cannot read `{path}`: {reason[:1].lower()}{reason[1:]}",
            hint="check that the file exists, is complete and is text",
        ) from problem


def patient_column(header: Sequence[str]) -> int | None:
    """Position of the column of patient ids: NIH's, otherwise the first under another usual name; None without any."""
    columns = columns_of(header, "patient")
    return next((column for column in columns if header[column] == PATIENT), columns[0] if columns else None)


def check_columns(path: Path, header: Sequence[str], required: Sequence[str]) -> None:
    """Raises: InputError for a required column that is missing or there twice, and for several columns of patients."""
    problems = [f"no column `{name}`" for name in required if name not in header]
    twice = [name for name in dict.fromkeys([*required, PATIENT]) if header.count(name) > 1]
    problems += [f"column `{name}` more than once" for name in twice]
    patients = [header[column] for column in columns_of(header, "patient")]
    if len(patients) > 1 and PATIENT not in patients and not set(patients) & set(required):
        problems.append(f"more than one column of patients: {', '.join(f'`{name}`' for name in patients)}")
    if problems:
        raise InputError(
            f"cannot read `{path}`: {counted(problems)} in its first line{listing(problems)}",
            hint="the first line must have the column names, separated by commas",
        )


def complete_rows(path: Path, problems: list[str]) -> Iterator[tuple[str, list[str]]]:
    """For each row but the first its place, such as `train.csv line 7`, and its cells.

    Rows with more or fewer cells than the first line are added to the problems instead. Raises: InputError.
    """
    table = csv_rows(path)
    _, header = next(table, (0, []))
    for line, row in table:
        where = f"{path.name} line {line}"
        if len(row) == len(header):
            yield where, row
        else:
            problems.append(f"{where}: {len(row)} columns instead of {len(header)}")


def header_of(path: Path) -> list[str]:
    """The names of the columns. Raises: InputError for a file that cannot be read."""
    return next(csv_rows(path), (0, []))[1]


def cells_of(path: Path, columns: Sequence[str], problems: list[str]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """`complete_rows` with only the cells of these columns; at least two.

    Raises: InputError for a file that cannot be read, and for a missing column.
    """
    header = header_of(path)
    check_columns(path, header, columns)
    chosen = itemgetter(*map(header.index, columns))
    return ((where, chosen(row)) for where, row in complete_rows(path, problems))


def with_known_patients(table: LabelTable, data: Path, hint: str) -> LabelTable:
    """The table. Raises: InputError for images of unknown patients: one in two splits would make every result look better."""
    if table.unidentified:
        unknown = [name for name in table.images if name in table.unidentified]
        raise InputError(
            f"cannot identify the patients of `{data}`: "
            f"{len(unknown)} of {images_in_words(len(table))} are not named like 00000001_000.png{listing(unknown)}",
            hint=hint,
        )
    return table
