"""Layout `padchest`: PadChest's table of 160,861 images, its labels as lists in text.

Source: Bustos et al. 2020, doi:10.1016/j.media.2020.101797, and its documentation. Not tested on the original.
"""

import re
from collections import Counter
from dataclasses import dataclass, field
from fractions import Fraction
from functools import lru_cache
from typing import Final

from trainer.data.label_cells import BLANK as UNKNOWN
from trainer.data.label_cells import as_bytes
from trainer.data.label_files import Rows, cells_of
from trainer.data.labels import SPLITS
from trainer.data.layouts import whole_set
from trainer.data.layouts.files import single_file
from trainer.data.layouts.source import RawSource, Request
from trainer.data.names import plain
from trainer.data.patients import patient_of_id
from trainer.data.views import view_of
from trainer.errors import on_one_line

REQUIRED: Final = ("PADCHEST_chest_x_ray_images_labels*.csv",)
LABELS_ONLY: Final = REQUIRED
COLUMNS: Final = ("ImageID", "PatientID", "Projection", "MethodLabel", "Labels")
UNCERTAIN: Final = None
BLANK: Final = "ignore"

NORMAL: Final = "normal"
"""No finding; read as a label only where `--findings` names it."""

UNUSABLE: Final = frozenset({"exclude", "suboptimal study"})
"""Labels of images that are left out."""

_NO_FINDINGS: Final = frozenset({NORMAL, "unchanged", *UNUSABLE})

_PHYSICIAN: Final = "Physician"
"""`MethodLabel` of labels by physicians; the others are by a network."""

_COMMON_SHARE: Final = Fraction(1, 1000)
"""Share of the images from which a label is read by default: rarer ones cannot be validated."""

_QUOTED: Final = r"(?:'[^'\\]*'|\"[^\"\\]*\")"
_LIST: Final = re.compile(rf"\[\s*(?:{_QUOTED}\s*(?:,\s*{_QUOTED}\s*)*,?)?\s*\]")
_LONGEST: Final = 10_000
"""Characters of a list; the longest of the set has some hundred."""


@dataclass
class _Counts:
    """Numbers of images for the notes."""

    left_out: Counter[str] = field(default_factory=Counter)
    """By reason."""
    blank: int = 0
    """With a blank cell or an empty list: all findings are unknown."""


def read(request: Request) -> RawSource:
    """The labels, without images that the set marks as unusable."""
    path = single_file(request.data, request.entries, REQUIRED[0])
    rows, counts = Rows(), _Counts()
    table = [
        (where, cells, names)
        for where, cells in cells_of(path, COLUMNS, rows.problems)
        if (names := _names_of(where, cells[-1], rows.problems)) is not None
    ]
    common, rare = _findings([names for _, _, names in table])
    findings = (*(name for name in sorted({*rare, *_NO_FINDINGS} - UNUSABLE) if request.wants(name)), *common)
    split = SPLITS.index("train") if request.given else -1
    for where, (image, patient, projection, method, _), names in table:
        known = patient_of_id(patient)
        if not image:
            rows.problems.append(f"{where}: ImageID must not be empty")
            continue
        reason = _reason(request, method, names) if known else "without PatientID"
        if reason:
            counts.left_out[reason] += 1
            continue
        counts.blank += not names
        rows.add(where, plain(image), known, _labels(findings, names), split, view=view_of(projection))
    return RawSource(
        table=rows.table(request.data, findings),
        files=(path,),
        carved=whole_set.shares(request),
        placement="anywhere",
        notes=(*whole_set.notes(request), *_notes(counts, len({*rare}.difference(findings)))),
        split_findings=common,
    )


def _names_of(where: str, text: str, problems: list[str]) -> frozenset[str] | None:
    """The labels of a cell; none for a blank cell. A text that is no list is a problem."""
    try:
        return names_in(text)
    except ValueError as problem:
        problems.append(f"{where}: Labels {problem}")
        return None


@lru_cache(maxsize=1 << 16)
def names_in(text: str) -> frozenset[str]:
    """The names in a list such as `['normal', ' pleural effusion']`, without stray blanks, in lower case; nothing is evaluated.

    Raises: ValueError for a text that is no such list.
    """
    if not text or text == "nan":
        return frozenset()
    if len(text) > _LONGEST or not _LIST.fullmatch(text):
        raise ValueError(f"must be a list of names in quotes, got `{on_one_line(text[:80])}`")
    names = (" ".join(quoted[1:-1].split()).casefold() for quoted in re.findall(_QUOTED, text))
    return frozenset(name for name in names if name)


def _findings(names: list[frozenset[str]]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The labels that are read by default, and the rare ones, both in alphabetical order."""
    count = Counter(name for each in names for name in each)
    least = len(names) * _COMMON_SHARE
    every = sorted(name for name in count if name not in _NO_FINDINGS)
    common = tuple(name for name in every if count[name] >= least)
    return common, tuple(name for name in every if count[name] < least)


@lru_cache(maxsize=1 << 16)
def _labels(findings: tuple[str, ...], names: frozenset[str]) -> bytes:
    """All unknown where the set has no label."""
    return as_bytes((float(finding in names) if names else UNKNOWN) for finding in findings)


def _reason(request: Request, method: str, names: frozenset[str]) -> str:
    """Why an image is left out; empty where it is not."""
    unusable = sorted(UNUSABLE & names)
    if unusable:
        return f"labelled `{unusable[0]}`"
    return "not labelled by a physician" if request.reading.physician_labels_only and method != _PHYSICIAN else ""


def _notes(counts: _Counts, rare: int) -> tuple[str, ...]:
    notes = [f"{count:,} images are {reason} and left out" for reason, count in counts.left_out.items()]
    if counts.blank:
        notes.append(f"{counts.blank:,} images have no label at all: their findings are blank")
    if rare:
        notes.append(
            f"{rare:,} labels of fewer than {_COMMON_SHARE} of the images are not read (--findings names those to read)"
        )
    return tuple(notes)
