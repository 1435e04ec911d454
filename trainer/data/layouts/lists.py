"""Layout `lists`: three lists with a name and 14 values 0 or 1 per line, as published for ChestX-ray14."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Final

from trainer.data.label_cells import as_bytes
from trainer.data.label_files import PATIENT, Rows, text_lines, with_known_patients
from trainer.data.labels import FINDINGS, LabelTable
from trainer.data.layouts.files import single_file
from trainer.data.layouts.source import RawSource, Request
from trainer.data.names import plain
from trainer.data.patients import patient_in_name

REQUIRED: Final = ("train_list.txt", "val_list.txt", "test_list.txt")
LABELS_ONLY: Final = REQUIRED
COLUMNS: Final = ()
UNCERTAIN: Final = None
BLANK: Final = None


def read(request: Request) -> RawSource:
    """The labels, with the split of the three lists."""
    files = tuple(single_file(request.data, request.entries, name) for name in REQUIRED)
    return RawSource(table=read_lists(request.data, files), files=files)


def read_lists(data: Path, files: Sequence[Path]) -> LabelTable:
    """The labels of the lists of train, val and test. Raises: InputError with all problems."""
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
    return with_known_patients(
        rows.table(data, FINDINGS), data, hint=f"use a labels.csv (--layout csv) with a column `{PATIENT}`"
    )


@cache
def _flags(values: tuple[str, ...]) -> bytes:
    """Labels from 14 values; cached, as a data set has few combinations."""
    if len(values) != len(FINDINGS):
        raise ValueError(f"{len(values)} values instead of {len(FINDINGS)}")
    for name, value in zip(FINDINGS, values, strict=True):
        if value not in {"0", "1"}:
            raise ValueError(f"{name} must be 0 or 1, got `{value}`")
    return as_bytes(map(int, values))
