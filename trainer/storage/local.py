"""Storage in a directory; objects are files."""

import errno
import fcntl
import os
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime, timezone
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Final

from trainer.errors import InputError, KnownError, TryAgainError
from trainer.layout import is_our_folder, is_ours
from trainer.limits import read_at_most
from trainer.storage.files import (
    file_errors,
    is_abandoned,
    open_lock,
    open_regular,
    partial_name,
    pieces,
    remove_abandoned,
    whole_name,
    write_flushed,
)
from trainer.storage.interface import CHUNK_BYTES, AbsentError, ChangedError, Claim, Stat, ignore, is_hidden
from trainer.storage.listed import save
from trainer.storage.open_folder import Root, entries, removed, same_file

LOCK: Final = ".lock"
PROBE: Final = ".excludes"
"""Names in a run's folder: the lock of its writer, and the file that tests for hard links."""

TRIES: Final = 5
"""Attempts to lock a folder that is replaced meanwhile."""

_NO_LINKS: Final = frozenset({errno.EPERM, errno.ENOTSUP, errno.ENOSYS})
"""Error numbers of file systems without hard links. Source: link(2); FUSE file systems return ENOSYS."""


class _Locked:
    """Ownership of a run's folder: valid while the file at the lock's path is the locked one."""

    def __init__(self, lock: BinaryIO, path: Path, url: str) -> None:
        self._lock, self._path, self._url = lock, path, url
        self._folder = path.parent.stat()

    def check(self) -> None:
        """Raises: InputError when the run's folder is gone, or was replaced by one that another process may have locked."""
        problem = self.lost()
        if problem is not None:
            raise problem

    def lost(self) -> KnownError | None:
        """See `Claim.lost`; costs one stat call."""
        try:
            if same_file(self._lock.fileno(), self._path):
                return None
        except OSError:  # a failed check is not a lost lock
            return None
        if not self._path.is_file():
            return self._without_lock() if self._is_same_folder() else removed(self._url)
        return InputError(
            f"cannot continue the run at `{self._url}`: its folder was replaced, and another process may write to it",
            hint="stop that process, or use another --name for one of them",
        )

    def _is_same_folder(self) -> bool:
        try:
            return os.path.samestat(self._folder, self._path.parent.stat())
        except OSError:
            return False

    def _without_lock(self) -> KnownError:
        return InputError(
            f"cannot continue the run at `{self._url}`: its `{LOCK}` was removed, and another process may write to it",
            hint="when no other process trains it, the same command continues from the newest checkpoint",
        )


