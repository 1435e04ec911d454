"""Signals that arrive while they are held, or while they are handled again."""

import signal

import pytest

from launcher.jobs.stop_signals import Terminated, signals_held, termination_raised

HELD = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@pytest.mark.parametrize("number", HELD)
def test_signal_is_handled_at_the_end_of_the_block(number):
    reached = []

    def held():
        with termination_raised(), signals_held():
            signal.raise_signal(number)
            reached.append(number)

    with pytest.raises(KeyboardInterrupt) as caught:
        held()
    assert reached == [number]
    assert isinstance(caught.value, Terminated) == (number != signal.SIGINT)


def test_signal_while_the_handlers_are_put_back_leaves_none_of_them_held(monkeypatch):
    """Ctrl-C raises out of the loop; SIGTERM, which ends the grace period of the pods, would be lost."""
    real = signal.signal

    def interrupted(number, handler):
        found = real(number, handler)
        if number == signal.SIGINT:
            signal.raise_signal(signal.SIGINT)
        return found

    def held():
        with signals_held():
            monkeypatch.setattr(signal, "signal", interrupted)

    with termination_raised():
        with pytest.raises(KeyboardInterrupt):
            held()
        for number in (signal.SIGTERM, signal.SIGHUP):
            with pytest.raises(Terminated):
                signal.raise_signal(number)


def test_ignored_signal_stays_ignored():
    """As under `nohup`."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with termination_raised(), signals_held():
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
            signal.raise_signal(signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
