"""The cause of a worker's or a pod's failure, as one line in the pod's status.

`failed: rank 3 at step 1200: ERROR; hint: HINT` is a failure of the worker itself. `stopped: …` is the consequence of another
failure, as in a worker that lost a peer, or of a signal. A worker writes its line next to its failure report, and the entrypoint
writes one of them as the container's termination message, which `kubectl describe pod` and the launcher show without the right to
read logs.

When a container has no message, the kubelet uses the last lines of its log. No line of a log begins with these words.
"""

import os
import re
import signal
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from trainer.errors import PeerError, on_one_line, words
from trainer.redaction import redacted

LINE_BYTES: Final = 4096
"""Longest line. Source: MaxContainerTerminationMessageLength in kubernetes/pkg/kubelet/container; the kubelet keeps the end of more."""

HINT_BYTES: Final = 1024

_HINT: Final = "; hint: "
_LINE: Final = re.compile(
    rf"(?P<how>failed|stopped): (?:rank (?P<rank>\d{{1,9}})(?: at step (?P<step>\d{{1,18}}))?: )?(?P<error>.+?)(?:{_HINT}(?P<hint>.+))?"
)
_NAMES_STEP: Final = re.compile(r"\bstep \d")

KILLED_BY: Final = "killed by "
KILLED: Final = f"{KILLED_BY}SIGKILL"
OUT_OF_MEMORY: Final = f"{KILLED}, out of memory"
PROBABLY_OUT_OF_MEMORY: Final = f"{KILLED}, probably out of memory"

_MORE_MEMORY: Final = "give the pod more memory, or use fewer workers or a smaller --batch-size; /dev/shm counts too"

OOM_COUNTERS: Final = (Path("/sys/fs/cgroup/memory.events"), Path("/sys/fs/cgroup/memory/memory.oom_control"))
"""Files with a line `oom_kill N`: of cgroup v2, and of v1. Source: Documentation/admin-guide in the kernel, cgroup-v2.rst and cgroup-v1/memory.rst."""


@dataclass(frozen=True, kw_only=True)
class FailureCause:
    """Cause of a worker's or a pod's failure."""

    error: str
    hint: str = ""
    rank: int | None = None
    step: int | None = None
    """Training step at the failure; None when unknown."""

    is_a_consequence: bool = False
    """Whether the cause is another failure, or a signal."""

    @property
    def line(self) -> str:
        """One printable line without secrets, at most `LINE_BYTES` of UTF-8."""
        how = "stopped" if self.is_a_consequence else "failed"
        step = "" if self.step is None or _NAMES_STEP.search(self.error) else f" at step {self.step}"
        head = f"{how}: " + ("" if self.rank is None else f"rank {self.rank}{step}: ")
        advice = _cut(_clean(self.hint), HINT_BYTES)
        hint = f"{_HINT}{advice}" if advice else ""
        room = LINE_BYTES - len(f"{head}{hint}".encode())
        return f"{head}{_cut(_clean(self.error) or 'no reason given', room)}{hint}"


def _clean(text: str) -> str:
    """The text on one line, without the separator before the hint: text from elsewhere must not look like a hint."""
    joined = text.strip().replace(":\n  ", ": ").replace("\n  ", "; ")
    return on_one_line(redacted(joined)).replace(_HINT, ", hint: ")


def _cut(text: str, most: int) -> str:
    """The text, cut to this many bytes of UTF-8."""
    content = text.encode()
    if len(content) <= most:
        return text
    return content[: most - len("…".encode())].decode(errors="ignore") + "…"


def parse_line(text: str) -> FailureCause | None:
    """The cause that a line states; None for any other text, such as the last lines of a log."""
    found = _LINE.fullmatch(text.strip())
    if found is None:
        return None
    rank, step = (None if found[name] is None else int(found[name]) for name in ("rank", "step"))
    return FailureCause(
        error=found["error"],
        hint=found["hint"] or "",
        rank=rank,
        step=step,
        is_a_consequence=found["how"] == "stopped",
    )


