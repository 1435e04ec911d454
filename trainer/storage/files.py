"""Files that are whole or not there, and what is said when the system refuses one."""

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
"""How the names of files end that are being written; they start with `.`."""

_PARTIAL_NAME: Final = re.compile(rf"\.(.+)-[0-9a-f]{{32}}{re.escape(PARTIAL)}", re.DOTALL)

FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
"""How the system says that a disk, or the share of it that one may use, is full."""

STALE_S: Final = 3600.0
"""Age of a half-written file whose writer is taken for dead where the file system knows no locks."""

SETTLED_S: Final = 1.0
"""Age below which a half-written file is let be: its writer may be about to lock it, or to give it its name."""


def open_regular(path: Path) -> BinaryIO:
    """A file to read, through links too; pipes and devices are refused, as whoever opens one may wait for ever.

    Raises: OSError, with EINVAL for what is no regular file.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is no regular file", str(path))
    return os.fdopen(descriptor, "rb")


def open_lock(path: str | Path, *, folder: int | None = None) -> BinaryIO:
    """An empty file to lock, made where there is none; nothing of it is changed, and no link is followed.

    `folder` is an open folder to which the path is relative.

    Raises: OSError, with ELOOP for a link and EINVAL for what is no regular file.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    descriptor = os.open(path, flags, 0o666, dir_fd=folder)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is no regular file", str(path))
    return os.fdopen(descriptor, "r+b")


def partial_name(name: str) -> str:
    """A hidden name to write what is to become `name`, by nobody used before."""
    return f".{name}-{uuid.uuid4().hex}{PARTIAL}"


def whole_name(partial: str) -> str | None:
    """What a file of this name is to become; None of a name that `partial_name` does not give."""
    match = _PARTIAL_NAME.fullmatch(partial)
    return match[1] if match else None


@contextmanager
def beside(path: Path) -> Iterator[Path]:
    """A hidden name in the same folder to write to; what is left there at the end of the block is removed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(partial_name(path.name))
    try:
        yield partial
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A name beside `path` to write to, renamed to it when the block ends well and removed otherwise.

    A link at `path` is replaced, and what it points to stays as it is.
    """
    with beside(path) as partial:
        yield partial
        partial.replace(path)


def write_file(path: Path, content: bytes) -> None:
    """Write a file, which is whole or not there, in place of what has its name."""
    with replacing(path) as partial:
        write_flushed(partial, [content])


def open_new(path: str | Path, *, folder: int | None = None) -> BinaryIO:
    """A new file to write, locked as long as it is open: who finds it half-written can tell whether its writer lives.

    `folder` is an open folder to which the path is relative.

    Raises: OSError, FileExistsError for one that is there.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(path, flags, 0o666, dir_fd=folder)
    with suppress(OSError):  # a file system without locks
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return os.fdopen(descriptor, "wb")


def is_abandoned(path: str | Path, *, folder: int | None = None) -> bool:
    """Whether nobody writes this half-written file any more. `folder` is an open folder to which the path is relative.

    Raises: OSError.
    """
    flags = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    descriptor = os.open(path, flags, dir_fd=folder)
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:
            return time.time() - found.st_mtime > STALE_S
        return time.time() - found.st_mtime > SETTLED_S
    finally:
        os.close(descriptor)


def remove_abandoned(folder: Path, names: Collection[str] | None = None) -> None:
    """Remove what killed processes have half-written in this very folder: of the files of these names, or of any."""
    with suppress(OSError), os.scandir(folder) as found:
        for entry in found:
            whole = whole_name(entry.name)
            if whole is not None and (names is None or whole in names) and entry.is_file(follow_symlinks=False):
                with suppress(OSError):  # its writer is just done, or it is another user's
                    if is_abandoned(entry.path):
                        Path(entry.path).unlink()


def write_flushed(path: str | Path, chunks: Iterable[bytes], *, folder: int | None = None) -> None:
    """Write a new file, and wait until the disk has it. `folder` is an open folder to which the path is relative."""
    with open_new(path, folder=folder) as file:
        for chunk in chunks:
            file.write(chunk)
        file.flush()
        os.fsync(file.fileno())


def pieces(path: Path) -> Iterator[bytes]:
    """A file's bytes, a piece at a time. Raises: AbsentError; InputError when it can't be read."""
    with file_errors("read", path), open_regular(path) as file:
        while chunk := file.read(CHUNK_BYTES):
            yield chunk


@contextmanager
def file_errors(verb: str, path: Path, *, needs_bytes: int | None = None) -> Iterator[None]:
    """Turn what the system refuses in the block into errors of ours. `needs_bytes` is how much is to be written.

    Raises: AbsentError for a file to be read that is not there; FullError for a full disk; else InputError.
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
    return InputError(text, hint="check the directory, and who may read and write it")


def room(path: Path, needs_bytes: int | None = None) -> str:
    """What is needed for a file and what is free, as the end of a sentence; nothing where the system does not say."""
    there = next((folder for folder in path.absolute().parents if folder.is_dir()), None)
    try:
        system = os.statvfs(there or "/")
    except OSError:
        return ""
    needed = "" if needs_bytes is None else f"{in_words(needs_bytes + 1023)} needed, "
    return f"; {needed}{in_words(system.f_bavail * system.f_frsize)} free"
