"""How far a transfer has come, on stderr: on a terminal a bar, in a log a line a minute."""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from trainer.errors import on_one_line
from trainer.screen import screened, unscreened

LINE_EVERY_S: Final = 60.0

Advance = Callable[[int], None]
"""How many more bytes are done, negative where some must come again; any thread may call it."""


@contextmanager
def transferred(
    what: str, total_bytes: int, *, console: Console | None = None, clock: Callable[[], float] = time.monotonic
) -> Iterator[Advance]:
    """Show how many of the bytes are done, for the block; the yielded function moves it."""
    what = on_one_line(what)
    console = console or Console(file=unscreened(sys.stderr), highlight=False)
    if not console.is_terminal:
        yield _lines(what, total_bytes, console, clock)
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as bars, screened():
        task = bars.add_task(what, total=total_bytes)
        yield lambda done: bars.update(task, advance=done)


def _lines(what: str, total_bytes: int, console: Console, clock: Callable[[], float]) -> Advance:
    lock = threading.Lock()
    done_so_far, begun, told_at = 0, clock(), clock()

    def advance(done: int) -> None:
        nonlocal done_so_far, told_at
        with lock:
            done_so_far += done
            if clock() - told_at < LINE_EVERY_S:
                return
            told_at = clock()
            rate = done_so_far / 2**20 / (told_at - begun)
            text = f"{what} {done_so_far >> 20}/{total_bytes >> 20} MiB, {rate:.1f} MiB/s"
        console.print(text, markup=False, emoji=False, soft_wrap=True)

    return advance
