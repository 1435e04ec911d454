"""A worker that waits for one that never comes leaves after a bounded time."""

import gc
import sys
import threading
import time

import pytest

from trainer.runtime.watchdog import COMPILING, Watchdog
from trainer.storage.waiting import SILENT, wait_until


class Time:
    def __init__(self):
        self.now_s = 0.0

    def __call__(self):
        return self.now_s


@pytest.fixture
def clock():
    return Time()


@pytest.fixture
def told():
    return []


@pytest.fixture
def left():
    return []


@pytest.fixture
def watchdog(clock, told, left):
    return Watchdog(10.0, told.append, clock=clock, leave=left.append)


def test_worker_exits_when_nothing_progresses(watchdog, clock, told, left):
    """Collectives of accelerators wait for ever."""
    watchdog.heartbeat("step 12")
    clock.now_s = 9
    watchdog.check()
    assert left == []
    clock.now_s = 11
    watchdog.check()
    assert left == [75]
    assert "no progress for 11 s in step 12" in told[0]


def test_message_names_where_the_main_thread_is_in_any_room(watchdog, clock, told):
    watchdog.heartbeat("step 12")
    clock.now_s = 11

    def checked() -> bool:
        thread = threading.Thread(target=watchdog.check)
        thread.start()
        thread.join()
        return True

    wait_until(checked, SILENT, line=str, too_long=RuntimeError)
    assert ", at waiting.py:" in told[0]


@pytest.mark.parametrize("is_collecting", [True, False])
def test_place_of_the_main_thread_is_read_without_garbage_collection(watchdog, clock, left, monkeypatch, is_collecting):
    """Otherwise the watchdog itself may wait for ever, with Python 3.11.8 or older."""
    frames, seen, before = sys._current_frames, [], gc.isenabled()

    def recorded():
        seen.append(gc.isenabled())
        return frames()

    monkeypatch.setattr(sys, "_current_frames", recorded)
    watchdog.heartbeat("step 12")
    clock.now_s = 11
    gc.enable() if is_collecting else gc.disable()
    try:
        watchdog.check()
        assert (seen, gc.isenabled(), left) == ([False], is_collecting, [75])
    finally:
        gc.enable() if before else gc.disable()


def test_worker_that_progresses_is_left_running(watchdog, clock, left):
    """A slow run is no hang."""
    for step in range(100):
        watchdog.heartbeat(f"step {step}")
        clock.now_s += 9
        watchdog.check()
    assert left == []


def test_first_steps_may_take_longer(watchdog, clock, left):
    """They compile."""
    watchdog.heartbeat("step 1", timeout_scale=COMPILING)
    clock.now_s = 29
    watchdog.check()
    assert left == []
    clock.now_s = 31
    watchdog.check()
    assert left == [75]


def test_paused_watchdog_waits_without_a_limit(watchdog, clock, left):
    """Decoding takes an hour from a slow mount, and only the one that decodes can tell that it moves."""
    watchdog.heartbeat("step 1")
    watchdog.pause()
    clock.now_s = 1e6
    watchdog.check()
    assert left == []


def test_progress_is_watched_and_passed_on(watchdog, clock, left):
    """A mount that hangs in the middle of a data set."""
    shown = []

    class Bar:
        def __enter__(self):
            return lambda done, words: shown.append((done, words))

        def __exit__(self, *_):
            pass

    with watchdog.progress(lambda what, total: Bar(), "decoding", 9) as advance:
        advance(1, "x")
        clock.now_s = 31
        watchdog.check()
    assert shown == [(1, "x")]
    assert left == [75]


def test_watching_thread_sees_a_real_hang(told):
    """And names the place of ours where the main thread stands."""
    left = []
    watchdog = Watchdog(0.05, told.append, leave=left.append)
    with watchdog.watching():
        watchdog.heartbeat("step 3")
        end_s = time.monotonic() + 20
        while not left and time.monotonic() < end_s:
            time.sleep(0.05)
    assert left[0] == 75
    assert "in step 3" in told[0]
