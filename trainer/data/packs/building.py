"""Building of packs: all images decoded once, on all cores; the folder appears atomically."""

import errno
import hashlib
import json
import os
import re
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Event
from typing import Final

import numpy as np
import PIL

from trainer.data.class_folders import DICOM_SUFFIXES
from trainer.data.dicom import check_dicom_readable
from trainer.data.locks import is_free
from trainer.data.packs.checksums import GROUP, Checksums, checksums_of, keep_checksums
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
from trainer.data.packs.key import Progress
from trainer.data.packs.records import Geometry
from trainer.errors import InputError, TryAgainError, listing
from trainer.runtime.cores import usable_cores
from trainer.storage.files import write_flushed

_TASK_IMAGES: Final = 32
"""Images that a worker process decodes per task: about half a second."""

_PARTIAL: Final = re.compile(r"\.([0-9a-f]{24})-[0-9a-f]{32}\.partial")
"""Names of folders of unfinished packs: the pack's key and a unique suffix."""

POLL_S: Final = 0.1
"""Interval of checks whether the pack is given up."""

STALE_S: Final = 24 * 3600.0
"""Age at which another pack's unfinished folder counts as abandoned; no build takes that long."""


class GivenUpError(Exception):
    """Nobody waits for the pack any more."""


@dataclass(frozen=True)
class DecodeTask:
    """Images that a decoder decodes at once, and writes to a shard."""

    first: int
    """Row of its first image."""
    result: Future[Decoded]


def build(
    folder: Path,
    names: Sequence[str],
    paths: Sequence[Path],
    geometry: Geometry,
    *,
    progress: Progress,
    begun: Callable[[Sequence[Path], Sequence[DecodeTask]], object] = lambda _shards, _tasks: None,
    given_up: Event | None = None,
) -> None:
    """Decode all images into a new pack at `folder`, on all cores; unreadable images are listed in the index.

    The folder appears complete and fsynced, or not at all. A previous pack there is removed if all its files are a
    pack's. The caller holds `locked`.

    `begun` gets the shards and what the decoders are to write to them. Once all images are decoded, `given_up` has no effect.

    Raises: GivenUpError when `given_up` is set; InputError for errors that a restart would meet again: the cache is too small or has
    foreign files, DICOM is not supported here, or an image needs too much memory; TryAgainError when the pack cannot be written.
    """
    if any(path.suffix.lower() in DICOM_SUFFIXES for path in paths):
        check_dicom_readable()
    partial = folder.with_name(f".{folder.name}-{uuid.uuid4().hex}.partial")
    try:
        _clear(folder)
        partial.mkdir()
        try:
            _write(partial, names, paths, geometry, progress, begun=begun, given_up=given_up or Event())
            _flush(partial)
            partial.replace(folder)
            _flush(folder.parent)
        except BaseException:
            _remove(partial)
            raise
    except OSError as problem:
        kind = InputError if problem.errno in {errno.ENOSPC, errno.EDQUOT} else TryAgainError
        raise kind(
            f"cannot write the decoded images to `{folder.parent}`: {str(problem.strerror).lower()} (from `--cache-dir`)",
            hint=f"{len(names) * geometry.side**2 / 2**30:.1f} GiB are needed; choose another --cache-dir",
        ) from problem


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


