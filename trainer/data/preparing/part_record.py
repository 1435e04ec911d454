"""Record of a finished part: what the index says of it, so that another start need not prepare it again."""

import json
from dataclasses import dataclass
from typing import Any, Final

from trainer.data.packs.prepared import SHARD
from trainer.limits import parsed_json

PLAN: Final = "parts/plan.json"


def key_of(number: int) -> str:
    """Name of the record of a part."""
    return f"parts/{number:04d}.json"


@dataclass(frozen=True, kw_only=True)
class PartRecord:
    """A part whose shards are written."""

    name: str
    source_sha256: str
    shards: tuple[tuple[str, int, str], ...]
    """Name, bytes and sha256."""
    images: tuple[str, ...]
    """Names, in the order of their records."""
    sizes: tuple[tuple[int, int], ...]
    """Original width and height of each image; 0 and 0 for unreadable ones."""
    checksums: tuple[int, ...]
    """Of each record."""
    unreadable: dict[str, str]
    """Reason by image name."""
    greatest: int | None
    """Greatest value of the 16-bit images; None without any."""
    turned: int
    unlabelled: int
    """Images in the archive that no label file names."""

    def as_bytes(self) -> bytes:
        """The record as it is written."""
        return json.dumps(vars(self), ensure_ascii=False, separators=(",", ":")).encode()


def parsed(content: bytes) -> PartRecord:
    """The record in these bytes. Raises: ValueError where it is none."""
    try:
        document: Any = parsed_json(content)
        record = PartRecord(
            name=str(document["name"]),
            source_sha256=str(document["source_sha256"]),
            shards=tuple((str(name), int(size), str(sha256)) for name, size, sha256 in document["shards"]),
            images=tuple(str(name) for name in document["images"]),
            sizes=tuple((int(width), int(height)) for width, height in document["sizes"]),
            checksums=tuple(int(checksum) for checksum in document["checksums"]),
            unreadable={str(name): str(reason) for name, reason in document["unreadable"].items()},
            greatest=None if document["greatest"] is None else int(document["greatest"]),
            turned=int(document["turned"]),
            unlabelled=int(document["unlabelled"]),
        )
    except (KeyError, TypeError, AttributeError, OverflowError) as problem:
        raise ValueError("it is not the record of a part") from problem
    is_whole = len(record.images) == len(record.sizes) == len(record.checksums)
    if not is_whole or not all(SHARD.fullmatch(name) for name, _, _ in record.shards):
        raise ValueError("it contradicts itself")
    return record
