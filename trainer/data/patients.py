"""Patients: from file names, and from patient ids written in several ways. Label tables number them and keep no id."""

import re
import unicodedata
from typing import Final

_COPY: Final = r"(?:[ _-]*\(\d{1,3}\)|[ _-]+(?:copy|kopie|copie|copia|kopia)(?:[ _-]*\d{1,3})?|[ _]\d{1,3})*"
"""Suffixes of copied files: `_1`, ` 2`, ` (1)`, ` - Copy`, ` - Kopie (2)`, also several."""

_NIH_NAME: Final = re.compile(rf"(?:copy of )?(\d{{8}})_\d{{3}}{_COPY}", re.IGNORECASE | re.ASCII)

_KAGGLE_NAME: Final = re.compile(
    rf"(?:copy of )?(person\d+_(?:bacteria|virus)|(?:NORMAL2-)?IM-\d+)[-_]\d+(?:-\d+)?{_COPY}",
    re.IGNORECASE | re.ASCII,
)
"""Number *and* kind identify the patient. Source: in the Kaggle set no number with the same kind is in both train and test."""

_MENDELEY_NAME: Final = re.compile(
    rf"(?:copy of )?(?:BACTERIA|VIRUS|NORMAL)-(\d+)-\d+{_COPY}", re.IGNORECASE | re.ASCII
)
"""Source: Kermany et al., doi:10.17632/rscbjbr9sj: (disease)-(randomised patient ID)-(image number of this patient)."""

_STUDY_FOLDERS: Final = (
    ("chexpert", re.compile(r"(?:^|/)patient(\d{1,9})/study\d+/", re.ASCII)),
    ("mimic", re.compile(r"(?:^|/)p(\d{8})/s\d{8}/", re.ASCII)),
)
"""Folders of patient and study in CheXpert and MIMIC-CXR."""

_PICTURES: Final = (".png", ".jpg", ".jpeg", "")
"""Suffixes of the pneumonia set, and none; programs export DICOM files of any patient as IM-0001-0001.dcm."""

_NUMBER: Final = re.compile(r"0*(\d+)(?:\.0*)?", re.ASCII)

_ZEROS: Final = re.compile(r"(?<![\d.])0+(?=\d)", re.ASCII)

_JOINT: Final = re.compile(r"(?<=[a-z])[-_]+(?=\d)", re.ASCII)

_NO_ID: Final = frozenset(
    {
        *("", "nan", "na", "none", "null", "n/a", "n.a.", "<na>"),
        *("unknown", "anonymous", "anonymized", "missing", "-", "?"),
    }
)


def file_name(image: str) -> str:
    """The last part of a name with forward slashes; label files have 100,000, for which `PurePosixPath` takes seconds."""
    _, _, last = image.rpartition("/")
    return (
        last if last not in {"", "."} else next((part for part in image.split("/")[::-1] if part not in {"", "."}), "")
    )


def _stem_and_suffix(image: str) -> tuple[str, str]:
    name = file_name(image)
    stem, _, suffix = name.rpartition(".")
    return (stem, f".{suffix}") if stem and suffix else (name, "")


def nih_patient(image: str) -> str:
    """The patient number in a file name of NIH, "" in others."""
    match = _NIH_NAME.fullmatch(_stem_and_suffix(image)[0])
    return match[1] if match else ""


def patient_in_name(image: str) -> str:
    """The patient in a file name of NIH or of the paediatric pneumonia set, or in a path of CheXpert or MIMIC-CXR; "" in others."""
    patient = nih_patient(image) or _patient_of_folder(image)
    stem, suffix = _stem_and_suffix(image)
    if patient or suffix.lower() not in _PICTURES:
        return patient
    kaggle, mendeley = _KAGGLE_NAME.fullmatch(stem), _MENDELEY_NAME.fullmatch(stem)
    return kaggle[1].lower() if kaggle else f"kermany {mendeley[1]}" if mendeley else ""


def _patient_of_folder(image: str) -> str:
    found = ((name, pattern.search(image)) for name, pattern in _STUDY_FOLDERS if "/" in image)
    return next((f"{name} {match[1].lstrip('0')}" for name, match in found if match), "")


def patient_of_id(text: str) -> str:
    """One form for a patient id, "" for an id that names nobody.

    `1`, `00000001` and `1.0` are one patient, and so are `P-07` and `p7`, and ids that differ only in blanks or quotes: an
    id taken for two patients could be in two splits.
    """
    compact = "".join(unicodedata.normalize("NFKC", text).casefold().split()).strip("\"'")
    if compact in _NO_ID:
        return ""
    number = _NUMBER.fullmatch(compact)
    return number[1] if number else _ZEROS.sub("", _JOINT.sub("", compact))
