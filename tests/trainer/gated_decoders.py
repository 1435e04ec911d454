"""Decoders that decode as many images as a test allows, so that it sees what happens before the others are decoded."""

from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from threading import Semaphore

import pytest

from trainer.data.packs import building, decoding

LONGEST_S = 30.0
"""Whoever waits for a decoder that waits for him ends the test, as a failure."""


class Gate:
    """Tasks of two images each, which are decoded in this process, one after the other."""

    def __init__(self):
        self.decoded = []
        """First row in its shard of each task that is done."""
        self._allowed = Semaphore(0)

    def allow(self, tasks):
        self._allowed.release(tasks)

    def run(self, function, *args):
        if function is not building._flushed_and_hashed:
            assert self._allowed.acquire(timeout=LONGEST_S), "nobody allowed it"
        result = function(*args)
        if function is decoding.decode:
            self.decoded.append(args[2])
        return result


class GatedPool(Executor):
    def __init__(self, gate):
        self._gate = gate
        self._thread = ThreadPoolExecutor(1)

    def submit(self, function, *args):
        return self._thread.submit(self._gate.run, function, *args)

    def shutdown(self, wait=True, *, cancel_futures=False):
        self._thread.shutdown(wait, cancel_futures=cancel_futures)


@pytest.fixture(name="gate")
def gated_decoders(monkeypatch):
    """Nothing is decoded until the test allows it."""
    gate = Gate()

    @contextmanager
    def pool(count, image_of):
        pool = GatedPool(gate)
        try:
            yield pool
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            gate.allow(1000)  # as the real ones, they do not outlive the pool

    monkeypatch.setattr(building, "decoders", pool)
    monkeypatch.setattr(building, "_TASK_IMAGES", 2)
    monkeypatch.setattr(decoding, "note_image", lambda number: None)
    return gate
