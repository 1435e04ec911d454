"""Packs: a data set decoded once into uint8 arrays; opening, verification, reading.

    <pack>/shard-00000.bin   raw 8-bit gray records of side x side bytes, no header, about 64 MiB per file
    <pack>/names.txt         one image name per record
    <pack>/sizes.bin         original width and height of each image, little-endian int32; 0 and 0 for unreadable ones
    <pack>/manifest.json     the pack index, written last: side, filter, fit, gray range, counts, bytes and sha256 of every
    file, unreadable images
    <pack>/checksums.bin     CRC-32 of each record, little-endian uint32; rewritten from verified shards when missing

Images are resized as the recipe does, so a crop of a pack equals a crop of the image. Labels and splits stay with the
source: another split needs no other pack. Does not import torch, so that worker processes start fast.

Disks lose or change data silently. Each attempt verifies the whole pack against its index, and the index against the
request; each record is compared with its checksum whenever it is read. `trainer.data.packing` builds packs.
"""

import errno
import hashlib
import json
import os
import re
import stat
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import PIL
from numpy.typing import NDArray

from trainer.data.dicom import FULL_BITS
from trainer.data.records import Geometry, Gray
from trainer.errors import InputError, TryAgainError, listing
from trainer.limits import JSON_BYTES, parsed_json
from trainer.storage.files import file_errors, open_regular, remove_abandoned, replacing, write_flushed

Checksums = NDArray[np.uint32]

SHARD_BYTES: Final = 64 * 2**20
FORMAT: Final = 2
INDEX, NAMES, SIZES, CHECKSUMS = "manifest.json", "names.txt", "sizes.bin", "checksums.bin"
OUR_FILES: Final = re.compile(
    rf"shard-\d{{5,}}\.bin|{re.escape(INDEX)}|{NAMES}|{SIZES}|{CHECKSUMS}|\.(?:{CHECKSUMS}|{re.escape(INDEX)})-[0-9a-f]{{32}}\.partial"
)
"""Names of the files in a pack's folder."""

MOST_OPEN: Final = 128
"""Shards of a pack that stay open. By default a process may have 1024 open files, and a pack can have thousands of shards."""

_KEY_STEP: Final = 100
"""Images between calls of `progress`, whose files are only looked up."""

_DAMAGE: Final = frozenset(
    {
        errno.ENOENT,
        errno.ENOTDIR,
        errno.EISDIR,
        errno.EINVAL,
        errno.ELOOP,
        errno.EIO,
        errno.EBADMSG,
        getattr(errno, "EUCLEAN", errno.EIO),
    }
)
"""Error numbers for a file that is gone, is not a file, or cannot be read from its disk. Other errors may be
temporary, and no pack is rebuilt for them.
"""

Progress = Callable[[int], None]
"""Called with the number of further images done."""


class DamagedPackError(ValueError):
    """A pack that differs from what was written; the text follows `the pack at … is damaged: `."""


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


