"""CSV files of ours: a spreadsheet runs nothing of them, and our readers read every text back equal.

Spreadsheets run what begins with `=`, `+`, `-` or `@`, also behind a tab or a line break, as soon as a file is opened. Such text
gets an apostrophe before it, by which a spreadsheet takes a cell for text, and readers of our files take one off again. Text that
begins with apostrophes and then like a formula gets one more; all other text, `'abc` too, is written as it is.

Source: OWASP, CSV Injection.
"""

import csv
import io
import re
from collections.abc import Iterable
from typing import Final

_BEGINNING: Final = r"(?:[\t\r\n]|[\s\ufeff\u200b]*[=+\-@\uff1d\uff0b\uff0d\uff20])"
"""The last four are those before them in full width, which some spreadsheets take for the same; some trim blanks of any kind."""

_RUN: Final = re.compile(rf"'*{_BEGINNING}")
_KEPT: Final = re.compile(rf"'+{_BEGINNING}")

_ENDS: Final = "\r\n"


def line(cells: Iterable[object]) -> str:
    """A row, with its end; nothing where a cell is None. Texts are kept; numbers stay numbers, -1.5 too."""
    out = io.StringIO()
    # The writer quotes what its line ends are made of, and so a lone \r, which other programs take for one.
    csv.writer(out, lineterminator=_ENDS).writerow([kept(cell) if isinstance(cell, str) else cell for cell in cells])
    return out.getvalue().removesuffix(_ENDS) + "\n"


def kept(text: str) -> str:
    """A text as a cell that no spreadsheet runs."""
    return f"'{text}" if _RUN.match(text) else text


def read(cell: str) -> str:
    """The text of a cell that `kept` has written; a cell of an older file or another program, as it is."""
    return cell[1:] if _KEPT.match(cell) else cell
