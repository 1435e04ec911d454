"""Files below a data set's folder. Links to folders are followed, and each folder is visited once."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from trainer.limits import FOLDER_DEPTH


def files_below(folder: Path, unreadable: Callable[[OSError], None]) -> Iterator[Path]:
    """Files below the folder sorted by name, a folder's own files before those of its subfolders, without hidden ones.

    A folder already visited under another name, or one that contains the first folder, is skipped: a link to `.` would
    never end. `unreadable` is called for folders that cannot be read or are nested too deeply. Everything but a folder
    counts as a file, also pipes and broken links.
    """
    seen = _above(folder)
    pending = [(folder, 0)]
    while pending:
        current, depth = pending.pop()
        try:
            identity = _identity(current)
            if identity in seen:
                continue
            seen.add(identity)
            files, folders = _listed(current)
        except OSError as problem:
            unreadable(problem)
            continue
        if folders and depth == FOLDER_DEPTH:
            unreadable(OSError(0, f"folders nested more than {FOLDER_DEPTH} deep", str(current)))
            continue
        yield from (current / name for name in files)
        pending += [(current / name, depth + 1) for name in reversed(folders)]


def _above(folder: Path) -> set[tuple[int, int]]:
    """The folders that contain this one: a link to one of them would lead back here."""
    above = {*folder.absolute().parents, *folder.resolve().parents}
    return {_identity(place) for place in above if place.is_dir()} - {_identity(folder)}


def _identity(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino


def _listed(folder: Path) -> tuple[list[str], list[str]]:
    files: list[str] = []
    folders: list[str] = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if not entry.name.startswith("."):
                (folders if is_folder(entry) else files).append(entry.name)
    return sorted(files), sorted(folders)


def is_folder(entry: "os.DirEntry[str]") -> bool:
    """Whether it is a folder or a link to one; a circular link is not."""
    try:
        return entry.is_dir()
    except OSError:
        return False
