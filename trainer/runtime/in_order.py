"""Work on a sequence in several threads, with results in order and a bounded number of them ahead of their use."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_order(pool: Executor, act: Callable[[Item], Result], items: Iterable[Item], most_ahead: int) -> Iterator[Result]:
    """`act` of each item, in the pool, in the order of the items; at most `most_ahead` items are in work or wait for their use.

    `items` is read in the calling thread. When the caller stops early, no further item is begun.

    Raises: what `act` raises, at its item.
    """
    pending: deque[Future[Result]] = deque()
    try:
        for item in items:
            pending.append(pool.submit(act, item))
            if len(pending) >= most_ahead:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        for future in pending:
            future.cancel()
