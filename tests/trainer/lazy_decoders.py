"""Decoders that decode images only when somebody waits for them, so that a test sees which were decoded before what."""

from concurrent.futures import Executor, Future
from contextlib import contextmanager

import pytest

from trainer.data.packs import building, decoding


class Lazy(Future):
    """A task that runs in the thread that first waits for its result."""

    def __init__(self, run):
        super().__init__()
        self._run = run

    def result(self, timeout=None):
        if not self.done():
            try:
                self.set_result(self._run())
            except Exception as problem:  # noqa: BLE001 - as a pool does
                self.set_exception(problem)
        return super().result()


class LazyPool(Executor):
    def __init__(self, events):
        self._events = events

    def submit(self, function, *args):
        def run():
            result = function(*args)
            if function is decoding.decode:
                self._events.append(f"decoded {args[2]}")
            return result

        return Lazy(run)


@pytest.fixture(name="lazy")
def lazy_decoders(monkeypatch):
    """Decoders of two images a task; what happens is appended to the list, such as `decoded 4` for the task from row 4 on."""
    events = []

    @contextmanager
    def pool(count, image_of):
        yield LazyPool(events)

    def each(tasks):
        for task in tasks:
            task.result()
            yield task

    monkeypatch.setattr(building, "decoders", pool)
    monkeypatch.setattr(building, "as_completed", each)
    monkeypatch.setattr(building, "_TASK_IMAGES", 2)
    monkeypatch.setattr(decoding, "note_image", lambda number: None)
    return events
