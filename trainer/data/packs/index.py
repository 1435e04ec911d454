"""The pack index: what a pack holds, and the names, sizes and hashes of its files."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import PIL

from trainer.data.dicom import FULL_BITS
from trainer.data.packs.damage import DamagedPackError
from trainer.data.packs.records import Geometry
from trainer.limits import JSON_BYTES, parsed_json
from trainer.storage.files import file_errors, open_regular, replacing, write_flushed

SHARD_BYTES: Final = 64 * 2**20
FORMAT: Final = 2
INDEX, NAMES, SIZES, CHECKSUMS = "manifest.json", "names.txt", "sizes.bin", "checksums.bin"
OUR_FILES: Final = re.compile(
    rf"shard-\d{{5,}}\.bin|{re.escape(INDEX)}|{NAMES}|{SIZES}|{CHECKSUMS}|\.(?:{CHECKSUMS}|{re.escape(INDEX)})-[0-9a-f]{{32}}\.partial"
)
"""Names of the files in a pack's folder."""


@dataclass(frozen=True, kw_only=True)
class PackIndex:
    """Content of a pack."""

    format: int
    geometry: Geometry
    count: int
    pillow: str
    files: dict[str, tuple[int, str]]
    """Bytes and sha256 by file name."""
    unreadable: dict[str, str]
    """Reason by image name; the record of such an image is black."""
    greatest: int | None = None
    """Greatest value of all 16-bit images; None without any, and where it has not been measured."""
    is_measured: bool = True
    """Whether it has been measured, which earlier versions did not."""
    turned: int = 0
    """Images whose EXIF orientation is ignored."""

    @property
    def is_without_16_bits(self) -> bool:
        """Whether it is known that there are no 16-bit images."""
        return self.is_measured and self.greatest is None


def read_index(folder: Path, names: Sequence[str], geometry: Geometry) -> PackIndex:
    """The index, checked against these images; other files are not read. Raises: DamagedPackError; OSError."""
    try:
        document: Any = parsed_json(content_of(folder / INDEX))
        files = {str(name): (int(size), str(sha256)) for name, (size, sha256) in document["files"].items()}
        known = {"format": FORMAT, "geometry": geometry.described(), "count": len(names), "pillow": PIL.__version__}
        is_measured = "greatest" in document
        turned, greatest = int(document.pop("turned", 0)), document.pop("greatest", None)
        greatest = None if greatest is None else int(greatest)
        is_known = document == known | {"files": document["files"], "unreadable": document["unreadable"]}
        is_known = is_known and (greatest is None or 0 <= greatest < 2**FULL_BITS)
        unreadable = {str(name): str(reason) for name, reason in document["unreadable"].items()}
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
        raise DamagedPackError(f"{INDEX} cannot be read") from None
    sizes = sizes_of_files(len(names), geometry.side) | {NAMES: sum(len(name.encode()) + 1 for name in names)}
    if not is_known or {name: size for name, (size, _) in files.items()} != sizes:
        raise DamagedPackError(f"{INDEX} describes other images")
    return PackIndex(
        format=FORMAT,
        geometry=geometry,
        count=len(names),
        pillow=PIL.__version__,
        files=files,
        unreadable=unreadable,
        greatest=greatest,
        is_measured=is_measured,
        turned=turned,
    )


def as_document(index: PackIndex) -> dict[str, Any]:
    """The index as it is written."""
    document = vars(index) | {"geometry": index.geometry.described()}
    unknown = {"turned"} if not index.turned else set()
    return {key: value for key, value in document.items() if key not in unknown | {"is_measured"}}


def write_measured(folder: Path, index: PackIndex, greatest: int | None) -> None:
    """Add the greatest value of the 16-bit images to the index of a pack of an earlier version. Raises: as `file_errors`."""
    with file_errors("write", folder / INDEX), replacing(folder / INDEX) as partial:
        document = as_document(replace(index, greatest=greatest))
        write_flushed(partial, [json.dumps(document, indent=1).encode()])


def content_of(path: Path, size: int | None = None) -> bytes:
    """A small file, checked for its size if given. Raises: DamagedPackError; OSError."""
    most = JSON_BYTES if size is None else size
    with open_regular(path) as file:
        content = file.read(most + 1)
    if len(content) > most or (size is not None and len(content) != size):
        raise DamagedPackError(f"{path.name} has another size")
    return content


def is_shard(name: str) -> bool:
    """Whether a file of a pack holds records, by its name."""
    return name.startswith("shard-")


def records_per_shard(side: int) -> int:
    """Records in each shard but the last."""
    return max(1, SHARD_BYTES // side**2)


def shard_names(count: int, side: int) -> list[str]:
    """Names of the shards of this many records, in order."""
    return [f"shard-{number:05d}.bin" for number in range(-(-count // records_per_shard(side)))]


def sizes_of_files(count: int, side: int) -> dict[str, int]:
    """Size of every file listed in the index, by name, except names.txt."""
    per_shard = records_per_shard(side)
    shards = {
        name: min(per_shard, count - number * per_shard) * side**2
        for number, name in enumerate(shard_names(count, side))
    }
    return {**shards, SIZES: 8 * count}
