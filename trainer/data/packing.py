"""Building of packs: all images decoded once, on all cores; the folder appears atomically."""

import errno
import hashlib
import json
import multiprocessing
import os
import re
import signal
import threading
import time
import uuid
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing import connection
from multiprocessing.context import SpawnContext, SpawnProcess
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Final

import numpy as np
import PIL

from trainer.data.class_folders import DICOM_SUFFIXES
from trainer.data.dicom import check_dicom_readable
from trainer.data.locks import is_free
from trainer.data.pack import (
    FORMAT,
    INDEX,
    NAMES,
    OUR_FILES,
    SIZES,
    PackIndex,
    Progress,
    as_document,
    keep_checksums,
    records_per_shard,
    shard_names,
    sizes_of_files,
)
from trainer.data.records import Geometry, to_record
from trainer.errors import InputError, KnownError, TryAgainError, listing
from trainer.screen import screen
from trainer.storage.files import write_flushed

_TASK_IMAGES: Final = 32
"""Images that a worker process decodes per task: about half a second."""

_PARTIAL: Final = re.compile(r"\.([0-9a-f]{24})-[0-9a-f]{32}\.partial")
"""Names of folders of unfinished packs: the pack's key and a unique suffix."""

STALE_S: Final = 24 * 3600.0
"""Age at which another pack's unfinished folder counts as abandoned; no build takes that long."""

_ENDING_S: Final = 10.0
"""How long the other decoders may take to end after one has ended."""

_POLL_S: Final = 0.01
"""Interval of polling an exit code."""

_MEMORY_HINT: Final = (
    "give the pod or machine more memory, or fewer CPUs so that fewer images are decoded at once; or replace the image"
)


def build(folder: Path, names: Sequence[str], paths: Sequence[Path], geometry: Geometry, *, progress: Progress) -> None:
    """Decode all images into a new pack at `folder`, on all cores; unreadable images are listed in the index.

    The folder appears complete and fsynced, or not at all. A previous pack there is removed if all its files are a
    pack's. The caller holds `locked`.

    Raises: InputError for errors that a restart would meet again: the cache is too small or has foreign files, DICOM is
    not supported here, or an image needs too much memory; TryAgainError when the pack cannot be written.
    """
    if any(path.suffix.lower() in DICOM_SUFFIXES for path in paths):
        check_dicom_readable()
    partial = folder.with_name(f".{folder.name}-{uuid.uuid4().hex}.partial")
    try:
        _clear(folder)
        partial.mkdir()
        try:
            _write(partial, names, paths, geometry, progress)
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


def _write(folder: Path, names: Sequence[str], paths: Sequence[Path], geometry: Geometry, progress: Progress) -> None:
    shards = [folder / name for name in shard_names(len(paths), geometry.side)]
    lengths = sizes_of_files(len(paths), geometry.side)
    for shard in shards:
        with shard.open("xb") as file:
            file.truncate(lengths[shard.name])
    write_flushed(folder / NAMES, ["".join(f"{name}\n" for name in names).encode()])
    with _decoders(paths) as pool:
        tasks = [pool.submit(_decode, *task, geometry) for task in _tasks(shards, paths, geometry.side)]
        unreadable: dict[Path, str] = {}
        for task in as_completed(tasks):
            done = task.result()
            unreadable |= done.unreadable
            progress(len(done.sizes))
        done_by_task = [task.result() for task in tasks]
        sizes_N2 = np.array([size for done in done_by_task for size in done.sizes], "<i4")
        write_flushed(folder / SIZES, [sizes_N2.tobytes()])
        written = [*shards, folder / NAMES, folder / SIZES]
        hashes = []
        for one in pool.map(_flushed_and_hashed, written, [geometry.side**2] * len(written)):
            hashes.append(one)
            progress(0)
    index = PackIndex(
        format=FORMAT,
        geometry=geometry,
        count=len(paths),
        pillow=PIL.__version__,
        files={path.name: (path.stat().st_size, sha256) for path, (sha256, _) in zip(written, hashes, strict=True)},
        unreadable={name: unreadable[path] for name, path in zip(names, paths, strict=True) if path in unreadable},
        greatest=max((value for done in done_by_task for value in done.greatest), default=None),
        turned=sum(done.turned for done in done_by_task),
    )
    keep_checksums(folder, np.array([one for _, checksums in hashes[: len(shards)] for one in checksums], np.uint32))
    write_flushed(folder / INDEX, [json.dumps(as_document(index), indent=1).encode()])


