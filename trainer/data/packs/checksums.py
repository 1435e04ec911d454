"""Checksums of records, kept beside a pack for the processes of a node."""

import math
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from trainer.data.packs.damage import DamagedPackError
from trainer.data.packs.index import CHECKSUMS, content_of
from trainer.data.packs.records import Gray
from trainer.storage.files import remove_abandoned, replacing, write_flushed

Checksums = NDArray[np.uint32]


_BLOCK_BYTES: Final = 1024


GROUP: Final = 8
"""Records whose checksums are computed at once: their sums take half as long as one by one, while all are in the cache."""


def checksums_of(records_NSS: Gray) -> Checksums:
    """Checksum of each record: CRC-32 of the sums of its 64-bit words over blocks of 1 KiB, then of the bytes after the last block.

    Changes with every flipped bit, every changed run of up to 8 bytes, and when a record is truncated, zeroed, or replaced by
    another one (but for one in 4 billion). Not detected: blocks of 1 KiB that changed places within the record, and changes
    of several blocks that cancel out in the sums. The sha256 of the shard, compared at each start, detects these. Source:
    a fifth of the time of CRC-32 of the whole record (docs/decisions/0022).
    """
    record_bytes = math.prod(records_NSS.shape[1:])
    count, blocks = len(records_NSS), record_bytes // _BLOCK_BYTES
    records_NB = records_NSS.reshape(count, record_bytes)
    whole = blocks * _BLOCK_BYTES
    words_NBW = records_NB[:, :whole].view("<u8").reshape(count, blocks, _BLOCK_BYTES // 8)
    sums_NW = np.add.reduce(words_NBW, axis=1)
    pairs = zip(sums_NW, records_NB[:, whole:], strict=True)
    return np.array([zlib.crc32(tail.data, zlib.crc32(sums.data)) for sums, tail in pairs], np.uint32)


def keep_checksums(folder: Path, checksums_N: Checksums) -> None:
    """Write the checksums for the other processes of this node, unless present; without them, as on a full disk,
    each computes its own.
    """
    existing_N = kept_checksums(folder, len(checksums_N))
    if existing_N is not None and np.array_equal(existing_N, checksums_N):
        return
    remove_abandoned(folder, [CHECKSUMS])
    with suppress(OSError), replacing(folder / CHECKSUMS) as partial:
        write_flushed(partial, [checksums_N.astype("<u4").tobytes()])


def kept_checksums(folder: Path, count: int) -> Checksums | None:
    with suppress(OSError, DamagedPackError):
        return np.frombuffer(content_of(folder / CHECKSUMS, 4 * count), "<u4").astype(np.uint32)
    return None
