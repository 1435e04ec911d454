"""Storage in a directory; objects are files."""

import errno
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from pathlib import Path, PurePosixPath
from typing import Final

from trainer.errors import InputError
from trainer.limits import read_at_most
from trainer.storage.files import PARTIAL, beside, file_errors, open_regular, pieces, replacing, write_flushed
from trainer.storage.interface import CHUNK_BYTES, AbsentError, ChangedError, Claim, Stat, ignore, is_hidden

STALE_S: Final = 3600.0
"""Age of a half-written file whose writer is taken for dead."""

_NO_LINKS: Final = frozenset({errno.EPERM, errno.ENOTSUP, errno.ENOSYS})
"""How file systems say that they have no hard links. Source: link(2); those of FUSE answer ENOSYS."""


class _Locked:
    def check(self) -> None:
        """Nobody else gets a lock that is held."""


class LocalStorage:
    """Storage in a directory. A write is a file beside the target, flushed to disk, then renamed over it."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._root = Path(url)
        self._excludes: bool | None = None

    def read(self, key: str, *, most_bytes: int | None = None) -> bytes:
        """See `Storage.read`; a pipe or a device is refused."""
        with file_errors("read", self._path(key)), open_regular(self._path(key)) as file:
            return file.read() if most_bytes is None else read_at_most(file, most_bytes)

    def chunks(self, key: str, *, first: int = 0, stamp: str | None = None) -> Iterator[bytes]:
        """See `Storage.chunks`; there is no hash to compare with."""
        path = self._path(key)
        with file_errors("read", path), path.open("rb") as file:
            begun = _stat(os.fstat(file.fileno())).stamp
            if stamp not in {None, begun}:
                raise ChangedError(f"cannot read `{path}`: it has changed")
            file.seek(first)
            while chunk := file.read(CHUNK_BYTES):
                yield chunk
            if _stat(os.fstat(file.fileno())).stamp != begun:
                raise ChangedError(f"cannot read `{path}`: it changed while it was read")

    def copy_to(self, key: str, path: Path, *, progress: Callable[[int], None] = ignore) -> None:
        """See `Storage.copy_to`."""
        with file_errors("write", path), replacing(path) as partial, partial.open("xb") as file:
            for chunk in self.chunks(key):
                file.write(chunk)
                progress(len(chunk))

    def write(self, key: str, content: bytes) -> None:
        """See `Storage.write`."""
        with file_errors("write", self._path(key)), replacing(self._path(key)) as partial:
            write_flushed(partial, [content])

    def upload(self, key: str, path: Path) -> None:
        """See `Storage.upload`."""
        with file_errors("write", self._path(key)), replacing(self._path(key)) as partial:
            write_flushed(partial, pieces(path))

    def create(self, key: str, content: bytes) -> bool:
        """See `Storage.create`: the written file gets the name by a link, which fails where there is one."""
        path = self._path(key)
        if not self.excludes():
            if path.exists():
                return False
            self.write(key, content)
            return True
        with file_errors("write", path), beside(path) as partial:
            write_flushed(partial, [content])
            return _linked(partial, path)

    def replace(self, key: str, content: bytes, stamp: str) -> bool:
        """See `Storage.replace`: compared and renamed under a lock on a hidden file beside it.

        Who calls `replace` takes the lock, who calls `write` or `delete` does not: such a call between the two is lost.
        """
        path = self._path(key)
        if not path.exists():
            return False
        with file_errors("write", path), path.with_name(f".{path.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not path.exists() or _stat(path.stat()).stamp != stamp:
                return False
            self.write(key, content)
            return True

    def excludes(self) -> bool:
        """See `Storage.excludes`: whether the file system has hard links."""
        if self._excludes is None:
            probe = self._root / ".excludes"
            with file_errors("write", probe), beside(probe) as one, beside(probe) as other:
                write_flushed(one, [])
                self._excludes = _has_links(one, other)
        return self._excludes

    def stat(self, key: str) -> Stat:
        """See `Storage.stat`."""
        path = self._path(key)
        with file_errors("read", path):
            if path.is_dir():
                raise AbsentError(f"cannot look at `{path}`: it is a folder")
            return _stat(path.stat())

    def stats(self, prefix: str) -> dict[str, Stat]:
        """See `Storage.stats`."""
        found = {}
        for key in self.keys(prefix):
            with suppress(FileNotFoundError):  # removed meanwhile
                found[key] = _stat(self._path(key).stat())
        return found

    def keys(self, prefix: str) -> list[str]:
        """See `Storage.keys`."""
        with file_errors("list", self._root / prefix):
            names = [path.relative_to(self._root).as_posix() for path in self._below(prefix) if path.is_file()]
        return sorted(name for name in names if name.startswith(prefix) and not is_hidden(name))

    def delete(self, key: str) -> None:
        """See `Storage.delete`; a folder that becomes empty goes too."""
        path = self._path(key)
        with file_errors("delete", path):
            path.unlink(missing_ok=True)
            if path.parent != self._root and path.parent.is_dir() and not any(path.parent.iterdir()):
                path.parent.rmdir()

    def sweep(self, prefix: str) -> None:
        """See `Storage.sweep`: half-written files older than `STALE_S`."""
        before = time.time() - STALE_S
        with file_errors("list", self._root / prefix):
            found = list(self._below(prefix))
        for path in found:
            whole = path.with_name(path.name.removeprefix(".")).relative_to(self._root).as_posix()
            if path.name.startswith(".") and path.name.endswith(PARTIAL) and whole.startswith(prefix):
                with suppress(OSError):  # its writer lives, or it is another's
                    if path.stat().st_mtime < before:
                        path.unlink()

    @contextmanager
    def claim(self, job: str, tell: Callable[[str], None]) -> Iterator[Claim]:  # noqa: ARG002 - nobody is waited for
        """See `Storage.claim`: a lock that the system gives back when its holder ends, however it ends."""
        path = self._root / ".lock"
        with file_errors("write", path):
            self._root.mkdir(parents=True, exist_ok=True)
            lock = path.open("w")
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as problem:
                raise InputError(
                    f"cannot write to the run at `{self.url}`: another process is training it",
                    hint="wait for it, or give another --name",
                ) from problem
            except OSError as problem:
                raise InputError(
                    f"cannot lock the run at `{self.url}`: {str(problem.strerror).lower()}",
                    hint="its file system keeps no locks, so a second writer would not be noticed; --output names another place",
                ) from problem
            yield _Locked()

    def _path(self, key: str) -> Path:
        parts = PurePosixPath(key)
        assert not parts.is_absolute(), key
        assert ".." not in parts.parts, key
        return self._root / parts

    def _below(self, prefix: str) -> Iterator[Path]:
        folder = self._root / prefix if prefix.endswith("/") else (self._root / prefix).parent if prefix else self._root
        return folder.rglob("*")


def _stat(stat: os.stat_result) -> Stat:
    """Every write makes a new file, so that its number changes even where the time is coarse."""
    modified = datetime.fromtimestamp(stat.st_mtime, timezone.utc)
    return Stat(stat.st_size, f"{stat.st_size}-{stat.st_mtime_ns}-{stat.st_ino}", modified)


def _linked(partial: Path, path: Path) -> bool:
    try:
        path.hardlink_to(partial)
    except FileExistsError:
        return partial.stat().st_nlink > 1  # over a network the answer can be lost, and the system then asks again
    return True


def _has_links(one: Path, other: Path) -> bool:
    try:
        other.hardlink_to(one)
    except OSError as problem:
        if problem.errno in _NO_LINKS:
            return False
        raise
    return True
