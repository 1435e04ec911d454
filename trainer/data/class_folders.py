"""Data sets of class folders: one class per image; the patient comes from the file name."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from trainer.data.directory_walk import files_in, is_folder
from trainer.data.label_cells import as_bytes
from trainer.data.label_files import Rows
from trainer.data.labels import SPLITS, LabelTable
from trainer.data.look_alikes import looks_like_image
from trainer.data.patients import patient_in_name
from trainer.errors import InputError, on_one_line

DICOM_SUFFIXES: Final = (".dcm", ".dicom")

IMAGE_SUFFIXES: Final = (".png", ".jpg", ".jpeg", *DICOM_SUFFIXES)

OTHER_IMAGES: Final = (".bmp", ".gif", ".tif", ".tiff", ".webp")
"""Reported as unsupported, so that such files are not skipped silently."""

NAMED: Final = 5
"""Files named in a note; the others are counted."""


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


@dataclass
class Unread:
    """What is in the folders of a data set and is not read."""

    look_alikes: list[str] = field(default_factory=list)
    """Files that look like images but have no image's suffix."""
    links: list[str] = field(default_factory=list)
    """Links to folders that are read under their own names."""
    strays: list[str] = field(default_factory=list)
    """Images in no class folder."""
    folders: list[str] = field(default_factory=list)
    """Folders beside train/ with the same class folders."""

    def notes(self) -> list[str]:
        """One for each kind but the first, for a log."""
        kinds = {
            "links to folders that are read under their own names are not followed": self.links,
            "images in no class folder are not read": self.strays,
            "folders with class folders that are neither train/, val/ nor test/ are not read": self.folders,
        }
        return [f"{what} ({len(names):,}): {first_of(names)}" for what, names in kinds.items() if names]


def first_of(names: Sequence[str]) -> str:
    """The first names, and how many more there are."""
    first = ", ".join(map(on_one_line, names[:NAMED]))
    return f"{first} and {len(names) - NAMED:,} more" if len(names) > NAMED else first


def read_folders(data: Path, entries: Sequence[str]) -> tuple[LabelTable, Unread]:
    """The labels, and what is not read; `entries` are the names in the data set's directory."""
    rows, unread = Rows(), Unread()
    splits = [split for split in SPLITS if f"{split}/" in entries]
    classes_of = {split: _valid_classes(rows, f"{split}/", _classes(data / split)) for split in splits}
    classes = classes_of["train"]
    if len(classes) < 2:
        rows.problems.append(f"train/: at least two class directories are needed, got {len(classes)}")
    for split in splits:
        present = classes_of[split]
        rows.problems += [f"{split}/: class `{name}` of train/ is missing" for name in classes if name not in present]
        rows.problems += [f"{split}/: class `{name}` is not in train/" for name in present if name not in classes]
    folders = [(split, name) for split in splits for name in classes_of[split] if name in classes]
    _add_images(rows, unread, data, folders, classes)
    for split in splits:
        names = [f"{split}/{name}" for name in directory_entries(data / split)]
        unread.strays += [name for name in names if name.lower().endswith((*IMAGE_SUFFIXES, *OTHER_IMAGES))]
    others = [entry for entry in entries if entry.endswith("/") and entry[:-1] not in splits and entry[0] != "."]
    unread.folders += [entry for entry in others if any((data / entry / name).is_dir() for name in classes)]
    return rows.table(data, tuple(classes)), unread


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
    rows: Rows, unread: Unread, data: Path, folders: Sequence[tuple[str, str]], classes: Sequence[str]
) -> None:
    """Add the images of these folders, each a split and a class."""
    at = {data / split / name: (split, name) for split, name in folders}
    empty = {folder for folder, (split, _) in at.items() if split == "train"}

    def again(name: Path, read: Path) -> None:
        ours, theirs = (next(folder for folder in at if path.is_relative_to(folder)) for path in (name, read))
        names = [path.relative_to(data).as_posix() for path in (name, read)]
        if ours != theirs and (name in at or _is_behind_a_link(read, theirs)):
            rows.problems.append(f"{names[0]}: the same directory as {names[1]}, which has another class or split")
        elif ours != theirs:
            unread.links.append(f"{names[0]} (to {names[1]})")

    for folder, path in files_in(list(at), unreadable_folder, again):
        split, name = at[folder]
        image, suffix = path.relative_to(data).as_posix(), path.suffix.lower()
        if suffix in OTHER_IMAGES:
            rows.problems.append(f"{image}: images must be {', '.join(IMAGE_SUFFIXES[:-1])} or {IMAGE_SUFFIXES[-1]}")
        elif suffix in IMAGE_SUFFIXES and _readable(rows, "", [image]):
            labels = as_bytes(name == other for other in classes)
            rows.add(f"{split}/", image, patient_in_name(image), labels, SPLITS.index(split))
            empty.discard(folder)
        elif suffix not in IMAGE_SUFFIXES and looks_like_image(path):
            unread.look_alikes.append(image)
    for folder in (folder for folder in at if folder in empty):
        name = f"{folder.relative_to(data).as_posix()}/"
        similar = [image for image in unread.look_alikes if image.startswith(name)]
        but = f", but files that look like images with another suffix: {first_of(similar)}" if similar else ""
        rows.problems.append(f"{name}: no image{but}")


def _is_behind_a_link(folder: Path, root: Path) -> bool:
    return any(path.is_symlink() for path in (folder, *folder.parents) if path.is_relative_to(root))


def unreadable_folder(problem: OSError) -> None:
    """Raises: InputError for a folder that cannot be read."""
    reason = str(problem.strerror).lower()
    raise InputError(f"cannot read directory `{problem.filename}`: {reason}", hint="check its permissions") from problem
