"""Content of an upload, in memory or in a file, read part by part."""

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
    """Bytes of which several threads may read parts concurrently."""

    size_bytes: int
    sha256: str
    part: Callable[[int, int], bytes]
    """The bytes at an offset, of a given size."""


def in_memory(content: bytes) -> Content:
    return Content(len(content), hashlib.sha256(content).hexdigest(), lambda first, size: content[first : first + size])


@contextmanager
def in_file(path: Path) -> Iterator[Content]:
    """A file's bytes, read once for the hash and once for each part.

    Raises: AbsentError; InputError when it cannot be read; ChangedError from `part` when the file was truncated.
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
    """Content-MD5 header by which the server checks the received bytes. Source: RFC 1864."""
    return b64encode(hashlib.md5(content, usedforsecurity=False).digest()).decode()


def _read(path: Path, descriptor: int, first: int, size: int) -> bytes:
    content = bytearray()
    with file_errors("read", path):
        # pread returns at most 2 GiB per call, and less on some file systems.
        while len(content) < size:
            chunk = os.pread(descriptor, size - len(content), first + len(content))
            if not chunk:
                raise ChangedError(f"cannot read `{path}`: it was truncated while being read")
            content += chunk
    return bytes(content)
