"""Folders that this program makes in a cache: none is a link or belongs to another user.

A cache may lie where others can write, as below `/tmp`: a folder that somebody made there first must not redirect our writes or
supply files that we read as our own.
"""

import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from operator import itemgetter
from pathlib import Path

from trainer.errors import InputError
from trainer.storage.files import file_errors
from trainer.storage.open_folder import entries


def cache_folder(cache: Path, *names: str, make: bool = True) -> Path:
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


def cached_files(folder: Path) -> Iterator[tuple[str, os.stat_result]]:
    """Everything below a folder except folders: relative name and status. Links are listed, not followed.

    Raises: InputError when the folder can't be read.
    """
    with file_errors("list", folder):
        for name, entry in sorted(entries(folder), key=itemgetter(0)):
            if not entry.is_dir(follow_symlinks=False):
                with suppress(FileNotFoundError):  # removed meanwhile
                    yield name, entry.stat(follow_symlinks=False)


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
