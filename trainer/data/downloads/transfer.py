"""Download of a data set's files to a directory or bucket: what is there is kept, what is missing is fetched and verified."""

import hashlib
import zlib
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Protocol

from trainer.data.downloads.bucket import Bucket
from trainer.data.downloads.folder import Folder
from trainer.data.downloads.http_source import HttpSource, RemoteFile
from trainer.data.downloads.nih import PublishedFile
from trainer.data.downloads.pieces import PIECE_BYTES, pieces
from trainer.errors import InputError, listing
from trainer.limits import LimitError, gunzipped
from trainer.location import Location
from trainer.runtime.console import Reporter
from trainer.runtime.progress import BYTES, Advance
from trainer.storage import ChangedError, DamagedError

LABEL_FILE_BYTES: Final = 64 << 20
"""Size limit of a label file; the largest of ChestX-ray14 has 8 MB."""

_VERSIONS: Final = 2
"""Versions of a file on the server that are begun before the download fails: one replacement is an update."""


class Target(Protocol):
    """Where files are downloaded to. Files get their names when they are whole and verified."""

    def size_of(self, name: str) -> int | None: ...
    def sha256_of(self, name: str) -> str: ...
    def partial_bytes(self, item: PublishedFile, /) -> int: ...
    def check_room(self, needs_bytes: int, /) -> None: ...
    def write(self, item: PublishedFile, content: bytes) -> None: ...
    def receive(
        self,
        item: PublishedFile,
        size_bytes: int,
        content: Callable[[int], Iterable[bytes]],
        progress: Callable[[int], object],
        /,
    ) -> None: ...
    def forget(self, item: PublishedFile, /) -> None: ...


def open_target(out: str, *, patience_s: float) -> Target:
    """The directory or bucket at `out`. Raises: InputError, RemoteError when it cannot be used."""
    at = Location(out)
    return Bucket(at, patience_s=patience_s) if "://" in out else Folder(Path(out))


@dataclass(frozen=True)
class Download:
    """A download of files from HTTP servers to a target."""

    source: HttpSource
    target: Target
    connections: int
    reporter: Reporter
    piece_bytes: int = PIECE_BYTES

    def fetch(self, archives: Sequence[PublishedFile], label_files: Sequence[PublishedFile]) -> None:
        """Download the files that are not there.

        Raises: InputError, before anything is downloaded, for files of other content under these names; FullError; AbsentError,
        UnreachableError, RemoteError from the servers; DamagedError for a file with a wrong SHA-256; ChangedError; TryAgainError
        when another process downloads to the same directory.
        """
        missing = self._missing([*label_files, *archives])
        large = [item for item in archives if item in missing]
        with ThreadPoolExecutor(self.connections) as pool:
            files = dict(zip(large, pool.map(lambda item: self.source.look_up(item.url), large), strict=True))
        needed = sum(
            file.size_bytes - min(file.size_bytes, self.target.partial_bytes(item)) for item, file in files.items()
        )
        self.target.check_room(needed)
        for item in label_files:
            if item in missing:
                self._fetch_small(item)
        if not files:
            return
        with self.reporter.progress("downloading", needed, BYTES) as advance:
            for item, file in files.items():
                self._fetch_large(item, file, advance)

    def _missing(self, items: Sequence[PublishedFile]) -> list[PublishedFile]:
        """The files that are not there; those that are there are named. Raises: InputError for files of other content."""
        sizes = {item: self.target.size_of(item.name) for item in items}
        there = {item: size for item, size in sizes.items() if size is not None}
        others = []
        with self.reporter.progress("verifying files that are there", sum(there.values()), BYTES) as advance:
            for item, size in there.items():
                if self.target.sha256_of(item.name) == item.sha256:
                    self.reporter.line(f"{item.name}: there already, with the right SHA-256")
                else:
                    others.append(f"{item.name} ({size:,} bytes)")
                advance(size, item.name)
        if others:
            raise InputError(
                f"cannot download to `{self.target}`: files of these names have other content, and are not replaced"
                f" (from --out):{listing(others)}",
                hint="move or delete them, or choose another --out",
            )
        return [item for item in items if item not in there]

    def _fetch_small(self, item: PublishedFile) -> None:
        content = self.source.read(item.url, most_bytes=LABEL_FILE_BYTES)
        if content.startswith(b"\x1f\x8b"):
            try:
                content = gunzipped(content, most_bytes=LABEL_FILE_BYTES)
            except (LimitError, zlib.error, EOFError) as problem:
                raise DamagedError(
                    f"cannot download `{item.name}`: it is not a valid gzip file: {problem}"
                ) from problem
        sha256 = hashlib.sha256(content).hexdigest()
        if sha256 != item.sha256:
            raise DamagedError(
                f"cannot download `{item.name}`: its SHA-256 begins with `{sha256[:12]}`, must begin with `{item.sha256[:12]}`",
                hint="the server has another file, or a proxy changes it; --mirror URL for another server",
            )
        self.target.write(item, content)
        self.reporter.line(f"{item.name}: downloaded, {len(content):,} bytes")

    def _fetch_large(self, item: PublishedFile, file: RemoteFile, advance: Advance) -> None:
        for version in range(1, _VERSIONS + 1):
            try:
                self._receive(item, file, lambda done: advance(done, item.name))
            except ChangedError:
                self.target.forget(item)
                if version == _VERSIONS:
                    raise
                self.reporter.line(f"{item.name}: it changed on the server; the download begins again")
                file = self.source.look_up(item.url)
            else:
                self.reporter.line(f"{item.name}: downloaded and verified, {file.size_bytes:,} bytes")
                return

    def _receive(self, item: PublishedFile, file: RemoteFile, progress: Callable[[int], None]) -> None:
        """Write one file to the target; its connections are closed in any case."""
        with ExitStack() as stack:

            def content(first: int) -> Iterable[bytes]:
                fetched = pieces(
                    self.source,
                    file,
                    first=first,
                    connections=self.connections,
                    progress=progress,
                    piece_bytes=self.piece_bytes,
                )
                return stack.enter_context(closing(fetched))

            self.target.receive(item, file.size_bytes, content, progress)


def from_mirror(items: Iterable[PublishedFile], base: str) -> list[PublishedFile]:
    """The files with links to files of the same names below `base`."""
    return [replace(item, url=f"{base}/{item.name}") for item in items]
