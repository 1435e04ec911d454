"""Batches from a pack: sample order, and a background thread that gathers batches.

The order is a function of (seed, epoch): step s of an epoch takes positions [s·G, (s+1)·G) of one permutation, with G
the global batch, and each rank every world-th of them. So a run resumed with another number of workers repeats and
skips nothing. Shapes: N images of this rank's batch, S pack side, K findings.
"""

import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from trainer.data.packs.reading import Records
from trainer.devices import Device

Rows = NDArray[np.int64]

BUFFERS: Final = 4
"""Host buffers in rotation: one in use or being copied, one copied ahead, two being filled."""


@dataclass(frozen=True)
class Batch:
    """One rank's share of a step, on the device."""

    samples_N: Rows
    """Rows of the data set; -1 pads the last batch of an evaluation."""
    x_N1SS: Tensor
    """uint8; cached features are float32 [N, F]."""


_Filled = tuple[Rows, Tensor] | BaseException | None
"""Samples and their buffer; the error that ended the thread; or None after the last batch."""

_Free = tuple[Tensor, Callable[[], None]] | None
"""A buffer, and the wait for its copy; or None when the consumer has stopped."""


@dataclass(frozen=True)
class _Started:
    """A batch whose copy to the device has started."""

    samples_N: Rows
    take: Callable[[], Tensor]


class Batches(Protocol):
    """Source of batches: packed images, or features of a frozen backbone."""

    waited_s: float
    """Seconds that consumers have waited for data so far."""

    def batches(self, samples: Sequence[Rows]) -> Iterator[Batch]:
        """The batches of these samples, in order. One iteration at a time."""
        ...


def steps_per_epoch(images: int, global_batch: int) -> int:
    """Optimiser steps per epoch; an incomplete last batch is dropped, with other images in each epoch."""
    return max(1, images // global_batch)


def training_order(rows: Rows, *, seed: int, epoch: int, global_batch: int) -> Rows:
    """The samples of one epoch, shape steps x global batch; a data set smaller than one batch is repeated to fill it."""
    shuffled = np.random.Generator(np.random.PCG64([seed, epoch])).permutation(rows)
    steps = steps_per_epoch(len(rows), global_batch)
    return np.resize(shuffled, steps * global_batch).reshape(steps, global_batch)


def training_batches(order: Rows, *, rank: int, world: int, first_step: int) -> list[Rows]:
    """This rank's samples for each step from `first_step` on."""
    return [step[rank::world] for step in order[first_step:]]


def evaluation_batches(rows: Rows, *, rank: int, world: int, batch: int) -> list[Rows]:
    """This rank's samples, each sample on exactly one rank; padded with -1 so that all ranks have equally many
    batches of one shape.
    """
    own = rows[rank::world]
    most = -(-len(rows) // world)
    padded = np.full(-(-most // batch) * batch, -1, np.int64)
    padded[: len(own)] = own
    return list(padded.reshape(-1, batch))


class Loader:
    """Gathers batches ahead of use into reused buffers."""

    def __init__(self, records: Records, device: Device, batch: int) -> None:
        side = records.side
        self._records = records
        self._device = device
        self._buffers = [device.host_buffer((batch, 1, side, side)) for _ in range(BUFFERS)]
        self.waited_s = 0.0
        """See `Batches`."""

    def batches(self, samples: Sequence[Rows]) -> Iterator[Batch]:
        """See `Batches`."""
        filled: queue.Queue[_Filled] = queue.Queue()
        free: queue.Queue[_Free] = queue.Queue()
        stopped = threading.Event()
        for buffer in self._buffers:
            free.put((buffer, lambda: None))
        thread = threading.Thread(target=self._fill, args=(samples, free, filled, stopped), name="loader", daemon=True)
        thread.start()
        try:
            following = None
            while (started := following or self._started(self._next(filled), free)) is not None:
                following = self._started(_filled_now(filled), free) if self._device.uploads_ahead else None
                yield Batch(started.samples_N, started.take())
        finally:
            stopped.set()
            free.put(None)
            thread.join()
            _wait_for_copies(free)  # the next iteration fills the same buffers

    def _next(self, filled: "queue.Queue[_Filled]") -> "_Filled":
        start = time.perf_counter()
        item = filled.get()
        self.waited_s += time.perf_counter() - start
        return item

    def _started(self, item: "_Filled", free: "queue.Queue[_Free]") -> "_Started | None":
        """The copy of a filled buffer to the device, just started; None where there is none."""
        if isinstance(item, BaseException):
            raise item
        if item is None:
            return None
        samples_N, buffer = item
        take, copied = self._device.start_upload(buffer)
        free.put((buffer, copied))
        return _Started(samples_N, take)

    def _fill(
        self,
        samples: Sequence[Rows],
        free: "queue.Queue[_Free]",
        filled: "queue.Queue[_Filled]",
        stopped: threading.Event,
    ) -> None:
        try:
            for samples_N in samples:
                slot = free.get()
                rows_N = np.maximum(samples_N, 0)
                self._records.wait_until_written(rows_N, stopped)
                if slot is None or stopped.is_set():  # the consumer has stopped
                    return
                buffer, copied = slot
                copied()
                self._records.gather(rows_N, buffer.numpy()[:, 0])
                filled.put((samples_N, buffer))
            filled.put(None)
        except BaseException as problem:  # noqa: BLE001 - raised again in the consumer
            filled.put(problem)


def _filled_now(filled: "queue.Queue[_Filled]") -> _Filled:
    """A buffer if one is filled already; None otherwise. The end and errors stay in the queue for their turn."""
    try:
        item = filled.get_nowait()
    except queue.Empty:
        return None
    if isinstance(item, tuple):
        return item
    filled.put(item)  # nothing follows it
    return None


def _wait_for_copies(free: "queue.Queue[_Free]") -> None:
    with suppress(queue.Empty):
        while True:
            slot = free.get_nowait()
            if slot is not None:
                slot[1]()
