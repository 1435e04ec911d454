"""Verification of packs: the whole pack against its index, and the index against the request, before anything is read."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from trainer.data.packs.checksums import Checksums, keep_checksums, kept_checksums
from trainer.data.packs.damage import DamagedPackError, named_damage
from trainer.data.packs.files import hashed, sizes_of_images, verified_shards
from trainer.data.packs.index import (
    INDEX,
    NAMES,
    SIZES,
    PackIndex,
    read_index,
    records_per_shard,
    shard_names,
)
from trainer.data.packs.key import Progress
from trainer.data.packs.reading import Pack, open_shards
from trainer.data.packs.records import Geometry
from trainer.errors import TryAgainError


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
    if hashed(folder, NAMES, index.files) != "".join(f"{name}\n" for name in names).encode():
        raise DamagedPackError(f"{NAMES} lists other images")
    sizes_N2 = sizes_of_images(hashed(folder, SIZES, index.files))
    if {name for name, size in zip(names, sizes_N2.tolist(), strict=True) if size == [0, 0]} != index.unreadable.keys():
        raise DamagedPackError(f"{INDEX} and {SIZES} disagree on which images are unreadable")


def _all_verified(folder: Path, index: PackIndex, progress: Progress) -> Checksums:
    """Checksum of each record, with every shard verified. Raises: DamagedPackError; OSError."""
    side = index.geometry.side
    return verified_shards(folder, shard_names(index.count, side), index.files, side**2, progress)


def _opened(folder: Path, index: PackIndex, checksums_N: Checksums) -> Pack:
    names = shard_names(index.count, index.geometry.side)
    shards = open_shards(folder / name for name in names)
    sizes_N2 = sizes_of_images(hashed(folder, SIZES, index.files))
    first_S = np.arange(len(names), dtype=np.int64) * records_per_shard(index.geometry.side)
    return Pack(
        folder=folder,
        side=index.geometry.side,
        shards=shards,
        checksums_N=checksums_N,
        records_N=np.arange(index.count, dtype=np.int64),
        first_S=first_S,
        index=index,
        sizes_N2=sizes_N2,
    )
