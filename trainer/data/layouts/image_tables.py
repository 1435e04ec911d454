"""Tables of a data set that may have more columns on each image, such as sex, age and view."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from trainer.data.class_folders import directory_entries
from trainer.data.label_files import IMAGE
from trainer.data.layouts import chexpert, labels_csv, mimic_cxr, nih, padchest
from trainer.data.layouts.files import optional_file, single_file
from trainer.data.names import Names, plain


@dataclass(frozen=True)
class ImageTable:
    """A table with a row per image."""

    path: Path
    columns: Sequence[str]
    """Columns with the names of images; the first that is there is read."""
    finder: Callable[[Sequence[str]], Callable[[str], str | None]]
    """Given the images of a data set, a function from a cell of this column to the image; None for one that is not among them."""


def _by_name(images: Sequence[str]) -> Callable[[str], str | None]:
    names = Names(images)
    return lambda cell: names.find(plain(cell))


def _by_path(images: Sequence[str]) -> Callable[[str], str | None]:
    known = frozenset(images)
    return lambda cell: name if (name := chexpert.image_name(cell)) in known else None


def _by_stem(images: Sequence[str]) -> Callable[[str], str | None]:
    return {PurePosixPath(name).stem: name for name in images}.get


_TABLES: Final = {
    "nih": (nih.REQUIRED[:1], (IMAGE,), _by_name),
    "csv": (labels_csv.REQUIRED, labels_csv.IMAGES, _by_name),
    "chexpert": (chexpert.REQUIRED, ("Path",), _by_path),
    "mimic-cxr": (mimic_cxr.REQUIRED[1:], ("dicom_id",), _by_stem),
    "padchest": (padchest.REQUIRED, ("ImageID",), _by_name),
}
"""Files, column and finder by layout; the others have no such table."""


def image_tables(data: Path, layout: str) -> list[ImageTable]:
    """The tables of a data set; none where the layout has none."""
    if layout not in _TABLES:
        return []
    patterns, columns, finder = _TABLES[layout]
    entries = directory_entries(data)
    found = (optional_file(data, entries, pattern) for pattern in patterns)
    return [ImageTable(path, columns, finder) for path in found if path is not None]


def file_table(path: Path) -> ImageTable:
    """A label file on its own, as `read_file` reads it."""
    return ImageTable(path, labels_csv.IMAGES, _by_name)


def table_file(data: Path, layout: str) -> Path | None:
    """The only table of the labels; None for layouts of several files, or of none."""
    if layout not in {"nih", "csv"}:
        return None
    return single_file(data, directory_entries(data), _TABLES[layout][0][0])
