"""Reading of records by position, each compared with its checksum."""

import hashlib
import json
import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Final

import numpy as np
from numpy.typing import NDArray

from trainer.data.packs.checksums import GROUP, Checksums, checksums_of
from trainer.data.packs.index import NAMES, PackIndex, is_shard
from trainer.data.packs.records import Gray
from trainer.errors import TryAgainError
from trainer.storage.files import open_regular

MOST_OPEN: Final = 128
"""Shards of a pack that stay open. By default a process may have 1024 open files, and a pack can have thousands of shards."""


class Shard:
    """A file of records, read by position: unlike a memory map, it raises an error when the file was truncated.

    With `stays_open=False`, it is opened for each record.
    """

    def __init__(self, path: Path, *, stays_open: bool = True) -> None:
        self.path = path
        self._descriptor: int | None = None
        with open_regular(path) as file:
            if stays_open:
                self._descriptor = os.dup(file.fileno())

    def __del__(self) -> None:
        with suppress(AttributeError, OSError):
            if self._descriptor is not None:
                os.close(self._descriptor)

    def read_into(self, record_SS: Gray, number: int) -> bool:
        """Read a record into the array; False when the file ends before it. Raises: OSError."""
        if self._descriptor is not None:
            return _fills(self._descriptor, record_SS, number)
        with open_regular(self.path) as file:
            return _fills(file.fileno(), record_SS, number)


def _fills(descriptor: int, record_SS: Gray, number: int) -> bool:
    return os.preadv(descriptor, [record_SS.data], number * record_SS.nbytes) == record_SS.nbytes


def open_shards(paths: Iterable[Path]) -> list[Shard]:
    """These shards; the first `MOST_OPEN` stay open."""
    return [Shard(path, stays_open=number < MOST_OPEN) for number, path in enumerate(paths)]


@dataclass(frozen=True, kw_only=True)
class Records:
    """Records of images in shards, by row."""

    folder: Path
    side: int
    """Height and width of a record."""
    shards: list[Shard]
    checksums_N: Checksums
    """Checksum of each record."""
    records_N: NDArray[np.int64]
    """Record of each row, counted over all shards."""
    first_S: NDArray[np.int64]
    """First record of each shard."""

    def wait_until_written(self, rows_N: NDArray[np.int64], stopped: Event) -> None:
        """Return once these records can be read, or `stopped` is set: at once, unless they are still being decoded."""

    def gather(self, rows_N: NDArray[np.int64], out_NHW: Gray) -> None:
        """Copy these records into the first rows of `out_NHW`.

        Raises: TryAgainError when one has changed since the pack was verified.
        """
        records_N = self.records_N[rows_N]
        shards_N = np.searchsorted(self.first_S, records_N, side="right") - 1
        places = list(zip(shards_N.tolist(), (records_N - self.first_S[shards_N]).tolist(), strict=True))
        expected_N = self.checksums_N[rows_N]
        for first in range(0, len(places), GROUP):
            group = places[first : first + GROUP]
            records_NSS = out_NHW[first : first + len(group)]
            for (shard, number), record_SS in zip(group, records_NSS, strict=True):
                self._read(self.shards[shard], number, record_SS)
            is_same_N = checksums_of(records_NSS) == expected_N[first : first + len(group)]
            if not is_same_N.all():
                wrong = int(is_same_N.argmin())
                raise self._changed(self.shards[group[wrong][0]], f"record {rows_N[first + wrong]} has changed")

    def _read(self, shard: Shard, number: int, record_SS: Gray) -> None:
        """Read a record of a shard. Raises: TryAgainError for a file that ends before it, or cannot be read."""
        try:
            is_whole = shard.read_into(record_SS, number)
        except OSError as problem:
            raise self._changed(shard, str(problem.strerror).lower()) from problem
        if not is_whole:
            raise self._changed(shard, f"record {number} of the file has changed")

    def _changed(self, shard: Shard, what: str) -> TryAgainError:
        return TryAgainError(
            f"cannot continue: the pack at `{self.folder}` was damaged while in use, in {shard.path.name}: {what}",
            hint="the next attempt verifies and rebuilds it; check the disk if this happens again",
        )


@dataclass(frozen=True, kw_only=True)
class Pack(Records):
    """An open pack: its records, and what is known about the images."""

    index: PackIndex
    sizes_N2: NDArray[np.int32]
    """Original width and height of each image; 0 and 0 for unreadable ones."""

    @property
    def sha256(self) -> str:
        """Hash of names and pixels, to check that a resumed run uses the same data; original sizes do not matter."""
        files = sorted(item for item in self.index.files.items() if item[0] == NAMES or is_shard(item[0]))
        return hashlib.sha256(json.dumps(files).encode()).hexdigest()
