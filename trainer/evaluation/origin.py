"""The public data set that images and labels are from, also in part: what is known of it is true of no other data."""

from typing import Final

from trainer.data.labels import FINDINGS
from trainer.data.layouts import Source
from trainer.data.patients import nih_patient
from trainer.data.public import NIH, PHANTOMS, are_drawn, public_name
from trainer.data.synthetic import has_mark
from trainer.evaluation.edition import is_known_by_rows
from trainer.evaluation.reference import published_list

_PATIENTS: Final = 30_805
"""Patients of ChestX-ray14, numbered from 1. Source: Data_Entry_2017_v2020.csv."""


def origin_of(source: Source) -> str | None:
    """`trainer.data.public.NIH`, `KERMANY` or `PHANTOMS`; None for any other data set, whose patients need protection.

    Parts of ChestX-ray14 under label files of one's own are recognised by their names together with NIH's layout, a
    published list, or rows that only one edition of its labels has. Findings and names alone prove nothing: another
    hospital may have the same findings, and lists without patient ids need names in NIH's form. Nor are phantoms that
    somebody has changed images of patients.
    """
    public = PHANTOMS if are_drawn(source) else public_name(source)
    if public is not None:
        return public
    table = source.table
    if (
        has_mark(source.root)
        or not table.images
        or not set(table.findings) <= set(FINDINGS)
        or not all(map(_is_nih_name, table.images))
    ):
        return None
    is_nih = source.layout == "nih" or is_known_by_rows(table) or published_list(table.images) is not None
    return NIH if is_nih else None


def _is_nih_name(image: str) -> bool:
    patient = nih_patient(image)
    return bool(patient) and 0 < int(patient) <= _PATIENTS
