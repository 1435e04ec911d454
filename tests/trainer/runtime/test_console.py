"""What a run says: lines with the rank, progress every 20 seconds, a bar on a terminal."""

import io

import pytest
from rich.console import Console

from trainer.runtime.console import Reporter


def voice(rank=0, *, terminal=False, clock=lambda: 0.0):
    out = io.StringIO()
    return Reporter(
        rank, clock=clock, console=Console(file=out, force_terminal=terminal, width=80, highlight=False)
    ), out


def test_line_starts_with_the_rank_and_is_not_wrapped_or_interpreted():
    """`launcher logs --ranks` filters by it, and messages hold brackets and long paths."""
    reporter, out = voice(3)
    reporter.line("cannot read [red]" + "x" * 200)
    assert out.getvalue() == "[rank 3] cannot read [red]" + "x" * 200 + "\n"


def test_command_without_ranks_prints_no_rank():
    """Who predicts one image has never heard of ranks."""
    reporter, out = voice(None)
    reporter.line("an image")
    with reporter.progress("predicting", 2) as advance:
        advance(2, "")
    assert out.getvalue() == "an image\npredicting 2/2\n"


def test_log_has_a_progress_line_every_20_seconds():
    """A log of thousands of bars is no log."""
    now = [0.0]
    reporter, out = voice(clock=lambda: now[0])
    with reporter.progress("training", 100) as advance:
        for second in range(40):
            now[0] = second * 2.0
            advance(1, f"loss {second}")
    assert out.getvalue().splitlines() == [
        "[rank 0] training 1/100 loss 0",
        "[rank 0] training 11/100 loss 10, 33.0/min, 3 min left",
        "[rank 0] training 21/100 loss 20, 31.5/min, 3 min left",
        "[rank 0] training 31/100 loss 30, 31.0/min, 2 min left",
    ]


@pytest.mark.parametrize("terminal", [False, True])
def test_a_step_within_another_has_lines_in_a_log_and_no_second_bar(terminal):
    """rich draws one bar at a time; validation is part of training."""
    reporter, out = voice(terminal=terminal)
    with reporter.progress("training", 2) as advance:
        with reporter.progress("evaluating val", 9) as inner:
            inner(9, "batches")
        advance(2, "")
    assert ("evaluating val" in out.getvalue()) is not terminal
    assert "2/2" in out.getvalue()
    with reporter.progress("predicting", 3) as advance:
        advance(3)
    assert "predicting" in out.getvalue()


def test_terminal_shows_a_progress_bar_with_its_text():
    """Long work shows progress."""
    reporter, out = voice(terminal=True)
    with reporter.progress("training", 2) as advance:
        advance(2, "loss 0.5")
    assert "2/2" in out.getvalue()
    assert "loss 0.5" in out.getvalue()


@pytest.mark.parametrize("terminal", [False, True])
def test_other_ranks_show_no_progress(terminal):
    """Eight bars on one terminal are unreadable."""
    reporter, out = voice(1, terminal=terminal)
    with reporter.progress("training", 2) as advance:
        advance(2, "")
    assert out.getvalue() == ""
