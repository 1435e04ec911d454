"""Cohort of each split: images, patients, findings, sex, age and view; does not import torch.

Of data that is not public, a sex or view with fewer than five patients is not counted, nor are the others of that
attribute, from which it would follow. Shapes: N images of a split, K findings.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from trainer.data.labels import LabelTable
from trainer.evaluation.document import CohortCell, CohortPart, Group, decimals
from trainer.evaluation.metadata import Metadata

SMALLEST_SHOWN: Final = 5
"""Patients of the smallest group that is counted; of fewer, one may be recognised.

Source: the usual rule of hospitals and statistical offices against disclosure by small counts.
"""

CHILDREN: Final = "under 18"
"""The only subgroup that is part of another one."""

_NOT_SHOWN: Final = "not shown"
_NOT_GIVEN: Final = "not given"

_GROUPS: Final = {"sex": ("F", "M"), "view": ("PA", "AP")}


def cohort_part(
    part: str, table: LabelTable, rows_N: NDArray[np.int64], metadata: Metadata | None, *, is_public: bool
) -> CohortPart:
    """The cohort of these rows of the table; `metadata` is that of all its images."""
    images, patients_N = len(rows_N), table.patients_N[rows_N]
    known = _nothing(images) if metadata is None else metadata.rows(rows_N)
    unknown = sum(table.images[row] in table.unidentified for row in rows_N.tolist())
    per_patient = np.unique(patients_N, return_counts=True)[1] if images and not unknown else None
    median, lower, upper = _ages(known, patients_N, is_public=is_public)
    sex, sex_unknown = _cells(known.sex_N, "sex", patients_N, unknown, is_public=is_public)
    view, view_unknown = _cells(known.view_N, "view", patients_N, unknown, is_public=is_public)
    return CohortPart(
        part=part,
        images=images,
        patients=None if per_patient is None else len(per_patient),
        images_of_unknown_patients=unknown,
        images_per_patient_median=None if per_patient is None else float(np.median(per_patient)),
        images_per_patient_most=None if per_patient is None else int(per_patient.max()),
        positives=dict(zip(table.findings, table.positive()[rows_N].sum(axis=0).tolist(), strict=True)),
        known=dict(zip(table.findings, table.known()[rows_N].sum(axis=0).tolist(), strict=True)),
        sex=sex,
        sex_unknown=sex_unknown,
        age_median=median,
        age_lower_quartile=lower,
        age_upper_quartile=upper,
        age_unknown=int(np.isnan(known.age_N).sum()),
        view=view,
        view_unknown=view_unknown,
        smallest_shown=None if is_public else SMALLEST_SHOWN,
    )


def hide_small(groups: Sequence[Group]) -> list[str]:
    """Remove the numbers of subgroups that a cohort of data that is not public does not show; returns notes about them."""
    notes = []
    for by in dict.fromkeys(group["by"] for group in groups):
        patients = {group["group"]: group["patients"] or 0 for group in groups if group["by"] == by}
        hidden = _hidden(patients)
        for group in groups:
            if group["by"] == by and group["group"] in hidden:
                _hide(group)
        if hidden:
            notes.append(
                f"numbers of {by} {', '.join(hidden)} are not shown, as one has fewer than {SMALLEST_SHOWN} patients and the "
                "data set is not recognised as public"
            )
    return notes


def _hide(group: Group) -> None:
    """Remove the numbers of a subgroup, also those that add up to them, and from the reason why it is not scored."""
    group["images"] = group["patients"] = None
    for finding in group.get("findings", {}).values():
        finding["positive_patients"] = finding["negative_patients"] = None
    if group.get("not_scored"):
        group["not_scored"] = "too few patients"


def _hidden(patients: Mapping[str, int]) -> list[str]:
    """Names of the subgroups of one attribute that are too small to be counted, and of one from which a small one follows.

    Children are part of `under 40`, so that their number does not follow from those of the other ages.
    """
    small = [group for group, count in patients.items() if count < SMALLEST_SHOWN]
    others = sorted(patients.keys() - {*small, CHILDREN}, key=lambda group: (patients[group], group))
    return small + (others[:1] if len({*small} - {CHILDREN}) == 1 else [])


def _nothing(images: int) -> Metadata:
    return Metadata(np.full(images, "", "<U2"), np.full(images, np.nan), np.full(images, "", "<U2"))


def _cells(
    value_N: NDArray[np.str_], attribute: str, patients_N: NDArray[np.int64], unknown: int, *, is_public: bool
) -> tuple[list[CohortCell], int]:
    """Images and patients of each group, and the number of images of an unknown one."""
    absent = int((value_N == "").sum())
    if absent == len(value_N):
        return [], absent
    counts = {
        group: (int((value_N == group).sum()), len(np.unique(patients_N[value_N == group])))
        for group in _GROUPS[attribute]
    }
    small = [group for group, (_, patients) in counts.items() if 0 < patients < SMALLEST_SHOWN and not is_public]
    cells = [
        CohortCell(
            group=group,
            images=None if small else images,
            patients=None if small or unknown else patients,
            fewer_than=SMALLEST_SHOWN if group in small else None,
        )
        for group, (images, patients) in counts.items()
    ]
    return cells, absent


def _ages(
    metadata: Metadata, patients_N: NDArray[np.int64], *, is_public: bool
) -> tuple[float | None, float | None, float | None]:
    """Median and quartiles in years over the images with an age."""
    known_N = ~np.isnan(metadata.age_N)
    patients = len(np.unique(patients_N[known_N]))
    if not patients or (patients < SMALLEST_SHOWN and not is_public):
        return None, None, None
    median, lower, upper = np.percentile(metadata.age_N[known_N], (50, 25, 75)).tolist()
    return median, lower, upper


def cohort_rows(parts: Sequence[CohortPart], named: Callable[[str], str] | None = str) -> list[list[str]]:
    """Table with a column for each split and its header; `named` spells a finding, None leaves findings out."""
    unknown = any(part["images_of_unknown_patients"] for part in parts)
    rows = [
        ["", *(part["part"] for part in parts)],
        ["images", *(f"{part['images']:,}" for part in parts)],
        ["patients", *(shown_number(part["patients"]) for part in parts)],
        *([["images of unknown patients", *(f"{part['images_of_unknown_patients']:,}" for part in parts)]] * unknown),
        ["images per patient, median (most)", *map(_per_patient, parts)],
        *_cell_rows("sex", [part["sex"] for part in parts], [part["sex_unknown"] for part in parts]),
        *_age_rows(parts),
        *_cell_rows("view", [part["view"] for part in parts], [part["view_unknown"] for part in parts]),
    ]
    if named is not None:
        rows += [
            [f"with {named(name)}", *(_positives(part, name) for part in parts)]
            for name in (parts[0]["positives"] if parts else ())
        ]
    return rows


def cohort_words(parts: Sequence[CohortPart]) -> list[str]:
    """What the numbers of the table are, in sentences."""
    words = ["Numbers are images, and in brackets patients; age is in years, at each image."]
    shown = next((part["smallest_shown"] for part in parts if part["smallest_shown"] is not None), None)
    if shown is not None:
        words.append(
            f"The data set is not recognised as public: a sex or view of fewer than {shown} patients (<{shown}) is not "
            f"counted, nor are the others from which it would follow, and ages of fewer have no median."
        )
    return words


def shown_number(value: int | None) -> str:
    """A number with separators; `-` where it is unknown or not shown."""
    return "-" if value is None else f"{value:,}"


def _positives(part: CohortPart, name: str) -> str:
    """Number of positives, and of known labels where some are unknown."""
    known = part.get("known", {}).get(name, part["images"])
    shown = shown_number(part["positives"].get(name))
    return shown if known == part["images"] else f"{shown} of {known:,} known"


def _per_patient(part: CohortPart) -> str:
    median, most = part["images_per_patient_median"], part["images_per_patient_most"]
    return "-" if median is None or most is None else f"{median:g} ({most:,})"


def _age_rows(parts: Sequence[CohortPart]) -> list[list[str]]:
    """Ages and the number of images without one; one row where no image has one."""
    if all(part["age_unknown"] == part["images"] for part in parts):
        return [["age", *[_NOT_GIVEN] * len(parts)]]
    unknown = [f"{part['age_unknown']:,}" for part in parts]
    return [["age, median (quartiles)", *map(_age, parts)], ["age unknown", *unknown]]


def _age(part: CohortPart) -> str:
    median, lower, upper = part["age_median"], part["age_lower_quartile"], part["age_upper_quartile"]
    if median is None or lower is None or upper is None:
        return _NOT_GIVEN if part["age_unknown"] == part["images"] else _NOT_SHOWN
    return f"{_years(median)} ({_years(lower)} to {_years(upper)})"


def _years(value: float) -> str:
    return f"{value:g}" if value == int(value) else decimals(value, 1)


def _cell_rows(attribute: str, cells: Sequence[Sequence[CohortCell]], unknown: Sequence[int]) -> list[list[str]]:
    """A row for each group of the attribute and one for images without it; one row where no image has it."""
    if not any(cells):
        return [[attribute, *[_NOT_GIVEN] * len(cells)]]
    rows = []
    for group in _GROUPS[attribute]:
        of_group = [next((cell for cell in part if cell["group"] == group), None) for part in cells]
        rows.append([f"{attribute} {group}", *map(_cell, of_group)])
    return [*rows, [f"{attribute} unknown", *(f"{count:,}" for count in unknown)]]


def _cell(cell: CohortCell | None) -> str:
    if cell is None:
        return "0"
    if cell["images"] is None:
        return _NOT_SHOWN if cell["fewer_than"] is None else f"<{cell['fewer_than']}"
    return f"{cell['images']:,}" if cell["patients"] is None else f"{cell['images']:,} ({cell['patients']:,})"
