"""The parts of a data set, planned from its listing and labels alone: every process plans the same."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import PIL

from trainer.data.packs.labels_csv import as_bytes
from trainer.data.packs.records import Geometry
from trainer.data.preparing.archives import Archive
from trainer.data.preparing.sources import DataSet, ImageFile
from trainer.errors import InputError, listing, on_one_line
from trainer.storage.files import file_errors

FILES_PER_PART: Final = 4096
MEMBERS_PER_PART: Final = 16_384
"""Members of an archive with a directory, which is read for each part."""

MOST_PARTS: Final = 10_000
_SHOWN_CHARS: Final = 40
_NAMED: Final = 3


@dataclass(frozen=True)
class PlannedPart:
    """An archive, a piece of one that has a directory, or a run of image files in table order."""

    number: int
    name: str
    archive: Archive | None
    files: tuple[tuple[str, ImageFile], ...] = ()
    """Name and place of each image, where it is no archive."""

    def source_sha256(self) -> str:
        """Hash of names and sizes of what the part is made from. Raises: InputError for a file that is not there."""
        if self.archive is not None:
            pairs = [(self.archive.key, self.archive.stat.size_bytes)]
        else:
            pairs = [(name, _size_of(file)) for name, file in self.files]
        return hashlib.sha256(json.dumps(pairs).encode()).hexdigest()


@dataclass(frozen=True)
class Plan:
    """All parts, and what decides their records."""

    parts: tuple[PlannedPart, ...]
    geometry: Geometry
    layout: str
    source_sha256: str
    """Hash of the labels, patients and split of all images."""

    def described(self) -> dict[str, Any]:
        """What must be the same for a start that continues another one."""
        return {
            "layout": self.layout,
            "labels, patients and split": self.source_sha256,
            **{f"{key} of the records": value for key, value in self.geometry.described().items()},
            "Pillow": PIL.__version__,
            "parts": [part.name for part in self.parts],
        }

    def of_share(self, share: tuple[int, int] | None) -> Sequence[PlannedPart]:
        """The parts of the K-th of N shares; all without one."""
        return self.parts if share is None else self.parts[share[0] - 1 :: share[1]]


def plan(data_set: DataSet, geometry: Geometry) -> Plan:
    """The parts in the order of their records: archives by name, then runs of image files. Raises: InputError."""
    table = data_set.source.table
    files = list(data_set.files.items())
    has_all = len(files) == len(table)
    pieces = [] if has_all else _pieces(data_set.archives)
    runs = [files[first : first + FILES_PER_PART] for first in range(0, len(files), FILES_PER_PART)]
    if len(pieces) + len(runs) > MOST_PARTS:
        raise InputError(
            f"cannot prepare the data set: it has {len(pieces) + len(runs):,} parts, at most {MOST_PARTS:,} are possible"
        )
    if not pieces and not runs:
        raise InputError(
            f"cannot prepare `{data_set.storage.url}`: it has none of the {len(table):,} images, neither as files nor in archives"
            f"{listing(table.images)}",
            hint="archives must end in .tar.gz, .tgz, .tar or .zip",
        )
    parts = [PlannedPart(number, name, archive) for number, (name, archive) in enumerate(pieces)]
    parts += [
        PlannedPart(len(pieces) + number, f"image files {number:04d}", None, tuple(run))
        for number, run in enumerate(runs)
    ]
    labels = hashlib.sha256(as_bytes(table, range(len(table)), data_set.source.nih_names)).hexdigest()
    return Plan(tuple(parts), geometry, data_set.source.layout, labels)


def _pieces(archives: Sequence[Archive]) -> list[tuple[str, Archive]]:
    """Name and archive of each part; an archive with a directory may have several parts. Raises: InputError."""
    named = []
    for archive in archives:
        pieces = archive.pieces(MEMBERS_PER_PART)
        names = [archive.key] if len(pieces) == 1 else [f"{archive.key} {number:04d}" for number in range(len(pieces))]
        named += list(zip(names, pieces, strict=True))
    return named


def differences(ours: dict[str, Any], theirs: dict[str, Any]) -> list[str]:
    """What differs between two descriptions of plans, in words."""
    lines = []
    for key, value in ours.items():
        other = theirs.get(key)
        if value != other:
            is_short = len(str(value)) < _SHOWN_CHARS and len(str(other)) < _SHOWN_CHARS
            text = f"{other} there, {value} here" if is_short else f"not the same{_only_in_one(value, other)}"
            lines.append(f"{key}: {text}")
    return [on_one_line(line) for line in lines]


def _only_in_one(ours: object, theirs: object) -> str:
    """Names that only one of two lists has, in words; empty for other values."""
    if not (isinstance(ours, list) and isinstance(theirs, list)):
        return ""
    pairs = (("there", theirs, ours), ("here", ours, theirs))
    only = {where: [str(name) for name in names if name not in others] for where, names, others in pairs}
    return "".join(
        f", only {where}: {', '.join(names[:_NAMED])}{' …' if len(names) > _NAMED else ''}"
        for where, names in only.items()
        if names
    )


def _size_of(file: ImageFile) -> int:
    if file.stat is not None:
        return file.stat.size_bytes
    path = Path(file.place)
    with file_errors("read", path):
        return path.stat().st_size
