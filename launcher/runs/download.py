"""Objects to files: several at a time, each whole and verified or not there, going on where an earlier start stopped.

What has come so far lies beside the target in a hidden file whose name tells which object it is a part of, so that a part
of another one is never gone on with. Nothing waits for the disk: what a machine loses with its power, the next start finds by the
hash where a manifest vouches for one. Of other files it sees the size and the time only.
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
        return self.target.with_name(f".{self.target.name}.{_mark(self.stat.stamp)}.partial")

    @property
    def goes_on(self) -> bool:
        """Whether a later start takes what an earlier one has left; what only the storage knows a hash of it compares from the start on."""
        return self.sha256 is not None

    def missing_bytes(self) -> int:
        """How much of it has not come yet."""
        return self.stat.size_bytes - (min(_size(self.partial), self.stat.size_bytes) if self.goes_on else 0)

    def check_replaceable(self, *, is_pulled: bool) -> None:
        """Refuse to put it in the place of what is not ours; `is_pulled` says whether this run was pulled there before.

        Raises: InputError for a link, a folder or anything else but a file, and for a file that no pull has put there.
        """
        try:
            there = self.target.lstat()
        except OSError:  # nothing, or what the transfer meets again and tells
            return
        problem = None
        if not stat.S_ISREG(there.st_mode):
            problem = "a link" if stat.S_ISLNK(there.st_mode) else "no regular file"
        elif not is_pulled:
            problem = "a file that no pull of this run put there"
        if problem:
            raise InputError(
                f"cannot pull `{self.key}`: `{self.target}` is {problem}",
                hint="move it away, or --to another DIRECTORY",
            )

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
    """The path of an object below `root`. Raises: InputError for a name that would lead out of it, or through a link."""
    parts = key.split("/")
    target = root.joinpath(*parts)
    named_well = key.isprintable() and "\\" not in key and not {"", ".", ".."} & set(parts)
    if not named_well or not target.parent.resolve().is_relative_to(root.resolve()):
        raise InputError(
            f"cannot pull `{on_one_line(key)}`: its name leads out of `{root}`",
            hint="nothing was written; ask who writes to the run, or give another --to where a link is in the way",
        )
    for depth in range(1, len(parts)):
        folder = root.joinpath(*parts[:depth])
        if folder.is_symlink():
            raise InputError(f"cannot pull `{key}`: `{folder}` is a link", hint="--to another DIRECTORY")
    return target


@contextmanager
def only_one(directory: Path, waiting: Waiting) -> Iterator[None]:
    """For the block, no other pull writes to the directory, which is made; waits for one that does.

    Raises: TryAgainError when that takes too long.
    """
    with _file_errors(directory):
        directory.mkdir(parents=True, exist_ok=True)
        lock = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        _take(lock, directory, waiting)
        yield
    finally:
        os.close(lock)


def _take(lock: int, directory: Path, waiting: Waiting) -> None:
    import fcntl  # noqa: PLC0415 - not on every system that can submit

    def is_taken() -> bool:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:
            waiting.report(f"{directory} knows no locks: do not pull into it twice at once")
        return True

    wait_until(
        is_taken,
        waiting,
        line=lambda _: f"waiting for another pull into {directory}",
        too_long=lambda minutes: TryAgainError(
            f"cannot pull into `{directory}`: another pull into it has not finished within {minutes:.0f} minutes",
            hint="end it if it hangs, or --to another DIRECTORY",
        ),
    )


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
    with _file_errors(item.target, item.missing_bytes()):
        item.target.parent.mkdir(parents=True, exist_ok=True)
        if not item.goes_on or _size(item.partial) > item.stat.size_bytes:
            item.partial.unlink(missing_ok=True)
        digest = _sha256_of(item.partial) if item.sha256 else None  # what the storage knows the storage compares
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
    """What of the object is not here yet. Raises: DamagedError when it is not as long as listed; as `Storage.chunks`."""
    if have_bytes == item.stat.size_bytes > 0:
        return ()
    chunks = storage.chunks(item.key, first=have_bytes, stamp=item.stat.stamp)
    return as_listed(chunks, item.stat, f"cannot pull `{item.key}`", first=have_bytes)


def _check(item: Item, sha256: str | None) -> None:
    """Raises: DamagedError."""
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


def remove_stale_partials(folder: Path, marks: Mapping[str, str]) -> None:
    """Remove from this very folder the parts of objects that are not there any more, so that nothing can continue them.

    `marks` are the stamps of the objects that are there, by file name.
    """
    for name, mark, path in _partials(folder):
        if name not in marks or mark != _mark(marks[name]):
            path.unlink(missing_ok=True)


def _remove_partials(target: Path) -> None:
    """Of this target, whichever object they are a part of."""
    for name, _, path in _partials(target.parent):
        if name == target.name:
            path.unlink(missing_ok=True)


def _partials(folder: Path) -> Iterator[tuple[str, str, Path]]:
    """Parts in a folder that is no link: the name of the file that each is to become, its object's mark, and where it is."""
    if folder.is_symlink() or not folder.is_dir():
        return
    for path in list(folder.iterdir()):
        match = _PARTIAL.fullmatch(path.name)
        if match and _is_regular(path):
            yield match[1], match[2], path


def _is_regular(path: Path) -> bool:
    """Whether it is a file and no link; another thread may just have given it its name."""
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
        raise OSError(errno.EINVAL, "it is no regular file", path)
    return descriptor


@contextmanager
def _file_errors(path: Path, needs_bytes: int | None = None) -> Iterator[None]:
    """What the system refuses here, as an error of ours."""
    try:
        yield
    except OSError as problem:
        text = f"cannot write `{path}`: {str(problem.strerror or problem).lower()}"
        if problem.errno in FULL:
            hint = "make room; the same command goes on where this one stopped"
            raise TryAgainError(f"{text}{room(path, needs_bytes)}", hint=hint) from problem
        raise InputError(text, hint="--to DIRECTORY that you may write to") from problem
