"""Prepared sets as packs: verified against their index, and opened for the images of a label table."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from trainer.data.packs.checksums import Checksums
from trainer.data.packs.damage import DamagedPackError, named_damage
from trainer.data.packs.files import hashed, sizes_of_images, verified_shards
from trainer.data.packs.index import CHECKSUMS, NAMES, SIZES, PackIndex
from trainer.data.packs.key import Progress
from trainer.data.packs.prepared import FORMAT, PreparedIndex, damaged, read
from trainer.data.packs.reading import Pack, open_shards
from trainer.data.packs.records import Geometry
from trainer.errors import InputError


def open_prepared(folder: Path, names: Sequence[str], *, progress: Progress = lambda _: None) -> Pack:
    """The records of these images in a prepared set, which is verified completely, on all cores.

    Raises: InputError where it is damaged, cannot be read, or lacks one of the images.
    """
    index = read(folder)
    try:
        with named_damage(folder):
            checksums_R = verified_shards(folder, index.shards(), index.files, index.geometry.side**2, progress)
            _check_checksums(folder, index, checksums_R)
            return _opened(folder, index, names, checksums_R)
    except DamagedPackError as damage:
        raise damaged(folder, damage) from damage


def attach_prepared(folder: Path, names: Sequence[str]) -> Pack:
    """The records of these images in a prepared set that another process of this node has just verified. Raises: InputError."""
    index = read(folder)
    try:
        with named_damage(folder):
            checksums_R = np.frombuffer(hashed(folder, CHECKSUMS, index.files), "<u4").astype(np.uint32)
            return _opened(folder, index, names, checksums_R)
    except DamagedPackError as damage:
        raise damaged(folder, damage) from damage


def _check_checksums(folder: Path, index: PreparedIndex, checksums_R: Checksums) -> None:
    """Raises: DamagedPackError where checksums.bin has others; OSError."""
    if checksums_R.astype("<u4").tobytes() != hashed(folder, CHECKSUMS, index.files):
        raise DamagedPackError(f"{CHECKSUMS} is of other records")


def checked_geometry(folder: Path, requested: Geometry) -> Geometry:
    """As `geometry_for`, of the set in this folder. Raises: InputError naming what differs; as `read`."""
    return geometry_for(read(folder), str(folder), requested)


def geometry_for(index: PreparedIndex, place: str, requested: Geometry) -> Geometry:
    """Geometry of the records, checked to be the requested one; its gray range where none is requested.

    Where no image has 16 bits, records are the same for every gray range.

    Raises: InputError naming what differs.
    """
    made = index.geometry if index.greatest is not None else replace(index.geometry, gray_bits=requested.gray_bits)
    pairs = {"--pack-side": (made.side, requested.side), "--pack-fit": (made.fit, requested.fit)}
    if requested.gray_bits is not None:
        pairs["--gray-range"] = (made.bits, requested.bits)
    different = [f"{flag} {ours} (requested {theirs})" for flag, (ours, theirs) in pairs.items() if ours != theirs]
    if different:
        wanted = " ".join(f"{flag} {ours}" for flag, (ours, theirs) in pairs.items() if ours != theirs)
        raise InputError(
            f"cannot use the prepared set at `{place}`: it was prepared with {', '.join(different)}",
            hint=f"train with {wanted}; or prepare the data set again, as records cannot be changed",
        )
    return made


def _opened(folder: Path, index: PreparedIndex, names: Sequence[str], checksums_R: Checksums) -> Pack:
    """Raises: DamagedPackError; InputError where an image is not in the set; OSError."""
    content = hashed(folder, NAMES, index.files).decode("utf-8", "replace")
    row_of = {name: row for row, name in enumerate(content.removesuffix("\n").split("\n") if content else [])}
    absent = [name for name in names if name not in row_of]
    if absent:
        raise InputError(
            f"cannot use the prepared set at `{folder}`: {len(absent):,} images are not in it, the first is `{absent[0]}`"
        )
    records_N = np.array([row_of[name] for name in names], np.int64)
    shards = open_shards(folder / name for name in index.shards())
    sizes_R2 = sizes_of_images(hashed(folder, SIZES, index.files))
    counts_S = np.array([index.records_of(name) for name in index.shards()], np.int64)
    first_S = np.cumsum(counts_S) - counts_S
    return Pack(
        folder=folder,
        side=index.geometry.side,
        shards=shards,
        checksums_N=checksums_R[records_N],
        records_N=records_N,
        first_S=first_S,
        index=_as_pack(index, names),
        sizes_N2=sizes_R2[records_N],
    )


def _as_pack(index: PreparedIndex, names: Sequence[str]) -> PackIndex:
    present = set(names)
    return PackIndex(
        format=FORMAT,
        geometry=index.geometry,
        count=len(names),
        pillow=index.pillow,
        files=index.files,
        unreadable={name: reason for name, reason in index.unreadable.items() if name in present},
        greatest=index.greatest,
        turned=index.turned,
    )
