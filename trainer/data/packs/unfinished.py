"""Records of a pack that is being built: each can be read as soon as it has been written."""

import errno
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trainer.data.packs.checksums import Checksums
from trainer.data.packs.decoding import Decoded
from trainer.data.packs.reading import Records
from trainer.data.packs.records import Geometry, Gray
from trainer.errors import InputError, TryAgainError


class UnknownGrayRangeError(Exception):
    """An image has 16 bits, and which of its values are black to white depends on images that are not decoded yet."""


@dataclass(frozen=True)
class DecodeTask:
    """Images that a decoder decodes at once, and writes to a shard."""

    first: int
    """Row of its first image."""
    result: Future[tuple[Checksums, Decoded]]


@dataclass(frozen=True, kw_only=True)
class UnfinishedPack(Records):
    """Records that are being decoded, in the order of their rows. `checksums_N` holds those of records that have been read."""

    geometry: Geometry
    tasks: Sequence[DecodeTask]

    def gather(self, rows_N: NDArray[np.int64], out_NHW: Gray) -> None:
        """As `Records.gather`, once these records are written; that of an unreadable image is black.

        Raises: as `decode` and `write_errors`; UnknownGrayRangeError.
        """
        firsts = [task.first for task in self.tasks]
        for number in np.unique(np.searchsorted(firsts, rows_N, side="right") - 1).tolist():
            self._wait(self.tasks[number])
        super().gather(rows_N, out_NHW)

    def _wait(self, task: DecodeTask) -> None:
        with write_errors(self.folder, len(self.records_N), self.side):
            checksums_N, done = task.result.result()
        if done.greatest and self.geometry.gray_bits is None:
            raise UnknownGrayRangeError
        self.checksums_N[task.first : task.first + len(checksums_N)] = checksums_N


@contextmanager
def write_errors(folder: Path, images: int, side: int) -> Iterator[None]:
    """Name the cache where a pack cannot be written. Raises: InputError where it is full; TryAgainError."""
    try:
        yield
    except OSError as problem:
        kind = InputError if problem.errno in {errno.ENOSPC, errno.EDQUOT} else TryAgainError
        raise kind(
            f"cannot write the decoded images to `{folder.parent}`: {str(problem.strerror).lower()} (from `--cache-dir`)",
            hint=f"{images * side**2 / 2**30:.1f} GiB are needed; choose another --cache-dir",
        ) from problem
