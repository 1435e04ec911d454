"""Data sets of class folders: one class per image; the patient comes from the file name."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from trainer.data.directory_walk import files_in, is_folder
from trainer.data.label_files import Rows
from trainer.data.labels import SPLITS, LabelTable
from trainer.data.look_alikes import looks_like_image
from trainer.data.patients import patient_in_name
from trainer.errors import InputError, on_one_line

DICOM_SUFFIXES: Final = (".dcm", ".dicom")

IMAGE_SUFFIXES: Final = (".png", ".jpg", ".jpeg", *DICOM_SUFFIXES)

OTHER_IMAGES: Final = (".bmp", ".gif", ".tif", ".tiff", ".webp")
"""Reported as unsupported, so that such files are not skipped silently."""


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


def read_folders(data: Path, splits: Sequence[str]) -> tuple[LabelTable, list[str]]:
    """The labels, and the files that look like images but are not read, as their suffixes are not an image's."""
    rows, not_read = Rows(), list[str]()
    classes_of = {split: _valid_classes(rows, f"{split}/", _classes(data / split)) for split in splits}
    classes = classes_of["train"]
    if len(classes) < 2:
        rows.problems.append(f"train/: at least two class directories are needed, got {len(classes)}")
    for split in splits:
        present = classes_of[split]
        rows.problems += [f"{split}/: class `{name}` of train/ is missing" for name in classes if name not in present]
        rows.problems += [f"{split}/: class `{name}` is not in train/" for name in present if name not in classes]
    folders = [(split, name) for split in splits for name in classes_of[split] if name in classes]
    _add_images(rows, not_read, data, folders, classes)
    return rows.table(data, tuple(classes)), not_read


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


def _add_images(
    rows: Rows, not_read: list[str], data: Path, folders: Sequence[tuple[str, str]], classes: Sequence[str]
) -> None:
    """Add the images of these folders, each a split and a class."""
    at = {data / split / name: (split, name) for split, name in folders}
    empty = {folder for folder, (split, _) in at.items() if split == "train"}

    def linked_twice(link: Path, first: Path) -> None:
        ours, theirs = (next(folder for folder in at if path.is_relative_to(folder)) for path in (link, first))
        if ours != theirs:
            names = [path.relative_to(data).as_posix() for path in (link, first)]
            rows.problems.append(f"{names[0]}: the same directory as {names[1]}, which has another class or split")

    for folder, path in files_in(list(at), unreadable_folder, linked_twice):
        split, name = at[folder]
        image, suffix = path.relative_to(data).as_posix(), path.suffix.lower()
        if suffix in OTHER_IMAGES:
            rows.problems.append(f"{image}: images must be {', '.join(IMAGE_SUFFIXES[:-1])} or {IMAGE_SUFFIXES[-1]}")
        elif suffix in IMAGE_SUFFIXES and _readable(rows, "", [image]):
            labels = bytes(name == other for other in classes)
            rows.add(f"{split}/", image, patient_in_name(image), labels, SPLITS.index(split))
            empty.discard(folder)
        elif suffix not in IMAGE_SUFFIXES and looks_like_image(path):
            not_read.append(image)
    rows.problems += [f"{folder.relative_to(data).as_posix()}/: no image" for folder in at if folder in empty]


def unreadable_folder(problem: OSError) -> None:
    """Raises: InputError for a folder that cannot be read."""
    reason = str(problem.strerror).lower()
    raise InputError(f"cannot read directory `{problem.filename}`: {reason}", hint="check its permissions") from problem
