"""Readers of label files: NIH's table and lists, lists of 14 values, and labels.csv. All problems are collected;
nothing is guessed.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Final

import numpy as np

from trainer.data.columns import columns_of, is_known
from trainer.data.labels import FINDINGS, SPLITS, LabelTable
from trainer.data.names import Names, plain
from trainer.data.patients import patient_in_name, patient_of_id
from trainer.errors import InputError, listing
from trainer.formats import tables
from trainer.formats.tables import TableError
from trainer.limits import TABLE_ROWS, LimitError

IMAGE: Final = "Image Index"

PATIENT: Final = "Patient ID"

LABELS: Final = "Finding Labels"

SPLIT: Final = "split"

_METADATA = frozenset(
    {
        "Finding Labels",
        "Follow-up #",
        "Patient Age",
        "Patient Gender",
        "View Position",
        *("OriginalImage[Width", "Height]", "OriginalImage[Width,Height]"),
        *("OriginalImagePixelSpacing[x", "y]", "OriginalImagePixelSpacing[x,y]"),
        "",
    }
)
"""Other columns of NIH's table allowed in labels.csv, as split at commas and as kept together by quotes."""


@dataclass
class Rows:
    """Rows read so far, and problems."""

    where: dict[str, str] = field(default_factory=dict)
    """Image name to its place in the files, in row order."""
    patients: list[str] = field(default_factory=list)
    labels: list[bytes] = field(default_factory=list)
    splits: list[int] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def add(self, where: str, image: str, patient: str, labels: bytes, split: int) -> None:
        if image in self.where:
            self.problems.append(f"{where}: `{image}` is listed twice, first in {self.where[image]}")
            return
        self.where[image] = where
        self.patients.append(patient)
        self.labels.append(labels)
        self.splits.append(split)

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
            labels_NK=np.frombuffer(b"".join(self.labels), np.uint8).reshape(-1, len(findings)).astype(np.float32),
            split_N=np.array(self.splits, dtype=np.int8),
            unidentified=frozenset(image for patient, image in known if not patient),
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


def _check_columns(path: Path, header: Sequence[str], required: Sequence[str], known: Collection[str] | None) -> None:
    problems = [f"no column `{name}`" for name in required if name not in header]
    twice = [name for name in dict.fromkeys([*required, PATIENT]) if header.count(name) > 1]
    problems += [f"column `{name}` more than once" for name in twice]
    patients = [header[column] for column in columns_of(header, "patient")]
    if len(patients) > 1 and PATIENT not in patients:
        problems.append(f"more than one column of patients: {', '.join(f'`{name}`' for name in patients)}")
    problems += [
        f"unknown column `{name}`" for name in header if known is not None and name not in known and not is_known(name)
    ]
    if problems:
        raise InputError(
            f"cannot read `{path}`: {counted(problems)} in its first line{listing(problems)}",
            hint="the first line must have the column names, separated by commas",
        )


@cache
def _flags(values: tuple[str, ...]) -> bytes:
    """Labels as bytes 0 and 1; cached, as a data set has few combinations."""
    if len(values) != len(FINDINGS):
        raise ValueError(f"{len(values)} values instead of {len(FINDINGS)}")
    for name, value in zip(FINDINGS, values, strict=True):
        if value not in {"0", "1"}:
            raise ValueError(f"{name} must be 0 or 1, got `{value}`")
    return bytes(map(int, values))


@cache
def _findings(text: str) -> tuple[bytes, frozenset[str]]:
    """Labels as bytes 0 and 1, and the names that are no finding's; cached, as a data set has few combinations."""
    names = frozenset(text.split("|")) - {"No Finding"}
    return bytes(name in names for name in FINDINGS), names.difference(FINDINGS)


def read_nih(data: Path, entry: Path, lists: Mapping[str, Path]) -> LabelTable:
    rows = Rows()
    unknown: Counter[str] = Counter()
    table = csv_rows(entry)
    _, header = next(table, (0, []))
    patients = patient_column(header)
    required = [IMAGE, LABELS, PATIENT if patients is None else header[patients]]
    _check_columns(entry, header, required, known=None)
    columns = [header.index(name) for name in required]
    for line, row in table:
        # One edition has fewer names than columns, so row and header lengths are not compared.
        image, text, patient = (row[column] if column < len(row) else "" for column in columns)
        patient = patient_of_id(patient)
        if not (image and text and patient):
            rows.problems.append(f"{entry.name} line {line}: {IMAGE}, {LABELS} and {required[2]} must not be empty")
            continue
        labels, others = _findings(text)
        unknown.update(others)
        rows.add(f"{entry.name} line {line}", plain(image), patient, labels, -1)
    rows.problems += [f"{entry.name}: unknown finding `{name}` (images: {count})" for name, count in unknown.items()]
    split_of = _nih_splits(lists, entry, Names(rows.where), rows.problems)
    rows.splits = [split_of.get(image, -1) for image in rows.where]
    return rows.table(data, FINDINGS)


