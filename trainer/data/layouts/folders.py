"""Layout `folders`: `train/CLASS/…`, `test/CLASS/…` and optionally `val/CLASS/…`, one class per image."""

from fractions import Fraction
from typing import Final

from trainer.data.class_folders import read_folders
from trainer.data.layouts.source import RawSource, Request

REQUIRED: Final = ("train/", "test/")
LABELS_ONLY: Final = ("train/",)
COLUMNS: Final = ()
UNCERTAIN: Final = None
BLANK: Final = None

VAL_SHARE: Final = Fraction(1, 10)
"""Share of the patients in train/ used for validation where val/ is missing."""


def read(request: Request) -> RawSource:
    """The labels, with the split of the folders."""
    table, unread = read_folders(request.data, request.entries)
    return RawSource(
        table=table,
        carved={} if "val/" in request.entries else {"val": VAL_SHARE},
        placement="paths",
        look_alikes=tuple(unread.look_alikes),
        notes=tuple(unread.notes()),
    )
