"""Processes that end with the one that started them, however that one ends: nothing of its own runs in a process that is killed.

Who starts processes keeps a pipe open and hands them its reading end; the system closes the pipe when the starter is gone, and
they read its end. That works through any command in between. A worker of torchrun gets no descriptors, but is torchrun's own child:
it asks the system to be killed with its parent.
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
"""Variable with the number of the descriptor to read from."""

PARENT: Final = "TRAINER_PARENT"
"""Variable with the process id of the parent that a worker is to end with."""

_PR_SET_PDEATHSIG: Final = 1
"""Source: linux/prctl.h. Other systems have no such call, and a worker there ends when it next waits for its peers."""


@contextmanager
def held() -> Iterator[int]:
    """The descriptor to hand to processes that are to end with this one; after the block it reads as ended."""
    reader, writer = os.pipe()
    try:
        yield reader
    finally:
        os.close(writer)
        os.close(reader)


def taken() -> int | None:
    """The descriptor that the starter has handed over, None where it has not. What this process starts does not see it."""
    given = os.environ.pop(LIFELINE, "")
    if not given.isdigit():
        return None
    with suppress(OSError, OverflowError):  # the number of a file that a process in between has closed
        if stat.S_ISFIFO(os.fstat(int(given)).st_mode):
            os.set_inheritable(int(given), False)  # noqa: FBT003 - takes no keyword
            return int(given)
    return None


def handed_on(descriptor: int) -> None:
    """Let the program that takes this process's place, by exec, find the descriptor."""
    os.set_inheritable(descriptor, True)  # noqa: FBT003 - takes no keyword
    os.environ[LIFELINE] = str(descriptor)


def watch(descriptor: int, at_end: Callable[[], object]) -> None:
    """Call `at_end`, in a thread, once the starter is gone."""

    def wait() -> None:
        while os.read(descriptor, 64):
            pass
        at_end()

    threading.Thread(target=wait, name="lifeline", daemon=True).start()


def end_with_parent() -> None:
    """Have this process killed when the parent that `PARENT` names ends; at once where that has ended already."""
    given = os.environ.pop(PARENT, "")
    if not given.isdigit() or not sys.platform.startswith("linux"):
        return
    if os.getppid() == int(given):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != int(given) and not _lives(int(given)):  # it may have ended before the call
        os.kill(os.getpid(), signal.SIGKILL)


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # another user's
        return True
    return True