@dataclass(frozen=True)
class Pack:
    """An open pack."""

    folder: Path
    index: PackIndex
    shards: list[Shard]
    sizes_N2: NDArray[np.int32]
    """Original width and height of each image; 0 and 0 for unreadable ones."""
    checksums_N: Checksums
    """CRC-32 of each record."""

    def gather(self, rows_N: NDArray[np.int64], out_NHW: Gray) -> None:
        """Copy these records into the first rows of `out_NHW`.

        Raises: TryAgainError when one has changed since the pack was verified.
        """
        per_shard = records_per_shard(self.index.geometry.side)
        for position, row in enumerate(rows_N.tolist()):
            shard, record_SS, expected = self.shards[row // per_shard], out_NHW[position], self.checksums_N[row]
            try:
                is_whole = shard.read_into(record_SS, row % per_shard)
            except OSError as problem:
                raise self._changed(shard, str(problem.strerror).lower()) from problem
            if not is_whole or zlib.crc32(record_SS) != expected:
                raise self._changed(shard, f"record {row} has changed")

    def _changed(self, shard: Shard, what: str) -> TryAgainError:
        return TryAgainError(
            f"cannot continue: the pack at `{self.folder}` was damaged while in use, in {shard.path.name}: {what}",
            hint="the next attempt verifies and rebuilds it; check the disk if this happens again",
        )

    @property
    def sha256(self) -> str:
        """Hash of names and pixels, to check that a resumed run uses the same data; original sizes do not matter."""
        files = sorted(item for item in self.index.files.items() if item[0] != SIZES)
        return hashlib.sha256(json.dumps(files).encode()).hexdigest()


def pack_key(
    names: Sequence[str], paths: Sequence[Path], geometry: Geometry, *, progress: Progress = lambda _: None
) -> str:
    """A folder name that changes with any image, name or the geometry. `progress` is called after each hundred images.

    Raises: InputError for images that are missing, unreachable or not regular files.
    """
    digest = hashlib.sha256(json.dumps([FORMAT, PIL.__version__, geometry.described()]).encode())
    problems = []
    for count, (name, path) in enumerate(zip(names, paths, strict=True), start=1):
        if count % _KEY_STEP == 0:
            progress(_KEY_STEP)
        try:
            status = path.stat()
        except OSError as problem:
            problems.append(f"{path}: {problem.strerror}")
            continue
        if not stat.S_ISREG(status.st_mode):  # opening a pipe would block
            problems.append(f"{path}: it is not a regular file")
        digest.update(f"{name}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
    if problems:
        raise InputError(f"cannot read {len(problems)} images:{listing(problems)}", hint="check --data")
    return digest.hexdigest()[:24]


def open_pack(
    folder: Path, names: Sequence[str], geometry: Geometry, *, progress: Progress = lambda _: None
) -> Pack | None:
    """The pack of these images at `folder`, verified completely on all cores; None when missing.

    The checksums of its records are written beside them when missing or different.

    Raises: DamagedPackError; InputError without permission to read it.
    """
    if not folder.exists():
        return None
    with _named_damage(folder):
        index = _index(folder, names, geometry)
        _check_small_files(folder, index, names)
        checksums_N = _all_verified(folder, index, progress)
        keep_checksums(folder, checksums_N)
        return _opened(folder, index, checksums_N)


def attach(folder: Path, names: Sequence[str], geometry: Geometry) -> Pack:
    """The pack that another process of this node has just verified; verified again if that could not write the checksums.

    Raises: TryAgainError when it was removed or changed meanwhile.
    """
    try:
        with _named_damage(folder):
            index = _index(folder, names, geometry)
            _check_small_files(folder, index, names)
            checksums_N = _kept_checksums(folder, len(names))
            if checksums_N is None:
                checksums_N = _all_verified(folder, index, lambda _: None)
            return _opened(folder, index, checksums_N)
    except DamagedPackError as damage:
        raise TryAgainError(
            f"cannot use the pack at `{folder}`: {damage}", hint="another run may be rebuilding it; try again"
        ) from damage


def keep_checksums(folder: Path, checksums_N: Checksums) -> None:
    """Write the checksums for the other processes of this node, unless present; without them, as on a full disk,
    each computes its own.
    """
    existing_N = _kept_checksums(folder, len(checksums_N))
    if existing_N is not None and np.array_equal(existing_N, checksums_N):
        return
    remove_abandoned(folder, [CHECKSUMS])
    with suppress(OSError), replacing(folder / CHECKSUMS) as partial:
        write_flushed(partial, [checksums_N.astype("<u4").tobytes()])


def _kept_checksums(folder: Path, count: int) -> Checksums | None:
    with suppress(OSError, DamagedPackError):
        return np.frombuffer(_content(folder / CHECKSUMS, 4 * count), "<u4").astype(np.uint32)
    return None


@contextmanager
def _named_damage(folder: Path) -> Iterator[None]:
    """Treat a missing or physically unreadable file as damage.

    Raises: DamagedPackError; InputError without permission to read; TryAgainError for errors unrelated to the pack,
    such as a limit on open files.
    """
    try:
        yield
    except PermissionError as problem:
        raise InputError(
            f"cannot read the pack at `{folder}`: permission denied", hint="choose another --cache-dir"
        ) from problem
    except OSError as problem:
        name = Path(str(problem.filename)).name if problem.filename else "one of its files"
        reason = f"{name}: {str(problem.strerror).lower()}"
        if problem.errno in _DAMAGE:
            raise DamagedPackError(reason) from problem
        raise TryAgainError(
            f"cannot read the pack at `{folder}`: {reason}", hint="choose another --cache-dir"
        ) from problem


def _index(folder: Path, names: Sequence[str], geometry: Geometry) -> PackIndex:
    """The index, checked against these images; other files are not read. Raises: DamagedPackError; OSError."""
    try:
        document: Any = parsed_json(_content(folder / INDEX))
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


def _check_small_files(folder: Path, index: PackIndex, names: Sequence[str]) -> None:
    """Raises: DamagedPackError when names or sizes have changed, or contradict the unreadable images in the index; OSError."""
    if _hashed(folder, NAMES, index) != "".join(f"{name}\n" for name in names).encode():
        raise DamagedPackError(f"{NAMES} lists other images")
    sizes_N2 = _sizes(_hashed(folder, SIZES, index))
    if {name for name, size in zip(names, sizes_N2.tolist(), strict=True) if size == [0, 0]} != index.unreadable.keys():
        raise DamagedPackError(f"{INDEX} and {SIZES} disagree on which images are unreadable")


def _sizes(content: bytes) -> NDArray[np.int32]:
    return np.frombuffer(content, "<i4").reshape(-1, 2).astype(np.int32)


def _hashed(folder: Path, name: str, index: PackIndex) -> bytes:
    size, sha256 = index.files[name]
    content = _content(folder / name, size)
    if hashlib.sha256(content).hexdigest() != sha256:
        raise DamagedPackError(f"{name} has changed")
    return content


def _content(path: Path, size: int | None = None) -> bytes:
    """A small file, checked for its size if given. Raises: DamagedPackError; OSError."""
    most = JSON_BYTES if size is None else size
    with open_regular(path) as file:
        content = file.read(most + 1)
    if len(content) > most or (size is not None and len(content) != size):
        raise DamagedPackError(f"{path.name} has another size")
    return content


def _all_verified(folder: Path, index: PackIndex, progress: Progress) -> Checksums:
    """CRC-32 of each record, with every shard verified, on all cores. Raises: DamagedPackError; OSError."""
    names, parts = shard_names(index.count, index.geometry.side), [np.empty(0, np.uint32)]
    with ThreadPoolExecutor(min(len(os.sched_getaffinity(0)), len(names) or 1)) as pool:
        for name, part in zip(names, pool.map(lambda name: _verified(folder, name, index), names), strict=True):
            parts.append(part)
            progress(index.files[name][0] // index.geometry.side**2)
    return np.concatenate(parts)


def _verified(folder: Path, name: str, index: PackIndex) -> Checksums:
    """CRC-32 of each record of a shard that matches the index. Raises: DamagedPackError; OSError."""
    size, sha256 = index.files[name]
    digest, checksums = hashlib.sha256(), []
    with open_regular(folder / name) as file:
        if os.fstat(file.fileno()).st_size != size:
            raise DamagedPackError(f"{name} has another size")
        while record := file.read(index.geometry.side**2):
            digest.update(record)
            checksums.append(zlib.crc32(record))
    if digest.hexdigest() != sha256:
        raise DamagedPackError(f"{name} has changed")
    return np.array(checksums, np.uint32)


def _opened(folder: Path, index: PackIndex, checksums_N: Checksums) -> Pack:
    names = shard_names(index.count, index.geometry.side)
    shards = [Shard(folder / name, stays_open=number < MOST_OPEN) for number, name in enumerate(names)]
    return Pack(folder, index, shards, _sizes(_hashed(folder, SIZES, index)), checksums_N)


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
