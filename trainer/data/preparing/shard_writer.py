"""Writes the shards of one part: each is hashed and written on a thread while the next one fills."""

import hashlib
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from trainer.data.packs.checksums import GROUP, checksums_of
from trainer.data.packs.index import records_per_shard
from trainer.data.packs.prepared import shard_name
from trainer.data.packs.records import Gray
from trainer.storage import Storage


@contextmanager
def shard_writer(storage: Storage, part: int, side: int) -> Iterator["ShardWriter"]:
    """A writer of the shards of a part, whose last one is written at the end of the block. Raises: as the storage."""
    writer = ShardWriter(storage, part, side)
    try:
        yield writer
        writer.finish()
    finally:
        writer.close()


@dataclass
class ShardWriter:
    """Records in order to shards of a part; at most two shards are in memory."""

    storage: Storage
    part: int
    side: int
    shards: list[tuple[str, int, str]] = field(default_factory=list)
    """Name, bytes and sha256 of each shard written."""
    checksums: list[int] = field(default_factory=list)
    """Of each record written."""
    _filling: Gray | None = None
    _count: int = 0
    """Records in `_filling`."""
    _writing: Future[tuple[str, int, str, list[int]]] | None = None
    _started: int = 0
    _pool: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1))

    def add(self, records_NSS: Gray) -> None:
        """Append these records. Raises: as the storage, for an earlier shard."""
        per_shard = records_per_shard(self.side)
        while len(records_NSS):
            if self._filling is None:
                self._filling = np.empty((per_shard, self.side, self.side), np.uint8)
            taken = records_NSS[: per_shard - self._count]
            self._filling[self._count : self._count + len(taken)] = taken
            self._count += len(taken)
            records_NSS = records_NSS[len(taken) :]
            if self._count == per_shard:
                self._flush()

    def finish(self) -> None:
        """Write the last shard. Raises: as the storage."""
        self._flush()
        self._wait()

    def close(self) -> None:
        """End the thread; what is being written is written to its end."""
        self._pool.shutdown(cancel_futures=True)

    def _flush(self) -> None:
        if self._filling is None:
            return
        self._wait()
        content = self._filling[: self._count].tobytes()
        self._filling, self._count = None, 0
        self._writing = self._pool.submit(self._write, shard_name(self.part, self._started), content)
        self._started += 1

    def _wait(self) -> None:
        if self._writing is None:
            return
        name, size_bytes, sha256, checksums = self._writing.result()
        self.shards.append((name, size_bytes, sha256))
        self.checksums += checksums
        self._writing = None

    def _write(self, name: str, content: bytes) -> tuple[str, int, str, list[int]]:
        records_NB = np.frombuffer(content, np.uint8).reshape(-1, self.side**2)
        groups = [checksums_of(records_NB[first : first + GROUP]) for first in range(0, len(records_NB), GROUP)]
        checksums = np.concatenate(groups).tolist()
        sha256 = hashlib.sha256(content).hexdigest()
        self.storage.write(name, content)
        return name, len(content), sha256, checksums
