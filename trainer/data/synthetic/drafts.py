"""A directory that is written completely or not at all; drafts of killed processes are removed."""

import errno
import fcntl
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from trainer.errors import InputError


@contextmanager
def complete_or_nothing(out: Path, written: re.Pattern[str]) -> Iterator[Path]:
    """A directory to write to; its content is moved to `out` at the end, or removed on failure.

    `written` matches the paths of all files that are ever written, so that drafts of killed processes can be removed.
    """
    try:
        for folder in (out.parent, out):
            _remove_drafts(folder, out.name, written)
        exists = _is_empty(out)
        draft = (out if exists else out.parent) / f".{out.name}-{secrets.token_hex(4)}.partial"
        draft.mkdir(parents=True)
        try:
            with _locked(draft):
                yield draft
                _move_into_place(draft, out, into=exists)
        except BaseException:  # also Ctrl-C
            shutil.rmtree(draft, ignore_errors=True)
            raise
    except OSError as problem:
        raise InputError(
            f"cannot write to `{out}`: {problem.strerror or problem} (from `--out`)",
            hint="choose an --out that you may write to, on a disk with enough space",
        ) from problem


@contextmanager
def _locked(draft: Path) -> Iterator[None]:
    """Lock the folder for the block, as a sign that its writer lives. Raises: BlockingIOError when another process holds it."""
    descriptor = os.open(draft, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


def _remove_drafts(folder: Path, name: str, written: re.Pattern[str]) -> None:
    """Remove drafts of this data set that killed processes have left, unless they contain other files."""
    pattern = re.compile(rf"\.{re.escape(name)}-[0-9a-f]{{8}}\.partial")
    for draft in [path for path in _entries_of(folder) if pattern.fullmatch(path.name)]:
        with suppress(OSError), _locked(draft):  # otherwise it is a link, or its writer lives
            for place, _, files in os.walk(draft, topdown=False):  # links to folders are not followed
                for path in (Path(place) / file for file in files):
                    if written.fullmatch(path.relative_to(draft).as_posix()):
                        path.unlink()
                with suppress(OSError):  # not empty
                    Path(place).rmdir()


def _entries_of(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []


def _is_empty(out: Path) -> bool:
    """Whether `out` exists; if so, it must be an empty directory."""
    try:
        occupant = next(out.iterdir(), None)
    except FileNotFoundError:
        return False
    if occupant is not None:
        raise InputError(
            f"cannot write a data set: the directory must be new or empty, got `{out}` with `{occupant.name}` (from `--out`)",
            hint="choose another directory; nothing is overwritten",
        )
    return True


def _move_into_place(draft: Path, out: Path, *, into: bool) -> None:
    """Rename the draft; if `out` exists, which may be a mount or a current directory, move its entries."""
    if not into:
        draft.rename(out)
        return
    for entry in sorted(draft.iterdir()):
        if os.path.lexists(out / entry.name):
            raise FileExistsError(errno.EEXIST, f"`{entry.name}` was created meanwhile")
        entry.rename(out / entry.name)
    draft.rmdir()
