"""A gzip file as a stream of its content, in bounded memory; a truncated file is noticed."""

import io
import zlib
from typing import TYPE_CHECKING, BinaryIO, Final

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_READ_BYTES: Final = 1 << 18
_GZIP: Final = 31
"""Window bits of zlib for gzip's format, which checks length and CRC-32 of the content."""


class Inflated(io.RawIOBase):
    """Content of a gzip file, which may have several members. Reading raises EOFError, zlib.error, and as the file."""

    def __init__(self, packed: BinaryIO) -> None:
        super().__init__()
        self._packed = packed
        self._inflater = zlib.decompressobj(_GZIP)
        self._input = b""
        self._is_between = True
        """Whether the next byte begins a member."""

    def readable(self) -> bool:
        """True."""
        return True

    def readinto(self, buffer: "WriteableBuffer") -> int:
        """Fill the buffer in part; 0 at the end."""
        target = memoryview(buffer).cast("B")
        while len(target):
            if not self._input:
                self._input = self._packed.read(_READ_BYTES)
                if not self._input:
                    if self._is_between:
                        return 0
                    raise EOFError("it ends in the middle of its compressed data")
            if self._is_between:
                self._input = self._input.lstrip(b"\0")  # padding
                if not self._input:
                    continue
                self._is_between, self._inflater = False, zlib.decompressobj(_GZIP)
            content = self._inflater.decompress(self._input, len(target))
            if self._inflater.eof:
                self._input, self._is_between = self._inflater.unused_data, True
            else:
                self._input = self._inflater.unconsumed_tail
            if content:
                target[: len(content)] = content
                return len(content)
        return 0
