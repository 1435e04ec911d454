"""Label tables as files: NIH's table and lists, lists of 14 values, and labels.csv. Every problem is collected, none is guessed away."""

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
"""Columns of NIH's table that labels.csv may keep, as commas split them and as quotes hold them together."""

_NIH_NAME = re.compile(r"(\d{8})_\d{3}\.(?:png|jpe?g)", re.IGNORECASE | re.ASCII)


@dataclass
class Rows:
    """What a reader has gathered, problems included."""

    where: dict[str, str] = field(default_factory=dict)
    """Image name to the place that named it, in order of the rows."""
    patients: list[str] = field(default_factory=list)
    labels: list[bytes] = field(default_factory=list)
    splits: list[int] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def add(self, where: str, image: str, patient: str, labels: bytes, split: int) -> None:
        if image in self.where:
            self.problems.append(f"{where}: `{image}` a second time, first in {self.where[image]}")
            return
        self.where[image] = where
        self.patients.append(patient)
        self.labels.append(labels)
        self.splits.append(split)

    def table(self, data: Path, findings: tuple[str, ...]) -> LabelTable:
        """The table, when nothing is wrong."""
        if self.problems:
            raise InputError(
                f"cannot read the labels of `{data}`: {counted(self.problems)}{listing(self.problems)}",
                hint="correct the files named; nothing is left out or guessed",
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
        """Refuse images whose patient nothing tells: a patient in two parts would flatter every result."""
        unknown = [name for name, patient in zip(self.where, self.patients, strict=True) if not patient]
        if unknown:
            raise InputError(
                f"cannot tell the patients of `{data}` apart: not named like 00000001_000.png are "
                f"{len(unknown)} of {images_in_words(len(self.where))}{listing(unknown)}",
                hint=hint,
            )


def counted(problems: Sequence[str]) -> str:
    return "1 problem" if len(problems) == 1 else f"{len(problems)} problems"


def images_in_words(count: int) -> str:
    return "1 image" if count == 1 else f"{count} images"


def text_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Number and text of the lines that are not blank."""
    with _read_errors(path):
        for number, line in enumerate(tables.lines(tables.content_of(path)), start=1):
            if number > TABLE_ROWS:
                raise LimitError(f"it has more than {TABLE_ROWS:,} lines")
            if line.strip():
                yield number, line.strip()


def csv_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Line number and cells of the rows that are not blank; the first row names the columns. Raises: InputError."""
    with _read_errors(path):
        yield from tables.rows(tables.content_of(path))


@contextmanager
def _read_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, LimitError, TableError) as problem:
        reason = getattr(problem, "strerror", None) or str(problem)
        raise InputError(
            f"cannot read `{path}`: {reason[:1].lower()}{reason[1:]}", hint="is the file there, complete, and text?"
        ) from problem


def _check_columns(path: Path, header: Sequence[str], wanted: Sequence[str], known: Collection[str] | None) -> None:
    problems = [f"no column `{name}`" for name in wanted if name not in header]
    problems += [f"column `{name}` more than once" for name in {*wanted, PATIENT} if header.count(name) > 1]
    problems += [f"unknown column `{name}`" for name in header if known is not None and name not in known]
    if problems:
        raise InputError(
            f"cannot read `{path}`: {counted(problems)} in its first line{listing(problems)}",
            hint="the first line names the columns, separated by commas",
        )


@cache
def _flags(values: tuple[str, ...]) -> bytes:
    """Labels as bytes 0 and 1; a data set has few combinations of them, so each is read once."""
    if len(values) != len(FINDINGS):
        raise ValueError(f"{len(values)} values instead of {len(FINDINGS)}")
    for name, value in zip(FINDINGS, values, strict=True):
        if value not in {"0", "1"}:
            raise ValueError(f"{name} must be 0 or 1, got `{value}`")
    return bytes(map(int, values))


