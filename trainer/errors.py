"""Every error raised on purpose, by both programs: what could not be done, a hint, and the exit code.

KnownError
├── InputError          2  usage or bad input; trying again changes nothing
├── JobFailedError      3  the job ran and failed
├── RemoteError         4  the cluster or the bucket refused or can't be reached
├── TryAgainError      75  preempted, or a peer was lost
│   └── PeerLostError
├── TimeLimitError    124
├── InterruptedByUser 130
└── PeerError           what the peer's error says

Exit code 0 is done, 1 is a bug: whatever is not a `KnownError`.
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
"""The one table of exit codes; `--help` of both programs and docs/faults.md show it."""

EXIT_CODE_HELP = "Exit codes: " + "; ".join(f"{code} {meaning}" for code, meaning in EXIT_CODES.items()) + "."

SHOWN_PROBLEMS = 12
"""How many problems of one file a message lists before it counts the rest: a screenful."""


class KnownError(Exception):
    """What could not be done, with a hint and an exit code.

    Text: `<what could not be done>: <reason>, got <value> (<where it came from>)`, lower case, no full stop. Secrets in it are
    left out: values and the words of servers and libraries may hold some.
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
    """Preempted, or a peer was lost: the same command goes on from the newest checkpoint."""

    exit_code = 75


class PeerLostError(TryAgainError):
    """Another worker is gone, or no longer answers."""

    is_a_consequence = True


class TimeLimitError(KnownError):
    """A time limit the user gave has passed."""

    exit_code = 124


class PeerError(KnownError):
    """Another worker failed and says why; this one leaves with the same exit code, silently.

    `rank` is that worker's, where known; `on_this_node` says whether its node is this one's too.
    """

    is_a_consequence = True

    def __init__(self, exit_code: int, *, on_this_node: bool = True, rank: int | None = None) -> None:
        super().__init__("a peer failed")
        self.exit_code = exit_code
        self.on_this_node = on_this_node
        self.rank = rank


class InterruptedByUser(KnownError):  # noqa: N818 - it is no error of the program
    """Ctrl-C."""

    exit_code = 130
    is_a_consequence = True


def on_one_line(text: str) -> str:
    """The text with what can't be seen in a message, such as a line break, written as an escape.

    That is what Unicode calls control, format, surrogate, private or unassigned, and every separator but the space: what moves a
    terminal's cursor, starts a line, or changes the direction of reading.
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def as_block(text: str) -> str:
    """The text on one line, and the indented lines below it that belong to it, such as a `listing`.

    A line break that is followed by anything but two spaces is written as an escape: no foreign text begins a line.
    """
    return _INDENTED_LINE.join(map(on_one_line, text.split(_INDENTED_LINE)))


_INDENTED_LINE = "\n  "


def listing(problems: Iterable[str]) -> str:
    """All problems of one thing as one indented block, long lists cut with a count."""
    lines = [on_one_line(problem) for problem in problems]
    shown = [f"\n  {line}" for line in lines[:SHOWN_PROBLEMS]]
    if len(lines) > SHOWN_PROBLEMS:
        shown.append(f"\n  … and {len(lines) - SHOWN_PROBLEMS} more")
    return "".join(shown)


def words(problem: BaseException) -> str:
    """What went wrong, as a user reads it; nothing where a peer says it."""
    if isinstance(problem, PeerError):
        return ""
    if isinstance(problem, KeyboardInterrupt):
        return "interrupted"
    if isinstance(problem, KnownError):
        return str(problem)
    text = on_one_line(redacted(f"{type(problem).__name__}: {problem}"))
    return f"error: bug: {text}\n\nhint: run again with --debug for the traceback"
