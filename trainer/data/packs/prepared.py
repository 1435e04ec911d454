"""The index of a prepared set: pack format 3, which holds labels and needs no source.

    <set>/shard-PPPP-NNNN.bin   records as in a pack; those of part PPPP, in order
    <set>/names.txt, sizes.bin  as in a pack
    <set>/checksums.bin         checksum of each record, little-endian uint32
    <set>/labels.csv            one row per record: see `trainer.data.packs.labels_csv`
    <set>/NOTICE.txt            terms of the data set
    <set>/manifest.json         the index, written last

Records stand in the order of the parts. docs/packs.md describes all of it.
"""

import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, get_args

from trainer.config import Layout, PackFit
from trainer.data.dicom import FULL_BITS
from trainer.data.packs.damage import DamagedPackError, named_damage
from trainer.data.packs.index import CHECKSUMS, INDEX, NAMES, SIZES, content_of
from trainer.data.packs.records import Geometry
from trainer.errors import InputError
from trainer.limits import parsed_json

FORMAT: Final = 3
LABELS, NOTICE = "labels.csv", "NOTICE.txt"
SHARD: Final = re.compile(r"shard-(\d{4})-(\d{4})\.bin", re.ASCII)
_SMALL_FILES: Final = frozenset({NAMES, SIZES, CHECKSUMS, LABELS, NOTICE})
_FORMAT: Final = re.compile(rb'"format": ([0-9]{1,9}),')
_SHA256: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)


def shard_name(part: int, number: int) -> str:
    """Name of a shard of a part."""
    return f"shard-{part:04d}-{number:04d}.bin"


@dataclass(frozen=True, kw_only=True)
class Part:
    """Records that were made together: those of one archive, or of one run of image files."""

    name: str
    first: int
    """Number of its first record."""
    records: int
    shards: tuple[str, ...]
    source_sha256: str
    """Hash of names and sizes of the archive, or of the image files."""


@dataclass(frozen=True, kw_only=True)
class PreparedIndex:
    """Content of a prepared set."""

    layout: str
    """Layout of the source."""
    source_sha256: str
    """Hash of the labels, patients and split of all images of the source, in its order."""
    geometry: Geometry
    pillow: str
    count: int
    findings: tuple[str, ...]
    parts: tuple[Part, ...]
    files: dict[str, tuple[int, str]]
    """Bytes and sha256 by file name."""
    unreadable: dict[str, str]
    """Reason by image name; the record of such an image is black."""
    missing: int
    """Images of the label files that were in no archive and no folder."""
    greatest: int | None
    """Greatest value of all 16-bit images; None without any."""
    turned: int
    """Images whose EXIF orientation is ignored."""
    notes: tuple[str, ...] = ()
    """What the layout said of its labels and split, such as a choice between readers; one line each."""

    def shards(self) -> list[str]:
        """Names of all shards, in the order of their records."""
        return [name for part in self.parts for name in part.shards]

    def records_of(self, shard: str) -> int:
        """Number of records in a shard."""
        return self.files[shard][0] // self.geometry.side**2


def as_bytes(index: PreparedIndex) -> bytes:
    """The index as it is written: the same for the same records and labels."""
    document = {
        "format": FORMAT,
        "layout": index.layout,
        "source_sha256": index.source_sha256,
        "geometry": index.geometry.described(),
        "pillow": index.pillow,
        "count": index.count,
        "findings": list(index.findings),
        "parts": [asdict(part) for part in index.parts],
        "files": {name: list(index.files[name]) for name in sorted(index.files)},
        "unreadable": index.unreadable,
        "missing": index.missing,
        "greatest": index.greatest,
        "turned": index.turned,
        "notes": list(index.notes),
    }
    return json.dumps(document, indent=1, ensure_ascii=False).encode() + b"\n"


def is_index(content: bytes) -> bool:
    """Whether these bytes are an index of format 3 or higher, whatever their state."""
    found = _FORMAT.search(content[:64])
    return found is not None and int(found[1]) >= FORMAT


def is_prepared(folder: Path) -> bool:
    """Whether the folder holds a prepared set, whatever its state: its index, or the files that no other data set has."""
    try:
        if is_index(content_of(folder / INDEX)):
            return True
    except (OSError, DamagedPackError):
        pass
    return all((folder / name).exists() for name in (CHECKSUMS, LABELS))


