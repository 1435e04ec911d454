"""Interface of all storages, and their errors."""

from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final, Protocol

from trainer.errors import InputError, KnownError, RemoteError

CHUNK_BYTES: Final = 1 << 20
"""Bytes of an object in memory at a time during a transfer."""


class AbsentError(KnownError):
    """The object does not exist."""

    exit_code = 2


class DamagedError(KnownError):
    """The content's hash differs from that of the written content."""

    exit_code = 2


class ChangedError(InputError):
    """The object was replaced while it was being read."""


class FullError(InputError):
    """The disk is full: a restart fails the same way until space is freed."""


class NotPermittedError(RemoteError):
    """The server knows these credentials, but they lack the permission."""


class CredentialsError(RemoteError):
    """There are no credentials, or the server rejects them."""


class CredentialSourceError(CredentialsError):
    """A profile, program or variable gives no usable credentials: bad input, which no server has seen."""

    exit_code = 2


class UnreachableError(RemoteError):
    """The server did not respond usefully within the retry time."""


class NoProxyError(UnreachableError):
    """The proxy on the way to the server did not respond within the retry time."""


@dataclass(frozen=True)
class Stat:
    """Properties of an object, as in a listing."""

    size_bytes: int
    stamp: str
    """Version of the object: changes with every write."""

    modified: datetime
    """Time of the last write by the server's clock, with time zone."""


class Claim(Protocol):
    """The right to be the only writer."""

    def check(self) -> None:
        """Raises: InputError or TryAgainError when another process has taken over, InputError when the run is gone."""
        ...

    def lost(self) -> KnownError | None:
        """The error that `check` would raise, as far as known without a request to the server; None without one."""
        ...


class Storage(Protocol):
    """Objects under one prefix. Names whose last part starts with `.` can be read but are not listed.

    Every method also raises: InputError for an unusable directory, FullError for a full disk; NotPermittedError,
    CredentialsError, UnreachableError or another RemoteError for a bucket.
    """

    url: str
    """The prefix as given by the user."""

    def read(self, key: str, *, most_bytes: int | None = None) -> bytes:
        """Read the object. Raises: AbsentError, DamagedError; LimitError before more than `most_bytes` are in memory."""
        ...

    def chunks(self, key: str, *, first: int = 0, stamp: str | None = None, verify: bool = True) -> Iterator[bytes]:
        """The object's bytes from offset `first` on, chunk by chunk; an interrupted read resumes where it stopped.

        All chunks are of one version, that of `stamp` if given. When the whole object is read, its hash is checked,
        unless `verify` is false, as for a caller who compares a hash of his own.

        Raises: AbsentError; ChangedError for another version; DamagedError after the last chunk.
        """
        ...

    def copy_to(self, key: str, path: Path, *, stat: Stat | None = None, progress: Callable[[int], None] = ...) -> None:
        """Write the object to a file atomically; `progress` gets the size of each chunk.

        With `stat`, the download stops when the object is longer than listed.

        Raises: AbsentError, ChangedError; DamagedError also when the size differs from the listed one.
        """
        ...

    def write(self, key: str, content: bytes) -> None:
        """Write the object atomically, replacing an existing one."""
        ...

    def upload(self, key: str, path: Path) -> None:
        """Write an object from a file, in bounded memory. Raises: InputError when the file cannot be read."""
        ...

    def create(self, key: str, content: bytes) -> bool:
        """Write the object if there is none. True when it now exists with this content.

        When a response is lost, the retry finds the object of the first attempt. Competing writers therefore put a
        unique token into the content, which makes the result exact.
        """
        ...

    def replace(self, key: str, content: bytes, stamp: str) -> bool:
        """Write the object if the existing one has this stamp; the result is as for `create`."""
        ...

    def excludes(self) -> bool:
        """Whether only one of several concurrent calls of `create` or `replace` succeeds; tested once and remembered."""
        ...

    def stat(self, key: str) -> Stat:
        """Properties of the object. Raises: AbsentError."""
        ...

    def stats(self, prefix: str) -> dict[str, Stat]:
        """Properties of each object that `keys` lists."""
        ...

    def keys(self, prefix: str) -> list[str]:
        """Names that start with `prefix`, sorted; partial files and a bucket's folder markers are not listed."""
        ...

    def delete(self, key: str) -> None:
        """Delete the object, if it exists."""
        ...

    def sweep(self, prefix: str, *, names: Collection[str] | None = None) -> None:
        """Remove partial writes of killed processes: those of a run's files, or of files with these names."""
        ...

    def hold(self) -> None:
        """Bind to the run's existing directory: if it is removed or replaced from now on, it is not created again.

        Later writes then raise InputError.
        """
        ...

    def obstacles(self) -> list[str]:
        """Descriptions of what prevents a run here: links, and entries of the wrong type where a run's files belong."""
        ...

    def claim(self, job: str, report: Callable[[str], None]) -> AbstractContextManager[Claim]:
        """Be the only writer for the block. Earlier attempts of the same `job` are replaced at once; `report` gets
        messages while waiting.

        Raises: InputError when another job is the writer or writing is impossible.
        """
        ...


def ignore(_size_bytes: int, /) -> None:
    """Default for `progress`."""


def is_hidden(key: str) -> bool:
    name = key.rpartition("/")[2]
    return name.startswith(".") and name not in {".", ".."}
