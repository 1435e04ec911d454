"""Download of one object from a bucket; an interrupted download resumes at the byte where it stopped."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from trainer.storage.connection import Connection
from trainer.storage.errors import RefusedError, boto_errors
from trainer.storage.interface import CHUNK_BYTES, ChangedError
from trainer.storage.retry import Tries


@dataclass
class Download:
    """One object, read with as many requests as needed; all of them read the same version."""

    connection: Connection
    what: str
    """Beginning of error messages."""

    target: Mapping[str, str]
    """Request arguments that name the object."""

    first: int
    """Offset of the next byte."""

    stamp: str | None
    """Version of the object to read; None accepts any in the first response."""

    sha256: str | None = None
    """Hash of the whole object as stored by its writer; known after the first response."""

    def chunks(self) -> Iterator[bytes]:
        """The bytes from `first` on. Raises: ChangedError; else as `Connection.call`."""
        tries = self.connection.policy.begin()
        while True:
            try:
                yield from self._rest(tries)
            except boto_errors() as problem:
                self.connection.wait_out(self.what, problem, tries)
            else:
                return

    def _rest(self, tries: Tries) -> Iterator[bytes]:
        response = self._request()
        if response is None:
            return
        # A server without range support sends the whole object.
        surplus = 0 if "ContentRange" in response else self.first
        with closing(response["Body"]) as body:
            for chunk in _without(surplus, body.iter_chunks(CHUNK_BYTES)):
                tries.renew()
                self.first += len(chunk)
                yield chunk

    def _request(self) -> Any | None:  # noqa: ANN401 - boto3 has no types
        """A response with the rest of the object; None at its end."""
        byte_range = {"Range": f"bytes={self.first}-"} if self.first else {}
        condition = {"IfMatch": f'"{self.stamp}"'} if self.stamp is not None else {}
        try:
            response = self.connection.call(
                self.what, lambda client: client.get_object(**self.target, **byte_range, **condition)
            )
        except RefusedError as refusal:
            if refusal.code == "InvalidRange":
                return None
            if refusal.code == "PreconditionFailed":
                raise ChangedError(f"{self.what}: it changed while being read") from refusal
            raise
        stamp = stamp_of(response)
        if self.stamp not in {None, stamp}:  # a server without conditional requests
            response["Body"].close()
            raise ChangedError(f"{self.what}: it changed while being read")
        self.stamp, self.sha256 = stamp, hash_of(response)
        return response


def stamp_of(response: Mapping[str, Any]) -> str:
    """An object's ETag without quotes, from a response or a listing."""
    return str(response.get("ETag", "")).strip('"')


def hash_of(response: Mapping[str, Any]) -> str | None:
    """The SHA-256 that `upload` and `write` store as metadata of an object."""
    stored: str | None = response.get("Metadata", {}).get("sha256")
    return stored


def _without(surplus: int, chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The chunks without their first `surplus` bytes."""
    for chunk in chunks:
        if surplus < len(chunk):
            yield chunk[surplus:]
        surplus = max(0, surplus - len(chunk))