def _write(
    folder: Path,
    names: Sequence[str],
    paths: Sequence[Path],
    geometry: Geometry,
    progress: Progress,
    *,
    begun: Callable[[Sequence[Path], Sequence[DecodeTask]], object],
    given_up: Event,
) -> None:
    shards = _empty_shards(folder, len(paths), geometry.side)
    write_flushed(folder / NAMES, ["".join(f"{name}\n" for name in names).encode()])
    count = min(usable_cores(), max(1, len(paths) // _TASK_IMAGES))
    with decoders(count, lambda row: str(paths[row])) as pool:
        tasks = [
            DecodeTask(first_row + offset, pool.submit(decode, shard, first_row, offset, images, geometry))
            for shard, first_row, offset, images in _tasks(shards, paths, geometry.side)
        ]
        begun(shards, tasks)
        done_by_task = _wait_for_all(tasks, given_up, progress)
        sizes_N2 = np.array([size for done in done_by_task for size in done.sizes], "<i4")
        write_flushed(folder / SIZES, [sizes_N2.tobytes()])
        written = [*shards, folder / NAMES, folder / SIZES]
        hashes = []
        for one in pool.map(_flushed_and_hashed, written, [geometry.side**2] * len(written)):
            hashes.append(one)
            progress(0)
    checksums_N = np.array([one for _, checksums in hashes[: len(shards)] for one in checksums], np.uint32)
    _check_written(folder, checksums_N, done_by_task)
    keep_checksums(folder, checksums_N)
    files = {path.name: (path.stat().st_size, sha256) for path, (sha256, _) in zip(written, hashes, strict=True)}
    index = _index(names, geometry, files, done_by_task)
    write_flushed(folder / INDEX, [json.dumps(as_document(index), indent=1).encode()])


def _empty_shards(folder: Path, count: int, side: int) -> list[Path]:
    """New shards of zeros, for this many records."""
    shards = [folder / name for name in shard_names(count, side)]
    lengths = sizes_of_files(count, side)
    for shard in shards:
        with shard.open("xb") as file:
            file.truncate(lengths[shard.name])
    return shards


def _index(
    names: Sequence[str], geometry: Geometry, files: dict[str, tuple[int, str]], done_by_task: Sequence[Decoded]
) -> PackIndex:
    return PackIndex(
        format=FORMAT,
        geometry=geometry,
        count=len(names),
        pillow=PIL.__version__,
        files=files,
        unreadable=_unreadable(names, done_by_task),
        greatest=max((value for done in done_by_task for value in done.greatest), default=None),
        turned=sum(done.turned for done in done_by_task),
    )


def _wait_for_all(tasks: Sequence[DecodeTask], given_up: Event, progress: Progress) -> list[Decoded]:
    """What is known about the images, in the order of the tasks; progress and errors in the order in which they end."""
    ended: SimpleQueue[Future[Decoded]] = SimpleQueue()
    for task in tasks:
        task.result.add_done_callback(ended.put)
    for _ in tasks:
        progress(len(_next(ended, tasks, given_up).result().sizes))
    return [task.result.result() for task in tasks]


def _next(ended: "SimpleQueue[Future[Decoded]]", tasks: Sequence[DecodeTask], given_up: Event) -> Future[Decoded]:
    while True:
        if given_up.is_set() and not all(task.result.done() for task in tasks):
            raise GivenUpError
        with suppress(Empty):
            return ended.get(timeout=POLL_S)


def _check_written(folder: Path, checksums_N: Checksums, done_by_task: Sequence[Decoded]) -> None:
    """Raises: TryAgainError where the shards do not hold what was decoded."""
    decoded_N = np.array([checksum for done in done_by_task for checksum in done.checksums], np.uint32)
    if not np.array_equal(checksums_N, decoded_N):
        raise TryAgainError(
            f"cannot use the decoded images in `{folder.parent}`: {int((checksums_N != decoded_N).sum())} of {len(decoded_N)} records are not "
            "what was written (from `--cache-dir`)",
            hint="check the disk, or choose another --cache-dir",
        )


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


def _flushed_and_hashed(path: Path, record_bytes: int) -> tuple[str, list[int]]:
    """sha256 of a file after fsync, and CRC-32 of each of its records."""
    _flush(path)
    digest = hashlib.sha256()
    checksums: list[int] = []
    with path.open("rb") as file:
        while content := file.read(GROUP * record_bytes):
            digest.update(content)
            whole = len(content) // record_bytes * record_bytes  # names and sizes are hashed here, too
            checksums += checksums_of(np.frombuffer(content[:whole], np.uint8).reshape(-1, record_bytes)).tolist()
    return digest.hexdigest(), checksums
