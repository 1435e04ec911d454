"""The directory of a pull: names that stay in it, files that may be replaced, and a lock against other pulls."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from trainer.errors import InputError, TryAgainError, on_one_line
from trainer.storage.resumable import Item, Wording, write_errors
from trainer.storage.waiting import Waiting, wait_until

WORDING: Final = Wording(
    doing="pull",
    unwritable="--to DIRECTORY with write permission",
    removed="a running job removes old checkpoints: run the same command again for the current ones",
    damaged="no file was written; --step N selects another checkpoint",
)
"""Error messages of pulls."""


def check_replaceable(item: Item, *, is_pulled: bool) -> None:
    """Check that the target is absent or a file of a pull; `is_pulled` if this run was pulled to the directory before.

    Raises: InputError for a link, a folder or another special file, and for a file that was not written by a pull.
    """
    try:
        existing = item.target.lstat()
    except OSError:  # absent, or an error that the transfer will report
        return
    problem = None
    if not stat.S_ISREG(existing.st_mode):
        problem = "a link" if stat.S_ISLNK(existing.st_mode) else "not a regular file"
    elif not is_pulled:
        problem = "a file that was not written by a pull of this run"
    if problem:
        raise InputError(
            f"cannot pull `{item.key}`: `{item.target}` is {problem}",
            hint="move it away, or --to another DIRECTORY",
        )


def inside(root: Path, key: str) -> Path:
    """The path of an object below `root`. Raises: InputError for a name that leads out of it, or through a link."""
    parts = key.split("/")
    target = root.joinpath(*parts)
    named_well = key.isprintable() and "\\" not in key and not {"", ".", ".."} & set(parts)
    if not named_well or not target.parent.resolve().is_relative_to(root.resolve()):
        raise InputError(
            f"cannot pull `{on_one_line(key)}`: its name leads out of `{root}`",
            hint="nothing was written; check who writes to the run, or use another --to if a link is the cause",
        )
    for depth in range(1, len(parts)):
        folder = root.joinpath(*parts[:depth])
        if folder.is_symlink():
            raise InputError(f"cannot pull `{key}`: `{folder}` is a link", hint="--to another DIRECTORY")
    return target


@contextmanager
def only_one(directory: Path, waiting: Waiting) -> Iterator[None]:
    """Create and lock the directory against other pulls; waits for one that is running.

    Raises: TryAgainError when that takes too long.
    """
    with write_errors(directory, WORDING):
        directory.mkdir(parents=True, exist_ok=True)
        lock = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        _acquire(lock, directory, waiting)
        yield
    finally:
        os.close(lock)


def _acquire(lock: int, directory: Path, waiting: Waiting) -> None:
    import fcntl  # noqa: PLC0415 - absent on Windows, which can submit

    def is_locked() -> bool:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:
            waiting.report(f"{directory} does not support locks: do not run two pulls into it at the same time")
        return True

    wait_until(
        is_locked,
        waiting,
        line=lambda _: f"waiting for another pull into {directory}",
        too_long=lambda minutes: TryAgainError(
            f"cannot pull into `{directory}`: another pull into it has not finished within {minutes:.0f} minutes",
            hint="stop it if it hangs, or --to another DIRECTORY",
        ),
    )
