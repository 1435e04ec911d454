"""Cache folders owned by this user, without symbolic links.

A cache may be in a shared place such as `/tmp`. A folder that another user created there first must not redirect our
writes or supply files that we trust.
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
    """The folder of these names in the cache, created unless `make` is false. The cache itself may be a symbolic link.

    Raises: InputError when one of them is a link, a file or another user's folder; FullError.
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
    """Relative name and status of everything below a folder except folders. Links are listed, not followed.

    Raises: InputError when the folder cannot be read.
    """
    with file_errors("list", folder):
        for name, entry in sorted(entries(folder), key=itemgetter(0)):
            if not entry.is_dir(follow_symlinks=False):
                with suppress(FileNotFoundError):  # deleted since it was listed
                    yield name, entry.stat(follow_symlinks=False)


def _check(folder: Path, status: os.stat_result) -> None:
    problem = None
    if stat.S_ISLNK(status.st_mode):
        problem = "it is a link"
    elif not stat.S_ISDIR(status.st_mode):
        problem = "it is not a folder"
    elif status.st_uid != os.geteuid():
        problem = "it belongs to another user"
    if problem:
        raise InputError(
            f"cannot use `{folder}` as a cache: {problem}", hint="remove it, or choose another --cache-dir"
        )
