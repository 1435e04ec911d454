"""Building of packs: all images decoded once, on all cores; the folder appears atomically."""

import hashlib
import json
import os
import re
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, as_completed
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Final

import numpy as np
import PIL

from trainer.data.class_folders import DICOM_SUFFIXES
from trainer.data.dicom import check_dicom_readable
from trainer.data.locks import is_free
from trainer.data.packs.checksums import keep_checksums
from trainer.data.packs.decoders import decoders
from trainer.data.packs.decoding import Decoded, decode
from trainer.data.packs.index import (
    FORMAT,
    INDEX,
    NAMES,
    OUR_FILES,
    SIZES,
    PackIndex,
    as_document,
    records_per_shard,
    shard_names,
    sizes_of_files,
)
from trainer.data.packs.reading import MOST_OPEN, Shard
from trainer.data.packs.records import Geometry
from trainer.data.packs.unfinished import DecodeTask, UnfinishedPack, write_errors
from trainer.errors import InputError, listing
from trainer.runtime.cores import usable_cores
from trainer.storage.files import write_flushed

_TASK_IMAGES: Final = 32
"""Images that a worker process decodes per task: about half a second."""

_PARTIAL: Final = re.compile(r"\.([0-9a-f]{24})-[0-9a-f]{32}\.partial")
"""Names of folders of unfinished packs: the pack's key and a unique suffix."""

_HASHED_BYTES: Final = 1 << 20
"""Bytes that are hashed at once."""

Progress = Callable[[], AbstractContextManager[Callable[[int, str], None]]]
"""Yields a function to call with the number of further images done, and a text."""

STALE_S: Final = 24 * 3600.0
"""Age at which another pack's unfinished folder counts as abandoned; no build takes that long."""


