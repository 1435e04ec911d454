"""Verification of packs: the whole pack against its index, and the index against the request, before anything is read."""

import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trainer.data.packs.checksums import Checksums, checksum, keep_checksums, kept_checksums
from trainer.data.packs.damage import DamagedPackError, named_damage
from trainer.data.packs.index import (
    INDEX,
    NAMES,
    SIZES,
    PackIndex,
    content_of,
    read_index,
    records_per_shard,
    shard_names,
)
from trainer.data.packs.key import Progress
from trainer.data.packs.reading import MOST_OPEN, Pack, Shard
from trainer.data.packs.records import Geometry
from trainer.errors import TryAgainError
from trainer.storage.files import open_regular


def open_pack(
    folder: Path, names: Sequence[str], geometry: Geometry, *, progress: Progress = lambda _: None
) -> Pack | None:
    """The pack of these images at `folder`, verified completely on all cores; None when missing.

    The checksums of its records are written beside them when missing or different.

    Raises: DamagedPackError; InputError without permission to read it.
    """
    if not folder.exists():
        return None
    with named_damage(folder):
        index = read_index(folder, names, geometry)
        _check_small_files(folder, index, names)
        checksums_N = _all_verified(folder, index, progress)
        keep_checksums(folder, checksums_N)
        return _opened(folder, index, checksums_N)


def attach(folder: Path, names: Sequence[str], geometry: Geometry) -> Pack:
    """The pack that another process of this node has just verified; verified again if that could not write the checksums.

    Raises: TryAgainError when it was removed or changed meanwhile.
    """
    try:
        with named_damage(folder):
            index = read_index(folder, names, geometry)
            _check_small_files(folder, index, names)
            checksums_N = kept_checksums(folder, len(names))
            if checksums_N is None:
                checksums_N = _all_verified(folder, index, lambda _: None)
            return _opened(folder, index, checksums_N)
    except DamagedPackError as damage:
        raise TryAgainError(
            f"cannot use the pack at `{folder}`: {damage}", hint="another run may be rebuilding it; try again"
        ) from damage


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
    content = content_of(folder / name, size)
    if hashlib.sha256(content).hexdigest() != sha256:
        raise DamagedPackError(f"{name} has changed")
    return content


def _all_verified(folder: Path, index: PackIndex, progress: Progress) -> Checksums:
    """Checksum of each record, with every shard verified, on all cores. Raises: DamagedPackError; OSError."""
    names, parts = shard_names(index.count, index.geometry.side), [np.empty(0, np.uint32)]
    with ThreadPoolExecutor(min(len(os.sched_getaffinity(0)), len(names) or 1)) as pool:
        for name, part in zip(names, pool.map(lambda name: _verified(folder, name, index), names), strict=True):
            parts.append(part)
            progress(index.files[name][0] // index.geometry.side**2)
    return np.concatenate(parts)


def _verified(folder: Path, name: str, index: PackIndex) -> Checksums:
    """Checksum of each record of a shard that matches the index. Raises: DamagedPackError; OSError."""
    size, sha256 = index.files[name]
    digest, checksums = hashlib.sha256(), []
    with open_regular(folder / name) as file:
        if os.fstat(file.fileno()).st_size != size:
            raise DamagedPackError(f"{name} has another size")
        while record := file.read(index.geometry.side**2):
            digest.update(record)
            checksums.append(checksum(record))
    if digest.hexdigest() != sha256:
        raise DamagedPackError(f"{name} has changed")
    return np.array(checksums, np.uint32)


def _opened(folder: Path, index: PackIndex, checksums_N: Checksums) -> Pack:
    names = shard_names(index.count, index.geometry.side)
    shards = [Shard(folder / name, stays_open=number < MOST_OPEN) for number, name in enumerate(names)]
    sizes_N2 = _sizes(_hashed(folder, SIZES, index))
    first_S = np.arange(len(names), dtype=np.int64) * records_per_shard(index.geometry.side)
    return Pack(folder, index, shards, sizes_N2, checksums_N, np.arange(index.count, dtype=np.int64), first_S)
