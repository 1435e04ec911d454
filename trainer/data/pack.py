"""A data set decoded once into uint8 arrays: open, verify, read.

    <pack>/shard-00000.bin   raw 8-bit gray records of side x side bytes, no header, about 64 MiB a file
    <pack>/names.txt         one image name a record
    <pack>/sizes.bin         width and height of each image as it was, little-endian int32; 0 and 0 where it could not be read
    <pack>/manifest.json     written last: side, filter, fit, counts, bytes and sha256 of every file, images that could not be read
    <pack>/checksums.bin     CRC-32 of each record, little-endian uint32; made from the verified shards wherever it is not there

Made with the recipe's own resize, so that what is cropped from a pack is what would be cropped from the image. Labels and
splits stay with the source: another split needs no other pack. Knows nothing of torch: worker processes start fast.

A disk loses or changes what it holds without a word. Each start verifies the whole pack against its manifest, and the manifest
against what is asked for; each record is compared with its checksum whenever it is read. `trainer.data.packing` makes packs.
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
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import PIL
from numpy.typing import NDArray

from trainer.data.records import Geometry, Gray
from trainer.errors import InputError, TryAgainError, listing
from trainer.limits import JSON_BYTES, parsed_json
from trainer.storage.files import open_regular, remove_abandoned, replacing, write_flushed

Checksums = NDArray[np.uint32]

SHARD_BYTES: Final = 64 * 2**20
FORMAT: Final = 2
MANIFEST, NAMES, SIZES, CHECKSUMS = "manifest.json", "names.txt", "sizes.bin", "checksums.bin"
OUR_FILES: Final = re.compile(
    rf"shard-\d{{5,}}\.bin|{re.escape(MANIFEST)}|{NAMES}|{SIZES}|{CHECKSUMS}|\.{CHECKSUMS}-[0-9a-f]{{32}}\.partial"
)
"""Names of the files in a pack's folder."""

MOST_OPEN: Final = 128
"""Shards of a pack that stay open. A process may open 1024 files where nobody has set more, and a pack can have thousands."""

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
"""What systems say of a file that is gone, is none, or can't be read from its disk. Whatever else fails may pass: no pack is built again for it."""

Progress = Callable[[int], None]
"""Called with the number of further images that are done."""


