"""Lock on a cache folder while one process fills it; others wait."""

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from trainer.errors import InputError, TryAgainError
from trainer.storage.files import open_lock
from trainer.storage.waiting import SILENT, Waiting, wait_until


@contextmanager
def locked(folder: Path, waiting: Waiting = SILENT) -> Iterator[None]:
    """Hold the lock of `folder` for the block: runs that share a cache fill it one at a time.

    Raises: InputError when the cache cannot be written or locked; TryAgainError when another process holds it for too long.
    """
    path = folder.parent / f".{folder.name}.lock"
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = open_lock(path)
    except OSError as problem:
        reason = "it is a link" if problem.errno == errno.ELOOP else problem.strerror
        hint = "choose another --cache-dir"
        raise InputError(f"cannot write to `{path.parent}`: {reason}, at {path.name}", hint=hint) from problem
    with lock:
        _acquire(lock, folder, waiting)
        yield


def is_free(folder: Path) -> bool:
    """Whether no process of this node holds the lock of `folder`."""
    try:
        lock = open_lock(folder.parent / f".{folder.name}.lock")
    except OSError:
        return False
    with lock:
        return _try_lock(lock)


def _acquire(lock: BinaryIO, folder: Path, waiting: Waiting) -> None:
    try:
        wait_until(
            lambda: _try_lock(lock),
            waiting,
            line=lambda minutes: f"waiting: {_holder(lock)} is filling `{folder}` ({minutes:.0f} min)",
            too_long=lambda minutes: TryAgainError(
                f"cannot continue: {_holder(lock)} is filling `{folder}` and has not finished within {minutes:.0f} minutes",
                hint="stop that process if it hangs, or choose another --cache-dir",
            ),
        )
    except OSError as problem:
        raise InputError(
            f"cannot lock `{folder}`: {str(problem.strerror).lower()}",
            hint="its file system has no locks; choose another --cache-dir",
        ) from problem


def _try_lock(lock: BinaryIO) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _holder(lock: BinaryIO) -> str:
    """The process that holds a lock, if it runs on this node. Source: proc_locks(5)."""
    status = os.fstat(lock.fileno())
    device = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    with suppress(OSError):
        for line in Path("/proc/locks").read_text(encoding="ascii", errors="replace").splitlines():
            words = line.split()
            if len(words) > 5 and words[1] == "FLOCK" and words[5] == device and words[4].isdigit() and words[4] != "0":
                return f"process {words[4]}"
    return "another process"