class _CurrentImages:
    """The current image of each decoder, in shared memory that outlives a killed decoder."""

    def __init__(self, decoders: int, context: SpawnContext) -> None:
        self._cells = context.RawArray("q", 2 * decoders)  # pairs of process ID and row; a free pair has process ID 0
        self._lock = context.Lock()
        self._place = 0

    def enter(self) -> None:
        """Register this decoder process."""
        with self._lock:
            self._place = next(place for place in range(0, len(self._cells), 2) if not self._cells[place])
            self._cells[self._place : self._place + 2] = [os.getpid(), -1]

    def note(self, row: int) -> None:
        """Set the current image of this decoder; -1 for none."""
        self._cells[self._place + 1] = row

    def row_of(self, process: int | None) -> int:
        """The current image of a decoder, -1 for none."""
        pairs = zip(self._cells[::2], self._cells[1::2], strict=True)
        return next((row for number, row in pairs if number and number == process), -1)


_slot: Final[list[_CurrentImages]] = []
"""In a decoder process: where it sets its current image."""


class _TrackingContext(SpawnContext):
    """Records the processes that a pool starts: the pool forgets them all when one has ended."""

    def __init__(self) -> None:
        super().__init__()
        self.started: list[BaseProcess] = []

    def Process(self, *args: Any, **settings: Any) -> SpawnProcess:  # type: ignore[override]  # noqa: ANN401, N802 - called by the pool
        """A process that is about to be started."""
        process = SpawnProcess(*args, **settings)
        self.started.append(process)
        return process


