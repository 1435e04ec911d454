"""Bounded reader of CSV tables; gzip and a byte order mark are accepted."""

import csv
import io
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from trainer.limits import (
    LINE_CHARS,
    TABLE_COLUMNS,
    TABLE_ROWS,
    TEXT_BYTES,
    LimitError,
    gunzipped,
    read_at_most,
)
from trainer.storage.files import open_regular

PACKED: Final = ".gz"
"""Suffix of compressed files; no other compression is supported."""


_ZIP: Final = b"PK\x03\x04"


class TableError(ValueError):
    """Invalid table; the text completes a sentence that begins with the file's name."""


def content_of(path: Path) -> bytes:
    """The content of a text file, decompressed. Raises: OSError; LimitError, TableError."""
    with open_regular(path) as file:
        return unpacked(read_at_most(file, TEXT_BYTES), path.name)


def unpacked(content: bytes, name: str) -> bytes:
    """The decompressed content of a file of this name. Raises: LimitError; TableError for a damaged file."""
    if content.startswith(_ZIP):
        raise TableError("it is a zip archive, such as an Excel workbook; unpack it, or save it as CSV")
    if not name.endswith(PACKED):
        return content
    try:
        return gunzipped(content)
    except (zlib.error, EOFError) as problem:
        raise TableError(str(problem)) from problem


def lines(content: bytes) -> Iterator[str]:
    """The lines of a text with their ends. Raises: LimitError for a line that is too long; TableError when it is not UTF-8."""
    # newline="" keeps line ends inside quotes
    text = io.TextIOWrapper(io.BytesIO(content), encoding="utf-8-sig", newline="")
    try:
        while line := text.readline(LINE_CHARS + 1):
            if len(line) > LINE_CHARS:
                raise LimitError(f"it has a line of more than {LINE_CHARS:,} characters")
            yield line
    except UnicodeDecodeError as problem:
        raise TableError(f"it is not UTF-8 text: {problem.reason}") from problem


def rows(content: bytes) -> Iterator[tuple[int, list[str]]]:
    """Line number and stripped cells of each row that is not blank.

    Raises: LimitError for too many rows or columns; TableError when it is not a table.
    """
    chars, count = 0, 0

    def counted() -> Iterator[str]:
        nonlocal chars
        for line in lines(content):
            chars += len(line)
            if chars > LINE_CHARS:  # a quoted cell may have several lines
                raise LimitError(f"it has a row of more than {LINE_CHARS:,} characters")
            yield line

    reader = csv.reader(counted())
    try:
        for row in reader:
            chars, count = 0, count + 1
            if count > TABLE_ROWS or len(row) > TABLE_COLUMNS:
                raise LimitError(f"it has more than {TABLE_ROWS:,} rows or {TABLE_COLUMNS:,} columns")
            if row:
                yield reader.line_num, list(map(str.strip, row))
    except csv.Error as problem:
        raise TableError(f"line {reader.line_num}: {problem}") from problem
