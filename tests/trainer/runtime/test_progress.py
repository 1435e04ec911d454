"""Progress in a log and on a terminal: items and bytes."""

import io
import threading

from rich.console import Console

from trainer.runtime.progress import BYTES, ITEMS, progress


def in_a_log(unit, total, moves):
    """Lines of a log; each move is the time and what is done since the last."""
    lines, now = [], [0.0]
    with progress(
        "pulling", total, unit, console=Console(file=io.StringIO()), line=lines.append, clock=lambda: now[0]
    ) as advance:
        for now[0], done in moves:
            advance(done)
    return lines


def test_log_has_a_line_a_minute_with_the_rate_of_bytes():
    """Where a bar would be a mess; a transfer that is over within a minute leaves no line."""
    moves = [(float(second), 1 << 20) for second in range(0, 130, 10)]
    assert in_a_log(BYTES, 100 << 20, moves) == ["pulling 7/100 MiB, 0.1 MiB/s", "pulling 13/100 MiB, 0.1 MiB/s"]


def test_log_shows_the_first_item_at_once():
    assert in_a_log(ITEMS, 9, [(0.0, 1), (30.0, 1), (60.0, 1)]) == ["pulling 1/9", "pulling 3/9"]


def test_terminal_has_a_bar_of_bytes():
    text = io.StringIO()
    console = Console(file=text, width=120, force_terminal=True)
    with progress("pulling", 100 << 20, BYTES, console=console, line=lambda _: None) as advance:
        advance(100 << 20)
    assert "100.0/100.0 MiB" in text.getvalue()


def test_threads_may_report_at_once():
    """Files are fetched by several threads; nothing of their sum is lost."""
    lines, now = [], [0.0]
    with progress(
        "pulling", 8000, ITEMS, console=Console(file=io.StringIO()), line=lines.append, clock=lambda: now[0]
    ) as advance:
        advance(0)
        threads = [threading.Thread(target=lambda: [advance(1) for _ in range(1000)]) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        now[0] = 60.0
        advance(0)
    assert lines == ["pulling 0/8000", "pulling 8000/8000"]
