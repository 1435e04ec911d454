"""Patients: from file names, and from patient ids written in several ways. Label tables number them and keep no id."""

import re
import unicodedata
from pathlib import PurePosixPath
from typing import Final

_COPY: Final = r"(?:(?:[ _-]+copy)?[ _-]*\(\d{1,3}\)|[ _-]+copy(?:[ _-]*\d{1,3})?|_\d{1,2})?"
"""A suffix of copied files: `_1`, ` (1)`, ` - Copy`, ` - Copy (2)`."""

_NIH_NAME: Final = re.compile(rf"(\d{{8}})_\d{{3}}{_COPY}", re.IGNORECASE | re.ASCII)

_KAGGLE_NAME: Final = re.compile(
    rf"(person\d+_(?:bacteria|virus)|(?:NORMAL2-)?IM-\d+)[-_]\d+(?:-\d+)?{_COPY}", re.IGNORECASE | re.ASCII
)
"""Number *and* kind identify the patient. Source: in the Kaggle set no number with the same kind is in both train and test."""

_MENDELEY_NAME: Final = re.compile(rf"(?:BACTERIA|VIRUS|NORMAL)-(\d+)-\d+{_COPY}", re.IGNORECASE | re.ASCII)
"""Source: Kermany et al., doi:10.17632/rscbjbr9sj: (disease)-(randomised patient ID)-(image number of this patient)."""

_NUMBER: Final = re.compile(r"0*(\d+)(?:\.0*)?", re.ASCII)

_NO_ID: Final = frozenset({"", "nan", "none", "null", "n/a", "unknown", "-", "?"})


def patient_in_name(image: str) -> str:
    """The patient in a file name of NIH or of the paediatric pneumonia set, whatever its suffix; "" in others."""
    stem = PurePosixPath(image).stem
    for pattern in (_NIH_NAME, _KAGGLE_NAME, _MENDELEY_NAME):
        match = pattern.fullmatch(stem)
        if match:
            return match[1].lower()
    return ""


def patient_of_id(text: str) -> str:
    """One form for a patient id, "" for an id that names nobody.

    `1`, `00000001` and `1.0` are one patient, and so are ids that differ only in case or blanks: an id taken for two
    patients could be in two splits.
    """
    compact = "".join(unicodedata.normalize("NFKC", text).casefold().split())
    number = _NUMBER.fullmatch(compact)
    return number[1] if number else "" if compact in _NO_ID else compact
