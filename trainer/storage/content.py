"""What is to be put into a bucket: in memory or in a file, read a part at a time."""

import hashlib
import os
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from trainer.storage.files import file_errors, pieces
from trainer.storage.interface import ChangedError


@dataclass(frozen=True)
class Content:
    """Bytes that threads may read parts of at once."""

    size_bytes: int
    sha256: str
    part: Callable[[int, int], bytes]
    """From an offset and a size to the bytes there."""


def in_memory(content: bytes) -> Content:
    """Bytes that are there."""
    return Content(len(content), hashlib.sha256(content).hexdigest(), lambda first, size: content[first : first + size])


@contextmanager
def in_file(path: Path) -> Iterator[Content]:
    """A file's bytes, read once for their hash and once for each part.

    Raises: AbsentError; InputError when it can't be read; ChangedError from `part` when it has become shorter.
    """
    digest, size_bytes = hashlib.sha256(), 0
    for piece in pieces(path):
        digest.update(piece)
        size_bytes += len(piece)
    with file_errors("read", path):
        descriptor = os.open(path, os.O_RDONLY)
    try:
        yield Content(size_bytes, digest.hexdigest(), lambda first, size: _read(path, descriptor, first, size))
    finally:
        os.close(descriptor)


def md5_of(content: bytes) -> str:
    """What a server compares the bytes with that reach it: Content-MD5. Source: RFC 1864."""
    return b64encode(hashlib.md5(content, usedforsecurity=False).digest()).decode()


def _read(path: Path, descriptor: int, first: int, size: int) -> bytes:
    """At most 2 GiB come from one call, and less from some file systems."""
    found = bytearray()
    with file_errors("read", path):
        while len(found) < size:
            piece = os.pread(descriptor, size - len(found), first + len(found))
            if not piece:
                raise ChangedError(f"cannot read `{path}`: it became shorter while it was read")
            found += piece
    return bytes(found)