class DamagedPackError(ValueError):
    """A pack that differs from what was written; the text follows `the pack at … is damaged: `."""


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What a pack holds."""

    format: int
    geometry: Geometry
    count: int
    pillow: str
    files: dict[str, tuple[int, str]]
    """Bytes and sha256 by file name."""
    unreadable: dict[str, str]
    """Reason by image name; the record of such an image is black."""


class Shard:
    """A file of records, read by position: unlike a memory map, it fails with an error where the file has become shorter.

    One that does not stay open is opened for each record.
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
        """Fill the array with the record of this number; whether there was so much. Raises: OSError."""
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
    manifest: Manifest
    shards: list[Shard]
    sizes_N2: NDArray[np.int32]
    """Width and height of each image before it was resized; 0 and 0 where it could not be read."""
    checksums_N: Checksums
    """CRC-32 of each record."""

    def gather(self, rows_N: NDArray[np.int64], out_NHW: Gray) -> None:
        """Copy these records into the first rows of `out_NHW`.

        Raises: TryAgainError where one is no longer what it was when the pack was verified.
        """
        per_shard = records_per_shard(self.manifest.geometry.side)
        for position, row in enumerate(rows_N.tolist()):
            shard, record_SS, expected = self.shards[row // per_shard], out_NHW[position], self.checksums_N[row]
            try:
                is_whole = shard.read_into(record_SS, row % per_shard)
            except OSError as problem:
                raise self._changed(shard, str(problem.strerror).lower()) from problem
            if not is_whole or zlib.crc32(record_SS) != expected:
                raise self._changed(shard, f"record {row} is not what was written")

    def _changed(self, shard: Shard, what: str) -> TryAgainError:
        return TryAgainError(
            f"cannot go on: the pack at `{self.folder}` was damaged while it was used, in {shard.path.name}: {what}",
            hint="the next start verifies it and builds it again; look at the disk if this comes back",
        )

    @property
    def sha256(self) -> str:
        """One hash over names and pixels: what a run goes on with must be the same, and old sizes teach it nothing."""
        files = sorted(item for item in self.manifest.files.items() if item[0] != SIZES)
        return hashlib.sha256(json.dumps(files).encode()).hexdigest()


def pack_key(names: Sequence[str], paths: Sequence[Path], geometry: Geometry) -> str:
    """A folder name that changes when an image, its name or the geometry does.

    Raises: InputError for images that can't be found or reached, or are no regular files.
    """
    digest = hashlib.sha256(json.dumps([FORMAT, PIL.__version__, asdict(geometry)]).encode())
    problems = []
    for name, path in zip(names, paths, strict=True):
        try:
            status = path.stat()
        except OSError as problem:
            problems.append(f"{path}: {problem.strerror}")
            continue
        if not stat.S_ISREG(status.st_mode):  # whoever opens a pipe waits for ever
            problems.append(f"{path}: it is no regular file")
        digest.update(f"{name}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
    if problems:
        raise InputError(f"cannot read {len(problems)} images:{listing(problems)}", hint="check --data")
    return digest.hexdigest()[:24]


def open_pack(
    folder: Path, names: Sequence[str], geometry: Geometry, *, progress: Progress = lambda _: None
) -> Pack | None:
    """The pack of these images at `folder` once every byte of it is verified, on all cores; None where there is none.

    The checksums of its records are written beside them where they are missing, or another's.

    Raises: DamagedPackError; InputError where it may not be read.
    """
    if not folder.exists():
        return None
    with _named_damage(folder):
        manifest = _manifest(folder, names, geometry)
        _check_small_files(folder, manifest, names)
        checksums_N = _all_verified(folder, manifest, progress)
        keep_checksums(folder, checksums_N)
        return _opened(folder, manifest, checksums_N)


def attach(folder: Path, names: Sequence[str], geometry: Geometry) -> Pack:
    """The pack that another process of this node has verified a moment ago; verified again where it could not leave its checksums.

    Raises: TryAgainError where it is gone or changed meanwhile.
    """
    try:
        with _named_damage(folder):
            manifest = _manifest(folder, names, geometry)
            _check_small_files(folder, manifest, names)
            checksums_N = _kept_checksums(folder, len(names))
            if checksums_N is None:
                checksums_N = _all_verified(folder, manifest, lambda _: None)
            return _opened(folder, manifest, checksums_N)
    except DamagedPackError as damage:
        raise TryAgainError(
            f"cannot use the pack at `{folder}`: {damage}", hint="another run may be building it again; start once more"
        ) from damage


def keep_checksums(folder: Path, checksums_N: Checksums) -> None:
    """Write them for the other processes of this node, unless they are there; who finds none takes them itself, as on a full disk."""
    there_N = _kept_checksums(folder, len(checksums_N))
    if there_N is not None and np.array_equal(there_N, checksums_N):
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
    """Treat a file that is missing, or that its disk can't read, as damage.

    Raises: DamagedPackError; InputError without permission to read; TryAgainError for errors that say nothing of the pack, such as
    a limit on open files.
    """
    try:
        yield
    except PermissionError as problem:
        raise InputError(
            f"cannot read the pack at `{folder}`: permission denied", hint="--cache-dir names another place"
        ) from problem
    except OSError as problem:
        name = Path(str(problem.filename)).name if problem.filename else "a file of it"
        reason = f"{name}: {str(problem.strerror).lower()}"
        if problem.errno in _DAMAGE:
            raise DamagedPackError(reason) from problem
        raise TryAgainError(
            f"cannot read the pack at `{folder}`: {reason}", hint="--cache-dir names another place"
        ) from problem


def _manifest(folder: Path, names: Sequence[str], geometry: Geometry) -> Manifest:
    """The manifest, checked against these images; files are not read. Raises: DamagedPackError; OSError."""
    try:
        said: Any = parsed_json(_content(folder / MANIFEST))
        files = {str(name): (int(size), str(sha256)) for name, (size, sha256) in said["files"].items()}
        known = {"format": FORMAT, "geometry": asdict(geometry), "count": len(names), "pillow": PIL.__version__}
        is_known = said == known | {"files": said["files"], "unreadable": said["unreadable"]}
        unreadable = {str(name): str(reason) for name, reason in said["unreadable"].items()}
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
        raise DamagedPackError(f"{MANIFEST} can't be read") from None
    sizes = sizes_of_files(len(names), geometry.side) | {NAMES: sum(len(name.encode()) + 1 for name in names)}
    if not is_known or {name: size for name, (size, _) in files.items()} != sizes:
        raise DamagedPackError(f"{MANIFEST} is not of these images")
    return Manifest(
        format=FORMAT, geometry=geometry, count=len(names), pillow=PIL.__version__, files=files, unreadable=unreadable
    )


def _check_small_files(folder: Path, manifest: Manifest, names: Sequence[str]) -> None:
    """Raises: DamagedPackError where names or sizes are not what was written, or contradict what the manifest says can't be read; OSError."""
    if _hashed(folder, NAMES, manifest) != "".join(f"{name}\n" for name in names).encode():
        raise DamagedPackError(f"{NAMES} has other names")
    sizes_N2 = _sizes(_hashed(folder, SIZES, manifest))
    if {
        name for name, size in zip(names, sizes_N2.tolist(), strict=True) if size == [0, 0]
    } != manifest.unreadable.keys():
        raise DamagedPackError(f"{MANIFEST} and {SIZES} disagree on which images can't be read")


def _sizes(content: bytes) -> NDArray[np.int32]:
    return np.frombuffer(content, "<i4").reshape(-1, 2).astype(np.int32)


def _hashed(folder: Path, name: str, manifest: Manifest) -> bytes:
    size, sha256 = manifest.files[name]
    content = _content(folder / name, size)
    if hashlib.sha256(content).hexdigest() != sha256:
        raise DamagedPackError(f"{name} is not what was written")
    return content


def _content(path: Path, size: int | None = None) -> bytes:
    """A small file, of this size where one is given. Raises: DamagedPackError; OSError."""
    most = JSON_BYTES if size is None else size
    with open_regular(path) as file:
        content = file.read(most + 1)
    if len(content) > most or (size is not None and len(content) != size):
        raise DamagedPackError(f"{path.name} is not as long as it was")
    return content


def _all_verified(folder: Path, manifest: Manifest, progress: Progress) -> Checksums:
    """CRC-32 of each record once every shard is verified, on all cores. Raises: DamagedPackError; OSError."""
    names, parts = shard_names(manifest.count, manifest.geometry.side), [np.empty(0, np.uint32)]
    with ThreadPoolExecutor(min(len(os.sched_getaffinity(0)), len(names) or 1)) as pool:
        for name, part in zip(names, pool.map(lambda name: _verified(folder, name, manifest), names), strict=True):
            parts.append(part)
            progress(manifest.files[name][0] // manifest.geometry.side**2)
    return np.concatenate(parts)


def _verified(folder: Path, name: str, manifest: Manifest) -> Checksums:
    """CRC-32 of each record of a shard that is what the manifest says. Raises: DamagedPackError; OSError."""
    size, sha256 = manifest.files[name]
    digest, checksums = hashlib.sha256(), []
    with open_regular(folder / name) as file:
        if os.fstat(file.fileno()).st_size != size:
            raise DamagedPackError(f"{name} is not as long as it was")
        while record := file.read(manifest.geometry.side**2):
            digest.update(record)
            checksums.append(zlib.crc32(record))
    if digest.hexdigest() != sha256:
        raise DamagedPackError(f"{name} is not what was written")
    return np.array(checksums, np.uint32)


def _opened(folder: Path, manifest: Manifest, checksums_N: Checksums) -> Pack:
    names = shard_names(manifest.count, manifest.geometry.side)
    shards = [Shard(folder / name, stays_open=number < MOST_OPEN) for number, name in enumerate(names)]
    return Pack(folder, manifest, shards, _sizes(_hashed(folder, SIZES, manifest)), checksums_N)


def records_per_shard(side: int) -> int:
    """Records in each shard but the last."""
    return max(1, SHARD_BYTES // side**2)


def shard_names(count: int, side: int) -> list[str]:
    """Of the shards of so many records, in their order."""
    return [f"shard-{number:05d}.bin" for number in range(-(-count // records_per_shard(side)))]


def sizes_of_files(count: int, side: int) -> dict[str, int]:
    """Bytes of every file that the manifest lists, by name, but of the names of the images."""
    per_shard = records_per_shard(side)
    shards = {
        name: min(per_shard, count - number * per_shard) * side**2
        for number, name in enumerate(shard_names(count, side))
    }
    return {**shards, SIZES: 8 * count}
