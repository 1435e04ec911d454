"""An object's bytes out of a bucket: a body that breaks off goes on where it broke."""

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
    """One object on its way, over as many requests as it takes; all of them get the same object."""

    connection: Connection
    what: str
    """How errors begin."""

    target: Mapping[str, str]
    """The arguments that say where."""

    first: int
    """The offset of the next byte."""

    stamp: str | None
    """The object that is meant; until the first answer it may be any."""

    sha256: str | None = None
    """What its writer noted as the hash of the whole; known from the first answer on."""

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
        answer = self._ask()
        if answer is None:
            return
        # A server that does not know ranges sends the whole.
        surplus = 0 if "ContentRange" in answer else self.first
        with closing(answer["Body"]) as body:
            for chunk in _without(surplus, body.iter_chunks(CHUNK_BYTES)):
                tries.renew()
                self.first += len(chunk)
                yield chunk

    def _ask(self) -> Any | None:  # noqa: ANN401 - boto3 has no types
        """The answer with the rest of the body; None when there is no byte there."""
        wanted = {"Range": f"bytes={self.first}-"} if self.first else {}
        same = {"IfMatch": f'"{self.stamp}"'} if self.stamp is not None else {}
        try:
            answer = self.connection.call(self.what, lambda client: client.get_object(**self.target, **wanted, **same))
        except RefusedError as refusal:
            if refusal.code == "InvalidRange":
                return None
            if refusal.code == "PreconditionFailed":
                raise ChangedError(f"{self.what}: it changed while it was read") from refusal
            raise
        stamp = stamp_of(answer)
        if self.stamp not in {None, stamp}:  # a server that does not know conditions
            answer["Body"].close()
            raise ChangedError(f"{self.what}: it changed while it was read")
        self.stamp, self.sha256 = stamp, hash_of(answer)
        return answer


def stamp_of(answer: Mapping[str, Any]) -> str:
    """What a server gives as an object's ETag, in an answer or in a listing, without the quotes."""
    return str(answer.get("ETag", "")).strip('"')


def hash_of(answer: Mapping[str, Any]) -> str | None:
    """The SHA-256 that `upload` and `write` keep with an object."""
    noted: str | None = answer.get("Metadata", {}).get("sha256")
    return noted


def _without(surplus: int, chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The chunks less their first `surplus` bytes."""
    for chunk in chunks:
        if surplus < len(chunk):
            yield chunk[surplus:]
        surplus = max(0, surplus - len(chunk))
