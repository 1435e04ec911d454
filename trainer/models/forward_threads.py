"""Threads that decode images and run forward passes of a network, so that neither waits for the other.

On processors each thread decodes a batch of images and then runs its forward pass, alone on its share of the cores. A forward pass on
all cores would wait at the end of each operation for the slowest core, and a core that also decodes is slow: then most of the time
of the others is spent waiting. On an accelerator, which one pass fills, the threads decode and the calling thread runs the passes.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from threading import Event
from typing import Final, TypeVar

import torch

from trainer.config import Mode
from trainer.devices import Device
from trainer.errors import InputError
from trainer.runtime.cores import usable_cores
from trainer.runtime.in_order import in_order
from trainer.runtime.torch_errors import translated_torch_errors

Item = TypeVar("Item")
Prepared = TypeVar("Prepared")
Computed = TypeVar("Computed")
Result = TypeVar("Result")

MOST_THREADS: Final = 16
"""More threads would wait for Python's lock, which each operation of a forward pass holds while it is called."""

MOST_IMAGES: Final = 128
"""Images in forward passes at the same time: the feature maps of all of them are in memory. Four batches of 32."""


@dataclass(frozen=True)
class ForwardThreads:
    """A pool of threads. All results are in the order of their items."""

    pool: ThreadPoolExecutor
    threads: int
    batch: int
    side_by_side: bool
    """Whether forward passes run in the threads; otherwise they run in the calling thread, one at a time."""
    ending: Event = field(default_factory=Event)
    """Set when the block of `forward_threads` ends, also by an error or Ctrl-C."""

    def batch_of(self, items: int) -> int:
        """The size of batches for this many items; side by side, every thread gets equally many batches that are nearly full."""
        if not self.side_by_side:
            return max(1, min(self.batch, items))
        rounds = -(-items // (self.batch * self.threads))
        return max(1, -(-items // max(1, rounds * self.threads)))

    def computed(self, compute: Callable[[Item], Result], batches: Iterable[Item]) -> Iterator[Result]:
        """`compute`, a forward pass and what belongs to it, of batches that are ready."""
        if not self.side_by_side:
            return map(compute, batches)
        return in_order(self.pool, compute, batches, self.threads + 1)

    def pipeline(
        self,
        items: Sequence[Item],
        batch: int,
        prepare: Callable[[Item], Prepared],
        compute: Callable[[Iterator[Prepared]], Iterator[Computed]],
        finish: Callable[[Computed], Result],
        *,
        ahead: int,
    ) -> Iterator[Result]:
        """The results of all items: each is prepared and finished in some thread, and computed with others.

        `compute` takes prepared items in order, runs forward passes over as many at a time as it chooses, and yields their outputs.
        At most `batch` items per thread, or `ahead` items on an accelerator, are prepared before they are computed.
        """
        if not self.side_by_side:
            prepared = in_order(self.pool, prepare, items, ahead)
            yield from in_order(self.pool, finish, compute(prepared), 2 * self.threads)
            return

        def work(chunk: list[Item]) -> list[Result]:
            results = []
            for one in compute(map(prepare, chunk)):
                if self.ending.is_set():  # nobody waits for the rest, which may take seconds
                    break
                results.append(finish(one))
            return results

        for results in in_order(self.pool, work, _chunks(items, batch), self.threads + 1):
            yield from results


@contextmanager
def forward_threads(device: Device, mode: Mode, batch: int) -> Iterator[ForwardThreads]:
    """The threads for a network on the open device in this mode, and batches of at most this many images. They end with the block.

    A compiled network is run by the calling thread alone.
    """
    before, cores = torch.get_num_threads(), usable_cores()
    compute_cores = min(cores, before)
    most_passes = min(compute_cores, MOST_THREADS, max(1, MOST_IMAGES // batch))
    passes = 1 if mode == "compile" else device.passes_at_once(most_passes)
    side_by_side = passes > 1
    threads = passes if side_by_side else min(cores, MOST_THREADS)

    def begin() -> None:
        if side_by_side:
            torch.set_num_threads(compute_cores // passes)  # of this thread, and of threads that begin later

    pool = ThreadPoolExecutor(threads, thread_name_prefix="forward", initializer=begin)
    started = ForwardThreads(pool, threads, batch, side_by_side)
    try:
        yield started
    finally:
        started.ending.set()
        pool.shutdown(cancel_futures=True)
        if side_by_side:
            torch.set_num_threads(before)


def naming_batch(batch: int) -> AbstractContextManager[None]:
    """Name the batch where memory runs out in the block. Raises: InputError."""
    return translated_torch_errors(partial(_out_of_memory, batch))


def _out_of_memory(batch: int, words: str) -> InputError:
    """The error when a batch does not fit into memory."""
    return InputError(
        f"cannot compute batches of up to {batch} images: out of memory ({words})",
        hint=f"use --batch-size {batch // 2}, or less" if batch > 1 else "use a device or a pod with more memory",
    )


def _chunks(items: Sequence[Item], most: int) -> Iterator[list[Item]]:
    """Lists of at most this many items; all have the same length, or one item fewer, so that no thread has much less to do."""
    lists = -(-len(items) // most)
    for nth in range(lists):
        yield list(items[len(items) * nth // lists : len(items) * (nth + 1) // lists])
