"""Log lines and progress of a run, on stderr.

Each line starts with the rank. Names and messages in it are neither rich markup nor able to start another line.
Progress is a bar on a terminal and a line every 20 s in a log. Only rank 0 shows progress; every rank logs.
"""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from rich.console import Console

from trainer.errors import on_one_line
from trainer.runtime.progress import ITEMS, Advance, Unit, progress
from trainer.screen import unscreened

_STYLES: Final = ("cyan", "magenta", "green", "yellow", "blue", "red", "bright_cyan", "bright_magenta")


def _ignore(_done: int, _words: str = "", /) -> None:
    """Of the ranks that show nothing."""


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
        self._has_bar = False
        self._console = console or Console(file=unscreened(sys.stderr), highlight=False)

    def line(self, text: str) -> None:
        """Log one line, with the rank as prefix if there are ranks; `on_line` gets it too."""
        text = on_one_line(text)
        self._on_line(text)
        style = _STYLES[self._rank % len(_STYLES)]
        self._console.print(f"{self._prefix}{text}", style=style, markup=False, emoji=False, soft_wrap=True)

    @contextmanager
    def progress(self, what: str, total: int, unit: Unit = ITEMS) -> Iterator[Advance]:
        """Show the progress of `what`; the yielded function advances it. Only rank 0 shows it; on a terminal, only the outermost."""
        if self._rank != 0 or (self._has_bar and self._console.is_terminal):
            yield _ignore
            return
        is_outermost, self._has_bar = not self._has_bar, True
        try:
            with progress(what, total, unit, console=self._console, line=self.line, clock=self._clock) as advance:
                yield advance
        finally:
            self._has_bar = not is_outermost
