"""CSV cells that no spreadsheet runs as a formula and that our readers restore unchanged.

Spreadsheets run cells that begin with `=`, `+`, `-` or `@`, also after a tab or a line break, as soon as a file is
opened. Such text is written with a leading apostrophe, which marks a cell as text, and our readers remove it. Text that
already begins with apostrophes followed by a formula gets one more; all other text, also `'abc`, is written unchanged.

Source: OWASP, CSV Injection.
"""

import csv
import io
import re
from collections.abc import Iterable
from typing import Final

_BEGINNING: Final = r"(?:[\t\r\n]|[\s\ufeff\u200b]*[=+\-@\uff1d\uff0b\uff0d\uff20])"
"""The last four are full-width forms, which some spreadsheets treat alike; some trim blanks of any kind."""

_RUN: Final = re.compile(rf"'*{_BEGINNING}")
_KEPT: Final = re.compile(rf"'+{_BEGINNING}")

_ENDS: Final = "\r\n"


def line(cells: Iterable[object]) -> str:
    """A row with its line end. Texts are escaped, numbers are not (-1.5 stays a number), None is an empty cell."""
    out = io.StringIO()
    # The writer quotes characters of its line end: with \r\n also a lone \r, which other programs read as a line end.
    csv.writer(out, lineterminator=_ENDS).writerow([kept(cell) if isinstance(cell, str) else cell for cell in cells])
    return out.getvalue().removesuffix(_ENDS) + "\n"


def kept(text: str) -> str:
    """A text as a cell that is safe in spreadsheets."""
    return f"'{text}" if _RUN.match(text) else text


def read(cell: str) -> str:
    """The text of a cell that `kept` wrote; cells of older files or other programs, unchanged."""
    return cell[1:] if _KEPT.match(cell) else cell
