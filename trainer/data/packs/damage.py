"""Errors of a pack that differs from what was written."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from trainer.errors import InputError, TryAgainError

_DAMAGE: Final = frozenset(
    {
        errno.ENOENT,
        errno.ENOTDIR,
        errno.EISDIR,
        errno.EINVAL,
        errno.ELOOP,
        errno.EIO,
        errno.EBADMSG,
        getattr(errno, "EUCLEAN", errno.EIO),
    }
)
"""Error numbers for a file that is gone, is not a file, or cannot be read from its disk. Other errors may be
temporary, and no pack is rebuilt for them.
"""


class DamagedPackError(ValueError):
    """A pack that differs from what was written; the text follows `the pack at … is damaged: `."""


@contextmanager
def named_damage(folder: Path) -> Iterator[None]:
    """Treat a missing or physically unreadable file as damage.

    Raises: DamagedPackError; InputError without permission to read; TryAgainError for errors unrelated to the pack,
    such as a limit on open files.
    """
    try:
        yield
    except PermissionError as problem:
        raise InputError(
            f"cannot read the pack at `{folder}`: permission denied", hint="choose another --cache-dir"
        ) from problem
    except OSError as problem:
        name = Path(str(problem.filename)).name if problem.filename else "one of its files"
        reason = f"{name}: {str(problem.strerror).lower()}"
        if problem.errno in _DAMAGE:
            raise DamagedPackError(reason) from problem
        raise TryAgainError(
            f"cannot read the pack at `{folder}`: {reason}", hint="choose another --cache-dir"
        ) from problem
