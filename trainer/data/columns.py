"""Columns of label tables that describe image and patient, under their usual names."""

from collections.abc import Sequence
from typing import Final, Literal

Kind = Literal["patient", "sex", "age", "view"]

_NAMES: Final[dict[Kind, tuple[str, ...]]] = {
    "patient": ("patientid", "patient", "patientnumber", "patientno", "patientkey", "subjectid", "subject", "pid"),
    "sex": ("patientgender", "patientsex", "gender", "sex"),
    "age": ("patientage", "age", "ageyears", "ageinyears", "patientageyears", "ageatstudy"),
    "view": ("viewposition", "view", "projection", "viewpos", "appa", "paap"),
}
"""Lower-case letters and digits of each name. Source: the tables of ChestX-ray14, CheXpert, MIMIC-CXR, PadChest and BRAX."""


def columns_of(header: Sequence[str], kind: Kind) -> list[int]:
    """Positions of the columns of this kind, in the order of the table; several where a table has two."""
    return [position for position, name in enumerate(header) if _plain(name) in _NAMES[kind]]


def is_known(name: str) -> bool:
    """Whether it is a usual name of one of these columns."""
    return any(_plain(name) in names for names in _NAMES.values())


def _plain(name: str) -> str:
    return "".join(char for char in name.casefold() if char.isalnum())
