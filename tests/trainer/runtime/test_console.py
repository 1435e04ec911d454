"""What a run says: lines with the rank, progress once a minute, a bar on a terminal."""

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


def test_log_has_one_progress_line_a_minute():
    """A log of thousands of bars is no log."""
    now = [0.0]
    reporter, out = voice(clock=lambda: now[0])
    with reporter.progress("training", 100) as advance:
        for second in range(100):
            now[0] = second * 2.0
            advance(1, f"loss {second}")
    assert out.getvalue().splitlines() == [f"[rank 0] training {done}/100 loss {done - 1}" for done in (1, 31, 61, 91)]


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