class LocalStorage:
    """Storage in a directory. A write goes to a temporary file beside the target, is fsynced and renamed."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._root = Path(url)
        self._folders = Root(self._root, url)
        self._excludes: bool | None = None

    def read(self, key: str, *, most_bytes: int | None = None) -> bytes:
        """See `Storage.read`; pipes and devices are refused."""
        with file_errors("read", self._path(key)), open_regular(self._path(key)) as file:
            return file.read() if most_bytes is None else read_at_most(file, most_bytes)

    def chunks(self, key: str, *, first: int = 0, stamp: str | None = None, verify: bool = True) -> Iterator[bytes]:  # noqa: ARG002 - files have no hash
        """See `Storage.chunks`; files have no hash to check."""
        path = self._path(key)
        with file_errors("read", path), open_regular(path) as file:
            begin = _stat(os.fstat(file.fileno())).stamp
            if stamp not in {None, begin}:
                raise ChangedError(f"cannot read `{path}`: it has changed")
            file.seek(first)
            while chunk := file.read(CHUNK_BYTES):
                yield chunk
            if _stat(os.fstat(file.fileno())).stamp != begin:
                raise ChangedError(f"cannot read `{path}`: it changed while being read")

    def copy_to(
        self, key: str, path: Path, *, stat: Stat | None = None, progress: Callable[[int], None] = ignore
    ) -> None:
        """See `Storage.copy_to`."""
        save(self.chunks(key), path, f"cannot read `{self._path(key)}`", stat=stat, progress=progress)

    def write(self, key: str, content: bytes) -> None:
        """See `Storage.write`."""
        self._put(key, [content], needs_bytes=len(content))

    def upload(self, key: str, path: Path) -> None:
        """See `Storage.upload`."""
        self._put(key, pieces(path))

    def create(self, key: str, content: bytes) -> bool:
        """See `Storage.create`: the new file is hard-linked to its name, which fails when the name exists."""
        path = self._path(key)
        if not self.excludes():
            if path.exists():
                return False
            self.write(key, content)
            return True
        with self._beside(key) as (folder, name, partial):
            write_flushed(partial, [content], folder=folder)
            return _linked(folder, partial, name)

    def replace(self, key: str, content: bytes, stamp: str) -> bool:
        """See `Storage.replace`: compares and renames under a lock on a hidden file beside the target.

        Only `replace` takes this lock: a concurrent `write` or `delete` between the comparison and the rename is lost.
        """
        path = self._path(key)
        if not path.exists():
            return False
        with self._beside(key) as (folder, name, _), open_lock(f".{name}.lock", folder=folder) as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not path.exists() or _stat(path.stat()).stamp != stamp:
                return False
            self.write(key, content)
            return True

    def excludes(self) -> bool:
        """See `Storage.excludes`: whether the file system has hard links."""
        if self._excludes is None:
            with self._beside(PROBE) as (folder, _, one), self._beside(PROBE) as (_, _, other):
                write_flushed(one, [], folder=folder)
                self._excludes = _has_links(folder, one, other)
        return self._excludes

    def stat(self, key: str) -> Stat:
        """See `Storage.stat`."""
        path = self._path(key)
        with file_errors("read", path):
            if path.is_dir():
                raise AbsentError(f"cannot read `{path}`: it is a folder")
            return _stat(path.stat())

    def stats(self, prefix: str) -> dict[str, Stat]:
        """See `Storage.stats`."""
        stats = {}
        for key in self.keys(prefix):
            with suppress(FileNotFoundError):  # deleted since it was listed
                stats[key] = _stat(self._path(key).stat())
        return stats

    def keys(self, prefix: str) -> list[str]:
        """See `Storage.keys`."""
        folder = prefix[: prefix.rfind("/") + 1]
        with file_errors("list", self._root / prefix):
            names = [name for name, _ in entries(self._root, folder) if name.startswith(prefix) and not is_hidden(name)]
            return sorted(name for name in names if self._path(name).is_file())

    def delete(self, key: str) -> None:
        """See `Storage.delete`; also removes a folder of run files that became empty."""
        with (
            file_errors("delete", self._path(key)),
            suppress(FileNotFoundError),
            self._folders.folder_of(key, make=False) as (folder, name),
        ):
            os.unlink(name, dir_fd=folder)
        parent = key.rpartition("/")[0]
        if is_ours(key) and parent:
            with suppress(OSError), self._folders.folder_of(parent, make=False) as (folder, name):  # usually not empty
                os.rmdir(name, dir_fd=folder)

    def sweep(self, prefix: str, *, names: Collection[str] | None = None) -> None:
        """See `Storage.sweep`: partial files that no living process has open."""
        if names is not None:
            self._sweep_named([name for name in names if name.startswith(prefix)])
            return
        with file_errors("list", self._root / prefix):
            files = [name for name, entry in entries(self._root) if entry.is_file(follow_symlinks=False)]
        for partial in files:
            key = _key_of_partial(partial)
            if key is not None and key.startswith(prefix) and (is_ours(key) or key == PROBE):
                with suppress(OSError), self._folders.folder_of(partial, make=False) as (folder, name):
                    if is_abandoned(name, folder=folder):
                        os.unlink(name, dir_fd=folder)

    def _sweep_named(self, names: Iterable[str]) -> None:
        """Sweep only the folders of these names: the directory may be large and belong to others."""
        by_folder: dict[str, set[str]] = {}
        for name in names:
            folder, _, last = name.rpartition("/")
            by_folder.setdefault(folder, set()).add(last)
        for folder, last_names in by_folder.items():
            if not (folder and (self._root / folder).is_symlink()):
                remove_abandoned(self._root / folder, last_names)

    def hold(self) -> None:
        """See `Storage.hold`."""
        with file_errors("write", self._root):
            self._folders.hold()

    def obstacles(self) -> list[str]:
        """See `Storage.obstacles`."""
        with file_errors("list", self._root):
            described = [(name, _obstacle(name, entry)) for name, entry in entries(self._root)]
        return [f"`{self._root / name}` is {what}" for name, what in sorted(described) if what]

    @contextmanager
    def claim(self, job: str, report: Callable[[str], None]) -> Iterator[Claim]:  # noqa: ARG002 - a local lock never waits
        """See `Storage.claim`: a lock that the kernel releases when the process ends, for whatever reason."""
        with self._lock() as lock:
            yield _Locked(lock, self._root / LOCK, self.url)

    def _lock(self) -> BinaryIO:
        """Lock the folder at this path; retries when the folder is replaced in between."""
        for _ in range(TRIES):
            with file_errors("write", self._root / LOCK), self._folders.opened(make=True) as folder:
                lock = open_lock(LOCK, folder=folder)
            with ExitStack() as closing:
                closing.enter_context(lock)
                self._acquire(lock)
                if same_file(lock.fileno(), self._root / LOCK):
                    closing.pop_all()
                    return lock
        raise TryAgainError(f"cannot lock the run at `{self.url}`: its folder is repeatedly removed")

    def _acquire(self, lock: BinaryIO) -> None:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as problem:
            raise InputError(
                f"cannot write to the run at `{self.url}`: another process is training it",
                hint="wait for it to finish, or use another --name",
            ) from problem
        except OSError as problem:
            raise InputError(
                f"cannot lock the run at `{self.url}`: {str(problem.strerror).lower()}",
                hint="its file system has no locks, so a second writer would go unnoticed; choose another --output",
            ) from problem

    def _put(self, key: str, chunks: Iterable[bytes], *, needs_bytes: int | None = None) -> None:
        with self._beside(key, needs_bytes) as (folder, name, partial):
            write_flushed(partial, chunks, folder=folder)
            os.replace(partial, name, src_dir_fd=folder, dst_dir_fd=folder)

    @contextmanager
    def _beside(self, key: str, needs_bytes: int | None = None) -> Iterator[tuple[int, str, str]]:
        """The key's open folder, its name there, and a hidden name to write to, removed at the end of the block."""
        errors = file_errors("write", self._path(key), needs_bytes=needs_bytes)
        with errors, self._folders.folder_of(key, make=True) as (folder, name):
            partial = partial_name(name)
            try:
                yield folder, name, partial
            finally:
                with suppress(FileNotFoundError):
                    os.unlink(partial, dir_fd=folder)

    def _path(self, key: str) -> Path:
        parts = PurePosixPath(key)
        assert not parts.is_absolute(), key
        assert ".." not in parts.parts, key
        return self._root / parts


