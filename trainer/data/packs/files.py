"""Files of a pack, compared with the sizes and hashes of its index."""

import hashlib
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trainer.data.packs.checksums import GROUP, Checksums, checksums_of
from trainer.data.packs.damage import DamagedPackError
from trainer.data.packs.index import content_of
from trainer.data.packs.key import Progress
from trainer.storage.files import open_regular

Files = Mapping[str, tuple[int, str]]
"""Bytes and sha256 by file name."""


def sizes_of_images(content: bytes) -> NDArray[np.int32]:
    """Original width and height of each image [N, 2] in the bytes of sizes.bin."""
    return np.frombuffer(content, "<i4").reshape(-1, 2).astype(np.int32)


def hashed(folder: Path, name: str, files: Files) -> bytes:
    """Content of a small file that matches the index. Raises: DamagedPackError; OSError."""
    size, sha256 = files[name]
    content = content_of(folder / name, size)
    if hashlib.sha256(content).hexdigest() != sha256:
        raise DamagedPackError(f"{name} has changed")
    return content


def verified_shards(
    folder: Path, names: Sequence[str], files: Files, record_bytes: int, progress: Progress
) -> Checksums:
    """Checksum of each record of these shards, all verified, on all cores. Raises: DamagedPackError; OSError."""
    parts = [np.empty(0, np.uint32)]
    with ThreadPoolExecutor(min(len(os.sched_getaffinity(0)), len(names) or 1)) as pool:
        checked = pool.map(lambda name: _verified(folder / name, files[name], record_bytes), names)
        for name, part in zip(names, checked, strict=True):
            parts.append(part)
            progress(files[name][0] // record_bytes)
    return np.concatenate(parts)


def _verified(path: Path, expected: tuple[int, str], record_bytes: int) -> Checksums:
    """Checksum of each record of a shard of this size and hash. Raises: DamagedPackError; OSError."""
    size, sha256 = expected
    digest, checksums = hashlib.sha256(), [np.empty(0, np.uint32)]
    with open_regular(path) as file:
        if os.fstat(file.fileno()).st_size != size:
            raise DamagedPackError(f"{path.name} has another size")
        while content := file.read(GROUP * record_bytes):
            digest.update(content)
            checksums.append(checksums_of(np.frombuffer(content, np.uint8).reshape(-1, record_bytes)))
    if digest.hexdigest() != sha256:
        raise DamagedPackError(f"{path.name} has changed")
    return np.concatenate(checksums)
