"""Signals that stop a job on this machine."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


class Terminated(KeyboardInterrupt):
    """The launcher received SIGTERM or SIGHUP."""


@contextmanager
def termination_raised() -> Iterator[None]:
    """Raise SIGTERM and SIGHUP as an exception, so that the pods are stopped; ignored signals, as under `nohup`, stay ignored."""

    def terminated(*_: object) -> None:
        raise Terminated

    numbers = [n for n in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(n) is not signal.SIG_IGN]
    before = {number: signal.signal(number, terminated) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def signals_held() -> Iterator[None]:
    """Handle signals at the end of the block: a pod that has started, but is not in the list of pods yet, could not be stopped.

    The first signal is handled, none where the block raises an error.
    """
    arrived: list[int] = []
    is_over = False
    found = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    handlers: dict[int, Callable[[int, FrameType | None], Any]] = {
        n: each for n, each in found.items() if callable(each)
    }

    def receive(number: int, frame: FrameType | None) -> None:
        if is_over:  # a signal has interrupted the loop below, and left this handler
            handlers[number](number, frame)
        else:
            arrived.append(number)

    for number in handlers:
        signal.signal(number, receive)
    try:
        yield
    finally:
        is_over = True
        for number, handler in handlers.items():
            signal.signal(number, handler)
    if arrived:
        signal.raise_signal(arrived[0])
