"""Files that are whole or not there, and what is said when the system refuses one."""

import errno
import os
import stat
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

from trainer.errors import InputError, KnownError, TryAgainError
from trainer.storage.interface import CHUNK_BYTES, AbsentError

PARTIAL: Final = ".partial"
"""How the names of files end that are being written; they start with `.`."""


def open_regular(path: Path) -> BinaryIO:
    """A file to read, through links too; pipes and devices are refused, as whoever opens one may wait for ever.

    Raises: OSError, with EINVAL for what is no regular file.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is no regular file", str(path))
    return os.fdopen(descriptor, "rb")


def open_lock(path: Path) -> BinaryIO:
    """An empty file to lock, made where there is none; nothing of it is changed, and no link is followed.

    Raises: OSError, with ELOOP for a link and EINVAL for what is no regular file.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    descriptor = os.open(path, flags, 0o666)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is no regular file", str(path))
    return os.fdopen(descriptor, "r+b")


@contextmanager
def beside(path: Path) -> Iterator[Path]:
    """A hidden name in the same folder to write to; what is left there at the end of the block is removed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}-{uuid.uuid4().hex}{PARTIAL}")
    try:
        yield partial
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A name beside `path` to write to, renamed to it when the block ends well and removed otherwise."""
    with beside(path) as partial:
        yield partial
        partial.replace(path)


def write_flushed(path: Path, chunks: Iterable[bytes]) -> None:
    """Write a new file, and wait until the disk has it."""
    with path.open("xb") as file:
        for chunk in chunks:
            file.write(chunk)
        file.flush()
        os.fsync(file.fileno())


def pieces(path: Path) -> Iterator[bytes]:
    """A file's bytes, a piece at a time. Raises: AbsentError; InputError when it can't be read."""
    with file_errors("read", path), path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            yield chunk


@contextmanager
def file_errors(verb: str, path: Path) -> Iterator[None]:
    """Turn what the system refuses in the block into errors of ours.

    Raises: AbsentError for a file to be read that is not there; TryAgainError for a full disk; else InputError.
    """
    try:
        yield
    except OSError as problem:
        raise _file_error(verb, path, problem) from problem


def _file_error(verb: str, path: Path, problem: OSError) -> KnownError:
    if verb == "read" and isinstance(problem, FileNotFoundError):
        return AbsentError(f"cannot read `{path}`: no such file")
    text = f"cannot {verb} `{path}`: {str(problem.strerror or problem).lower()}"
    if problem.errno in {errno.ENOSPC, errno.EDQUOT}:
        return TryAgainError(text, hint="make room; the same command goes on from the newest checkpoint")
    return InputError(text, hint="check the directory, and who may read and write it")
