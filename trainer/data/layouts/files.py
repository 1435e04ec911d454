"""Label files in the directory of a data set: found by pattern, one of several editions chosen."""

from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final

from trainer.errors import InputError

NEWEST_EDITION: Final = "v2020"
"""In the name of NIH's corrected table, which is read where the one of 2017 is in the same directory."""


def present(entries: Sequence[str], pattern: str) -> list[str]:
    """The entries of this pattern, also compressed ones."""
    return [entry for entry in entries if fnmatchcase(entry, pattern) or fnmatchcase(entry, f"{pattern}.gz")]


def single_file(data: Path, entries: Sequence[str], pattern: str) -> Path:
    """The only file of this pattern, of NIH's tables the newest; there must be one. Raises: InputError for several."""
    names = present(entries, pattern)
    editions = [name for name in names if NEWEST_EDITION in name]
    if len(names) > 1 and len(editions) == 1:
        return data / editions[0]
    if len(names) > 1:
        listed = " and ".join(f"`{each}`" for each in names)
        raise InputError(
            f"cannot read data set: more than one `{pattern}`, got {listed} (in `{data}`)", hint="keep only one"
        )
    return data / names[0]


def optional_file(data: Path, entries: Sequence[str], pattern: str) -> Path | None:
    """The same; None where there is none."""
    return single_file(data, entries, pattern) if present(entries, pattern) else None
