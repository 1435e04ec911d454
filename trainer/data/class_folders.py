"""Data sets of class folders: one class per image; the patient comes from the file name."""

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from trainer.data.directory_walk import files_below, is_folder
from trainer.data.label_files import (
    Rows,
    nih_patient,
)
from trainer.data.labels import SPLITS, LabelTable
from trainer.errors import InputError, on_one_line

DICOM_SUFFIXES: Final = (".dcm", ".dicom")

IMAGE_SUFFIXES: Final = (".png", ".jpg", ".jpeg", *DICOM_SUFFIXES)

OTHER_IMAGES: Final = (".bmp", ".gif", ".tif", ".tiff", ".webp")
"""Reported as unsupported, so that such files are not skipped silently."""

_KERMANY_NAME = re.compile(
    r"(person\d+_(?:bacteria|virus)|(?:NORMAL2-)?IM-\d+)[-_]\d+(?:-\d+)?\.(?:png|jpe?g)", re.IGNORECASE | re.ASCII
)
"""Number *and* kind identify the patient. Source: in the Kaggle set no number with the same kind is in both train and test."""


def directory_entries(data: Path) -> list[str]:
    """Names in the directory, those of directories with a trailing slash."""
    try:
        with os.scandir(data) as entries:
            return sorted(entry.name + "/" * is_folder(entry) for entry in entries)
    except OSError as problem:
        reason = "no such directory" if isinstance(problem, FileNotFoundError) else str(problem.strerror).lower()
        raise InputError(
            f"cannot read data set: {reason}, got `{data}` (from `--data`)", hint="set --data to a directory"
        ) from problem


def read_folders(data: Path, splits: Sequence[str]) -> LabelTable:
    rows = Rows()
    classes_of = {split: _valid_classes(rows, f"{split}/", _classes(data / split)) for split in splits}
    classes = classes_of["train"]
    if len(classes) < 2:
        rows.problems.append(f"train/: at least two class directories are needed, got {len(classes)}")
    for split in splits:
        present = classes_of[split]
        rows.problems += [f"{split}/: class `{name}` of train/ is missing" for name in classes if name not in present]
        rows.problems += [f"{split}/: class `{name}` is not in train/" for name in present if name not in classes]
        for name in present:
            if name in classes:
                _add_class(rows, data, split, name, bytes(name == other for other in classes))
    return rows.table(data, tuple(classes))


def _classes(folder: Path) -> list[str]:
    return [name.rstrip("/") for name in directory_entries(folder) if name.endswith("/") and not name.startswith(".")]


def _readable(rows: Rows, where: str, names: Sequence[str]) -> list[str]:
    """The names that are text without line breaks; a label file cannot hold the others, which are reported as problems."""
    bad = [name for name in names if not _is_utf8(name)]
    rows.problems += [f"{where}{_escaped(name)}: its name is not UTF-8" for name in bad]
    broken = [name for name in names if "\n" in name or "\r" in name]
    rows.problems += [f"{where}{name}: its name has a line break" for name in broken]
    return [name for name in names if name not in {*bad, *broken}]


def _valid_classes(rows: Rows, where: str, names: Sequence[str]) -> list[str]:
    """Class names that are valid in model files and printable; the others are reported as problems."""
    readable = _readable(rows, where, names)
    unprintable = [name for name in readable if not name.isprintable()]
    rows.problems += [f"{where}{on_one_line(name)}: its name has unprintable characters" for name in unprintable]
    return [name for name in readable if name not in unprintable]


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _escaped(name: str) -> str:
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _add_class(rows: Rows, data: Path, split: str, name: str, labels: bytes) -> None:
    before = len(rows.labels)
    for path in image_walk(data / split / name):
        image = path.relative_to(data).as_posix()
        suffix = path.suffix.lower()
        if suffix in OTHER_IMAGES:
            rows.problems.append(f"{image}: images must be {', '.join(IMAGE_SUFFIXES[:-1])} or {IMAGE_SUFFIXES[-1]}")
        elif suffix in IMAGE_SUFFIXES and _readable(rows, "", [image]):
            rows.add(f"{split}/", image, patient_in_name(image) or image, labels, SPLITS.index(split))
    if split == "train" and len(rows.labels) == before:
        rows.problems.append(f"{split}/{name}/: no image")


def patient_in_name(image: str) -> str:
    """The patient in a file name of the paediatric set or NIH, "" in others."""
    name = image.rpartition("/")[2]
    match = _KERMANY_NAME.fullmatch(name)
    return match[1].lower() if match else nih_patient(name)


def image_walk(folder: Path) -> Iterator[Path]:
    """Files below the folder sorted by name, without hidden ones; each folder once."""
    return files_below(folder, _unreadable)


def _unreadable(problem: OSError) -> None:
    reason = str(problem.strerror).lower()
    raise InputError(f"cannot read directory `{problem.filename}`: {reason}", hint="check its permissions") from problem