@contextmanager
def building(
    folder: Path, names: Sequence[str], paths: Sequence[Path], geometry: Geometry, *, progress: Progress
) -> Iterator[UnfinishedPack]:
    """Decode all images into a new pack at `folder`, on all cores; unreadable images are listed in the index.

    Records can be read within the block, while others are decoded. At its end, which waits under `progress` until all are, the folder
    appears complete and fsynced, or not at all. A previous pack there is removed if all its files are a pack's. The caller holds `locked`.

    Raises: InputError for errors that a restart would meet again: the cache is too small or has foreign files, DICOM is
    not supported here, or an image needs too much memory; TryAgainError when the pack cannot be written.
    """
    if any(path.suffix.lower() in DICOM_SUFFIXES for path in paths):
        check_dicom_readable()
    partial = folder.with_name(f".{folder.name}-{uuid.uuid4().hex}.partial")
    try:
        with ExitStack() as running:
            with write_errors(folder, len(names), geometry.side):
                _clear(folder)
                partial.mkdir()
                count = min(usable_cores(), max(1, len(paths) // _TASK_IMAGES))
                pool = running.enter_context(decoders(count, lambda row: str(paths[row])))
                unfinished = _begin(partial, names, paths, geometry, pool)
            yield unfinished
            with write_errors(folder, len(names), geometry.side):
                _write(unfinished, names, pool, progress)
        with write_errors(folder, len(names), geometry.side):
            _publish(partial, folder)
    except BaseException:
        _remove(partial)
        raise


def _clear(folder: Path) -> None:
    """Remove the pack to be rebuilt, and what interrupted builds have left.

    Raises: InputError when files that are not a pack's are in the way; OSError.
    """
    if folder.is_symlink():
        raise InputError(f"cannot rebuild the pack at `{folder}`: it is a link", hint="remove the link")
    if folder.exists() and (foreign := _foreign(folder)):
        raise InputError(
            f"cannot rebuild the pack at `{folder}`: it contains files that are not a pack's{listing(foreign)}",
            hint="move them elsewhere, or choose another --cache-dir",
        )
    if folder.exists():
        _remove(folder)
    for left in folder.parent.iterdir():
        key = _PARTIAL.fullmatch(left.name)
        if left.name.startswith(f".{folder.name}-") and left.name.endswith(".partial"):
            is_left = re.fullmatch(r"[0-9a-f]{32}", left.name[len(folder.name) + 2 : -len(".partial")]) is not None
        else:
            is_left = key is not None and _is_stale(left) and is_free(folder.with_name(key[1]))
        if is_left and not left.is_symlink() and left.is_dir() and not _foreign(left):
            _remove(left)


def _is_stale(folder: Path) -> bool:
    try:
        return time.time() - folder.stat().st_mtime > STALE_S
    except OSError:
        return False


def _foreign(folder: Path) -> list[str]:
    """Foreign names in a pack's folder."""
    with os.scandir(folder) as entries:
        return sorted(
            entry.name
            for entry in entries
            if entry.is_dir(follow_symlinks=False) or not OUR_FILES.fullmatch(entry.name)
        )


def _remove(folder: Path) -> None:
    """Remove a pack's files, and the folder if it is then empty; of a link, only the link."""
    with suppress(OSError):
        for entry in list(os.scandir(folder)):
            if OUR_FILES.fullmatch(entry.name) and not entry.is_dir(follow_symlinks=False):
                Path(entry.path).unlink(missing_ok=True)
        folder.rmdir()


def _flush(path: Path) -> None:
    """Fsync a file or folder."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _publish(partial: Path, folder: Path) -> None:
    _flush(partial)
    partial.replace(folder)
    _flush(folder.parent)


def _begin(
    folder: Path, names: Sequence[str], paths: Sequence[Path], geometry: Geometry, pool: Executor
) -> UnfinishedPack:
    """A pack of which nothing is decoded yet."""
    shards = [folder / name for name in shard_names(len(paths), geometry.side)]
    lengths = sizes_of_files(len(paths), geometry.side)
    for shard in shards:
        with shard.open("xb") as file:
            file.truncate(lengths[shard.name])
    write_flushed(folder / NAMES, ["".join(f"{name}\n" for name in names).encode()])
    return UnfinishedPack(
        folder=folder,
        side=geometry.side,
        shards=[Shard(shard, stays_open=number < MOST_OPEN) for number, shard in enumerate(shards)],
        checksums_N=np.zeros(len(paths), np.uint32),
        records_N=np.arange(len(paths), dtype=np.int64),
        first_S=np.arange(len(shards), dtype=np.int64) * records_per_shard(geometry.side),
        geometry=geometry,
        tasks=[
            DecodeTask(first_row + offset, pool.submit(decode, shard, first_row, offset, images, geometry))
            for shard, first_row, offset, images in _tasks(shards, paths, geometry.side)
        ],
    )


def _write(unfinished: UnfinishedPack, names: Sequence[str], pool: Executor, progress: Progress) -> None:
    """Wait until everything is decoded, and write what else a pack consists of."""
    folder, results = unfinished.folder, [task.result for task in unfinished.tasks]
    with progress() as advance:
        for result in as_completed(results):
            advance(len(result.result()[0]), "")
        done_by_task = [result.result()[1] for result in results]
        sizes_N2 = np.array([size for done in done_by_task for size in done.sizes], "<i4")
        write_flushed(folder / SIZES, [sizes_N2.tobytes()])
        written = [*(shard.path for shard in unfinished.shards), folder / NAMES, folder / SIZES]
        files = {}
        for path, sha256 in zip(written, pool.map(_flushed_and_hashed, written), strict=True):
            files[path.name] = (path.stat().st_size, sha256)
            advance(0, "")
    index = PackIndex(
        format=FORMAT,
        geometry=unfinished.geometry,
        count=len(names),
        pillow=PIL.__version__,
        files=files,
        unreadable=_unreadable(names, done_by_task),
        greatest=max((value for done in done_by_task for value in done.greatest), default=None),
        turned=sum(done.turned for done in done_by_task),
    )
    keep_checksums(folder, np.concatenate([np.empty(0, np.uint32), *(result.result()[0] for result in results)]))
    write_flushed(folder / INDEX, [json.dumps(as_document(index), indent=1).encode()])


def _unreadable(names: Sequence[str], done_by_task: Sequence[Decoded]) -> dict[str, str]:
    """Reason of each unreadable image, in row order."""
    unreadable: dict[str, str] = {}
    first = 0
    for done in done_by_task:
        unreadable |= {names[first + position]: reason for position, reason in done.unreadable.items()}
        first += len(done.sizes)
    return unreadable


def _tasks(shards: Sequence[Path], paths: Sequence[Path], side: int) -> Iterator[tuple[Path, int, int, list[Path]]]:
    """Shard, its first record's row, the first record within it, and the images."""
    per_shard = records_per_shard(side)
    for number, shard in enumerate(shards):
        in_shard = list(paths[number * per_shard : (number + 1) * per_shard])
        for offset in range(0, len(in_shard), _TASK_IMAGES):
            yield shard, number * per_shard, offset, in_shard[offset : offset + _TASK_IMAGES]


def _flushed_and_hashed(path: Path) -> str:
    """sha256 of a file after fsync."""
    _flush(path)
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while content := file.read(_HASHED_BYTES):
            digest.update(content)
    return digest.hexdigest()
