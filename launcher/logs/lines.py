"""Lines of container logs: what the API server sends, which of them are new, whose they are and how they are shown; pure."""

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
"""In nanoseconds."""

KEEP_S: Final = 30
"""How far back a new stream starts before the last line that was seen.

Streams start at whole seconds, lines of stdout and stderr may be out of order by moments, and whether a container was
restarted is known only seconds later: see `launcher.logs.pod_stream`.
"""

REMEMBERED_CHARS: Final = 256
"""Of a line, by which it is known again; of a longer one its hash as well."""

_STAMP: Final = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d) ?")
"""RFC 3339 with up to nanoseconds. Source: Kubernetes' kubelet writes nine digits and the node's own offset."""

_COLOUR: Final = r"(?:\x1b\[[0-9;]*m)*"
_COLOURS: Final = re.compile(r"\x1b\[[0-9;]*m")

_RANK: Final = re.compile(rf"{_COLOUR}\[rank (\d+)\]{_COLOUR} ?")
"""What the trainer puts before its lines. Source: trainer/runtime/console.py."""

_RANGE: Final = re.compile(r"(\d+)(?:-(\d+))?")

_CODES: Final = (36, 35, 32, 33, 34, 31, 96, 95)
"""Colours of ranks and pods, in turn: cyan, magenta, green, … Source: ECMA-48, SGR."""


@dataclass(frozen=True)
class Stamped:
    """One line as the server sends it; `time_ns` since 1970 is None for what kubelet itself says in a log's place."""

    time_ns: int | None
    stamp: str
    text: str


@dataclass(frozen=True)
class Line:
    """One line of a job's log."""

    time_ns: int
    stamp: str
    """The node's time, RFC 3339 with nanoseconds."""

    pod: str
    """Its short name, such as `worker-1`."""

    text: str
    """As it was written, the trainer's `[rank N] ` included."""

    @property
    def rank(self) -> int | None:
        """Whose line it is; None for what is not a worker's own, such as torchrun's words or a traceback."""
        match = _RANK.match(self.text.lstrip("\r"))
        return int(match[1]) if match else None


@dataclass(frozen=True)
class Ranks:
    """Some ranks, such as `0,3-5`."""

    parts: tuple[range, ...]

    def __contains__(self, rank: int | None) -> bool:
        return any(rank in part for part in self.parts)

    @classmethod
    def parse(cls, text: str) -> "Ranks":
        """Numbers and ranges, separated by commas. Raises: InputError."""
        parts = []
        for word in text.split(","):
            match = _RANGE.fullmatch(word.strip())
            first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
            if first > last:
                raise InputError(
                    f"cannot use `{on_one_line(text)}` as ranks: these are numbers and ranges (from `--ranks`)",
                    hint="--ranks 0,3-5",
                )
            parts.append(range(first, last + 1))
        return cls(tuple(parts))


@dataclass(frozen=True, kw_only=True)
class LogOptions:
    """Which lines, and how they are printed."""

    follow: Annotated[bool, Parameter(name=("--follow", "-f"), negative=(), show_default=False)] = False
    """Wait for pods and lines until the job is over; Ctrl-C leaves, the job goes on."""

    ranks: Annotated[str | None, Parameter(show_default=False)] = None
    """Only lines of these ranks, such as 0,3-5; lines without a rank are then left out."""

    tail: Annotated[int | None, Parameter(show_default=False)] = None
    """Begin with the last lines, so many of each pod; pods that start later are shown whole."""

    since: Annotated[str | None, Parameter(show_default=False)] = None
    """Begin with lines no older than this, such as 10m, by the API server's clock."""

    previous: Annotated[bool, Parameter(name=("--previous", "-p"), negative=(), show_default=False)] = False
    """Show what each pod's container wrote that was there before its present one."""

    timestamps: Annotated[bool, Parameter(negative=(), show_default=False)] = False
    """Print the time of each line."""

    form: Annotated[Form, Parameter(name="-o")] = "text"
    """`raw` leaves out the names of pods; `json` is an object a line: time, pod, rank, text."""

    def __post_init__(self) -> None:
        if self.tail is not None and self.tail < 0:
            raise InputError(
                f"cannot show the last lines of a log: their number is below 0, got {self.tail} (from `--tail`)"
            )
        if self.previous and self.follow:
            raise InputError(
                "cannot follow a container that is gone (from `--previous` and `--follow`)",
                hint="leave out one of them",
            )
        _ = self.wanted_ranks, self.since_s

    @property
    def wanted_ranks(self) -> Ranks | None:
        """None is all lines."""
        return None if self.ranks is None else Ranks.parse(self.ranks)

    @property
    def since_s(self) -> int | None:
        """Seconds of `since`."""
        return None if self.since is None else parse_duration(self.since, "--since")