def read(folder: Path) -> PreparedIndex:
    """The index of a prepared set. Raises: InputError."""
    try:
        with named_damage(folder):
            return parsed(content_of(folder / INDEX))
    except DamagedPackError as damage:
        raise damaged(folder, damage) from damage


def damaged(folder: Path, damage: DamagedPackError) -> InputError:
    """The error for a prepared set that differs from its index: nothing here can build it again."""
    return InputError(
        f"cannot use the prepared set at `{folder}`: it is damaged: {damage}",
        hint="copy it again, or prepare it again with `trainer prepare` into an empty directory",
    )


def parsed(content: bytes) -> PreparedIndex:
    """The index in these bytes. Raises: DamagedPackError where it is none, or contradicts itself."""
    try:
        document: Any = parsed_json(content)
        index = _of(document) if document["format"] == FORMAT else None
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
        raise DamagedPackError(f"{INDEX} cannot be read") from None
    if index is None:
        number = document["format"]
        newer = ", of a newer version of this program" if isinstance(number, int) and number > FORMAT else ""
        raise DamagedPackError(f"{INDEX} has another format than {FORMAT}{newer}")
    problem = _contradiction(index)
    if problem:
        raise DamagedPackError(f"{INDEX} contradicts itself: {problem}")
    return index


def _of(document: dict[str, Any]) -> PreparedIndex:
    """The index that a document of this format holds. Raises: ValueError, KeyError, TypeError, AttributeError, OverflowError."""
    return PreparedIndex(
        layout=str(document["layout"]),
        source_sha256=str(document["source_sha256"]),
        geometry=_geometry(document["geometry"]),
        pillow=str(document["pillow"]),
        count=int(document["count"]),
        findings=tuple(str(name) for name in document["findings"]),
        parts=tuple(_part(part) for part in document["parts"]),
        files={str(name): (int(size), str(sha256)) for name, (size, sha256) in document["files"].items()},
        unreadable={str(name): str(reason) for name, reason in document["unreadable"].items()},
        missing=int(document["missing"]),
        greatest=None if document["greatest"] is None else int(document["greatest"]),
        turned=int(document["turned"]),
        notes=tuple(str(note) for note in document.get("notes", [])),
    )


def _geometry(described: dict[str, Any]) -> Geometry:
    """The geometry that `described` gives. Raises: ValueError, KeyError, TypeError."""
    side, bits = described["side"], described.get("gray_bits", FULL_BITS)
    is_known = type(side) is int and 0 < side <= 1 << 16 and type(bits) is int and 0 < bits <= FULL_BITS
    if not is_known or described["fit"] not in get_args(PackFit) or described["filter"] != "bilinear":
        raise ValueError("unknown geometry")
    return Geometry(side=side, fit=described["fit"], filter=described["filter"], gray_bits=bits)


def _part(document: dict[str, Any]) -> Part:
    shards = tuple(str(name) for name in document["shards"])
    return Part(
        name=str(document["name"]),
        first=int(document["first"]),
        records=int(document["records"]),
        shards=shards,
        source_sha256=str(document["source_sha256"]),
    )


def _contradiction(index: PreparedIndex) -> str | None:
    """What in the index cannot be; None where nothing is."""
    shards = index.shards()
    problems = {
        f"its layout {index.layout} is not known": index.layout not in get_args(Layout),
        "its parts and files differ": index.files.keys() != {*shards, *_SMALL_FILES} or len(set(shards)) < len(shards),
        "a shard has an unusual name": not all(SHARD.fullmatch(name) for name in shards),
        "a size or hash is none": not all(
            size >= 0 and _SHA256.fullmatch(hash_) for size, hash_ in index.files.values()
        ),
    }
    return next((what for what, holds in problems.items() if holds), None) or _odd_records(index)


def _odd_records(index: PreparedIndex) -> str | None:
    """Which numbers of records contradict the sizes of the files; None where none does."""
    record_bytes, first = index.geometry.side**2, 0
    for part in index.parts:
        sizes = [index.files[name][0] for name in part.shards]
        is_whole = sum(sizes) == part.records * record_bytes and not any(size % record_bytes for size in sizes)
        if part.first != first or not is_whole:
            return f"the records of part {part.name}"
        first += part.records
    if first != index.count or index.files[SIZES][0] != 8 * first or index.files[CHECKSUMS][0] != 4 * first:
        return "the number of records"
    return None
