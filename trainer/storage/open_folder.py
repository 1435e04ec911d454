"""The open folder of a storage, and folders below it opened without following links.

Files are written and removed relative to an open folder, so that neither a link planted meanwhile nor another folder that takes the
name can lead a write elsewhere.
"""

import errno
import os
import stat
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from trainer.errors import InputError

_OPEN: Final = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_CLOEXEC

_GONE: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ESTALE, errno.ELOOP})
"""What systems say of a folder that is no longer there. Source: stat(2); NFS answers ESTALE."""


def removed(url: str) -> InputError:
    """The error of a run whose folder is no longer the one that it was."""
    return InputError(
        f"cannot go on with the run at `{url}`: its folder was removed or replaced meanwhile",
        hint="what was trained went with it; the same command starts a new run",
    )


def same_file(open_file: int, path: Path, *, follow: bool = False) -> bool:
    """Whether this open file or folder is what lies at the path; a link there is not it, unless links are followed.

    Raises: OSError where the system does not say.
    """
    try:
        return os.path.samestat(os.fstat(open_file), path.stat(follow_symlinks=follow))
    except OSError as problem:
        if problem.errno in _GONE:
            return False
        raise


class Root:
    """A storage's own folder, which may be reached by links; from `hold` on it must stay the one that it is."""

    def __init__(self, path: Path, url: str) -> None:
        self.path, self._url = path, url
        self._held: int | None = None

    def hold(self) -> None:
        """Make it where there is none; from now on it is never made again, and no other that takes its name is used."""
        if self._held is None:
            self.path.mkdir(parents=True, exist_ok=True)
            self._held = os.open(self.path, _OPEN)
            weakref.finalize(self, os.close, self._held)

    @contextmanager
    def opened(self, *, make: bool) -> Iterator[int]:
        """The open folder. Raises: FileNotFoundError where there is none; InputError when it is no longer the one held."""
        if self._held is not None:
            if not same_file(self._held, self.path, follow=True):
                raise removed(self._url)
            try:
                yield self._held
            except OSError as problem:
                if not same_file(self._held, self.path, follow=True):  # it went in the middle of what was done there
                    raise removed(self._url) from problem
                raise
            return
        if make:
            self.path.mkdir(parents=True, exist_ok=True)
        folder = os.open(self.path, _OPEN)
        try:
            yield folder
        finally:
            os.close(folder)

    @contextmanager
    def folder_of(self, key: str, *, make: bool) -> Iterator[tuple[int, str]]:
        """The open folder in which the key lies, and its name there.

        Raises: FileNotFoundError where a folder is missing and none is to be made; InputError for a link among them.
        """
        *folders, name = key.split("/")
        with self.opened(make=make) as folder:
            current = os.dup(folder)
            try:
                for depth, part in enumerate(folders, start=1):
                    inner = _below(current, part, self.path.joinpath(*folders[:depth]), make=make)
                    os.close(current)
                    current = inner
                yield current, name
            finally:
                os.close(current)


def entries(path: Path, prefix: str = "") -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Everything below a folder, by name relative to it; links are listed, not followed.

    Folders that are removed meanwhile are left out, as checkpoints of a run that trains are, and those that may not be read, as
    a disk's `lost+found`.
    """
    folders = [prefix]
    while folders:
        inside = folders.pop()
        with suppress(FileNotFoundError, NotADirectoryError, PermissionError), os.scandir(path / inside) as found:
            for entry in found:
                name = f"{inside}{entry.name}"
                yield name, entry
                if entry.is_dir(follow_symlinks=False):
                    folders.append(f"{name}/")


def _below(folder: int, name: str, path: Path, *, make: bool) -> int:
    """The open folder of this name in another one."""
    try:
        return os.open(name, _OPEN | os.O_NOFOLLOW, dir_fd=folder)
    except FileNotFoundError:
        if not make:
            raise
    except NotADirectoryError as problem:
        if stat.S_ISLNK(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
            raise linked(path) from problem
        raise
    with suppress(FileExistsError):
        os.mkdir(name, dir_fd=folder)
    return _below(folder, name, path, make=False)


def linked(path: Path) -> InputError:
    """The error of a link among a run's folders."""
    return InputError(f"cannot use `{path}`: it is a link, and inside a run none is followed", hint="remove the link")
