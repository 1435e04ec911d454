"""Where a run keeps its files: whole objects under keys, behind one small interface.

A write is all or nothing, whatever ends the process; keys are relative, `/`-separated names from `trainer.layout`.
"""

import errno
import os
import tempfile
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
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".", suffix=".partial", delete=False) as partial:
                try:
                    partial.write(content)
                    partial.flush()
                    os.fsync(partial.fileno())
                    Path(partial.name).replace(path)
                except BaseException:
                    Path(partial.name).unlink(missing_ok=True)
                    raise
        except OSError as problem:
            raise self._refused("write", key, problem) from problem

    def keys(self, prefix: str) -> list[str]:
        """See `Storage.keys`."""
        folder = self._root / prefix if prefix.endswith("/") else (self._root / prefix).parent
        found = (path for path in folder.rglob("*") if path.is_file() and not path.name.endswith(".partial"))
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

    def _path(self, key: str) -> Path:
        parts = PurePosixPath(key)
        assert not parts.is_absolute(), key
        assert ".." not in parts.parts, key
        return self._root / parts

    def _refused(self, verb: str, key: str, problem: OSError) -> KnownError:
        text = f"cannot {verb} `{self._path(key)}`: {problem.strerror}"
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
