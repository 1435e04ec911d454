"""Log lines and progress of a run, on stderr.

Each line starts with the rank. Names and messages in it are neither rich markup nor able to start another line.
Progress is a bar on a terminal and one line a minute in a log. Only rank 0 shows progress; every rank logs.
"""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from trainer.errors import on_one_line
from trainer.screen import screened, unscreened

LINE_EVERY_S: Final = 60.0

_STYLES: Final = ("cyan", "magenta", "green", "yellow", "blue", "red", "bright_cyan", "bright_magenta")

Advance = Callable[[int, str], None]
"""Called with the number of finished items and a short status text."""


class Reporter:
    """Log lines and progress of one rank; of a command without ranks where `rank` is None."""

    def __init__(
        self,
        rank: int | None,
        *,
        on_line: Callable[[str], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
        console: Console | None = None,
    ) -> None:
        self._prefix = "" if rank is None else f"[rank {rank}] "
        self._rank = rank or 0
        self._on_line = on_line
        self._clock = clock
        self._console = console or Console(file=unscreened(sys.stderr), highlight=False)

    def line(self, text: str) -> None:
        """Log one line, with the rank as prefix if there are ranks; `on_line` gets it too."""
        text = on_one_line(text)
        self._on_line(text)
        style = _STYLES[self._rank % len(_STYLES)]
        self._console.print(f"{self._prefix}{text}", style=style, markup=False, emoji=False, soft_wrap=True)

    @contextmanager
    def progress(self, what: str, total: int) -> Iterator[Advance]:
        """Show the progress of `what`; call the yielded function to advance it."""
        if self._rank != 0:
            yield lambda _done, _words: None
        elif self._console.is_terminal:
            yield from self._bar(what, total)
        else:
            yield self._lines(what, total)

    def _bar(self, what: str, total: int) -> Iterator[Advance]:
        columns = (
            TextColumn("{task.description:<16}", markup=False),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[words]}", markup=False),
        )
        # While a bar is shown, rich handles what others print, and would interpret its colours and links.
        with Progress(*columns, console=self._console) as bars, screened():
            task = bars.add_task(on_one_line(what), total=total, words="")
            yield lambda done, words: bars.update(task, advance=done, words=on_one_line(words))

    def _lines(self, what: str, total: int) -> Advance:
        done_so_far = 0
        reported_at = self._clock() - LINE_EVERY_S  # the first report is logged at once

        def advance(done: int, words: str) -> None:
            nonlocal done_so_far, reported_at
            done_so_far += done
            if self._clock() - reported_at >= LINE_EVERY_S:
                reported_at = self._clock()
                self.line(f"{what} {done_so_far}/{total} {words}".rstrip())

        return advance
