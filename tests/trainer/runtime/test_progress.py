"""Progress in a log and on a terminal: items and bytes."""

import io
import threading

from rich.console import Console

from trainer.runtime.progress import BYTES, ITEMS, USUALLY_FEW, progress


def in_a_log(unit, total, moves):
    """Lines of a log; each move is the time and what is done since the last."""
    lines, now = [], [0.0]
    with progress(
        "pulling", total, unit, console=Console(file=io.StringIO()), line=lines.append, clock=lambda: now[0]
    ) as advance:
        for now[0], done in moves:
            advance(done)
    return lines


def test_log_has_a_line_every_20_seconds_with_the_rate_of_bytes():
    """Where a bar would be a mess; a transfer that is over within 20 seconds leaves no line."""
    moves = [(float(second), 1 << 20) for second in range(0, 50, 10)]
    assert in_a_log(BYTES, 100 << 20, moves) == [
        "pulling 3/100 MiB, 0.1 MiB/s, 11 min left",
        "pulling 5/100 MiB, 0.1 MiB/s, 13 min left",
    ]


def test_log_shows_the_first_item_at_once_and_then_rate_and_time_left():
    """112,120 images take an hour: what the count alone says only to who waits for the next line."""
    moves = [(0.0, 32), (19.0, 3168), (20.0, 0), (40.0, 3200)]
    assert in_a_log(ITEMS, 112_120, moves) == [
        "pulling 32/112120",
        "pulling 3200/112120, 160/s, 11 min left",
        "pulling 6400/112120, 160/s, 11 min left",
    ]


def test_rates_and_times_have_units_that_suit_them():
    """Batches take minutes on a laptop, and a training takes days."""
    assert in_a_log(ITEMS, 100, [(0.0, 0), (120.0, 2)])[1:] == ["pulling 2/100, 1.0/min, 1 h 38 min left"]
    assert in_a_log(ITEMS, 100, [(0.0, 0), (20.0, 90)])[1:] == ["pulling 90/100, 4.5/s, 2 s left"]
    assert in_a_log(ITEMS, 100, [(0.0, 0), (20.0, 0)])[1:] == ["pulling 0/100"]


def test_step_that_is_usually_short_has_no_line_in_its_first_20_seconds():
    """Verifying some thousand images takes a second, a million on a network disk minutes."""
    assert in_a_log(USUALLY_FEW, 100, [(0.0, 1), (19.0, 1)]) == []
    assert in_a_log(USUALLY_FEW, 100, [(0.0, 1), (20.0, 1)]) == ["pulling 2/100, 6.0/min, 16 min left"]


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
    assert lines == ["pulling 0/8000", "pulling 8000/8000, 133/s, 0 s left"]
