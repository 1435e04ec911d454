"""A pack that is built in the background: its records can be read as soon as they are written."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, wait
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Thread
from typing import Final

import numpy as np
from numpy.typing import NDArray

from trainer.data.packs.building import POLL_S, DecodeTask, build
from trainer.data.packs.decoding import Decoded
from trainer.data.packs.index import records_per_shard
from trainer.data.packs.key import Progress
from trainer.data.packs.reading import Pack, Records, open_shards
from trainer.data.packs.records import Geometry, Gray
from trainer.data.packs.verify import attach
from trainer.errors import TryAgainError

_ENDING_S: Final = 10.0
"""How long to wait for a pack that is given up: a decoder may hang in a read that nothing ends."""


class UnknownGrayRangeError(Exception):
    """An image has 16 bits, and which of its values are black to white depends on images that are not decoded yet."""


@dataclass(frozen=True)
class _Seen:
    """What has turned up among the images that are decoded."""

    of_16_bits: Event = field(default_factory=Event)
    unreadable: Event = field(default_factory=Event)

    def note(self, result: Future[Decoded]) -> None:
        """Call when a task has ended."""
        if result.cancelled() or result.exception() is not None:
            return
        if result.result().greatest:
            self.of_16_bits.set()
        if result.result().unreadable:
            self.unreadable.set()


@dataclass(frozen=True, kw_only=True)
class UnfinishedPack(Records):
    """Records that are being decoded, in the order of their rows. `checksums_N` holds those of records that have been waited for."""

    geometry: Geometry
    tasks: Sequence[DecodeTask]
    built: Future[Pack]
    """The complete pack, or the error for which there will be none."""
    seen: _Seen

    @property
    def is_decoded(self) -> bool:
        """Whether all images are decoded."""
        return all(task.result.done() for task in self.tasks)

    @property
    def has_unreadable(self) -> bool:
        """Whether an unreadable image has turned up."""
        return self.seen.unreadable.is_set()

    def wait_until_written(self, rows_N: NDArray[np.int64], stopped: Event) -> None:
        """See `Records`. Records of unreadable images are black. Raises: as `build`; UnknownGrayRangeError."""
        self._raise_failure()
        firsts = [task.first for task in self.tasks]
        for number in np.unique(np.searchsorted(firsts, rows_N, side="right") - 1).tolist():
            if not self._is_written(self.tasks[number], stopped):
                return

    def gather(self, rows_N: NDArray[np.int64], out_NHW: Gray) -> None:
        """As `Records.gather`, once these records are written."""
        self.wait_until_written(rows_N, Event())
        try:
            super().gather(rows_N, out_NHW)
        except TryAgainError:
            self._raise_failure()
            if not self.folder.exists():
                raise
            # the pack is complete, and a shard that was not kept open has moved with it
            self.shards[:] = open_shards(self.folder / shard.path.name for shard in self.shards)
            super().gather(rows_N, out_NHW)

    def wait_for_each(self, progress: Callable[[int], object]) -> None:
        """Return once all images are decoded; `progress` gets the number of further ones. Raises: as `build`."""
        for task in self.tasks:
            wait([task.result])
            progress(len(self._result(task).sizes))

    def _is_written(self, task: DecodeTask, stopped: Event) -> bool:
        while not wait([task.result], POLL_S).done:
            if stopped.is_set():
                return False
        done = self._result(task)
        if self.geometry.gray_bits is None and (done.greatest or self.seen.of_16_bits.is_set()):
            raise UnknownGrayRangeError
        self.checksums_N[task.first : task.first + len(done.checksums)] = done.checksums
        return True

    def _result(self, task: DecodeTask) -> Decoded:
        """What is known about the images of a task that has ended. Raises: the error of the whole pack, which names image or cache."""
        if task.result.cancelled() or task.result.exception() is not None:
            self.built.result()
        return task.result.result()

    def _raise_failure(self) -> None:
        """Raises: the error for which there will be no pack, wherever it came from."""
        if self.built.done():
            self.built.result()


@contextmanager
def building(
    folder: Path,
    names: Sequence[str],
    paths: Sequence[Path],
    geometry: Geometry,
    *,
    lock: AbstractContextManager[object],
    progress: Progress = lambda _done: None,
) -> Iterator[UnfinishedPack]:
    """`build` in a thread, which calls `progress`, during the block; at its end the pack is complete, and open in `built`.

    When an error ends the block, the pack is given up unless all images are decoded. `lock`, which the caller has taken, is released as
    soon as the pack is complete or given up.

    Raises: as `build` and `attach`.
    """
    begun: Future[UnfinishedPack] = Future()
    built: Future[Pack] = Future()
    given_up = Event()

    def begin(shards: Sequence[Path], tasks: Sequence[DecodeTask]) -> None:
        begun.set_result(_unfinished(folder, shards, tasks, images=len(names), geometry=geometry, built=built))

    def run() -> None:
        try:
            with lock:
                build(folder, names, paths, geometry, progress=progress, begun=begin, given_up=given_up)
                pack = attach(folder, names, geometry)
        except BaseException as problem:  # noqa: BLE001 - raised again in the thread that waits
            built.set_exception(problem)
            if not begun.done():
                begun.set_exception(problem)
        else:
            built.set_result(pack)

    Thread(target=run, name="pack", daemon=True).start()
    try:
        yield begun.result()
        built.result()
    except BaseException:
        given_up.set()
        if not wait([built], _ENDING_S).done and _is_decoded(begun):
            wait([built])
        raise


def _is_decoded(begun: Future[UnfinishedPack]) -> bool:
    return begun.done() and begun.exception() is None and begun.result().is_decoded


def _unfinished(
    folder: Path,
    shards: Sequence[Path],
    tasks: Sequence[DecodeTask],
    *,
    images: int,
    geometry: Geometry,
    built: Future[Pack],
) -> UnfinishedPack:
    seen = _Seen()
    for task in tasks:
        task.result.add_done_callback(seen.note)
    return UnfinishedPack(
        folder=folder,
        side=geometry.side,
        shards=open_shards(shards),
        checksums_N=np.zeros(images, np.uint32),
        records_N=np.arange(images, dtype=np.int64),
        first_S=np.arange(len(shards), dtype=np.int64) * records_per_shard(geometry.side),
        geometry=geometry,
        tasks=tasks,
        built=built,
        seen=seen,
    )
