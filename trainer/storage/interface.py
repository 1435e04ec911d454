"""What every place that keeps objects can do, and the errors by which it says what it can't."""

from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final, Protocol

from trainer.errors import InputError, KnownError, RemoteError

CHUNK_BYTES: Final = 1 << 20
"""What a transfer holds of an object at a time."""


class AbsentError(KnownError):
    """There is no such object."""

    exit_code = 2


class DamagedError(KnownError):
    """The content is not what was written: its hash differs."""

    exit_code = 2


class ChangedError(InputError):
    """Somebody put another object in its place meanwhile."""


class FullError(InputError):
    """A disk has no room for what is to be written: another start would find the same, until somebody makes room."""


class NotPermittedError(RemoteError):
    """The bucket knows these credentials and refuses what they ask."""


class CredentialsError(RemoteError):
    """There are no credentials, or the server does not accept them."""


class UnreachableError(RemoteError):
    """The server does not answer, or not usefully, for longer than one was ready to wait."""


@dataclass(frozen=True)
class Stat:
    """What a listing says of an object."""

    size_bytes: int
    stamp: str
    """Changes with the object."""

    modified: datetime
    """When it was put there, by the server's clock; aware."""


class Claim(Protocol):
    """The right to be the only writer."""

    def check(self) -> None:
        """Raises: InputError or TryAgainError when another has it by now, InputError when the run is gone."""
        ...

    def lost(self) -> KnownError | None:
        """What `check` would raise, as far as it is known without asking a server; None while all seems well."""
        ...


class Storage(Protocol):
    """Objects under one prefix. Names whose last part starts with `.` are readable but never listed.

    Every method raises, beside what it names: InputError where a directory can't be used as asked, FullError when
    a disk is full; NotPermittedError, CredentialsError, UnreachableError or another RemoteError where a bucket can't.
    """

    url: str
    """The prefix, as the user wrote it."""

    def read(self, key: str, *, most_bytes: int | None = None) -> bytes:
        """The object's bytes. Raises: AbsentError, DamagedError; LimitError before more than `most_bytes` are in memory."""
        ...

    def chunks(self, key: str, *, first: int = 0, stamp: str | None = None) -> Iterator[bytes]:
        """The object's bytes from offset `first` on, a piece at a time; a body that breaks off goes on where it broke.

        All pieces are of one object, that with the `stamp` where one is given. Read from its start to its end, it is
        compared with its hash.

        Raises: AbsentError; ChangedError when it is not, or no longer, that object; DamagedError after the last piece.
        """
        ...

    def copy_to(self, key: str, path: Path, *, stat: Stat | None = None, progress: Callable[[int], None] = ...) -> None:
        """Write the object to a file, which is whole or not there; `progress` hears how many bytes each piece has.

        Where its listing is given, no more is written than it tells.

        Raises: AbsentError, ChangedError; DamagedError also for an object that is longer or shorter than listed.
        """
        ...

    def write(self, key: str, content: bytes) -> None:
        """Put the whole object in place of what was there."""
        ...

    def upload(self, key: str, path: Path) -> None:
        """The same from a file, in bounded memory. Raises: InputError when the file can't be read."""
        ...

    def create(self, key: str, content: bytes) -> bool:
        """Put the object if there is none. Whether it is there now by this call, or as good as that: with this content.

        An answer can be lost, so one's own earlier attempt may be what is found: contents that differ between those
        who race, by a token of each, make the result exact.
        """
        ...

    def replace(self, key: str, content: bytes, stamp: str) -> bool:
        """Put the object if the one that is there has this stamp; the result is as that of `create`."""
        ...

    def excludes(self) -> bool:
        """Whether of several who `create` or `replace` at once only one succeeds; found out by trying, once."""
        ...

    def stat(self, key: str) -> Stat:
        """What a listing says of the object. Raises: AbsentError."""
        ...

    def stats(self, prefix: str) -> dict[str, Stat]:
        """The same of each name that `keys` lists."""
        ...

    def keys(self, prefix: str) -> list[str]:
        """Names that start with `prefix`, sorted; nothing half-written is among them."""
        ...

    def delete(self, key: str) -> None:
        """Remove the object; absent is fine."""
        ...

    def sweep(self, prefix: str, *, names: Collection[str] | None = None) -> None:
        """Remove what processes that were killed in the middle of a write left of a run's files, or of those with these names."""
        ...

    def hold(self) -> None:
        """Be the storage of a run that is there: a directory that is removed or replaced from now on is never made again.

        Writing to it raises InputError then.
        """
        ...

    def obstacles(self) -> list[str]:
        """What no run can be kept beside, in words: links, and what is no file or no folder where a run's belong."""
        ...

    def claim(self, job: str, report: Callable[[str], None]) -> AbstractContextManager[Claim]:
        """Be the only writer here for the block; earlier starts of the same `job` are known to be gone, `report` hears of waiting.

        Raises: InputError when another is, or nobody may write.
        """
        ...


def ignore(_size_bytes: int, /) -> None:
    """Progress that nobody wants to hear of."""


def is_hidden(key: str) -> bool:
    """Whether listings leave the name out."""
    return key.rpartition("/")[2].startswith(".")
