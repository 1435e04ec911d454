"""What an earlier start has written: parts that are finished, with intact shards, are kept."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from trainer.data.preparing.part_record import PartRecord, key_of, parsed
from trainer.data.preparing.plan import PlannedPart
from trainer.limits import JSON_BYTES
from trainer.storage import AbsentError, Stat, Storage


@dataclass(frozen=True)
class Written:
    """Files that are where the prepared set is written."""

    storage: Storage
    stats: Mapping[str, Stat]
    is_bucket: bool

    def is_intact(self, name: str, size_bytes: int, sha256: str) -> bool:
        """Whether a file is as it was written. A bucket has compared it with its hash when it was uploaded, so its size is enough."""
        if name not in self.stats or self.stats[name].size_bytes != size_bytes:
            return False
        if self.is_bucket:
            return True
        digest = hashlib.sha256()
        for chunk in self.storage.chunks(name):
            digest.update(chunk)
        return digest.hexdigest() == sha256


def finished_parts(
    written: Written,
    parts: Sequence[PlannedPart],
    *,
    retries_unreadable: bool,
    advance: Callable[[int], object],
) -> dict[int, PartRecord]:
    """Records of the finished parts by number; `advance` is called for each part.

    A part whose source has changed is left out, and with `retries_unreadable` one with unreadable images, which may have
    been replaced.
    """
    kept: dict[int, PartRecord] = {}
    for part in parts:
        record = _record_of(written.storage, part)
        if record is not None and not (record.unreadable and retries_unreadable):
            is_same = record.source_sha256 == part.source_sha256()
            if is_same and all(written.is_intact(*shard) for shard in record.shards):
                kept[part.number] = record
        advance(1)
    return kept


def _record_of(storage: Storage, part: PlannedPart) -> PartRecord | None:
    try:
        return parsed(storage.read(key_of(part.number), most_bytes=JSON_BYTES))
    except (AbsentError, ValueError):  # none, or damaged: the part is prepared again
        return None
