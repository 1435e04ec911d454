"""Atomic writes of files, and error messages for failed file operations."""

import errno
import fcntl
import os
import re
import stat
import time
import uuid
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Final

from trainer.errors import InputError, KnownError
from trainer.limits import in_words
from trainer.storage.interface import CHUNK_BYTES, AbsentError, FullError

PARTIAL: Final = ".partial"
"""Suffix of files that are being written; their names start with `.`."""

_PARTIAL_NAME: Final = re.compile(rf"\.(.+)-[0-9a-f]{{32}}{re.escape(PARTIAL)}", re.DOTALL)

FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
"""Error numbers of a full disk or an exhausted quota."""

STALE_S: Final = 3600.0
"""Age at which a partial file counts as abandoned on a file system without locks."""

SETTLED_S: Final = 1.0
"""Partial files younger than this are kept: the writer may be about to lock or rename its file."""


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file for reading, following links; pipes and devices are refused, as opening or reading one may block.

    Raises: OSError, with EINVAL for anything but a regular file.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is not a regular file", str(path))
    return os.fdopen(descriptor, "rb")


def open_lock(path: str | Path, *, folder: int | None = None) -> BinaryIO:
    """Open an empty file to lock, created if missing. Its content is not changed, and links are not followed.

    `folder` is an open folder to which the path is relative.

    Raises: OSError, with ELOOP for a link and EINVAL for anything else but a regular file.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    descriptor = os.open(path, flags, 0o666, dir_fd=folder)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is not a regular file", str(path))
    return os.fdopen(descriptor, "r+b")


def partial_name(name: str) -> str:
    """A hidden, unique name to write to before the rename to `name`."""
    return f".{name}-{uuid.uuid4().hex}{PARTIAL}"


def whole_name(partial: str) -> str | None:
    """The final name of a partial file; None for a name that `partial_name` does not make."""
    match = _PARTIAL_NAME.fullmatch(partial)
    return match[1] if match else None


@contextmanager
def beside(path: Path) -> Iterator[Path]:
    """A hidden name in the same folder to write to; a file left there at the end of the block is removed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(partial_name(path.name))
    try:
        yield partial
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A name beside `path` to write to, renamed to it when the block succeeds and removed otherwise.

    A link at `path` is replaced; its target stays unchanged.
    """
    with beside(path) as partial:
        yield partial
        partial.replace(path)


def write_file(path: Path, content: bytes) -> None:
    """Write a file atomically, replacing any file of that name."""
    with replacing(path) as partial:
        write_flushed(partial, [content])


def open_new(path: str | Path, *, folder: int | None = None) -> BinaryIO:
    """Open a new file for writing, locked while it is open, so that others can detect whether its writer lives.

    `folder` is an open folder to which the path is relative.

    Raises: OSError, FileExistsError for an existing file.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(path, flags, 0o666, dir_fd=folder)
    with suppress(OSError):  # a file system without locks
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return os.fdopen(descriptor, "wb")


def is_abandoned(path: str | Path, *, folder: int | None = None) -> bool:
    """Whether the writer of this partial file is gone. `folder` is an open folder to which the path is relative.

    Raises: OSError.
    """
    flags = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    descriptor = os.open(path, flags, dir_fd=folder)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:
            return time.time() - status.st_mtime > STALE_S
        return time.time() - status.st_mtime > SETTLED_S
    finally:
        os.close(descriptor)


def remove_abandoned(folder: Path, names: Collection[str] | None = None) -> None:
    """Remove partial files of killed processes directly in this folder, of these final names or of any."""
    with suppress(OSError), os.scandir(folder) as listing:
        for entry in listing:
            final_name = whole_name(entry.name)
            if (
                final_name is not None
                and (names is None or final_name in names)
                and entry.is_file(follow_symlinks=False)
            ):
                with suppress(OSError):  # its writer has just finished, or it is another user's file
                    if is_abandoned(entry.path):
                        Path(entry.path).unlink()


def write_flushed(path: str | Path, chunks: Iterable[bytes], *, folder: int | None = None) -> None:
    """Write a new file and fsync it. `folder` is an open folder to which the path is relative."""
    with open_new(path, folder=folder) as file:
        for chunk in chunks:
            file.write(chunk)
        file.flush()
        os.fsync(file.fileno())


def pieces(path: Path) -> Iterator[bytes]:
    """A file's bytes, chunk by chunk. Raises: AbsentError; InputError when it cannot be read."""
    with file_errors("read", path), open_regular(path) as file:
        while chunk := file.read(CHUNK_BYTES):
            yield chunk


@contextmanager
def file_errors(verb: str, path: Path, *, needs_bytes: int | None = None) -> Iterator[None]:
    """Turn OSErrors of the block into the trainer's errors. `needs_bytes` is the size to be written.

    Raises: AbsentError for a missing file to read; FullError for a full disk; otherwise InputError.
    """
    try:
        yield
    except OSError as problem:
        raise _file_error(verb, path, problem, needs_bytes) from problem


def _file_error(verb: str, path: Path, problem: OSError, needs_bytes: int | None) -> KnownError:
    if verb == "read" and isinstance(problem, FileNotFoundError):
        return AbsentError(f"cannot read `{path}`: no such file")
    text = f"cannot {verb} `{path}`: {str(problem.strerror or problem).lower()}"
    if problem.errno in FULL:
        return FullError(f"{text}{room(path, needs_bytes)}", hint="make room, then run the same command again")
    return InputError(text, hint="check that the directory exists and its permissions")


def room(path: Path, needs_bytes: int | None = None) -> str:
    """Needed and free space as the end of a sentence; empty where the system does not report it."""
    existing = next((folder for folder in path.absolute().parents if folder.is_dir()), None)
    try:
        system = os.statvfs(existing or "/")
    except OSError:
        return ""
    needed = "" if needs_bytes is None else f"{in_words(needs_bytes + 1023)} needed, "
    return f"; {needed}{in_words(system.f_bavail * system.f_frsize)} free"
