"""Download objects to files in parallel; each file is complete and verified or absent, and transfers can be resumed.

A partial file is a hidden file beside the target. Its name holds the object's stamp, so that a part of another object is never
continued. Files are not synced to disk: data lost by a power failure is found at the next start by the hash of a checkpoint
manifest; for other files only by size and time.
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
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from trainer.errors import InputError, TryAgainError, on_one_line
from trainer.runtime.progress import Advance
from trainer.storage import AbsentError, ChangedError, DamagedError, Stat, Storage
from trainer.storage.files import FULL, room
from trainer.storage.listed import as_listed
from trainer.storage.waiting import Waiting, wait_until

_PARTIAL: Final = re.compile(r"\.(.+)\.([0-9a-f]{16})\.partial", re.DOTALL)

PIECE_BYTES: Final = 1 << 20

CHANGES: Final = 3
"""Attempts for an object that changes while it is read: a running job rewrites its lists."""

SETTLE_S: Final = 5.0
"""Maximum wait for stopped threads; one may hang in a dead connection, and leaves only a partial file."""


@dataclass(frozen=True, kw_only=True)
class Item:
    """An object and its target file."""

    key: str
    root: Path
    """Directory that the target must not leave."""
    stat: Stat
    sha256: str | None = None
    """Hash from a checkpoint manifest, not from the storage."""

    @property
    def target(self) -> Path:
        """Path of the file. Raises: InputError when it is not below the root."""
        return inside(self.root, self.key)

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

    def check_replaceable(self, *, is_pulled: bool) -> None:
        """Check that the target is absent or a file of a pull; `is_pulled` if this run was pulled to the directory before.

        Raises: InputError for a link, a folder or another special file, and for a file that was not written by a pull.
        """
        try:
            existing = self.target.lstat()
        except OSError:  # absent, or an error that the transfer will report
            return
        problem = None
        if not stat.S_ISREG(existing.st_mode):
            problem = "a link" if stat.S_ISLNK(existing.st_mode) else "not a regular file"
        elif not is_pulled:
            problem = "a file that was not written by a pull of this run"
        if problem:
            raise InputError(
                f"cannot pull `{self.key}`: `{self.target}` is {problem}",
                hint="move it away, or --to another DIRECTORY",
            )

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


def inside(root: Path, key: str) -> Path:
    """The path of an object below `root`. Raises: InputError for a name that leads out of it, or through a link."""
    parts = key.split("/")
    target = root.joinpath(*parts)
    named_well = key.isprintable() and "\\" not in key and not {"", ".", ".."} & set(parts)
    if not named_well or not target.parent.resolve().is_relative_to(root.resolve()):
        raise InputError(
            f"cannot pull `{on_one_line(key)}`: its name leads out of `{root}`",
            hint="nothing was written; check who writes to the run, or use another --to if a link is the cause",
        )
    for depth in range(1, len(parts)):
        folder = root.joinpath(*parts[:depth])
        if folder.is_symlink():
            raise InputError(f"cannot pull `{key}`: `{folder}` is a link", hint="--to another DIRECTORY")
    return target


@contextmanager
def only_one(directory: Path, waiting: Waiting) -> Iterator[None]:
    """Create and lock the directory against other pulls; waits for one that is running.

    Raises: TryAgainError when that takes too long.
    """
    with _file_errors(directory):
        directory.mkdir(parents=True, exist_ok=True)
        lock = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        _acquire(lock, directory, waiting)
        yield
    finally:
        os.close(lock)


def _acquire(lock: int, directory: Path, waiting: Waiting) -> None:
    import fcntl  # noqa: PLC0415 - absent on Windows, which can submit

    def is_locked() -> bool:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:
            waiting.report(f"{directory} does not support locks: do not run two pulls into it at the same time")
        return True

    wait_until(
        is_locked,
        waiting,
        line=lambda _: f"waiting for another pull into {directory}",
        too_long=lambda minutes: TryAgainError(
            f"cannot pull into `{directory}`: another pull into it has not finished within {minutes:.0f} minutes",
            hint="stop it if it hangs, or --to another DIRECTORY",
        ),
    )


def fetch_all(storage: Storage, items: Sequence[Item], *, threads: int, advance: Advance) -> None:
    """Download all items with `threads` threads, in memory that does not grow with their sizes.

    Raises: the first problem, after the other threads have stopped; partial files are kept for the next start.
    """
    stop = threading.Event()
    todo, done = deque(items), queue.SimpleQueue[BaseException | None]()

    def work() -> None:
        try:
            while not stop.is_set() and (item := _next(todo)):
                fetch(storage, item, advance, stop)
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


def fetch(storage: Storage, item: Item, advance: Advance, stop: threading.Event) -> None:
    """Download one object, continuing its partial file.

    Raises: AbsentError; DamagedError; ChangedError when it keeps changing; InputError, TryAgainError, RemoteError.
    """
    for changes_left in reversed(range(CHANGES)):
        before = _size(item.partial)
        try:
            _fetch_once(storage, item, advance, stop)
        except AbsentError as problem:
            problem.hint = "a running job removes old checkpoints: run the same command again for the current ones"
            raise
        except ChangedError as problem:
            if item.sha256 is not None or not changes_left:
                problem.hint = "run the same command again to continue with the current object"
                raise
            advance(-_size(item.partial))
            _remove_partials(item.target)
            item = _with_current_stat(storage, item)
        except DamagedError:
            advance(-_size(item.partial))
            _remove_partials(item.target)
            if not before or not changes_left:
                raise  # it was read from the start: the object itself is damaged, not the partial file
        else:
            return


def _with_current_stat(storage: Storage, item: Item) -> Item:
    stats = storage.stats(item.key)
    if item.key not in stats:
        raise AbsentError(
            f"cannot pull `{item.key}`: it was removed meanwhile", hint="run the same command again to resume"
        )
    return replace(item, stat=stats[item.key])


def _fetch_once(storage: Storage, item: Item, advance: Advance, stop: threading.Event) -> None:
    with _file_errors(item.target, item.missing_bytes()):
        item.target.parent.mkdir(parents=True, exist_ok=True)
        if not item.is_resumable or _size(item.partial) > item.stat.size_bytes:
            item.partial.unlink(missing_ok=True)
        digest = _sha256_of(item.partial) if item.sha256 else None  # other hashes are verified by the storage
        have = _size(item.partial)
        with open(item.partial, "ab", opener=_regular_without_links) as file:
            for chunk in _rest(storage, item, have):
                if stop.is_set():
                    return
                file.write(chunk)
                if digest:
                    digest.update(chunk)
                advance(len(chunk))
        _check(item, digest.hexdigest() if digest else None)
        os.utime(item.partial, (time.time(), item.stat.modified.timestamp()))
        item.partial.replace(item.target)
        _remove_partials(item.target)


def _rest(storage: Storage, item: Item, have_bytes: int) -> Iterable[bytes]:
    """The missing part of the object. Raises: DamagedError when its length is not the listed one; as `Storage.chunks`."""
    if have_bytes == item.stat.size_bytes > 0:
        return ()
    chunks = storage.chunks(item.key, first=have_bytes, stamp=item.stat.stamp)
    return as_listed(chunks, item.stat, f"cannot pull `{item.key}`", first=have_bytes)


def _check(item: Item, sha256: str | None) -> None:
    """Raises: DamagedError."""
    if item.sha256 != sha256:
        raise DamagedError(
            f"cannot pull `{item.key}`: it is damaged, its sha256 is {str(sha256)[:12]}…, the manifest says {str(item.sha256)[:12]}…",
            hint="no file was written; --step N selects another checkpoint",
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
def _file_errors(path: Path, needs_bytes: int | None = None) -> Iterator[None]:
    try:
        yield
    except OSError as problem:
        text = f"cannot write `{path}`: {str(problem.strerror or problem).lower()}"
        if problem.errno in FULL:
            hint = "free disk space, then run the same command again to resume"
            raise TryAgainError(f"{text}{room(path, needs_bytes)}", hint=hint) from problem
        raise InputError(text, hint="--to DIRECTORY with write permission") from problem
