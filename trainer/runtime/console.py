"""What a run says while it works: lines that start with the rank, and progress, all on stderr.

Nothing in a line is taken for rich's markup or begins another line, whatever names and messages are in it.

On a terminal progress is a bar; in a log it is one line a minute. Only the primary shows progress; every rank may speak.
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
"""How many more are done, and a few words on how it goes."""


class Reporter:
    """One rank's voice; that of a command without ranks where `rank` is None."""

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
        self._hear = on_line
        self._clock = clock
        self._console = console or Console(file=unscreened(sys.stderr), highlight=False)

    def line(self, text: str) -> None:
        """Say one thing, in one line that starts with the rank if there are any; `on_line` gets it too."""
        text = on_one_line(text)
        self._hear(text)
        style = _STYLES[self._rank % len(_STYLES)]
        self._console.print(f"{self._prefix}{text}", style=style, markup=False, emoji=False, soft_wrap=True)

    @contextmanager
    def progress(self, what: str, total: int) -> Iterator[Advance]:
        """Show how far `what` has come; the yielded function moves it."""
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
        # While there is a bar, rich takes what others print, and would obey their colours and links.
        with Progress(*columns, console=self._console) as bars, screened():
            task = bars.add_task(on_one_line(what), total=total, words="")
            yield lambda done, words: bars.update(task, advance=done, words=on_one_line(words))

    def _lines(self, what: str, total: int) -> Advance:
        done_so_far = 0
        told_at = self._clock() - LINE_EVERY_S  # the first report is told at once

        def advance(done: int, words: str) -> None:
            nonlocal done_so_far, told_at
            done_so_far += done
            if self._clock() - told_at >= LINE_EVERY_S:
                told_at = self._clock()
                self.line(f"{what} {done_so_far}/{total} {words}".rstrip())

        return advance
