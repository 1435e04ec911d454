"""Layout `mimic-cxr`: MIMIC-CXR-JPG 2.x, tables of split, labels by study (CheXpert's or NegBio's), and metadata.

Source: the documentation of MIMIC-CXR-JPG (Johnson et al., doi:10.13026/jsn5-t979). Not tested on the original.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Final

from trainer.data.class_folders import first_of
from trainer.data.label_cells import labels_of
from trainer.data.label_files import Rows, cells_of
from trainer.data.labels import SPLITS
from trainer.data.layouts.chexpert import FINDINGS, NO_FINDING
from trainer.data.layouts.files import optional_file, single_file
from trainer.data.layouts.source import RawSource, Request
from trainer.data.patients import patient_of_id
from trainer.data.views import view_of
from trainer.errors import InputError, on_one_line

REQUIRED: Final = ("mimic-cxr-2.*-split.csv", "mimic-cxr-2.*-metadata.csv")
LABELS_ONLY: Final = REQUIRED
COLUMNS: Final = ("dicom_id", "study_id", "subject_id", "split")
UNCERTAIN: Final = "ignore"
BLANK: Final = "zeros"

LABELS: Final = ("mimic-cxr-2.*-chexpert.csv", "mimic-cxr-2.*-negbio.csv")
"""Tables of labels; the first that is there is read."""

_SPLITS: Final = {"train": "train", "validate": "val", "test": "test"}

_STRAY_SHARE: Final = Fraction(1, 100)
"""Images without labels, or labels without images, that one release may have.

Source: 227,835 studies have images, 227,827 have labels (documentation of MIMIC-CXR and MIMIC-CXR-JPG).
"""

_Study = tuple[str, str]
"""Numbers of subject and study."""


@dataclass(frozen=True)
class _Image:
    """A row of the split table."""

    where: str
    study: _Study
    split: str

    def name(self, dicom: str) -> str:
        subject, study = self.study
        return f"files/p{subject[:2]}/p{subject}/s{study}/{dicom}.jpg"


def read(request: Request) -> RawSource:
    """The labels, with the split and the views of the tables."""
    split, metadata = (single_file(request.data, request.entries, name) for name in REQUIRED)
    labels = _label_file(request)
    findings = (*([NO_FINDING] if request.wants(NO_FINDING) else []), *FINDINGS)
    rows = Rows()
    images = _images(split, rows.problems)
    labels_of_study = _labels(labels, findings, rows.problems)
    views = _views(metadata, rows.problems)
    notes = _check_alike(images, labels_of_study, views, (split, labels, metadata), rows.problems)
    for dicom, image in images.items():
        of_study = labels_of_study.get(image.study)
        if of_study is not None:
            index = SPLITS.index(_SPLITS[image.split]) if request.given else -1
            view = views.get(dicom, "")
            rows.add(image.where, image.name(dicom), patient_of_id(image.study[0]), of_study, index, view=view)
    table = rows.table(request.data, findings)
    files = (split, labels, metadata)
    return RawSource(table=table, files=files, placement="paths", notes=notes, split_findings=FINDINGS)


def _label_file(request: Request) -> Path:
    found = (optional_file(request.data, request.entries, name) for name in LABELS)
    labels = next((path for path in found if path is not None), None)
    if labels is None:
        raise InputError(
            f"cannot read data set: no table of labels, `{LABELS[0]}` or `{LABELS[1]}`, got `{request.data}` (from `--data`)",
            hint="download it from PhysioNet into this directory; it may be compressed (.gz)",
        )
    return labels


def _images(path: Path, problems: list[str]) -> dict[str, _Image]:
    """By dicom_id."""
    images: dict[str, _Image] = {}
    for where, (dicom, study, subject, split) in cells_of(path, COLUMNS, problems):
        if not (dicom and study.isdecimal() and subject.isdecimal()) or "/" in dicom:
            problems.append(f"{where}: dicom_id, study_id and subject_id must be an id and two numbers")
        elif split not in _SPLITS:
            problems.append(f"{where}: split must be {', '.join(_SPLITS)}, got `{on_one_line(split)}`")
        elif dicom in images:
            problems.append(f"{where}: `{on_one_line(dicom)}` is listed twice, first in {images[dicom].where}")
        else:
            images[dicom] = _Image(where, (subject, study), split)
    return images


def _labels(path: Path, findings: tuple[str, ...], problems: list[str]) -> dict[_Study, bytes]:
    """Labels by study."""
    labels: dict[_Study, bytes] = {}
    for where, (subject, study, *cells) in cells_of(path, ["subject_id", "study_id", *findings], problems):
        if (subject, study) in labels:
            problems.append(f"{where}: study {on_one_line(study)} is listed twice")
            continue
        try:
            labels[subject, study] = labels_of(findings, tuple(cells))
        except ValueError as problem:
            problems.append(f"{where}: {problem}")
    return labels


def _views(path: Path, problems: list[str]) -> dict[str, str]:
    """Projection by dicom_id."""
    views: dict[str, str] = {}
    for where, (dicom, view) in cells_of(path, ["dicom_id", "ViewPosition"], problems):
        if dicom in views:
            problems.append(f"{where}: `{on_one_line(dicom)}` is listed twice")
        views[dicom] = view_of(view)
    return views


def _check_alike(
    images: Mapping[str, _Image],
    labels: Mapping[_Study, bytes],
    views: Mapping[str, str],
    tables: tuple[Path, Path, Path],
    problems: list[str],
) -> tuple[str, ...]:
    """Notes about what one table has and another has not; a problem where that is more than one release may have."""
    split, of_studies, metadata = (path.name for path in tables)
    studies = {image.study for image in images.values()}
    strays = {
        f"images of {split} have no labels of their study in {of_studies} and are left out": (
            [dicom for dicom, image in images.items() if image.study not in labels],
            len(images),
        ),
        f"studies of {of_studies} have no image in {split}": (
            [f"s{study}" for subject, study in labels if (subject, study) not in studies],
            len(labels),
        ),
        f"images of {split} are not in {metadata}": ([dicom for dicom in images if dicom not in views], len(images)),
    }
    notes = []
    for what, (names, total) in strays.items():
        text = f"{len(names):,} of {total:,} {what}: {first_of(names)}"
        if len(names) > total * _STRAY_SHARE:
            problems.append(f"{text}; are these tables of different releases?")
        elif names:
            notes.append(text)
    return tuple(notes)
