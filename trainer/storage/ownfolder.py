"""Folders that this program makes for itself in a cache: neither reached by a link nor made by another user.

A cache may lie where others can write, as below `/tmp`; whoever makes a folder there before us must not say where we write, nor what
we read as our own.
"""

import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from trainer.errors import InputError
from trainer.storage.files import file_errors


def own_folder(cache: Path, *names: str, make: bool = True) -> Path:
    """The folder of these names in the cache, made where it is missing unless told otherwise. The cache itself may be a link.

    Raises: InputError for a link, a file or another user's folder among them; FullError.
    """
    folder = cache
    with file_errors("write", cache.joinpath(*names)):
        if make:
            folder.mkdir(parents=True, exist_ok=True)
        for name in names:
            folder /= name
            if make:
                folder.mkdir(exist_ok=True) if not folder.is_symlink() else None
            with suppress(FileNotFoundError):
                _check(folder, folder.lstat())
    return folder


def files_below(folder: Path) -> Iterator[tuple[str, os.stat_result]]:
    """Everything below a folder but folders: its name relative to it, and what it is; links are told and not followed.

    Raises: InputError when the folder can't be read.
    """
    with file_errors("list", folder):
        for place, folders, files in os.walk(folder, onerror=_raise):
            links = [name for name in folders if Path(place, name).is_symlink()]
            for name in sorted([*links, *files]):
                path = Path(place, name)
                with suppress(FileNotFoundError):  # removed meanwhile
                    yield path.relative_to(folder).as_posix(), path.lstat()


def _check(folder: Path, found: os.stat_result) -> None:
    problem = None
    if stat.S_ISLNK(found.st_mode):
        problem = "it is a link"
    elif not stat.S_ISDIR(found.st_mode):
        problem = "it is no folder"
    elif found.st_uid != os.geteuid():
        problem = "it belongs to another user"
    if problem:
        raise InputError(
            f"cannot use `{folder}` as a cache: {problem}", hint="remove it, or --cache-dir names another place"
        )


def _raise(problem: OSError) -> None:
    raise problem
