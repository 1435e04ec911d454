"""The last step: from the records of all parts to the index and the files beside the shards."""

import hashlib
from collections.abc import Sequence
from typing import Final

import numpy as np
import PIL

from trainer.config import OnBadImage, OnMissingImage
from trainer.data.labels import LabelTable
from trainer.data.layouts import Source
from trainer.data.packs.attribution import notice
from trainer.data.packs.index import CHECKSUMS, INDEX, NAMES, SIZES
from trainer.data.packs.labels_csv import as_bytes as labels_as_bytes
from trainer.data.packs.prepared import LABELS, NOTICE, SHARD, Part, PreparedIndex, as_bytes
from trainer.data.preparing.part_record import PLAN, PartRecord, key_of
from trainer.data.preparing.plan import Plan
from trainer.errors import InputError, listing, on_one_line
from trainer.storage import Storage

_SKIP_MISSING: Final = "check --data; --on-missing-image skip leaves them out and records how many"


def missing_images(table: LabelTable, present: frozenset[str]) -> list[str]:
    """Images in a split that are not there, in table order."""
    pairs = zip(table.images, table.split_N.tolist(), strict=True)
    return [name for name, split_index in pairs if split_index >= 0 and name not in present]


def check_missing(missing: Sequence[str], table: LabelTable, where: str, on_missing_image: OnMissingImage) -> None:
    """Raises: InputError for images that are neither files nor in an archive, unless they may be left out."""
    if missing and on_missing_image == "fail":
        raise InputError(
            f"cannot prepare `{where}`: {len(missing):,} of {len(table):,} images are in no archive and no folder{listing(missing)}",
            hint=_SKIP_MISSING,
        )


def check_unreadable(records: Sequence[PartRecord], where: str, on_bad_image: OnBadImage) -> None:
    """Raises: InputError for unreadable images, unless they may be skipped."""
    unreadable = {name: reason for record in records for name, reason in record.unreadable.items()}
    total = sum(len(record.images) for record in records)
    if unreadable and on_bad_image == "fail":
        raise InputError(
            f"cannot read {len(unreadable):,} of {total:,} images of `{where}`:"
            f"{listing(f'{name}: {reason}' for name, reason in unreadable.items())}",
            hint="replace them, or --on-bad-image skip lists them in the index; the other images stay prepared",
        )


def check_unique(records: Sequence[PartRecord]) -> None:
    """Raises: InputError for an image that is in two parts."""
    part_of: dict[str, str] = {}
    twice = []
    for record in records:
        for name in record.images:
            if name in part_of:
                twice.append(f"{name}: in {part_of[name]} and {record.name}")
            part_of[name] = record.name
    if twice:
        raise InputError(
            f"cannot prepare the data set: {len(twice):,} images are in two archives{listing(twice)}",
            hint="remove the archive that holds copies",
        )


def write_index(storage: Storage, plan: Plan, records: Sequence[PartRecord], source: Source, missing: int) -> bytes:
    """Write everything beside the shards, the index last; the index. Raises: as the storage."""
    table = source.table
    row_of = {name: row for row, name in enumerate(table.images)}
    names = [name for record in records for name in record.images]
    sizes = [size for record in records for size in record.sizes]
    checksums = [checksum for record in records for checksum in record.checksums]
    small = {
        NAMES: "".join(f"{name}\n" for name in names).encode(),
        SIZES: np.array(sizes, "<i4").reshape(-1, 2).tobytes(),
        CHECKSUMS: np.array(checksums, "<u4").tobytes(),
        LABELS: labels_as_bytes(table, [row_of[name] for name in names], source.nih_names),
        NOTICE: notice(plan.layout).encode(),
    }
    for name, content in small.items():
        storage.write(name, content)
    files = {name: (len(content), hashlib.sha256(content).hexdigest()) for name, content in small.items()}
    files |= {name: (size, sha256) for record in records for name, size, sha256 in record.shards}
    values = [record.greatest for record in records if record.greatest is not None]
    index = PreparedIndex(
        layout=plan.layout,
        source_sha256=plan.source_sha256,
        geometry=plan.geometry,
        pillow=PIL.__version__,
        count=len(names),
        findings=table.findings,
        parts=_parts(records),
        files=files,
        unreadable={name: reason for record in records for name, reason in record.unreadable.items()},
        missing=missing,
        greatest=max(values, default=None),
        turned=sum(record.turned for record in records),
        notes=tuple(map(on_one_line, source.notes)),
    )
    content = as_bytes(index)
    storage.write(INDEX, content)
    return content


def _parts(records: Sequence[PartRecord]) -> tuple[Part, ...]:
    parts = []
    first = 0
    for record in records:
        shards = tuple(name for name, _, _ in record.shards)
        parts.append(
            Part(
                name=record.name,
                first=first,
                records=len(record.images),
                shards=shards,
                source_sha256=record.source_sha256,
            )
        )
        first += len(record.images)
    return tuple(parts)


def remove_strays(storage: Storage, records: Sequence[PartRecord]) -> None:
    """Remove shards of no part, left by a start that found more images in one."""
    used = {name for record in records for name, _, _ in record.shards}
    for key in storage.keys("shard-"):
        if SHARD.fullmatch(key) and key not in used:
            storage.delete(key)


def remove_records(storage: Storage, plan: Plan) -> None:
    """Remove the records of parts, which the index replaces."""
    for part in plan.parts:
        storage.delete(key_of(part.number))
    storage.delete(PLAN)
