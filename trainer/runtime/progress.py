"""Progress of long work on stderr: a bar on a terminal, one line per minute in a log."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
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

LINE_EVERY_S: Final = 60.0


class Advance(Protocol):
    """Advances the progress; any thread may call it."""

    def __call__(self, done: int, words: str = "", /) -> None:
        """Add the units done since the last call, negative when some must be repeated, and show a short text."""


@dataclass(frozen=True)
class Unit:
    """A unit of work, and its display."""

    columns: Callable[[], Sequence[ProgressColumn]]
    """Right of the bar; new for each bar, because rich's columns keep state."""
    text: Callable[[int, int, float], str]
    """The line in a log, from done, total and seconds since the start."""
    first_line_after_s: float


ITEMS: Final = Unit(
    columns=lambda: (MofNCompleteColumn(), TimeRemainingColumn()),
    text=lambda done, total, _: f"{done}/{total}",
    first_line_after_s=0.0,
)

BYTES: Final = Unit(
    columns=lambda: (DownloadColumn(binary_units=True), TransferSpeedColumn(), TimeRemainingColumn()),
    text=lambda done, total, seconds: f"{done >> 20}/{total >> 20} MiB, {done / 2**20 / max(seconds, 1e-9):.1f} MiB/s",
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
            text = unit.text(done_so_far, total, now_s - start_s)
        line(f"{what} {text} {words}".rstrip())

    return advance