def _stat(stat: os.stat_result) -> Stat:
    # Every write creates a new file, so the inode number changes even where the time stamp is coarse.
    modified = datetime.fromtimestamp(stat.st_mtime, timezone.utc)
    return Stat(stat.st_size, f"{stat.st_size}-{stat.st_mtime_ns}-{stat.st_ino}", modified)


def _linked(folder: int, partial: str, name: str) -> bool:
    try:
        os.link(partial, name, src_dir_fd=folder, dst_dir_fd=folder)
    except FileExistsError:
        # NFS retries a request whose response was lost: the link may be our own.
        return os.stat(partial, dir_fd=folder).st_nlink > 1
    return True


def _has_links(folder: int, one: str, other: str) -> bool:
    try:
        os.link(one, other, src_dir_fd=folder, dst_dir_fd=folder)
    except OSError as problem:
        if problem.errno in _NO_LINKS:
            return False
        raise
    return True


def _key_of_partial(name: str) -> str | None:
    """The key of a partial file; None for other files."""
    folder, slash, last = name.rpartition("/")
    whole = whole_name(last)
    return None if whole is None else f"{folder}{slash}{whole}"


def _obstacle(name: str, entry: os.DirEntry[str]) -> str | None:
    """Why this entry prevents a run, None when it does not."""
    if entry.is_symlink():
        return "a link"
    if entry.is_dir():
        return "a folder" if is_ours(name) or name == LOCK else None
    if is_our_folder(name):
        return "not a folder"
    return "not a regular file" if is_ours(name) and not entry.is_file() else None
