"""Files below a data set's folder. Links to folders are followed, and each folder is visited once."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from trainer.limits import FOLDER_DEPTH


def files_below(folder: Path, unreadable: Callable[[OSError], None]) -> Iterator[Path]:
    """Files below the folder sorted by name, a folder's own files before those of its subfolders, without hidden ones.

    A folder that was visited before under another name, or that contains the first folder, is not entered again: a link to `.`
    would never end. `unreadable` is called with folders that can't be read or are nested too deeply. Everything that is not a
    folder counts as a file, also pipes and broken links.
    """
    seen = _above(folder)
    waiting = [(folder, 0)]
    while waiting:
        where, depth = waiting.pop()
        try:
            identity = _identity(where)
            if identity in seen:
                continue
            seen.add(identity)
            files, folders = _listed(where)
        except OSError as problem:
            unreadable(problem)
            continue
        if folders and depth == FOLDER_DEPTH:
            unreadable(OSError(0, f"more than {FOLDER_DEPTH} folders inside each other", str(where)))
            continue
        yield from (where / name for name in files)
        waiting += [(where / name, depth + 1) for name in reversed(folders)]


def _above(folder: Path) -> set[tuple[int, int]]:
    """The folders that this one is in: a link to one of them would lead through this one again."""
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
    """Whether it is one, or a link to one; a link in a circle is none."""
    try:
        return entry.is_dir()
    except OSError:
        return False
