"""Signals that stop a job on this machine."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager


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
    """Handle signals at the end of the block: a pod that has started, but is not in the list of pods yet, could not be stopped."""
    arrived: list[int] = []
    handled = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    handled = {number: handler for number, handler in handled.items() if callable(handler)}
    for number in handled:
        signal.signal(number, lambda number, _: arrived.append(number))
    try:
        yield
    finally:
        for number, handler in handled.items():
            signal.signal(number, handler)
    if arrived:
        signal.raise_signal(arrived[0])
