"""Lines of container logs: parse, deduplicate and format them; pure."""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Annotated, Final, Literal

from cyclopts import Parameter

from trainer.config import parse_duration
from trainer.errors import InputError, on_one_line
from trainer.screen import visible

Form = Literal["text", "raw", "json"]

SECOND: Final = 1_000_000_000
"""One second in nanoseconds."""

KEEP_S: Final = 30
"""Overlap in seconds of a new stream with the lines that were already read.

`sinceTime` has whole seconds, lines of stdout and stderr may be slightly out of order, and a container's restart becomes
known only seconds later: see `launcher.logs.pod_stream`.
"""

REMEMBERED_CHARS: Final = 256
"""Characters of a line that are kept to recognise it; for a longer line its hash is kept too."""

_STAMP: Final = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d) ?")
"""RFC 3339 with up to nanoseconds. Source: Kubernetes' kubelet writes nine digits and the node's own offset."""

_COLOUR: Final = r"(?:\x1b\[[0-9;]*m)*"
_COLOURS: Final = re.compile(r"\x1b\[[0-9;]*m")

_RANK: Final = re.compile(rf"{_COLOUR}\[rank (\d+)\]{_COLOUR} ?")
"""Prefix of the trainer's lines. Source: trainer/runtime/console.py."""

_RANGE: Final = re.compile(r"(\d+)(?:-(\d+))?")

_CODES: Final = (36, 35, 32, 33, 34, 31, 96, 95)
"""Colours of ranks and pods in turn: cyan, magenta, green, … Source: ECMA-48, SGR."""


@dataclass(frozen=True)
class Stamped:
    """One line from the server; `time_ns` since 1970 is None for a message of the kubelet in place of a log."""

    time_ns: int | None
    stamp: str
    text: str


@dataclass(frozen=True)
class Line:
    """One line of a job's log."""

    time_ns: int
    stamp: str
    """Time of the node's clock, RFC 3339 with nanoseconds."""

    pod: str
    """Short name of the pod, such as `worker-1`."""

    text: str
    """Text as written, including the trainer's `[rank N] `."""

    @property
    def rank(self) -> int | None:
        """Rank of the worker; None for other lines, such as those of torchrun or a traceback."""
        match = _RANK.match(self.text.lstrip("\r"))
        return int(match[1]) if match else None


@dataclass(frozen=True)
class Ranks:
    """A set of ranks, such as `0,3-5`."""

    parts: tuple[range, ...]

    def __contains__(self, rank: int | None) -> bool:
        return any(rank in part for part in self.parts)

    @classmethod
    def parse(cls, text: str) -> "Ranks":
        """Parse comma-separated numbers and ranges. Raises: InputError."""
        parts = []
        for word in text.split(","):
            match = _RANGE.fullmatch(word.strip())
            first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
            if first > last:
                raise InputError(
                    f"cannot use `{on_one_line(text)}` as ranks: they must be numbers and ranges (from `--ranks`)",
                    hint="--ranks 0,3-5",
                )
            parts.append(range(first, last + 1))
        return cls(tuple(parts))


@dataclass(frozen=True, kw_only=True)
class LogOptions:
    """Selection and format of log lines."""

    follow: Annotated[bool, Parameter(name=("--follow", "-f"), negative=(), show_default=False)] = False
    """Stream the logs until the job has finished. Ctrl-C stops the command; the job continues."""

    ranks: Annotated[str | None, Parameter(show_default=False)] = None
    """Print only lines of these ranks, such as 0,3-5; lines without a rank are omitted."""

    tail: Annotated[int | None, Parameter(show_default=False)] = None
    """Number of recent lines of each pod to print; logs of pods that start later are printed in full."""

    since: Annotated[str | None, Parameter(show_default=False)] = None
    """Print only lines newer than this duration, such as 10m, by the API server's clock."""

    previous: Annotated[bool, Parameter(name=("--previous", "-p"), negative=(), show_default=False)] = False
    """Print the logs of the previous container of each pod."""

    timestamps: Annotated[bool, Parameter(negative=(), show_default=False)] = False
    """Print the timestamp of each line."""

    form: Annotated[Form, Parameter(name="-o")] = "text"
    """Output format: `raw` omits the names of pods; `json` prints one object per line with time, pod, rank and text."""

    def __post_init__(self) -> None:
        if self.tail is not None and self.tail < 0:
            raise InputError(
                f"cannot print the last lines of a log: the number must be at least 0, got {self.tail} (from `--tail`)"
            )
        if self.previous and self.follow:
            raise InputError(
                "cannot follow a previous container: it has ended (from `--previous` and `--follow`)",
                hint="omit one of them",
            )
        _ = self.wanted_ranks, self.since_s

    @property
    def wanted_ranks(self) -> Ranks | None:
        """Ranks to print; None for all lines."""
        return None if self.ranks is None else Ranks.parse(self.ranks)

    @property
    def since_s(self) -> int | None:
        """`since` in seconds."""
        return None if self.since is None else parse_duration(self.since, "--since")


