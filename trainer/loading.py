"""Loading modules without looking for garbage among them."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache


@contextmanager
def uncollected() -> Iterator[None]:
    """For the block, in which modules are loaded, collect no garbage: there is none, and looking for it is a fifth of torch's start.

    What has been loaded after the first such block is left out of later collections too.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
    _freeze_once()


@cache
def _freeze_once() -> None:
    """Once only: later calls would keep garbage, and to ask `gc.get_freeze_count` takes longer than many a command."""
    gc.freeze()
