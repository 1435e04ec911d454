"""Download of objects to files in parallel; each file is complete and verified or absent, and transfers can be resumed.

A partial file is a hidden file beside the target. Its name holds the object's stamp, so that a part of another object is never
continued. Files are not synced to disk: data lost by a power failure is found at the next start by the hash of a checkpoint
manifest or a pack index; for other files only by size and time.
"""

import errno
import hashlib
import os
import queue
import re
import stat
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from trainer.errors import InputError, TryAgainError
from trainer.storage import AbsentError, ChangedError, DamagedError, Stat, Storage
from trainer.storage.files import FULL, room
from trainer.storage.listed import as_listed

_PARTIAL: Final = re.compile(r"\.(.+)\.([0-9a-f]{16})\.partial", re.DOTALL)

PIECE_BYTES: Final = 1 << 20

Advance = Callable[[int], object]
"""Called by any thread with the number of further bytes; negative where they have to be downloaded again."""

CHANGES: Final = 3
"""Attempts for an object that changes while it is read: a running job rewrites its lists."""

SETTLE_S: Final = 5.0
"""Maximum wait for stopped threads; one may hang in a dead connection, and leaves only a partial file."""


@dataclass(frozen=True, kw_only=True)
class Wording:
    """What error messages say of the user's command."""

    doing: str
    """The verb: messages begin with `cannot DOING`."""
    unwritable: str
    """Hint where the directory cannot be written."""
    removed: str
    """Hint for an object that was removed meanwhile."""
    damaged: str
    """Hint for an object whose hash is not the stated one."""


@dataclass(frozen=True, kw_only=True)
class Item:
    """An object and its target file."""

    key: str
    target: Path
    stat: Stat
    sha256: str | None = None
    """Hash from a checkpoint manifest or a pack index, not from the storage."""

    @property
    def partial(self) -> Path:
        """Path of the partial file."""
        return self.target.with_name(f".{self.target.name}.{_mark(self.stat.stamp)}.partial")

    @property
    def is_resumable(self) -> bool:
        """Whether a partial file is continued. Without a hash it is not: the storage verifies only complete reads."""
        return self.sha256 is not None

    def missing_bytes(self) -> int:
        """Bytes that are still to be downloaded."""
        return self.stat.size_bytes - (min(_size(self.partial), self.stat.size_bytes) if self.is_resumable else 0)

    def is_complete(self) -> bool:
        """Whether the target is this object: by its hash, or else by size and the time that `fetch` sets."""
        if self.target.is_symlink() or not self.target.is_file():
            return False
        existing = self.target.stat()
        if existing.st_size != self.stat.size_bytes:
            return False
        if self.sha256 is not None:
            return _sha256_of(self.target).hexdigest() == self.sha256
        return abs(existing.st_mtime - self.stat.modified.timestamp()) < 1e-3


def fetch_all(storage: Storage, items: Sequence[Item], *, threads: int, advance: Advance, wording: Wording) -> None:
    """Download all items with `threads` threads, in memory that does not grow with their sizes.

    Raises: the first problem, after the other threads have stopped; partial files are kept for the next start.
    """
    stop = threading.Event()
    todo, done = deque(items), queue.SimpleQueue[BaseException | None]()

    def work() -> None:
        try:
            while not stop.is_set() and (item := _next(todo)):
                fetch(storage, item, advance, stop, wording)
        except BaseException as problem:  # noqa: BLE001 - the caller's thread raises it
            done.put(problem)
        else:
            done.put(None)

    workers = [threading.Thread(target=work, daemon=True) for _ in range(min(threads, len(items)))]
    for worker in workers:
        worker.start()
    try:
        for _ in workers:
            problem = done.get()
            if problem is not None:
                raise problem
    finally:
        stop.set()
        end_s = time.monotonic() + SETTLE_S
        for worker in workers:
            worker.join(max(0.0, end_s - time.monotonic()))


def _next(todo: deque[Item]) -> Item | None:
    try:
        return todo.popleft()
    except IndexError:
        return None


def fetch(storage: Storage, item: Item, advance: Advance, stop: threading.Event, wording: Wording) -> None:
    """Download one object, continuing its partial file.

    Raises: AbsentError; DamagedError; ChangedError when it keeps changing; InputError, TryAgainError, RemoteError.
    """
    for changes_left in reversed(range(CHANGES)):
        before = _size(item.partial)
        try:
            _fetch_once(storage, item, advance, stop, wording)
        except AbsentError as problem:
            problem.hint = wording.removed
            raise
        except ChangedError as problem:
            if item.sha256 is not None or not changes_left:
                problem.hint = "run the same command again to continue with the current object"
                raise
            advance(-_size(item.partial))
            _remove_partials(item.target)
            item = _with_current_stat(storage, item, wording)
        except DamagedError:
            advance(-_size(item.partial))
            _remove_partials(item.target)
            if not before or not changes_left:
                raise  # it was read from the start: the object itself is damaged, not the partial file
        else:
            return


