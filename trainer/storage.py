"""Where a run keeps its files: whole objects under keys, behind one small interface.

A write is all or nothing, whatever ends the process; keys are relative, `/`-separated names from `trainer.layout`.
"""

import errno
import fcntl
import os
import uuid
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path, PurePosixPath
from typing import Protocol

from trainer.errors import InputError, KnownError, TryAgainError


class AbsentError(KnownError):
    """There is no such object."""

    exit_code = 2


class Storage(Protocol):
    """Objects under one prefix."""

    url: str
    """The prefix, as the user wrote it."""

    def read(self, key: str) -> bytes:
        """The object's bytes. Raises: AbsentError; InputError when it may not be read."""
        ...

    def write(self, key: str, content: bytes) -> None:
        """Put the whole object in place of what was there. Raises: InputError, TryAgainError (disk full)."""
        ...

    def keys(self, prefix: str) -> list[str]:
        """Names that start with `prefix`, sorted; nothing half-written is among them."""
        ...

    def delete(self, key: str) -> None:
        """Remove the object; absent is fine."""
        ...

    def claim(self) -> AbstractContextManager[None]:
        """Be the only writer here for the block. Raises: InputError when another is, or nobody may write."""
        ...


class LocalStorage:
    """Storage in a directory; objects are files."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._root = Path(url)

    def read(self, key: str) -> bytes:
        """See `Storage.read`."""
        try:
            return self._path(key).read_bytes()
        except FileNotFoundError as problem:
            raise AbsentError(f"cannot read `{self._path(key)}`: no such file") from problem
        except OSError as problem:
            raise self._refused("read", key, problem) from problem

    def write(self, key: str, content: bytes) -> None:
        """See `Storage.write`: a file beside the target, flushed to disk, then renamed over it."""
        path = self._path(key)
        partial = path.with_name(f".{path.name}-{uuid.uuid4().hex}.partial")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                with partial.open("xb") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
                partial.replace(path)
            except BaseException:
                partial.unlink(missing_ok=True)
                raise
        except OSError as problem:
            raise self._refused("write", key, problem) from problem

    def keys(self, prefix: str) -> list[str]:
        """See `Storage.keys`."""
        folder = self._root / prefix if prefix.endswith("/") else (self._root / prefix).parent
        found = (path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
        names = (path.relative_to(self._root).as_posix() for path in found)
        return sorted(name for name in names if name.startswith(prefix))

    def delete(self, key: str) -> None:
        """See `Storage.delete`; a folder that becomes empty goes too."""
        path = self._path(key)
        try:
            path.unlink(missing_ok=True)
            if path.parent != self._root and path.parent.is_dir() and not any(path.parent.iterdir()):
                path.parent.rmdir()
        except OSError as problem:
            raise self._refused("delete", key, problem) from problem

    @contextmanager
    def claim(self) -> Iterator[None]:
        """See `Storage.claim`: a lock that the system gives back when its holder ends, however it ends."""
        try:
            self._root.mkdir(parents=True, exist_ok=True)
            lock = (self._root / ".lock").open("w")
        except OSError as problem:
            raise self._refused("write", ".lock", problem) from problem
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as problem:
                raise InputError(
                    f"cannot write to the run at `{self.url}`: another process is training it",
                    hint="wait for it, or give another --name",
                ) from problem
            yield

    def _path(self, key: str) -> Path:
        parts = PurePosixPath(key)
        assert not parts.is_absolute(), key
        assert ".." not in parts.parts, key
        return self._root / parts

    def _refused(self, verb: str, key: str, problem: OSError) -> KnownError:
        text = f"cannot {verb} `{self._path(key)}`: {str(problem.strerror).lower()}"
        if problem.errno in {errno.ENOSPC, errno.EDQUOT}:
            return TryAgainError(text, hint="make room; the same command goes on from the newest checkpoint")
        return InputError(text, hint="check the directory given with --output, and who may write to it")


def open_storage(url: str) -> Storage:
    """The storage at `url`, a directory.

    Raises: InputError for what this version cannot keep runs in.
    """
    scheme, separator, _ = url.partition("://")
    if separator:
        raise InputError(
            f"cannot keep runs in `{url}`: `{scheme}://` is not supported yet (from `--output`)",
            hint="give a directory",
        )
    return LocalStorage(url)
