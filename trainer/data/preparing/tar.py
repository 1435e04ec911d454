"""Members of a tar archive, read once from its start to its end, in bounded memory.

The standard library reads extended headers of any size into memory, keeps a record of every member, and takes an archive
that was cut off between two members for a whole one.
"""

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, Final

BLOCK: Final = 512
_MOST_HEADER_BYTES: Final = 1 << 20
_PIECE_BYTES: Final = 1 << 20
_MOST_AFTER_END_BYTES: Final = 1 << 30
"""Bytes that may follow the end of an archive: padding of a tape has at most some MiB."""

_LONG_NAME, _LONG_LINK, _PAX, _PAX_OF_ALL = b"L", b"K", b"x", b"g"


class DamagedArchiveError(ValueError):
    """Why an archive cannot be read; the text follows the archive's name."""


@dataclass(frozen=True)
class TarMember:
    """A member; `read` its content before the next one."""

    name: str
    size_bytes: int
    is_file: bool
    """Whether it is a regular file: not a folder, link, device or pipe."""
    stream: "TarStream"

    def read(self) -> bytes:
        """The whole content. Raises: DamagedArchiveError for an archive that ends before; as the stream."""
        return self.stream.take(self.size_bytes)


class TarStream:
    """An archive that is read forwards."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._left = 0
        """Bytes of the current member that have not been read, with its padding."""
        self._padding = 0

    def members(self) -> Iterator[TarMember]:
        """Each member. Raises: DamagedArchiveError for a damaged or incomplete archive; as the stream."""
        name, size = "", None
        while True:
            self._skip()
            header = self._header()
            if header is None:
                self._drain()
                return
            kind = header.type
            if kind in {_LONG_NAME, _LONG_LINK, _PAX, _PAX_OF_ALL}:
                content = self._extended(header.size)
                if kind == _LONG_NAME:
                    name = content.rstrip(b"\0").decode("utf-8", "surrogateescape")
                elif kind == _PAX:
                    fields = _pax_fields(content)
                    name, size = fields.get("path", name), _number(fields.get("size"), size)
                continue
            size_bytes = header.size if size is None else size
            self._begin(size_bytes if _has_content(kind) else 0)
            yield TarMember(name or header.name, size_bytes, header.isreg(), self)
            name, size = "", None

    def take(self, count: int) -> bytes:
        """The next bytes of the current member. Raises: DamagedArchiveError."""
        content = self._file.read(count)
        self._left -= len(content)
        if len(content) != count:
            raise DamagedArchiveError("it ends in the middle of a member")
        return content

    def _begin(self, size_bytes: int) -> None:
        self._left, self._padding = size_bytes, -size_bytes % BLOCK

    def _skip(self) -> None:
        """Read over the rest of the current member."""
        rest = self._left + self._padding
        while rest:
            piece = self._file.read(min(rest, _PIECE_BYTES))
            if not piece:
                raise DamagedArchiveError("it ends in the middle of a member")
            rest -= len(piece)
        self._left = self._padding = 0

    def _header(self) -> tarfile.TarInfo | None:
        """The next header; None at the end of the archive."""
        block = self._file.read(BLOCK)
        if len(block) != BLOCK:
            raise DamagedArchiveError("it is incomplete: the mark of its end is missing")
        if not any(block):
            return None
        try:
            header = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        except tarfile.HeaderError as problem:
            raise DamagedArchiveError(f"it is damaged: {problem}") from problem
        if header.size < 0:
            raise DamagedArchiveError("it is damaged: a member has a negative size")
        return header

    def _extended(self, size_bytes: int) -> bytes:
        if size_bytes > _MOST_HEADER_BYTES:
            raise DamagedArchiveError(f"it has a header of {size_bytes:,} bytes")
        self._begin(size_bytes)
        content = self.take(size_bytes)
        self._skip()
        return content

    def _drain(self) -> None:
        """Read to the end of the file, where a compressed stream is compared with its checksum."""
        rest = _MOST_AFTER_END_BYTES
        while piece := self._file.read(_PIECE_BYTES):
            rest -= len(piece)
            if rest < 0:
                raise DamagedArchiveError("it has more than 1 GiB after its end")


def _has_content(kind: bytes) -> bool:
    """Whether content follows the header: not for links, devices, folders and pipes. Source: POSIX.1-2017, pax, ustar."""
    return kind not in {b"1", b"2", b"3", b"4", b"5", b"6"}


def _pax_fields(content: bytes) -> dict[str, str]:
    """Fields of an extended header: lines `LENGTH NAME=VALUE`. Raises: DamagedArchiveError."""
    fields = {}
    while content:
        length, _, _ = content.partition(b" ")
        if not (length.isdigit() and len(length) < 8 and len(length) + 3 <= int(length) <= len(content)):
            raise DamagedArchiveError("it is damaged: an extended header is none")
        record, content = content[len(length) + 1 : int(length) - 1], content[int(length) :]
        field, _, value = record.partition(b"=")
        fields[field.decode("utf-8", "replace")] = value.decode("utf-8", "surrogateescape")
    return fields


def _number(text: str | None, otherwise: int | None) -> int | None:
    if text is None:
        return otherwise
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise DamagedArchiveError("it is damaged: a member has no size")
    return int(text)
