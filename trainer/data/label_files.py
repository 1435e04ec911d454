"""Readers of label files: NIH's table and lists, lists of 14 values, and labels.csv. All problems are collected;
nothing is guessed.
"""

import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Final

import numpy as np

from trainer.data.labels import FINDINGS, SPLITS, LabelTable
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

_NIH_NAME = re.compile(r"(\d{8})_\d{3}\.(?:png|jpe?g)", re.IGNORECASE | re.ASCII)


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
        numbers: dict[str, int] = {}
        return LabelTable(
            findings=findings,
            images=tuple(self.where),
            patients_N=np.array([numbers.setdefault(key, len(numbers)) for key in self.patients], dtype=np.int64),
            labels_NK=np.frombuffer(b"".join(self.labels), dtype=np.uint8).reshape(-1, len(findings)).copy(),
            split_N=np.array(self.splits, dtype=np.int8),
        )

    def require_patients(self, data: Path, hint: str) -> None:
        """Refuse images of unknown patients: a patient in two splits would make every result look better."""
        unknown = [name for name, patient in zip(self.where, self.patients, strict=True) if not patient]
        if unknown:
            raise InputError(
                f"cannot identify the patients of `{data}`: "
                f"{len(unknown)} of {images_in_words(len(self.where))} are not named like 00000001_000.png{listing(unknown)}",
                hint=hint,
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


def _check_columns(path: Path, header: Sequence[str], required: Sequence[str], known: Collection[str] | None) -> None:
    problems = [f"no column `{name}`" for name in required if name not in header]
    problems += [f"column `{name}` more than once" for name in {*required, PATIENT} if header.count(name) > 1]
    problems += [f"unknown column `{name}`" for name in header if known is not None and name not in known]
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


def nih_patient(name: str) -> str:
    """The patient number in a file name of NIH, "" in others."""
    match = _NIH_NAME.fullmatch(name)
    return match[1] if match else ""


def read_nih(data: Path, entry: Path, lists: Mapping[str, Path]) -> LabelTable:
    rows = Rows()
    split_of = _nih_splits(lists, rows.problems)
    unknown: Counter[str] = Counter()
    table = csv_rows(entry)
    _, header = next(table, (0, []))
    _check_columns(entry, header, [IMAGE, LABELS, PATIENT], known=None)
    columns = [header.index(name) for name in (IMAGE, LABELS, PATIENT)]
    for line, row in table:
        # One edition has fewer names than columns, so row and header lengths are not compared.
        image, text, patient = (row[column] if column < len(row) else "" for column in columns)
        if not (image and text and patient):
            rows.problems.append(f"{entry.name} line {line}: {IMAGE}, {LABELS} and {PATIENT} must not be empty")
            continue
        findings = set(text.split("|")) - {"No Finding"}
        unknown.update(findings.difference(FINDINGS))
        labels = bytes(name in findings for name in FINDINGS)
        rows.add(f"{entry.name} line {line}", image, patient, labels, split_of.get(image, -1))
    rows.problems += [f"{entry.name}: unknown finding `{name}` (images: {count})" for name, count in unknown.items()]
    absent = ((image, split_index) for image, split_index in split_of.items() if image not in rows.where)
    rows.problems += [
        f"{lists[SPLITS[split_index]].name}: `{image}` is not in {entry.name}" for image, split_index in absent
    ]
    return rows.table(data, FINDINGS)


def _nih_splits(lists: Mapping[str, Path], problems: list[str]) -> dict[str, int]:
    """Split of each listed image; the list of val comes last and takes images from train."""
    split_of: dict[str, int] = {}
    for split, path in lists.items():
        listed: set[str] = set()
        for line, name in text_lines(path):
            where = f"{path.name} line {line}"
            if name in listed:
                problems.append(f"{where}: `{name}` is listed twice")
            elif split == "val" and split_of.get(name) != SPLITS.index("train"):
                problems.append(f"{where}: `{name}` is not in {lists['train'].name}")
            elif split == "test" and name in split_of:
                problems.append(f"{where}: `{name}` is also in {lists['train'].name}")
            else:
                split_of[name] = SPLITS.index(split)
            listed.add(name)
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
            image, *values = text.split()
            try:
                labels = _flags(tuple(values))
            except ValueError as problem:
                rows.problems.append(f"{where}: {problem}")
            else:
                rows.add(where, image, nih_patient(image), labels, split)
    table = rows.table(data, FINDINGS)
    rows.require_patients(data, hint=f"use a labels.csv (--layout csv) with a column `{PATIENT}`")
    return table


def read_csv(data: Path, path: Path, *, given: bool) -> LabelTable:
    rows = Rows()
    table = csv_rows(path)
    _, header = next(table, (0, []))
    required = [IMAGE, *FINDINGS, *([SPLIT] if given else [])]
    _check_columns(path, header, required, known={*required, PATIENT, SPLIT, *_METADATA})
    for line, row in table:
        where = f"{path.name} line {line}"
        if len(row) != len(header):
            rows.problems.append(f"{where}: {len(row)} columns instead of {len(header)}")
            continue
        cells = dict(zip(header, row, strict=True))
        image, patient = cells[IMAGE], cells.get(PATIENT, nih_patient(cells[IMAGE]))
        if not (image and cells.get(PATIENT, "-")):
            rows.problems.append(f"{where}: {IMAGE} and {PATIENT} must not be empty")
            continue
        try:
            labels = _flags(tuple(cells[name] for name in FINDINGS))
            split_index = _split_index(cells[SPLIT]) if given else -1
        except ValueError as problem:
            rows.problems.append(f"{where}: {problem}")
        else:
            rows.add(where, image, patient, labels, split_index)
    checked = rows.table(data, FINDINGS)
    rows.require_patients(data, hint=f"add a column `{PATIENT}` to {path.name}")
    return checked


def _split_index(split: str) -> int:
    if split not in SPLITS:
        raise ValueError(f"`{SPLIT}` must be {', '.join(SPLITS[:-1])} or {SPLITS[-1]}, got `{split}`")
    return SPLITS.index(split)
