"""Errors that both programs raise on purpose, with hints and exit codes.

KnownError
├── InputError          2  usage or bad input; a retry fails the same way
├── JobFailedError      3  the job ran and failed
├── RemoteError         4  the cluster or the bucket refused, or can't be reached
├── TryAgainError      75  preempted, or a peer was lost
│   └── PeerLostError
├── TimeLimitError    124
├── InterruptedByUser 130
└── PeerError           exit code of the peer's error

Exit code 0 is success, 1 is a bug: any exception that is not a `KnownError`.
"""

from collections.abc import Iterable

from trainer.redaction import redacted

EXIT_CODES = {
    0: "done",
    1: "a bug in this program (run again with --debug for the traceback)",
    2: "usage or bad input",
    3: "the job failed",
    4: "the cluster or the bucket refused, or can't be reached",
    75: "try again: preempted, or a peer was lost",
    124: "time-out",
    130: "interrupted by Ctrl-C",
}
"""The only table of exit codes; `--help` of both programs and docs/faults.md show it."""

EXIT_CODE_HELP = "Exit codes: " + "; ".join(f"{code} {meaning}" for code, meaning in EXIT_CODES.items()) + "."

SHOWN_PROBLEMS = 12
"""Number of problems that a message lists before counting the rest: about a screenful."""


class KnownError(Exception):
    """What could not be done, with a hint and an exit code.

    Text: `<what could not be done>: <reason>, got <value> (<where it came from>)`, lower case, no full stop. Secrets
    are redacted, as values and messages of servers and libraries may contain some.
    """

    exit_code = 1

    is_a_consequence = False
    """Whether another worker's failure, or a signal, brought it about: it must not hide that failure."""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(as_block(redacted(message)))
        self.hint = hint

    def __str__(self) -> str:
        message = as_block(str(self.args[0]))
        return (
            f"error: {message}" if self.hint is None else f"error: {message}\n\nhint: {as_block(redacted(self.hint))}"
        )


class InputError(KnownError):
    """Usage or bad input."""

    exit_code = 2


class JobFailedError(KnownError):
    """The job ran and failed."""

    exit_code = 3


class RemoteError(KnownError):
    """The cluster or the bucket refused, or can't be reached."""

    exit_code = 4


class TryAgainError(KnownError):
    """Preempted, or a peer was lost: the same command continues from the newest checkpoint."""

    exit_code = 75


class PeerLostError(TryAgainError):
    """Another worker exited or no longer responds."""

    is_a_consequence = True


class TimeLimitError(KnownError):
    """A time limit set by the user has passed."""

    exit_code = 124


class PeerError(KnownError):
    """Another worker failed and reports why; this one exits with the same code, silently.

    `rank` is that worker, where known; `on_this_node` is whether it runs on this node.
    """

    is_a_consequence = True

    def __init__(self, exit_code: int, *, on_this_node: bool = True, rank: int | None = None) -> None:
        super().__init__("a peer failed")
        self.exit_code = exit_code
        self.on_this_node = on_this_node
        self.rank = rank


class InterruptedByUser(KnownError):  # noqa: N818 - not an error of the program
    """Ctrl-C."""

    exit_code = 130
    is_a_consequence = True


def on_one_line(text: str) -> str:
    """The text with unprintable characters, such as a line break, written as escapes.

    These are Unicode's control, format, surrogate, private and unassigned characters, and every separator but the
    space: they could move a terminal's cursor, start a line, or change the reading direction.
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def as_block(text: str) -> str:
    """The text on one line, followed by its indented lines, such as a `listing`.

    A line break not followed by two spaces is escaped, so foreign text cannot start a line.
    """
    return _INDENTED_LINE.join(map(on_one_line, text.split(_INDENTED_LINE)))


_INDENTED_LINE = "\n  "


def listing(problems: Iterable[str]) -> str:
    """Problems as one indented block; a long list is cut and counted."""
    lines = [on_one_line(problem) for problem in problems]
    shown = [f"\n  {line}" for line in lines[:SHOWN_PROBLEMS]]
    if len(lines) > SHOWN_PROBLEMS:
        shown.append(f"\n  … and {len(lines) - SHOWN_PROBLEMS} more")
    return "".join(shown)


def words(problem: BaseException) -> str:
    """The message of an error for the user; empty where a peer reports it."""
    if isinstance(problem, PeerError):
        return ""
    if isinstance(problem, KeyboardInterrupt):
        return "interrupted"
    if isinstance(problem, KnownError):
        return str(problem)
    text = on_one_line(redacted(f"{type(problem).__name__}: {problem}"))
    return f"error: bug: {text}\n\nhint: run again with --debug for the traceback"
