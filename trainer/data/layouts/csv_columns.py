"""Which columns of a `labels.csv` hold findings: those whose cells are labels and whose names are not those of metadata."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from trainer.data.columns import is_known
from trainer.data.label_cells import BLANK_TEXTS, label_value
from trainer.data.label_files import complete_rows, counted
from trainer.data.labels import FINDINGS, is_finding_name
from trainer.data.layouts import chexpert
from trainer.errors import InputError, listing, on_one_line
from trainer.label_choices import AS_READ, LabelChoices

_NO_FINDINGS: Final = frozenset(
    {
        *("", "split", "Image Index", "Path", "Finding Labels", "No Finding", "No finding"),
        *("OriginalImage[Width", "Height]", "OriginalImagePixelSpacing[x", "y]"),
    }
)
"""Columns of the tables of public sets that hold no finding; also NIH's, as split at commas."""

_METADATA_WORDS: Final = frozenset(
    {
        *("id", "ids", "index", "date", "time", "year", "age", "sex", "gender", "view", "projection", "position"),
        *("follow", "followup", "number", "count", "width", "height", "spacing", "rows", "columns", "score", "prob"),
        *("probability", "weight", "fold", "site", "path", "file", "filename", "name", "scanner", "manufacturer"),
        *("modality", "study", "series", "reader", "set"),
    }
)
"""A column whose name has one of these words describes the image, the patient or the examination."""

_MOSTLY: Final = 0.9
"""Share of a column's cells that must be labels so that its other cells are taken for errors, not the column for metadata."""

_HALF: Final = 0.5

_MOST_VALUES: Final = 1_000
"""Different values of a column that is recognised as one of labels."""

_ALWAYS: Final = frozenset({*FINDINGS, *chexpert.FINDINGS})


def finding_columns(
    path: Path, header: Sequence[str], choices: LabelChoices = AS_READ, of_run: LabelChoices = AS_READ
) -> tuple[str, ...]:
    """Names of the columns with findings: those that the choices name, otherwise those of the run and those recognised.

    The 14 of ChestX-ray14 are in the order of `FINDINGS` where there is no other, other columns in that of the file.

    Raises: InputError where there is none, for a column named twice, and for cells that are no labels in a column of labels.
    """
    if choices.columns():
        chosen = set(choices.columns())
    else:
        chosen = {*of_run.columns(), *_recognised(path, header, of_run.columns())}
    found = [name for name in dict.fromkeys(header) if name in chosen]
    twice = [f"column `{on_one_line(name)}` more than once" for name in found if header.count(name) > 1]
    if twice:
        raise InputError(
            f"cannot read `{path}`: {counted(twice)} in its first line{listing(twice)}",
            hint="the first line must have the column names, separated by commas",
        )
    if not found:
        raise InputError(
            f"cannot read the labels: no column holds a finding, got `{path}` with the columns "
            f"{', '.join(f'`{on_one_line(name)}`' for name in header)}",
            hint="a finding is a column of 1, 0, -1 (uncertain) or blank (unknown); --findings A,B names the columns to use",
        )
    if choices.columns():
        _check_labels(path, header, found)
    return FINDINGS if set(found) == set(FINDINGS) else tuple(found)


def _check_labels(path: Path, header: Sequence[str], chosen: Sequence[str]) -> None:
    """Refuse chosen columns of something else, without their cells, which may identify patients. Raises: InputError."""
    values = _values_of(complete_rows(path, []), [header.index(name) for name in chosen])
    others = [name for name in chosen if _is_mostly_text(values.get(header.index(name)))]
    if others:
        raise InputError(
            f"cannot use columns of `{path}` as findings: most of their cells are no labels{listing(f'`{on_one_line(name)}`' for name in others)}",
            hint="labels are 1, 0, -1 (uncertain), blank (unknown) or between 0 and 1; choose other columns with --findings or --rename",
        )


def default_columns(path: Path, header: Sequence[str]) -> tuple[str, ...]:
    """The columns that are read without choices, in their order; without those that would then be refused."""
    places = [place for place, name in enumerate(header) if header.count(name) == 1 and not _is_metadata(name)]
    values = _values_of(complete_rows(path, []), places)
    found = [header[place] for place, cells in values.items() if _share_of_labels(cells) == 1.0]
    usable = tuple(filter(is_finding_name, found))
    return FINDINGS if set(usable) == set(FINDINGS) else usable


def _recognised(path: Path, header: Sequence[str], of_run: Sequence[str]) -> list[str]:
    """Columns of findings but those of the run. Raises: InputError for a column in which nearly all cells are labels, but not all."""
    places = [place for place, name in enumerate(header) if name not in of_run]
    unsure = [place for place in places if header[place] not in _ALWAYS and not _is_metadata(header[place])]
    values = _values_of(complete_rows(path, []), unsure) if unsure else {}
    found, problems = [header[place] for place in places if header[place] in _ALWAYS], []
    for place, cells in values.items():
        name, share = header[place], _share_of_labels(cells)
        if share == 1.0:
            found.append(name)
        elif share >= _MOSTLY:
            strange = next(text for text in cells if not _is_label(text))
            problems.append(f"column `{on_one_line(name)}` holds labels, and `{on_one_line(strange)}`")
    if problems:
        raise InputError(
            f"cannot read the labels of `{path}`: {counted(problems)}{listing(problems)}",
            hint="labels are 1, 0, -1 (uncertain), blank (unknown) or between 0 and 1; --findings A,B names the columns to use",
        )
    return found


def _values_of(rows: Iterable[tuple[str, list[str]]], places: Sequence[int]) -> dict[int, Counter[str]]:
    """How often each value occurs in each of these columns, without columns that have too many."""
    values: dict[int, Counter[str]] = {place: Counter() for place in places}
    for _, cells in rows:
        for place in list(values):
            values[place][cells[place]] += 1
            if len(values[place]) > _MOST_VALUES:
                del values[place]
    return values


def _is_mostly_text(cells: Counter[str] | None) -> bool:
    """Whether a column, which is None where it has too many values, has more other texts than labels."""
    return cells is None or (any(not _is_label(text) for text in cells) and _share_of_labels(cells) < _HALF)


def _share_of_labels(cells: Counter[str]) -> float:
    """Share of the cells that are labels, of those that are not blank; 0 where all are blank."""
    known = {text: count for text, count in cells.items() if text.casefold() not in BLANK_TEXTS}
    labels = sum(count for text, count in known.items() if _is_label(text))
    return labels / sum(known.values()) if known else 0.0


def _is_label(text: str) -> bool:
    try:
        label_value(text)
    except ValueError:
        return False
    return True


def _is_metadata(name: str) -> bool:
    parted = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    words = set(re.findall(r"[^\W_]+", parted.casefold()))
    return name in _NO_FINDINGS or is_known(name) or bool(words & _METADATA_WORDS)
