"""Layout `nih`: the release of ChestX-ray14, a table of findings joined by bars and the lists of its split."""

from collections import Counter
from collections.abc import Mapping
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Final

from trainer.data.label_cells import as_bytes
from trainer.data.label_files import (
    IMAGE,
    LABELS,
    PATIENT,
    Rows,
    check_columns,
    csv_rows,
    patient_column,
    text_lines,
)
from trainer.data.labels import FINDINGS, SPLITS, LabelTable
from trainer.data.layouts.files import single_file
from trainer.data.layouts.source import RawSource, Request
from trainer.data.names import Names, plain
from trainer.data.patients import patient_of_id

REQUIRED: Final = ("Data_Entry_2017*.csv", "train_val_list.txt", "test_list.txt")
LABELS_ONLY: Final = ("Data_Entry_2017*.csv",)
COLUMNS: Final = ()
UNCERTAIN: Final = None
BLANK: Final = None

VAL_SHARE: Final = Fraction(1, 8)
"""Share of train_val's patients used for validation. Source: close to the usual 11,212 of 86,524 images."""


def read(request: Request) -> RawSource:
    """The labels, with the split of the two lists and of `val_list`."""
    names = REQUIRED if request.given else LABELS_ONLY
    entry, *files = (single_file(request.data, request.entries, name) for name in names)
    lists = dict(zip(("train", "test"), files, strict=False))
    if request.val_list is not None:
        lists["val"] = request.val_list
    carved = {} if request.val_list is not None else {"val": VAL_SHARE}
    return RawSource(table=read_table(request.data, entry, lists), files=(entry, *files), carved=carved)


def read_table(data: Path, entry: Path, lists: Mapping[str, Path]) -> LabelTable:
    """The labels of NIH's table, with the split of these lists. Raises: InputError with all problems."""
    rows = Rows()
    unknown: Counter[str] = Counter()
    table = csv_rows(entry)
    _, header = next(table, (0, []))
    patients = patient_column(header)
    required = [IMAGE, LABELS, PATIENT if patients is None else header[patients]]
    check_columns(entry, header, required)
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
    split_of = _splits(lists, entry, Names(rows.where), rows.problems)
    rows.splits = [split_of.get(image, -1) for image in rows.where]
    return rows.table(data, FINDINGS)


@cache
def _findings(text: str) -> tuple[bytes, frozenset[str]]:
    """Labels, and the names that are no finding's; cached, as a data set has few combinations."""
    names = frozenset(text.split("|")) - {"No Finding"}
    return as_bytes(name in names for name in FINDINGS), names.difference(FINDINGS)


def _splits(lists: Mapping[str, Path], entry: Path, names: Names, problems: list[str]) -> dict[str, int]:
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
