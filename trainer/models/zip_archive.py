"""Strict reader of zip archives as torch writes them: entries are stored uncompressed, do not overlap, and are listed once.

zip records the same facts in several places. If these disagree, a check may see other bytes than torch loads later, so any
disagreement is an error.

Source of the records: PKWARE's APPNOTE 6.3, section 4.3.
"""

import struct
from dataclasses import dataclass
from typing import Final

from trainer.limits import STATE_ENTRIES, LimitError

_END: Final = struct.Struct("<4s4H2LH")
_END_64: Final = struct.Struct("<4sQ2H2L4Q")
_LOCATOR_64: Final = struct.Struct("<4sLQL")
_LISTED: Final = struct.Struct("<4s6H3L5H2L")
_LOCAL: Final = struct.Struct("<4s5H3L2H")

_ENCRYPTED: Final = 1
_ELSEWHERE: Final = 0xFFFFFFFF
"""Value of a size or offset that needs 64 bits and is in the extra field."""


class ArchiveError(ValueError):
    """Not such an archive; the text completes a sentence that begins with the file's name."""


@dataclass(frozen=True)
class Entry:
    """One entry: offset of its local header, and size of its content."""

    name: str
    local: int
    size_bytes: int


def stored_entries(archive: bytes) -> dict[str, memoryview]:
    """The content of each entry by name.

    Raises: LimitError for compressed, overlapping or too many entries; ArchiveError, struct.error, UnicodeDecodeError for a
    damaged archive.
    """
    count, listed_at, ends_at = _directory(archive)
    if count > STATE_ENTRIES:
        raise LimitError(f"it has more than {STATE_ENTRIES:,} entries")
    entries, at = [], listed_at
    for _ in range(count):
        entry, at = _entry(archive, at)
        entries.append(entry)
    if at != ends_at:
        raise ArchiveError("its list of entries is damaged")
    entries.sort(key=lambda entry: entry.local)
    contents: dict[str, memoryview] = {}
    for entry, after in zip(entries, [*(each.local for each in entries[1:]), listed_at], strict=False):
        content = _content_offset(archive, entry)
        if content + entry.size_bytes > after:
            raise LimitError("its entries overlap")
        contents[entry.name] = memoryview(archive)[content : content + entry.size_bytes]
    if len(contents) < count:
        raise ArchiveError("it has a duplicate entry")
    return contents


def _directory(archive: bytes) -> tuple[int, int, int]:
    """Number of entries, and the offsets at which their list begins and ends."""
    at = len(archive) - _END.size
    signature, *_, count, size, first, comment = _END.unpack_from(archive, max(0, at))
    if signature != b"PK\5\6" or comment:
        raise ArchiveError("it is truncated, or not an archive")
    ends_at = at
    if archive[at - _LOCATOR_64.size : at - _LOCATOR_64.size + 4] == b"PK\6\7":
        ends_at = at - _LOCATOR_64.size - _END_64.size
        _, _, stated_at, _ = _LOCATOR_64.unpack_from(archive, at - _LOCATOR_64.size)
        narrow = (count, size, first)
        signature, *_, count, size, first = _END_64.unpack_from(archive, max(0, ends_at))
        same = all(each in {wide, 0xFFFF, _ELSEWHERE} for each, wide in zip(narrow, (count, size, first), strict=True))
        if signature != b"PK\6\6" or stated_at != ends_at or not same:
            raise ArchiveError("its list of entries is damaged")
    if first + size != ends_at:
        raise ArchiveError("its list of entries is damaged")
    return count, first, ends_at


def _entry(archive: bytes, at: int) -> tuple[Entry, int]:
    """The entry listed at this offset, and the offset of the next one."""
    signature, _, _, flags, method, *_, packed, size, name, extra, comment, _, _, _, local = _LISTED.unpack_from(
        archive, at
    )
    named_at = at + _LISTED.size
    extra_at = named_at + name
    if signature != b"PK\1\2" or flags & _ENCRYPTED:
        raise ArchiveError("its list of entries is damaged")
    size, packed, local = _wide(archive[extra_at : extra_at + extra], [size, packed, local])
    if method or packed != size:
        raise LimitError("its entries are compressed, which torch never does")
    return Entry(archive[named_at:extra_at].decode(), local, size), extra_at + extra + comment


def _wide(extra: bytes, numbers: list[int]) -> list[int]:
    """The numbers; those that need 64 bits are taken from the extra field, which has them in the same order."""
    if _ELSEWHERE not in numbers:
        return numbers
    while extra:
        kind, length = struct.unpack_from("<2H", extra)
        if kind == 1:
            wide = iter(struct.unpack_from(f"<{numbers.count(_ELSEWHERE)}Q", extra[4 : 4 + length]))
            return [next(wide) if number == _ELSEWHERE else number for number in numbers]
        extra = extra[4 + length :]
    raise ArchiveError("its list of entries is damaged")


def _content_offset(archive: bytes, entry: Entry) -> int:
    """Offset of the entry's content."""
    signature, *_, name, extra = _LOCAL.unpack_from(archive, entry.local)
    if signature != b"PK\3\4":
        raise ArchiveError("its list of entries is damaged")
    return entry.local + _LOCAL.size + int(name) + int(extra)
