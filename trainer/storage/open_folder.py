"""A storage's open folder, and access to folders below it without following links.

Files are written and removed relative to an open folder, so that neither a link created meanwhile nor another folder
moved to the same name can redirect a write.
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
"""Error numbers for a folder that no longer exists. Source: stat(2); NFS returns ESTALE."""


def removed(url: str) -> InputError:
    """Error for a run whose folder was removed or replaced."""
    return InputError(
        f"cannot continue the run at `{url}`: its folder was removed or replaced",
        hint="its checkpoints are gone with it; the same command starts a new run",
    )


def same_file(open_file: int, path: Path, *, follow: bool = False) -> bool:
    """Whether this open file or folder is the one at the path. A link at the path counts as different unless `follow` is set.

    Raises: OSError where the system does not report it.
    """
    try:
        return os.path.samestat(os.fstat(open_file), path.stat(follow_symlinks=follow))
    except OSError as problem:
        if problem.errno in _GONE:
            return False
        raise


class Root:
    """A storage's own folder, which may be reached through links. After `hold`, it must stay the same folder."""

    def __init__(self, path: Path, url: str) -> None:
        self.path, self._url = path, url
        self._held: int | None = None

    def hold(self) -> None:
        """Create it if missing; from now on it is not created again, and a folder that replaces it is not used."""
        if self._held is None:
            self.path.mkdir(parents=True, exist_ok=True)
            self._held = os.open(self.path, _OPEN)
            weakref.finalize(self, os.close, self._held)

    @contextmanager
    def opened(self, *, make: bool) -> Iterator[int]:
        """The open folder. Raises: FileNotFoundError when missing; InputError when it is no longer the held one."""
        if self._held is not None:
            if not same_file(self._held, self.path, follow=True):
                raise removed(self._url)
            try:
                yield self._held
            except OSError as problem:
                if not same_file(self._held, self.path, follow=True):  # it was removed during the operation
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
        """The open parent folder of a key, and the key's name in it.

        Raises: FileNotFoundError when a folder is missing and `make` is false; InputError for a link in the path.
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
    """Everything below a folder, with names relative to it; links are listed, not followed.

    Folders deleted meanwhile (checkpoints of a running job) and unreadable ones (a disk's `lost+found`) are skipped.
    """
    folders = [prefix]
    while folders:
        current = folders.pop()
        with suppress(FileNotFoundError, NotADirectoryError, PermissionError), os.scandir(path / current) as listing:
            for entry in listing:
                name = f"{current}{entry.name}"
                yield name, entry
                if entry.is_dir(follow_symlinks=False):
                    folders.append(f"{name}/")


def _below(folder: int, name: str, path: Path, *, make: bool) -> int:
    """Open the folder of this name in another one."""
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
    """Error for a link among a run's folders."""
    return InputError(
        f"cannot use `{path}`: it is a link, and links inside a run are not followed", hint="remove the link"
    )