def nih_patient(name: str) -> str:
    """The patient number in one of NIH's file names, "" in others."""
    match = _NIH_NAME.fullmatch(name)
    return match[1] if match else ""


def read_nih(data: Path, entry: Path, lists: Mapping[str, Path]) -> LabelTable:
    rows = Rows()
    part_of = _nih_parts(lists, rows.problems)
    unknown: Counter[str] = Counter()
    table = csv_rows(entry)
    _, header = next(table, (0, []))
    _check_columns(entry, header, [IMAGE, LABELS, PATIENT], known=None)
    columns = [header.index(name) for name in (IMAGE, LABELS, PATIENT)]
    for line, row in table:
        # One edition has fewer names than columns, so the lengths of header and rows say nothing.
        image, text, patient = (row[column] if column < len(row) else "" for column in columns)
        if not (image and text and patient):
            rows.problems.append(f"{entry.name} line {line}: {IMAGE}, {LABELS} and {PATIENT} must not be empty")
            continue
        found = set(text.split("|")) - {"No Finding"}
        unknown.update(found.difference(FINDINGS))
        labels = bytes(name in found for name in FINDINGS)
        rows.add(f"{entry.name} line {line}", image, patient, labels, part_of.get(image, -1))
    rows.problems += [f"{entry.name}: unknown finding `{name}` (images: {count})" for name, count in unknown.items()]
    absent = ((image, part) for image, part in part_of.items() if image not in rows.where)
    rows.problems += [f"{lists[SPLITS[part]].name}: `{image}` is not in {entry.name}" for image, part in absent]
    return rows.table(data, FINDINGS)


def _nih_parts(lists: Mapping[str, Path], problems: list[str]) -> dict[str, int]:
    """Part of each listed image; the list for val comes last and takes images from train."""
    part_of: dict[str, int] = {}
    for split, path in lists.items():
        mine: set[str] = set()
        for line, name in text_lines(path):
            where = f"{path.name} line {line}"
            if name in mine:
                problems.append(f"{where}: `{name}` a second time")
            elif split == "val" and part_of.get(name) != SPLITS.index("train"):
                problems.append(f"{where}: `{name}` is not in {lists['train'].name}")
            elif split == "test" and name in part_of:
                problems.append(f"{where}: `{name}` is in {lists['train'].name} too")
            else:
                part_of[name] = SPLITS.index(split)
            mine.add(name)
    return part_of


def val_file(data: Path, val_list: str) -> Path:
    """The list that `--val-list` names: in the data set if it is there, else as given."""
    for path in (data / val_list, Path(val_list)):
        if path.is_file():
            return path
    raise InputError(
        f"cannot read the validation list: no such file in `{data}` or here, got `{val_list}` (from `--val-list`)",
        hint="a relative path is looked up in the data set first, then here",
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
    rows.require_patients(data, hint=f"a labels.csv (--layout csv) can say who is who in a column `{PATIENT}`")
    return table


def read_csv(data: Path, path: Path, *, given: bool) -> LabelTable:
    rows = Rows()
    table = csv_rows(path)
    _, header = next(table, (0, []))
    wanted = [IMAGE, *FINDINGS, *([SPLIT] if given else [])]
    _check_columns(path, header, wanted, known={*wanted, PATIENT, SPLIT, *_METADATA})
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
            part = _part(cells[SPLIT]) if given else -1
        except ValueError as problem:
            rows.problems.append(f"{where}: {problem}")
        else:
            rows.add(where, image, patient, labels, part)
    checked = rows.table(data, FINDINGS)
    rows.require_patients(data, hint=f"add a column `{PATIENT}` to {path.name}")
    return checked


def _part(split: str) -> int:
    if split not in SPLITS:
        raise ValueError(f"`{SPLIT}` must be {', '.join(SPLITS[:-1])} or {SPLITS[-1]}, got `{split}`")
    return SPLITS.index(split)