def _nih_splits(lists: Mapping[str, Path], entry: Path, names: Names, problems: list[str]) -> dict[str, int]:
    """Split of each listed image; the list of val comes last and takes images from train."""
    split_of: dict[str, int] = {}
    for split, path in lists.items():
        listed: set[str] = set()
        for line, name in text_lines(path):
            where, image = f"{path.name} line {line}", names.find(plain(name))
            if image is None:
                problems.append(f"{path.name}: `{name}` is not in {entry.name}")
            elif image in listed:
                problems.append(f"{where}: `{name}` is listed twice")
            elif split == "val" and split_of.get(image) != SPLITS.index("train"):
                problems.append(f"{where}: `{name}` is not in {lists['train'].name}")
            elif split == "test" and image in split_of:
                problems.append(f"{where}: `{name}` is also in {lists['train'].name}")
            else:
                split_of[image] = SPLITS.index(split)
            listed.add(image or name)
    return split_of


def val_file(data: Path, val_list: str) -> Path:
    """The file of `--val-list`: in the data set if present, otherwise as given."""
    for path in (data / val_list, Path(val_list)):
        if path.is_file():
            return path
    raise InputError(
        f"cannot read the validation list: no such file in `{data}` or the current directory, got `{val_list}` (from `--val-list`)",
        hint="a relative path is searched in the data set first, then in the current directory",
    )


def read_lists(data: Path, files: Sequence[Path]) -> LabelTable:
    rows = Rows()
    for split, path in enumerate(files):
        for line, text in text_lines(path):
            where = f"{path.name} line {line}"
            written, *values = text.split()
            image = plain(written)
            try:
                labels = _flags(tuple(values))
            except ValueError as problem:
                rows.problems.append(f"{where}: {problem}")
            else:
                rows.add(where, image, patient_in_name(image), labels, split)
    return _with_known_patients(
        rows.table(data, FINDINGS), data, hint=f"use a labels.csv (--layout csv) with a column `{PATIENT}`"
    )


def _with_known_patients(table: LabelTable, data: Path, hint: str) -> LabelTable:
    """Refuse images of unknown patients: a patient in two splits would make every result look better."""
    if table.unidentified:
        unknown = [name for name in table.images if name in table.unidentified]
        raise InputError(
            f"cannot identify the patients of `{data}`: "
            f"{len(unknown)} of {images_in_words(len(table))} are not named like 00000001_000.png{listing(unknown)}",
            hint=hint,
        )
    return table


def read_csv(data: Path, path: Path, *, given: bool) -> LabelTable:
    rows = Rows()
    table = csv_rows(path)
    _, header = next(table, (0, []))
    required = [IMAGE, *FINDINGS, *([SPLIT] if given else [])]
    _check_columns(path, header, required, known={*required, SPLIT, *_METADATA})
    patients = patient_column(header)
    for line, row in table:
        where = f"{path.name} line {line}"
        if len(row) != len(header):
            rows.problems.append(f"{where}: {len(row)} columns instead of {len(header)}")
            continue
        cells = dict(zip(header, row, strict=True))
        image = plain(cells[IMAGE])
        patient = patient_in_name(image) if patients is None else patient_of_id(row[patients])
        if not cells[IMAGE] or (patients is not None and not patient):
            name = PATIENT if patients is None else header[patients]
            rows.problems.append(f"{where}: {IMAGE} and {name} must not be empty")
            continue
        try:
            labels = _flags(tuple(cells[name] for name in FINDINGS))
            split_index = _split_index(cells[SPLIT]) if given else -1
        except ValueError as problem:
            rows.problems.append(f"{where}: {problem}")
        else:
            rows.add(where, image, patient, labels, split_index)
    return _with_known_patients(rows.table(data, FINDINGS), data, hint=f"add a column `{PATIENT}` to {path.name}")


def _split_index(split: str) -> int:
    if split not in SPLITS:
        raise ValueError(f"`{SPLIT}` must be {', '.join(SPLITS[:-1])} or {SPLITS[-1]}, got `{split}`")
    return SPLITS.index(split)
