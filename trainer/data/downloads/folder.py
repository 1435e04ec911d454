"""A directory as the target of a download: a partial file grows until it is whole and verified, and then gets its name."""

import errno
import fcntl
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from trainer.data.downloads.nih import PublishedFile
from trainer.errors import InputError, TryAgainError
from trainer.storage import DamagedError, FullError
from trainer.storage.files import file_errors, open_lock, pieces, room
from trainer.storage.open_folder import same_file


class Folder:
    """A directory, created if missing."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with file_errors("write", path):
            path.mkdir(parents=True, exist_ok=True)

    def __str__(self) -> str:
        return str(self.path)

    def size_of(self, name: str) -> int | None:
        """Size in bytes of the file of this name; None where there is none. Raises: InputError for another kind of entry."""
        path = self.path / name
        if not os.path.lexists(path):
            return None
        if not path.is_file():
            raise InputError(
                f"cannot download to `{path}`: it is not a regular file", hint="move it, or choose another --out"
            )
        return path.stat().st_size

    def sha256_of(self, name: str) -> str:
        """SHA-256 of the file of this name."""
        digest = hashlib.sha256()
        for piece in pieces(self.path / name):
            digest.update(piece)
        return digest.hexdigest()

    def partial_bytes(self, item: PublishedFile) -> int:
        """Bytes of the file that an earlier call has downloaded."""
        with file_errors("read", self.path):
            partial = self._partial(item)
            return partial.stat().st_size if partial.is_file() else 0

    def check_room(self, needs_bytes: int) -> None:
        """Raises: FullError when the disk has less room."""
        with file_errors("read", self.path):
            system = os.statvfs(self.path)
        if system.f_bavail * system.f_frsize < needs_bytes:
            text = f"cannot download to `{self.path}`: too little room on its disk{room(self.path / '_', needs_bytes)}"
            raise FullError(text, hint="make room, or choose another --out")

    def write(self, item: PublishedFile, content: bytes) -> None:
        """Write a small file atomically."""
        self.forget(item)
        with self._opened(item, len(content)) as file:
            file.write(content)
            self._finish(item, file)

    def receive(
        self,
        item: PublishedFile,
        size_bytes: int,
        content: Callable[[int], Iterable[bytes]],
        progress: Callable[[int], object],
    ) -> None:
        """Write the file; `content` gives its bytes from an offset on, that where an earlier call was interrupted.

        The partial file stays when `content` raises. `progress` gets the number of bytes that must be downloaded again, negative.

        Raises: DamagedError when the whole has another SHA-256; the partial file is removed, and the name not used. TryAgainError
        when another process downloads it. FullError, InputError when it cannot be written; as `content`.
        """
        with self._opened(item, size_bytes) as file:
            had_bytes = _end(file)
            if had_bytes > size_bytes:
                file.truncate(0)
                had_bytes = 0
            digest = _digest(file)
            for piece in content(had_bytes):
                file.write(piece)
                digest.update(piece)
            if digest.hexdigest() == item.sha256:
                self._finish(item, file)
                return
            self._partial(item).unlink()
        if not had_bytes:
            raise _damaged(item, digest.hexdigest())
        progress(-had_bytes)
        self.receive(item, size_bytes, content, progress)

    def forget(self, item: PublishedFile) -> None:
        """Remove the partial file."""
        with file_errors("write", self._partial(item)):
            self._partial(item).unlink(missing_ok=True)

    @contextmanager
    def _opened(self, item: PublishedFile, size_bytes: int) -> Iterator[BinaryIO]:
        """The partial file, locked for this process; at its end."""
        partial = self._partial(item)
        with file_errors("write", partial, needs_bytes=size_bytes), open_lock(partial) as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as problem:
                raise _busy(partial) from problem
            except OSError as problem:
                if problem.errno not in {errno.ENOTSUP, errno.ENOSYS, errno.ENOLCK}:  # a file system without locks
                    raise
            if not same_file(file.fileno(), partial):  # another process has just finished it
                raise _busy(partial)
            file.seek(0, os.SEEK_END)
            yield file

    def _finish(self, item: PublishedFile, file: BinaryIO) -> None:
        file.flush()
        os.fsync(file.fileno())
        self._partial(item).replace(self.path / item.name)

    def _partial(self, item: PublishedFile) -> Path:
        """Path of the partial file. The hash is in its name: it never mixes with that of another edition."""
        return self.path / f".{item.name}-{item.sha256[:16]}.download"


def _end(file: BinaryIO) -> int:
    return file.seek(0, os.SEEK_END)


def _digest(file: BinaryIO) -> "hashlib._Hash":
    """The hash of what is in the file, which is left at its end."""
    digest = hashlib.sha256()
    file.seek(0)
    while piece := file.read(1 << 20):
        digest.update(piece)
    return digest


def _busy(partial: Path) -> TryAgainError:
    return TryAgainError(
        f"cannot download to `{partial.parent}`: another process downloads to it (`{partial.name}` is locked)",
        hint="wait for that process, then run the same command again",
    )


def _damaged(item: PublishedFile, sha256: str) -> DamagedError:
    return DamagedError(
        f"cannot download `{item.name}`: its SHA-256 begins with `{sha256[:12]}`, must begin with `{item.sha256[:12]}`",
        hint="the server has another file, or a proxy changes it; --mirror URL for another server",
    )