def of_exception(problem: BaseException) -> FailureCause:
    """The message of an exception, without its traceback."""
    if isinstance(problem, PeerError):
        who = "another worker" if problem.rank is None else f"rank {problem.rank}"
        where = "" if problem.on_this_node else ", in another pod"
        return FailureCause(error=f"{who} failed first{where}", is_a_consequence=True)
    error, _, hint = words(problem).removeprefix("error: ").partition("\n\nhint: ")
    is_a_consequence = getattr(problem, "is_a_consequence", isinstance(problem, KeyboardInterrupt))
    return FailureCause(error=error, hint=hint, is_a_consequence=is_a_consequence)


def of_signal(number: int, *, rank: int, new_oom_kills: int | None) -> FailureCause | None:
    """The cause when a signal ended a worker, as far as it is known without the log."""
    if number == signal.SIGBUS:
        error = f"{KILLED_BY}SIGBUS, a bus error: /dev/shm is probably full"
        return FailureCause(error=error, hint="increase /dev/shm, and the pod's memory for it", rank=rank)
    if number != signal.SIGKILL:
        return None
    if new_oom_kills is None:
        return FailureCause(error=PROBABLY_OUT_OF_MEMORY, hint=_MORE_MEMORY, rank=rank)
    if new_oom_kills > 0:
        error = f"{OUT_OF_MEMORY} (oom_kill of the container's cgroup grew by {new_oom_kills})"
        return FailureCause(error=error, hint=_MORE_MEMORY, rank=rank)
    return FailureCause(
        error=f"{KILLED}, but not for lack of memory (oom_kill of the container's cgroup did not grow)",
        hint="find out what sends signals to processes of the container",
        rank=rank,
    )


def oom_kills(counters: tuple[Path, ...] = OOM_COUNTERS) -> int | None:
    """Number of processes of this container that the kernel killed because memory ran out; None when the kernel does not
    report it.
    """
    for path in counters:
        with suppress(OSError, ValueError):
            for line in path.read_text(encoding="ascii").splitlines():
                name, _, count = line.partition(" ")
                if name == "oom_kill":
                    return int(count)
    return None


def reserve(path: Path) -> None:
    """Create the file for a worker's line, blank: a full disk is one of the errors to be reported."""
    with suppress(OSError), _opened(path, os.O_WRONLY | os.O_CREAT) as descriptor:
        os.pwrite(descriptor, b" " * LINE_BYTES, 0)


def leave(path: Path, cause: FailureCause) -> None:
    """Write a worker's line for the entrypoint of its pod."""
    with suppress(OSError), _opened(path, os.O_WRONLY | os.O_CREAT) as descriptor:
        os.pwrite(descriptor, cause.line.encode().ljust(LINE_BYTES), 0)


def left(paths: Iterator[Path]) -> list[FailureCause]:
    """The causes that workers wrote, in order of time."""
    found: list[tuple[int, FailureCause]] = []
    for path in paths:
        with suppress(OSError, ValueError):
            cause = parse_line(path.read_text(encoding="utf-8"))
            if cause is not None:
                found.append((path.stat().st_mtime_ns, cause))
    return [cause for _, cause in sorted(found, key=lambda entry: entry[0])]


def write_message(path: Path | None, cause: FailureCause | None) -> None:
    """Replace a container's termination message, or empty it with None; only in a regular file that the kubelet created."""
    if path is None:
        return
    with suppress(OSError), _opened(path, os.O_WRONLY | os.O_NONBLOCK) as descriptor:
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.ftruncate(descriptor, 0)
            os.write(descriptor, cause.line.encode() if cause else b"")


@contextmanager
def _opened(path: Path, flags: int) -> Iterator[int]:
    """The open file, never through a link: others may write to the folder."""
    descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