def stamped(raw: bytes) -> Stamped:
    """A line of a log that was asked for with timestamps; bytes that are no UTF-8 are replaced."""
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
    """The second that a time lies in, as `sinceTime` wants it."""
    return datetime.fromtimestamp(time_ns // SECOND, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


class Memory:
    """Which lines of one pod were seen lately: what a new stream that starts at `since_ns` may send again."""

    def __init__(self, floor_ns: int | None = None) -> None:
        self._lines: list[tuple[int, str]] = []
        self._floor_ns = floor_ns

    @property
    def is_empty(self) -> bool:
        """Whether no line was seen."""
        return not self._lines

    @property
    def since_ns(self) -> int | None:
        """Where a new stream must start for nothing to be lost; None is the log's beginning."""
        if not self._lines:
            return self._floor_ns
        return max(self._lines[-1][0] - KEEP_S * SECOND, self._floor_ns or 0)

    def begin_here(self) -> None:
        """Lines before those that were seen are not wanted."""
        self._floor_ns = min((time_ns for time_ns, _ in self._lines), default=self._floor_ns)

    def unseen(self, stream: Iterable[Stamped]) -> Iterator[Stamped]:
        """The lines of a new stream that are no repetition; from then on they have been seen.

        Two lines are the same when time and text are, and as often as they were seen: a program may write one text twice.
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
        # Twice what a stream sends again, for clocks that are set back; in steps, so that it costs nothing.
        if self._lines[0][0] < time_ns - 3 * KEEP_S * SECOND:
            self._lines = [line for line in self._lines if line[0] >= time_ns - 2 * KEEP_S * SECOND]


def _short(text: str) -> str:
    """The text, or what stands for a long one: many of them are remembered."""
    if len(text) <= REMEMBERED_CHARS:
        return text
    return hashlib.sha256(text.encode(errors="replace")).hexdigest() + text[:REMEMBERED_CHARS]


@dataclass(frozen=True)
class Style:
    """How lines are shown."""

    form: Form = "text"
    name_pods: bool = False
    """Put `[worker-1] ` before lines that carry no rank."""

    timestamps: bool = False
    colour: bool = False


def shown(line: Line, style: Style) -> str:
    """The line as it is printed, with its end: its colours left out, whatever else a terminal would obey escaped."""
    if style.form == "json":
        return json.dumps({"time": line.stamp, "pod": line.pod, "rank": line.rank, "text": line.text}) + "\n"
    stamp = f"{line.stamp} " if style.timestamps else ""
    text = _COLOURS.sub("", line.text)
    if style.form == "raw":
        return f"{stamp}{visible(text)}\n"
    prefix = f"{stamp}{_prefix(line, style)}"
    # A progress bar goes back to the line's start, and would write over the prefix: each of its states is a line.
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
    """A number that tells ranks apart, and pods."""
    if line.rank is not None:
        return line.rank
    index = line.pod.rpartition("-")[2]
    return int(index) if index.isdigit() else 0