def stamped(raw: bytes) -> Stamped:
    """Parse a line of a log with timestamps; bytes that are not UTF-8 are replaced."""
    text = raw.decode(errors="replace").removesuffix("\n").removesuffix("\r")
    match = _STAMP.match(text)
    if not match:
        return Stamped(None, "", text)
    offset = "+00:00" if match[3] == "Z" else match[3]
    try:
        seconds = int(datetime.fromisoformat(match[1] + offset).timestamp())
    except (ValueError, OverflowError):  # the 45th of a month
        return Stamped(None, "", text)
    return Stamped(seconds * SECOND + int((match[2] or "0").ljust(9, "0")), match[0].rstrip(), text[match.end() :])


def whole_second(time_ns: int) -> str:
    """The time rounded down to a second, in the format of `sinceTime`."""
    return datetime.fromtimestamp(time_ns // SECOND, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


class Memory:
    """Recent lines of one pod, which a new stream from `since_ns` may send again."""

    def __init__(self, floor_ns: int | None = None) -> None:
        self._lines: list[tuple[int, str]] = []
        self._floor_ns = floor_ns

    @property
    def is_empty(self) -> bool:
        """Whether no line was read yet."""
        return not self._lines

    @property
    def since_ns(self) -> int | None:
        """Start of a new stream that loses no line; None is the beginning of the log."""
        if not self._lines:
            return self._floor_ns
        return max(self._lines[-1][0] - KEEP_S * SECOND, self._floor_ns or 0)

    def drop_earlier(self) -> None:
        """Ignore lines older than those that were read."""
        self._floor_ns = min((time_ns for time_ns, _ in self._lines), default=self._floor_ns)

    def unseen(self, stream: Iterable[Stamped]) -> Iterator[Stamped]:
        """The new lines of a stream; they are remembered.

        Lines are compared by time and text, and counted: a program may write the same text twice.
        """
        repeated = Counter(self._lines)
        for line in stream:
            if line.time_ns is None:
                yield line
                continue
            key = (line.time_ns, _short(line.text))
            if repeated[key]:
                repeated[key] -= 1
            elif self._floor_ns is None or line.time_ns >= self._floor_ns:
                self._add(*key)
                yield line

    def _add(self, time_ns: int, text: str) -> None:
        self._lines.append((time_ns, text))
        # Twice the overlap, for clocks that are set back; trimmed in steps, because each trim copies the list.
        if self._lines[0][0] < time_ns - 3 * KEEP_S * SECOND:
            self._lines = [line for line in self._lines if line[0] >= time_ns - 2 * KEEP_S * SECOND]


def _short(text: str) -> str:
    if len(text) <= REMEMBERED_CHARS:
        return text
    return hashlib.sha256(text.encode(errors="replace")).hexdigest() + text[:REMEMBERED_CHARS]


@dataclass(frozen=True)
class Style:
    """Format of lines."""

    form: Form = "text"
    name_pods: bool = False
    """Prefix lines without a rank with `[worker-1] `."""

    timestamps: bool = False
    colour: bool = False


def shown(line: Line, style: Style) -> str:
    """The line as printed, with a newline; colours are removed and other control characters escaped."""
    if style.form == "json":
        return json.dumps({"time": line.stamp, "pod": line.pod, "rank": line.rank, "text": line.text}) + "\n"
    stamp = f"{line.stamp} " if style.timestamps else ""
    text = _COLOURS.sub("", line.text)
    if style.form == "raw":
        return f"{stamp}{visible(text)}\n"
    prefix = f"{stamp}{_prefix(line, style)}"
    # A progress bar returns to the start of the line and would overwrite the prefix, so each state is printed on its own line.
    parts = (_without_rank(part) for part in text.strip("\r").split("\r"))
    return "".join(f"{prefix}{visible(part)}\n" for part in parts)


def _prefix(line: Line, style: Style) -> str:
    pod = f"[{line.pod}] " if style.name_pods else ""
    prefix = pod if line.rank is None else f"[rank {line.rank}] "
    if style.colour and prefix:
        return f"\x1b[{_CODES[_hue(line) % len(_CODES)]}m{prefix}\x1b[0m"
    return prefix


def _without_rank(part: str) -> str:
    match = _RANK.match(part)
    return part[match.end() :] if match else part


def _hue(line: Line) -> int:
    if line.rank is not None:
        return line.rank
    index = line.pod.rpartition("-")[2]
    return int(index) if index.isdigit() else 0