def _with_current_stat(storage: Storage, item: Item, wording: Wording) -> Item:
    stats = storage.stats(item.key)
    if item.key not in stats:
        raise AbsentError(
            f"cannot {wording.doing} `{item.key}`: it was removed meanwhile",
            hint="run the same command again to resume",
        )
    return replace(item, stat=stats[item.key])


def _fetch_once(storage: Storage, item: Item, advance: Advance, stop: threading.Event, wording: Wording) -> None:
    with write_errors(item.target, wording, item.missing_bytes()):
        item.target.parent.mkdir(parents=True, exist_ok=True)
        if not item.is_resumable or _size(item.partial) > item.stat.size_bytes:
            item.partial.unlink(missing_ok=True)
        digest = _sha256_of(item.partial) if item.sha256 else None  # other hashes are verified by the storage
        have = _size(item.partial)
        with open(item.partial, "ab", opener=_regular_without_links) as file:
            for chunk in _rest(storage, item, have, wording):
                if stop.is_set():
                    return
                file.write(chunk)
                if digest:
                    digest.update(chunk)
                advance(len(chunk))
        _check(item, digest.hexdigest() if digest else None, wording)
        os.utime(item.partial, (time.time(), item.stat.modified.timestamp()))
        item.partial.replace(item.target)
        _remove_partials(item.target)


def _rest(storage: Storage, item: Item, have_bytes: int, wording: Wording) -> Iterable[bytes]:
    """The missing part of the object. Raises: DamagedError when its length is not the listed one; as `Storage.chunks`."""
    if have_bytes == item.stat.size_bytes > 0:
        return ()
    chunks = storage.chunks(item.key, first=have_bytes, stamp=item.stat.stamp, verify=item.sha256 is None)
    return as_listed(chunks, item.stat, f"cannot {wording.doing} `{item.key}`", first=have_bytes)


def _check(item: Item, sha256: str | None, wording: Wording) -> None:
    """Raises: DamagedError."""
    if item.sha256 != sha256:
        raise DamagedError(
            f"cannot {wording.doing} `{item.key}`: it is damaged, its sha256 is {str(sha256)[:12]}…, the manifest says {str(item.sha256)[:12]}…",
            hint=wording.damaged,
        )


def _sha256_of(path: Path) -> "hashlib._Hash":
    digest = hashlib.sha256()
    if path.is_file():
        with path.open("rb") as file:
            while piece := file.read(PIECE_BYTES):
                digest.update(piece)
    return digest


def _size(path: Path) -> int:
    try:
        return path.lstat().st_size
    except FileNotFoundError:
        return 0


def remove_stale_partials(folder: Path, marks: Mapping[str, str]) -> None:
    """Remove the partial files of objects that no longer exist from this folder, not from folders below it.

    `marks` are the stamps of the existing objects by file name.
    """
    for name, mark, path in _partials(folder):
        if name not in marks or mark != _mark(marks[name]):
            path.unlink(missing_ok=True)


def _remove_partials(target: Path) -> None:
    """Remove the partial files of this target, of any object."""
    for name, _, path in _partials(target.parent):
        if name == target.name:
            path.unlink(missing_ok=True)


def _partials(folder: Path) -> Iterator[tuple[str, str, Path]]:
    """Partial files in a folder that is not a link: name of the target, mark of the object, and path."""
    if folder.is_symlink() or not folder.is_dir():
        return
    for path in list(folder.iterdir()):
        match = _PARTIAL.fullmatch(path.name)
        if match and _is_regular(path):
            yield match[1], match[2], path


def _is_regular(path: Path) -> bool:
    """Whether it is a regular file; another thread may have just renamed it."""
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except FileNotFoundError:
        return False


def _mark(stamp: str) -> str:
    return hashlib.sha256(stamp.encode()).hexdigest()[:16]


def _regular_without_links(path: str, flags: int) -> int:
    descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is not a regular file", path)
    return descriptor


@contextmanager
def write_errors(path: Path, wording: Wording, needs_bytes: int | None = None) -> Iterator[None]:
    """Errors of writing below the directory. Raises: InputError; TryAgainError for a full disk, with the bytes needed."""
    try:
        yield
    except OSError as problem:
        text = f"cannot write `{path}`: {str(problem.strerror or problem).lower()}"
        if problem.errno in FULL:
            hint = "free disk space, then run the same command again to resume"
            raise TryAgainError(f"{text}{room(path, needs_bytes)}", hint=hint) from problem
        raise InputError(text, hint=wording.unwritable) from problem
