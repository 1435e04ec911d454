"""Ends child processes with the process that started them, even when that is killed and cannot run any code.

The parent keeps a pipe open and passes the reading end on. When the parent is gone, the kernel closes the pipe and the
readers see its end; this works through any command in between. torchrun passes no descriptors to its workers, but they
are its direct children: each asks the kernel to be killed with its parent.
"""

import ctypes
import os
import signal
import stat
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Final

LIFELINE: Final = "TRAINER_LIFELINE"
"""Environment variable with the number of the descriptor to read from."""

PARENT: Final = "TRAINER_PARENT"
"""Environment variable with the process ID of the parent that a worker ends with."""

_PR_SET_PDEATHSIG: Final = 1
"""Source: linux/prctl.h. Other systems lack this call; there a worker ends when it next waits for its peers."""


@contextmanager
def held() -> Iterator[int]:
    """The descriptor to pass to processes that end with this one; the pipe is closed after the block."""
    reader, writer = os.pipe()
    try:
        yield reader
    finally:
        os.close(writer)
        os.close(reader)


def taken() -> int | None:
    """The descriptor that the parent passed, None without one. Child processes do not inherit it."""
    given = os.environ.pop(LIFELINE, "")
    if not given.isdigit():
        return None
    with suppress(OSError, OverflowError):  # closed by a process in between
        if stat.S_ISFIFO(os.fstat(int(given)).st_mode):
            os.set_inheritable(int(given), False)  # noqa: FBT003 - takes no keyword
            return int(given)
    return None


def handed_on(descriptor: int) -> None:
    """Pass the descriptor on to the program that replaces this process by exec."""
    os.set_inheritable(descriptor, True)  # noqa: FBT003 - takes no keyword
    os.environ[LIFELINE] = str(descriptor)


def watch(descriptor: int, at_end: Callable[[], object]) -> None:
    """Call `at_end` in a thread when the parent is gone."""

    def wait() -> None:
        while os.read(descriptor, 64):
            pass
        at_end()

    threading.Thread(target=wait, name="lifeline", daemon=True).start()


def end_with_parent() -> None:
    """Have the kernel kill this process when the parent named by `PARENT` ends; at once if it already has."""
    given = os.environ.pop(PARENT, "")
    if not given.isdigit() or not sys.platform.startswith("linux"):
        return
    if os.getppid() == int(given):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != int(given) and not _lives(int(given)):  # it may have ended before prctl
        os.kill(os.getpid(), signal.SIGKILL)


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # another user's process
        return True
    return True
