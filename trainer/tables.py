"""Text tables as others write them, a row at a time and in bounded memory: packed or not, with or without a byte order mark."""

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
"""How the names of packed files end; no other packing is read."""


class TableError(ValueError):
    """It is no table; the text ends a sentence that begins with the file's name."""


def content_of(path: Path) -> bytes:
    """What is in a text file, unpacked. Raises: OSError; LimitError, TableError."""
    with open_regular(path) as file:
        return unpacked(read_at_most(file, TEXT_BYTES), path.name)


def unpacked(content: bytes, name: str) -> bytes:
    """The content of a file of this name. Raises: LimitError; TableError for a damaged one."""
    if not name.endswith(PACKED):
        return content
    try:
        return gunzipped(content)
    except (zlib.error, EOFError) as problem:
        raise TableError(str(problem)) from problem


def lines(content: bytes) -> Iterator[str]:
    """The lines of a text with their ends. Raises: LimitError for one that is too long; TableError for what is no UTF-8."""
    text = io.TextIOWrapper(
        io.BytesIO(content), encoding="utf-8-sig", newline=""
    )  # line ends inside quotes stay what they are
    try:
        while line := text.readline(LINE_CHARS + 1):
            if len(line) > LINE_CHARS:
                raise LimitError(f"it has a line of more than {LINE_CHARS:,} characters")
            yield line
    except UnicodeDecodeError as problem:
        raise TableError(f"it is no UTF-8 text: {problem.reason}") from problem


def rows(content: bytes) -> Iterator[tuple[int, list[str]]]:
    """Line number and cells of the rows that are not blank, without white space around them.

    Raises: LimitError for too many rows or columns; TableError for what is no table.
    """
    chars, count = 0, 0

    def counted() -> Iterator[str]:
        nonlocal chars
        for line in lines(content):
            chars += len(line)
            if chars > LINE_CHARS:  # a quoted cell goes on over lines
                raise LimitError(f"it has a row of more than {LINE_CHARS:,} characters")
            yield line

    reader = csv.reader(counted())
    try:
        for row in reader:
            chars, count = 0, count + 1
            if count > TABLE_ROWS or len(row) > TABLE_COLUMNS:
                raise LimitError(f"it has more than {TABLE_ROWS:,} rows or {TABLE_COLUMNS:,} columns")
            if row:
                yield reader.line_num, [cell.strip() for cell in row]
    except csv.Error as problem:
        raise TableError(f"line {reader.line_num}: {problem}") from problem
