"""Import of modules without garbage collection."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache


@contextmanager
def uncollected() -> Iterator[None]:
    """Disable garbage collection while modules are imported: there is no garbage, and the search takes a fifth of torch's import
    time.

    What the first such block imports is excluded from later collections, too.
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
    """Once only: later calls would keep garbage, and `gc.get_freeze_count` takes longer than many a command."""
    gc.freeze()
