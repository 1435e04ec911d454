"""Progress of long work on stderr: a bar on a terminal, in a log a line every 20 s with done, total, rate and time left."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Final, Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from trainer.errors import on_one_line
from trainer.screen import screened

LINE_EVERY_S: Final = 20.0

_RATE_AFTER_S: Final = 5.0
"""Before, the rate is that of the start-up."""

_MINUTE_S: Final = 60
_HOUR_S: Final = 3600


class Advance(Protocol):
    """Advances the progress; any thread may call it."""

    def __call__(self, done: int, words: str = "", /) -> None:
        """Add the units done since the last call, negative when some must be repeated, and show a short text."""


@dataclass(frozen=True)
class Unit:
    """A unit of work, and its display."""

    columns: Callable[[], Sequence[ProgressColumn]]
    """Right of the bar; new for each bar, because rich's columns keep state."""
    amount: Callable[[int, int], str]
    """Done and total in a log."""
    rate: Callable[[float], str]
    """Units per second in a log."""
    first_line_after_s: float


def _item_rate(per_s: float) -> str:
    if per_s < 1:
        return f"{per_s * _MINUTE_S:.1f}/min"
    return f"{per_s:.1f}/s" if per_s < 100 else f"{per_s:.0f}/s"


ITEMS: Final = Unit(
    columns=lambda: (MofNCompleteColumn(), TimeRemainingColumn()),
    amount=lambda done, total: f"{done}/{total}",
    rate=_item_rate,
    first_line_after_s=0.0,
)

USUALLY_FEW: Final = replace(ITEMS, first_line_after_s=LINE_EVERY_S)
"""Items of a step that is usually over before its first line."""

BYTES: Final = Unit(
    columns=lambda: (DownloadColumn(binary_units=True), TransferSpeedColumn(), TimeRemainingColumn()),
    amount=lambda done, total: f"{done >> 20}/{total >> 20} MiB",
    rate=lambda per_s: f"{per_s / 2**20:.1f} MiB/s",
    first_line_after_s=LINE_EVERY_S,  # most transfers are over by then
)


@contextmanager
def progress(
    what: str,
    total: int,
    unit: Unit,
    *,
    console: Console,
    line: Callable[[str], None],
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Advance]:
    """Show progress towards `total` during the block; the yielded function advances it. `line` writes lines of a log."""
    if not console.is_terminal:
        yield _lines(what, total, unit, line, clock)
        return
    columns = (
        TextColumn("{task.description:<16}", markup=False),
        BarColumn(bar_width=24),
        *unit.columns(),
        TextColumn("{task.fields[words]}", markup=False),
    )
    # During a bar rich captures the output of others, and would interpret their colours and links.
    with Progress(*columns, console=console) as bars, screened():
        task = bars.add_task(on_one_line(what), total=total, words="")

        def advance(done: int, words: str = "", /) -> None:
            bars.update(task, advance=done, words=on_one_line(words))

        yield advance


def _lines(what: str, total: int, unit: Unit, line: Callable[[str], None], clock: Callable[[], float]) -> Advance:
    lock = threading.Lock()
    start_s = clock()
    done_so_far, next_s = 0, start_s + unit.first_line_after_s

    def advance(done: int, words: str = "", /) -> None:
        nonlocal done_so_far, next_s
        with lock:
            done_so_far += done
            now_s = clock()
            if now_s < next_s:
                return
            next_s = now_s + LINE_EVERY_S
            text = f"{what} {unit.amount(done_so_far, total)} {words}".rstrip()
            pace = _pace(done_so_far, total, unit, now_s - start_s)
        line(text + pace)

    return advance


def _pace(done: int, total: int, unit: Unit, seconds: float) -> str:
    """Rate and time left; empty before they are known."""
    if done <= 0 or seconds < _RATE_AFTER_S:
        return ""
    per_s = done / seconds
    return f", {unit.rate(per_s)}, {_span((total - done) / per_s)} left"


def _span(seconds: float) -> str:
    if seconds < _MINUTE_S:
        return f"{max(0.0, seconds):.0f} s"
    if seconds < _HOUR_S:
        return f"{seconds / _MINUTE_S:.0f} min"
    hours, rest = divmod(round(seconds / _MINUTE_S), 60)
    return f"{hours} h {rest} min"
