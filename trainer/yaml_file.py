"""Read YAML files that users name (settings, overlays, kubeconfigs, model cards) in bounded memory."""

import errno
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Final

from trainer.errors import on_one_line
from trainer.limits import YAML_BYTES, LimitError, read_at_most

if TYPE_CHECKING:
    import yaml

_OPEN_ALREADY: Final = ("/dev/fd/", "/dev/stdin", "/proc/self/fd/")
"""Paths of a shell's `<(…)` and of a pipe into this program."""


def read(path: Path) -> str:
    """The text of a file, or the output of another program: `-f <(…)`, `-f /dev/stdin`.

    Raises: OSError, with EINVAL for a named pipe, which may never have a writer; LimitError; UnicodeDecodeError.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        if stat.S_ISFIFO(os.fstat(descriptor).st_mode) and not str(path).startswith(_OPEN_ALREADY):
            raise OSError(errno.EINVAL, "it is a pipe", str(path))
        os.set_blocking(descriptor, True)
        return read_at_most(file, YAML_BYTES).decode()


def why_invalid(problem: "ValueError | yaml.YAMLError") -> str:
    """Reason why a text is not YAML, as the end of a sentence: without its line, which may contain a secret."""
    mark = getattr(problem, "problem_mark", None)
    reason = on_one_line(str(getattr(problem, "problem", None) or "it is not YAML"))
    return reason if mark is None else f"{reason} in line {mark.line + 1}, column {mark.column + 1}"


def why_unread(problem: OSError | ValueError) -> str:
    """Reason of a failed `read`, as the end of a sentence."""
    if isinstance(problem, OSError):
        return str(problem.strerror)
    return str(problem) if isinstance(problem, LimitError) else "it is not UTF-8 text"
