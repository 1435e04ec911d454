"""A bucket as the target of a download: multipart uploads, without a copy on this machine.

An interrupted upload is aborted and the file begins again: the bytes of uploaded parts cannot be read back, so the SHA-256
of the whole could not be checked before it gets its name. Files that are whole are kept.
"""

import hashlib
from collections.abc import Callable, Iterable

from trainer.data.downloads.nih import PublishedFile
from trainer.location import Location
from trainer.storage import AbsentError, DamagedError, S3Storage, open_storage


class Bucket:
    """A prefix of a bucket."""

    def __init__(self, at: Location, *, patience_s: float) -> None:
        storage = open_storage(at, patience_s=patience_s)
        assert isinstance(storage, S3Storage)
        self._storage = storage

    def __str__(self) -> str:
        return self._storage.url

    def size_of(self, name: str) -> int | None:
        """Size in bytes of the object of this name; None where there is none."""
        try:
            return self._storage.stat(name).size_bytes
        except AbsentError:
            return None

    def sha256_of(self, name: str) -> str:
        """SHA-256 of the object of this name: as this program stored it, otherwise computed from all its bytes."""
        stored = self._storage.sha256(name)
        if stored is not None:
            return stored
        digest = hashlib.sha256()
        for chunk in self._storage.chunks(name):
            digest.update(chunk)
        return digest.hexdigest()

    def partial_bytes(self, _item: PublishedFile) -> int:
        """Nothing of an interrupted upload is used."""
        return 0

    def check_room(self, _needs_bytes: int) -> None:
        """A bucket does not state its room."""

    def write(self, item: PublishedFile, content: bytes) -> None:
        """Write a small file."""
        self._storage.write(item.name, content)

    def receive(
        self,
        item: PublishedFile,
        _size_bytes: int,
        content: Callable[[int], Iterable[bytes]],
        _progress: Callable[[int], object],
    ) -> None:
        """Write the file, of which `content(0)` gives the bytes in pieces of at least 5 MiB; the upload is aborted when it raises.

        Raises: DamagedError for another SHA-256; there is no object then. As the storage and `content`.
        """
        self._storage.sweep("", names=[item.name])
        try:
            self._storage.write_stream(item.name, content(0), sha256=item.sha256)
        except DamagedError as damage:
            hint = "the server has another file, or a proxy changes it; --mirror URL for another server"
            raise DamagedError(str(damage.args[0]), hint=hint) from damage

    def forget(self, _item: PublishedFile) -> None:
        """Nothing is left of an aborted upload."""
