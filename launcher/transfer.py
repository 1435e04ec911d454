"""Objects to files: several at a time, each whole and verified or not there, going on where an earlier start stopped.

What has come so far lies beside the target in a hidden file whose name tells which object it is a part of, so that a part
of another one is never gone on with. Nothing waits for the disk: what a machine loses with its power, the next start finds by the
hash where a manifest vouches for one. Of other files it sees the size and the time only.
"""

import hashlib
import os
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from launcher.progress import Advance
from trainer.errors import InputError, TryAgainError, on_one_line
from trainer.storage import AbsentError, ChangedError, DamagedError, Stat, Storage

PIECE_BYTES: Final = 1 << 20

CHANGES: Final = 3
"""How often an object is begun again that changes while it is read: a run that still trains rewrites its lists."""

SETTLE_S: Final = 5.0
"""How long to wait for those that were told to stop; one may hang in a dead connection, and its file is only a part."""


@dataclass(frozen=True, kw_only=True)
class Item:
    """An object, and the file that it is to become."""

    key: str
    root: Path
    """The directory that nothing may leave."""
    stat: Stat
    sha256: str | None = None
    """Hash that something else than the storage vouches for."""

    @property
    def target(self) -> Path:
        """Where it goes. Raises: InputError when that is not below the root."""
        return inside(self.root, self.key)

    @property
    def partial(self) -> Path:
        """Where it lies until it is whole."""
        mark = hashlib.sha256(self.stat.stamp.encode()).hexdigest()[:16]
        return self.target.with_name(f".{self.target.name}.{mark}.partial")

    @property
    def goes_on(self) -> bool:
        """Whether a later start takes what an earlier one has left; what only the storage knows a hash of it compares from the start on."""
        return self.sha256 is not None

    def missing_bytes(self) -> int:
        """How much of it has not come yet."""
        return self.stat.size_bytes - (min(_size(self.partial), self.stat.size_bytes) if self.goes_on else 0)

    def is_there(self) -> bool:
        """Whether the target is this object: by its hash, else by size and time as this program sets them."""
        if self.target.is_symlink() or not self.target.is_file():
            return False
        there = self.target.stat()
        if there.st_size != self.stat.size_bytes:
            return False
        if self.sha256 is not None:
            return _sha256_of(self.target).hexdigest() == self.sha256
        return abs(there.st_mtime - self.stat.modified.timestamp()) < 1e-3


def inside(root: Path, key: str) -> Path:
    """The path of an object below `root`. Raises: InputError for a name that would lead out of it, by itself or by a link."""
    parts = key.split("/")
    target = root.joinpath(*parts)
    named_well = key.isprintable() and "\\" not in key and not {"", ".", ".."} & set(parts)
    if not named_well or not target.parent.resolve().is_relative_to(root.resolve()):
        raise InputError(
            f"cannot pull `{on_one_line(key)}`: its name leads out of `{root}`",
            hint="nothing was written; ask who writes to the run, or give another --to where a link is in the way",
        )
    return target


@contextmanager
def only_one(directory: Path, tell: Callable[[str], None]) -> Iterator[None]:
    """For the block, no other pull writes to the directory, which is made; waits for one that does."""
    import fcntl  # noqa: PLC0415 - not on every system that can submit

    with _file_errors(directory):
        directory.mkdir(parents=True, exist_ok=True)
        lock = os.open(directory, os.O_RDONLY)
    try:
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                tell(f"waiting for another pull into {directory}")
                fcntl.flock(lock, fcntl.LOCK_EX)
        except OSError:
            tell(f"{directory} knows no locks: do not pull into it twice at once")
        yield
    finally:
        os.close(lock)


def fetch_all(storage: Storage, items: Sequence[Item], *, threads: int, advance: Advance) -> None:
    """Fetch them all, `threads` at a time, in memory that does not grow with their sizes.

    Raises: the first problem, once the others have stopped; what has come so far stays for the next start.
    """
    stop = threading.Event()
    todo, done = deque(items), queue.SimpleQueue[BaseException | None]()

    def work() -> None:
        try:
            while not stop.is_set() and (item := _next(todo)):
                fetch(storage, item, advance, stop)
        except BaseException as problem:  # noqa: BLE001 - it is raised where all come together
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
    """Bring one object, from where an earlier start stopped.

    Raises: AbsentError; DamagedError; ChangedError when it changes all the time; InputError, TryAgainError, RemoteError.
    """
    for changes_left in reversed(range(CHANGES)):
        before = _size(item.partial)
        try:
            _fetch_once(storage, item, advance, stop)
        except AbsentError as problem:
            problem.hint = "a run that trains removes old checkpoints: the same command fetches what is there now"
            raise
        except ChangedError as problem:
            if item.sha256 is not None or not changes_left:
                problem.hint = "the same command goes on with what is there now"
                raise
            advance(-_size(item.partial))
            _remove_partials(item.target)
            item = _as_it_is_now(storage, item)
        except DamagedError:
            advance(-_size(item.partial))
            _remove_partials(item.target)
            if not before or not changes_left:
                raise  # it was read from its start: the object is damaged, not what lay here of it
        else:
            return


def _as_it_is_now(storage: Storage, item: Item) -> Item:
    stats = storage.stats(item.key)
    if item.key not in stats:
        raise AbsentError(f"cannot pull `{item.key}`: it was removed meanwhile", hint="the same command goes on")
    return replace(item, stat=stats[item.key])


def _fetch_once(storage: Storage, item: Item, advance: Advance, stop: threading.Event) -> None:
    with _file_errors(item.target):
        item.target.parent.mkdir(parents=True, exist_ok=True)
        if not item.goes_on or _size(item.partial) > item.stat.size_bytes:
            item.partial.unlink(missing_ok=True)
        digest = _sha256_of(item.partial) if item.sha256 else None  # what the storage knows the storage compares
        have = _size(item.partial)
        chunks = storage.chunks(item.key, first=have, stamp=item.stat.stamp) if have < item.stat.size_bytes else ()
        with open(item.partial, "ab", opener=_follow_no_link) as file:
            for chunk in chunks:
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


def _check(item: Item, sha256: str | None) -> None:
    """Raises: DamagedError."""
    found_bytes = _size(item.partial)
    if found_bytes != item.stat.size_bytes:
        raise DamagedError(
            f"cannot pull `{item.key}`: it has {found_bytes} bytes, the listing says {item.stat.size_bytes}"
        )
    if item.sha256 != sha256:
        raise DamagedError(
            f"cannot pull `{item.key}`: it is damaged, its sha256 is {str(sha256)[:12]}…, the manifest says {str(item.sha256)[:12]}…",
            hint="nothing was put in its place; --step N takes another checkpoint",
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


def _remove_partials(target: Path) -> None:
    """Of this target, whichever object they are a part of."""
    for path in target.parent.iterdir():
        if path.name.startswith(f".{target.name}.") and path.suffix == ".partial":
            path.unlink(missing_ok=True)


def _follow_no_link(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW, 0o666)


@contextmanager
def _file_errors(path: Path) -> Iterator[None]:
    """What the system refuses here, as an error of ours."""
    import errno  # noqa: PLC0415

    try:
        yield
    except OSError as problem:
        text = f"cannot write `{path}`: {str(problem.strerror or problem).lower()}"
        if problem.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise TryAgainError(text, hint="make room; the same command goes on where this one stopped") from problem
        raise InputError(text, hint="--to DIRECTORY that you may write to") from problem
