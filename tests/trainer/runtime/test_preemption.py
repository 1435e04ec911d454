"""SIGTERM while a run trains: noted once, obeyed at once the second time."""

import os
import signal

from trainer.runtime.preemption import SAVING_S, Stop, stopped


def test_first_signal_is_noted_and_the_second_leaves():
    """Preemption gives seconds; whoever asks twice wants none of them."""
    left = []
    stop = Stop(clock=lambda: 0.0, leave=left.append)
    with stop.listening():
        assert not stop.wanted
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.wanted
        assert left == []
        os.kill(os.getpid(), signal.SIGTERM)
    assert left == [75]


def test_sigterm_kills_at_once_outside_training():
    """Before and after there is nothing to save, and nobody to look at a note."""
    before = signal.getsignal(signal.SIGTERM)
    with Stop().listening():
        assert signal.getsignal(signal.SIGTERM) is not before
    assert signal.getsignal(signal.SIGTERM) is before


def test_time_for_saving_counts_from_the_signal():
    """torchrun kills 30 s after it has passed the signal on."""
    now_s = [100.0]
    stop = Stop(clock=lambda: now_s[0])
    assert stop.left_s() == SAVING_S
    stop._receive(signal.SIGTERM, None)
    now_s[0] += 10
    assert stop.left_s() == SAVING_S - 10
    now_s[0] += 60
    assert stop.left_s() == 0


def test_stop_asks_to_try_again():
    """A preempted run comes back by itself."""
    assert stopped(7).exit_code == 75
    assert "step 7" in str(stopped(7))
