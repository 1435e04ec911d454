"""Layout `prepared`: a set that `trainer prepare` has written, with its labels and records, and without image files.

Its labels are those that its source gave, so that every choice about uncertain and blank labels can still be made.
"""

from typing import Final

from trainer.config import flag_of
from trainer.data.layouts.source import RawSource, Request
from trainer.data.packs.damage import DamagedPackError, named_damage
from trainer.data.packs.files import hashed
from trainer.data.packs.index import INDEX
from trainer.data.packs.labels_csv import parsed
from trainer.data.packs.prepared import LABELS, damaged
from trainer.data.packs.prepared import read as read_index
from trainer.errors import InputError, on_one_line
from trainer.label_choices import AS_READ, LabelChoices

REQUIRED: Final = (INDEX,)
LABELS_ONLY: Final = REQUIRED
COLUMNS: Final = ()
UNCERTAIN: Final = None
BLANK: Final = None
"""The defaults of the layout that the set was prepared from hold: see `RawSource.prepared_from`."""


_DECIDED: Final = ("valid_as", "readers", "physician_labels_only")
"""Choices that are made when a set is prepared."""


def _check_choices(choices: LabelChoices) -> None:
    """Raises: InputError for choices that would have no effect."""
    late = [flag_of(name) for name in _DECIDED if getattr(choices, name) != getattr(AS_READ, name)]
    if late:
        raise InputError(
            f"cannot use {' and '.join(late)} with a prepared set: it was decided when the set was prepared",
            hint=f"give {' and '.join(late)} to `trainer prepare`",
        )


def read(request: Request) -> RawSource:
    """The labels, with the split of the source. Raises: InputError where the set is damaged."""
    _check_choices(request.choices)
    index = read_index(request.data)
    try:
        with named_damage(request.data):
            table, nih_names = parsed(hashed(request.data, LABELS, index.files), index.findings)
    except DamagedPackError as damage:
        raise damaged(request.data, damage) from damage
    notes = [f"when the set was prepared: {on_one_line(note)}" for note in index.notes]
    if index.missing:
        notes.append(f"{index.missing:,} images of the label files were missing when the set was prepared")
    return RawSource(
        table=table,
        files=(request.data / INDEX, request.data / LABELS),
        placement="records",
        notes=tuple(notes),
        nih_names=nih_names,
        prepared_from=index.layout,
    )
