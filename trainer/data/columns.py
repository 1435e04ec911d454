"""Columns of label tables that describe image and patient, under their usual names."""

import re
from collections.abc import Sequence
from typing import Final, Literal

Kind = Literal["patient", "sex", "age", "view"]

_PATIENTS: Final = frozenset(
    {
        *("patient", "patient id", "patient number", "patient no", "patient key", "subject", "subject id", "pid"),
        *("participant", "participant id", "study subject id", "mrn", "person id"),
    }
)

_WORDS: Final[dict[Kind, frozenset[str]]] = {
    "sex": frozenset({"sex", "gender"}),
    "age": frozenset({"age"}),
    "view": frozenset({"view", "projection", "ap pa", "pa ap"}),
}
"""A column is of a kind if its name has one of these words. Source: the tables of ChestX-ray14, CheXpert, MIMIC-CXR, PadChest, BRAX."""


def columns_of(header: Sequence[str], kind: Kind) -> list[int]:
    """Positions of the columns of this kind, in the order of the table; several where a table has two."""
    return [position for position, name in enumerate(header) if _kind(name) == kind]


def is_known(name: str) -> bool:
    """Whether it is a usual name of one of these columns."""
    return _kind(name) is not None


def _kind(name: str) -> Kind | None:
    words = _words(name)
    if " ".join(words) in _PATIENTS:
        return "patient"
    pairs = {" ".join(words[at : at + 2]) for at in range(len(words))}
    return next((kind for kind, known in _WORDS.items() if known & {*words, *pairs}), None)


def _words(name: str) -> list[str]:
    """Words of `PatientID`, `patient_id` or `Patient ID`, in lower case."""
    parted = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    return re.findall(r"[^\W_]+", parted.casefold())