@contextmanager
def _decoders(paths: Sequence[Path]) -> Iterator[ProcessPoolExecutor]:
    """Processes that decode these images. Raises: InputError when the kernel kills one, with its current image."""
    count = min(len(os.sched_getaffinity(0)), max(1, len(paths) // _TASK_IMAGES))
    # spawn: the parent has threads, and forking a process that uses an accelerator is not safe
    context = _TrackingContext()
    current_images = _CurrentImages(count, context)
    with ProcessPoolExecutor(count, mp_context=context, initializer=_start_decoder, initargs=(current_images,)) as pool:
        try:
            yield pool
        except BaseException as problem:
            if isinstance(problem, BrokenProcessPool) or _is_broken(problem, context.started):
                raise _ended(context.started, current_images, paths) from problem
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _is_broken(problem: BaseException, started: Sequence[BaseProcess]) -> bool:
    """Whether a decoder ended while the pool started another one: the queue for it is closed then, an error without a number."""
    if not isinstance(problem, OSError) or problem.errno is not None:
        return False
    return bool(connection.wait([process.sentinel for process in started if process.pid is not None], _ENDING_S))


def _ended(started: Sequence[BaseProcess], current_images: _CurrentImages, paths: Sequence[Path]) -> InputError:
    """Error that names the decoder that ended first, and its image; the others are terminated."""
    for process in started:
        if process.pid is not None:  # the pool does not end a process that is still starting, and would wait forever
            process.terminate()
    codes = {process.pid: _exit_code(process) for process in started if process.pid is not None}
    ended = {pid: code for pid, code in codes.items() if code not in {None, 0, -signal.SIGTERM}}
    rows = [(current_images.row_of(pid), code) for pid, code in ended.items()]
    what = [f"{paths[row]}: {_cause(code)}" for row, code in rows if row >= 0]
    if not what:
        causes = ", ".join(sorted(set(map(_cause, ended.values())))) or "its process was ended"
        return InputError(f"cannot decode the images: {causes}", hint=_MEMORY_HINT)
    return InputError(
        f"cannot decode {'an image' if len(what) == 1 else f'{len(what)} images'}:{listing(what)}", hint=_MEMORY_HINT
    )


def _exit_code(process: BaseProcess) -> int | None:
    """The exit code of a process that is ending; None after `_ENDING_S`.

    The pool waits for the process, too. If the pool collects the exit code first, it appears here a moment later.
    """
    until_s = time.monotonic() + _ENDING_S
    while process.exitcode is None and time.monotonic() < until_s:
        process.join(_POLL_S)
        time.sleep(_POLL_S)
    return process.exitcode


def _cause(exit_code: int | None) -> str:
    if exit_code == -signal.SIGKILL:
        return "its decoder was killed, probably for lack of memory"
    return f"its decoder crashed with {f'signal {-exit_code}' if exit_code and exit_code < 0 else f'exit code {exit_code}'}"


def _start_decoder(current_images: _CurrentImages) -> None:
    """Initialise a decoder process: register it, and end it with the parent, as it would otherwise wait for tasks forever."""
    screen()  # decoders quote content of files
    current_images.enter()
    _slot.append(current_images)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, name="parent", daemon=True).start()


def _tasks(shards: Sequence[Path], paths: Sequence[Path], side: int) -> Iterator[tuple[Path, int, int, list[Path]]]:
    """Shard, its first record's row, the first record within it, and the images."""
    per_shard = records_per_shard(side)
    for number, shard in enumerate(shards):
        in_shard = list(paths[number * per_shard : (number + 1) * per_shard])
        for offset in range(0, len(in_shard), _TASK_IMAGES):
            yield shard, number * per_shard, offset, in_shard[offset : offset + _TASK_IMAGES]


@dataclass
class _Done:
    """Images that a decoder has written."""

    sizes: list[tuple[int, int]]
    """Original width and height; 0 and 0 for unreadable ones."""
    greatest: list[int] = field(default_factory=list)
    """Greatest value of each 16-bit image."""
    unreadable: dict[Path, str] = field(default_factory=dict)
    turned: int = 0
    """Images whose EXIF orientation is ignored."""


def _decode(shard: Path, first_row: int, offset: int, paths: list[Path], geometry: Geometry) -> _Done:
    """Write the records of these images from record `offset` of the shard on."""
    done = _Done([(0, 0)] * len(paths))
    records = np.zeros((len(paths), geometry.side, geometry.side), np.uint8)
    for position, path in enumerate(paths):
        _slot[0].note(first_row + offset + position)
        try:
            record = to_record(path, geometry)
            records[position], done.sizes[position] = record.gray_SS, record.size
            done.greatest += [] if record.greatest is None else [record.greatest]
            done.turned += record.turned
        except InputError:  # a package is missing, for all images
            raise
        except MemoryError:
            raise InputError(f"cannot decode `{path}`: there is not enough memory", hint=_MEMORY_HINT) from None
        except Exception as problem:  # noqa: BLE001 - a damaged image fails in its decoder in many ways
            if isinstance(problem, OSError) and problem.errno is not None:  # disk, mount or permissions, not the image
                raise _unreachable(path, problem) from None
            done.unreadable[path] = str(problem) or type(problem).__name__
    _slot[0].note(-1)
    with shard.open("r+b") as file:
        file.seek(offset * geometry.side**2)
        file.write(records.data)
    return done


def _unreachable(path: Path, problem: OSError) -> KnownError:
    """A restart helps when a mount is away, but not when a pipe or a folder has an image's name."""
    kind = InputError if problem.errno == errno.EINVAL else TryAgainError
    return kind(f"cannot read `{path}`: {problem.strerror}", hint="check --data and its permissions")


def _flushed_and_hashed(path: Path, record_bytes: int) -> tuple[str, list[int]]:
    """sha256 of a file after fsync, and CRC-32 of each of its records."""
    _flush(path)
    digest, checksums = hashlib.sha256(), []
    with path.open("rb") as file:
        while record := file.read(record_bytes):
            digest.update(record)
            checksums.append(zlib.crc32(record))
    return digest.hexdigest(), checksums
