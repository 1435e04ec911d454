"""Layouts of other public sets: chexpert, mimic-cxr, padchest, vindr and rsna, with labels that are uncertain, blank or disputed."""

import hashlib
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from trainer.data.layouts import chexpert, vindr
from trainer.data.synthetic.exams import Exam
from trainer.data.synthetic.form import Request, csv_text
from trainer.data.synthetic.save import save_dicom, save_jpeg, save_png, save_png16, writes_dicom

_CHEXPERT: Final[Mapping[str, tuple[str, ...]]] = {
    "Enlarged Cardiomediastinum": ("Cardiomegaly", "Hernia"),
    "Cardiomegaly": ("Cardiomegaly",),
    "Lung Opacity": ("Infiltration", "Pneumonia", "Consolidation", "Edema"),
    "Lung Lesion": ("Mass", "Nodule"),
    "Edema": ("Edema",),
    "Consolidation": ("Consolidation",),
    "Pneumonia": ("Pneumonia",),
    "Atelectasis": ("Atelectasis",),
    "Pneumothorax": ("Pneumothorax",),
    "Pleural Effusion": ("Effusion",),
    "Pleural Other": ("Pleural_Thickening", "Fibrosis"),
    "Fracture": (),
    "Support Devices": ("Emphysema",),
}
"""The drawn findings that stand for each label."""

_VINDR: Final[Mapping[str, tuple[str, ...]]] = {
    "Atelectasis": ("Atelectasis",),
    "Cardiomegaly": ("Cardiomegaly",),
    "Consolidation": ("Consolidation",),
    "Infiltration": ("Infiltration",),
    "Lung Opacity": ("Pneumonia", "Edema"),
    "Nodule/Mass": ("Nodule", "Mass"),
    "Other lesion": ("Emphysema", "Hernia"),
    "Pleural effusion": ("Effusion",),
    "Pleural thickening": ("Pleural_Thickening",),
    "Pneumothorax": ("Pneumothorax",),
    "Pulmonary fibrosis": ("Fibrosis",),
}

_PADCHEST: Final = {
    "Effusion": "pleural effusion",
    "Infiltration": "infiltrates",
    "Edema": "pulmonary edema",
    "Fibrosis": "pulmonary fibrosis",
    "Pleural_Thickening": "pleural thickening",
    "Hernia": "hiatal hernia",
}
"""Names in PadChest; the others are the same in lower case."""


def _has(exam: Exam, names: tuple[str, ...]) -> bool:
    return bool(set(names) & set(exam.findings))


def _is_lateral(exam: Exam) -> bool:
    """Of patients with many images some are called lateral, though drawn from the front."""
    return exam.follow_up == 3


def _mentioned(request: Request, exam: Exam) -> list[str]:
    """Labels as CheXpert's: present, absent, uncertain, or most often not mentioned, then `No Finding`."""
    rng = request.rng(exam)
    cells = []
    for names in _CHEXPERT.values():
        draw = rng.random()
        if _has(exam, names):
            cells.append("-1.0" if draw < 0.15 else "1.0")
        else:
            cells.append("-1.0" if draw < 0.05 else "0.0" if draw < 0.35 else "")
    return ["" if exam.findings else "1.0", *cells]


class CheXpert:
    """`train.csv` and `valid.csv`, JPEG."""

    def image(self, exam: Exam) -> str:
        plane = "lateral" if _is_lateral(exam) else "frontal"
        split = "valid" if exam.in_test else "train"
        return f"{split}/patient{exam.patient + 1:05d}/study{exam.follow_up + 1}/view1_{plane}.jpg"

    def save(self, pixels_HW: NDArray[np.uint8], path: Path, exam: Exam) -> None:  # noqa: ARG002
        save_jpeg(pixels_HW, path)

    def tables(self, request: Request) -> dict[str, str]:
        header = ["Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", chexpert.NO_FINDING, *_CHEXPERT]
        rows: dict[str, list[list[object]]] = {"train.csv": [], "valid.csv": []}
        for exam in request.exams:
            age, sex = request.age_and_sex(exam)
            about = [{"M": "Male", "F": "Female"}[sex], age]
            view = ["Lateral", ""] if _is_lateral(exam) else ["Frontal", exam.view]
            path = f"CheXpert-v1.0-small/{self.image(exam)}"
            cells = self._sure(exam) if exam.in_test else _mentioned(request, exam)
            rows["valid.csv" if exam.in_test else "train.csv"].append([path, *about, *view, *cells])
        return {name: csv_text(header, body) for name, body in rows.items()}

    def _sure(self, exam: Exam) -> list[str]:
        """Labels as of `valid.csv`: all known."""
        return [f"{float(has)}" for has in (not exam.findings, *(_has(exam, names) for names in _CHEXPERT.values()))]


class MimicCxr:
    """Tables of split, metadata and labels by study, compressed; JPEG."""

    def image(self, exam: Exam) -> str:
        subject = str(self._subject(exam))
        return f"files/p{subject[:2]}/p{subject}/s{self._study(exam)}/{self._dicom(exam)}.jpg"

    def save(self, pixels_HW: NDArray[np.uint8], path: Path, exam: Exam) -> None:  # noqa: ARG002
        save_jpeg(pixels_HW, path)

    def tables(self, request: Request) -> dict[str, str]:
        ids = {exam: [self._dicom(exam), self._study(exam), self._subject(exam)] for exam in request.exams}
        split = [[*ids[exam], {"val": "validate"}.get(exam.split, exam.split)] for exam in request.exams]
        views = [[*ids[exam], "LATERAL" if _is_lateral(exam) else exam.view] for exam in request.exams]
        labels = [[self._subject(exam), self._study(exam), *_mentioned(request, exam)] for exam in request.exams]
        columns = ["dicom_id", "study_id", "subject_id"]
        names = ["subject_id", "study_id", chexpert.NO_FINDING, *_CHEXPERT]
        return {
            "mimic-cxr-2.0.0-split.csv.gz": csv_text([*columns, "split"], split),
            "mimic-cxr-2.0.0-metadata.csv.gz": csv_text([*columns, "ViewPosition"], views),
            "mimic-cxr-2.0.0-chexpert.csv.gz": csv_text(names, labels),
        }

    def _subject(self, exam: Exam) -> int:
        return 10_000_000 + exam.patient

    def _study(self, exam: Exam) -> int:
        return 50_000_000 + exam.index

    def _dicom(self, exam: Exam) -> str:
        digits = _digest(exam)
        return "-".join(digits[at : at + 8] for at in range(0, 40, 8))


def _digest(exam: Exam) -> str:
    """64 hexadecimal digits for an image."""
    return hashlib.sha256(f"phantom {exam.index}".encode()).hexdigest()


class PadChest:
    """The table with lists as text; PNG of 16 bits in numbered folders."""

    def image(self, exam: Exam) -> str:
        return f"{exam.index % 3}/{self._id(exam)}"

    def save(self, pixels_HW: NDArray[np.uint8], path: Path, exam: Exam) -> None:  # noqa: ARG002
        save_png16(pixels_HW, path)

    def tables(self, request: Request) -> dict[str, str]:
        columns = [
            "ImageID",
            "ImageDir",
            "StudyID",
            "PatientID",
            "PatientSex_DICOM",
            "Projection",
            "MethodLabel",
            "Labels",
        ]
        rows = [[exam.index, *self._row(request, exam)] for exam in request.exams]
        return {"PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv": csv_text(["", *columns], rows)}

    def _row(self, request: Request, exam: Exam) -> list[object]:
        _, sex = request.age_and_sex(exam)
        method = "RNN_model" if exam.patient % 4 else "Physician"
        view = "L" if _is_lateral(exam) else {"AP": "AP_horizontal"}.get(exam.view, exam.view)
        about = [self._id(exam), exam.index % 3, 4_000_000 + exam.index, exam.patient + 1, sex, view, method]
        return [*about, self._labels(exam)]

    def _labels(self, exam: Exam) -> str:
        """Also blank, an empty list, and an image to be excluded, as the set has them."""
        if exam.index % 37 == 36:
            return ""
        if exam.index % 29 == 28:
            return "[]"
        names = [_PADCHEST.get(name, name.lower()) for name in exam.findings] or ["normal"]
        if exam.index % 41 == 40:
            names.append("exclude")
        return repr([f" {name}" if exam.index % 5 == 4 else name for name in names])

    def _id(self, exam: Exam) -> str:
        return f"{exam.index:045d}_00-{exam.index % 200:03d}-{exam.index % 100:03d}.png"


class _Dicom:
    """DICOM files, or PNG files where pydicom is not installed."""

    folder: str
    suffix: str

    def identity(self, exam: Exam) -> str:
        """The image's id, which is its file's name."""
        raise NotImplementedError

    def image(self, exam: Exam) -> str:
        return f"{self.folder}/{self.identity(exam)}{self.suffix if writes_dicom() else '.png'}"

    def save(self, pixels_HW: NDArray[np.uint8], path: Path, exam: Exam) -> None:
        if writes_dicom():
            save_dicom(pixels_HW, path, exam.index)
        else:
            save_png(pixels_HW, path)


def _box(rng: np.random.Generator, side: int) -> tuple[int, int, int, int]:
    """Left, top, width and height in pixels; where the finding is drawn is not known here."""
    left, top = (int(rng.integers(side // 8, side // 2)) for _ in range(2))
    return left, top, side // 4, side // 5


class Vindr(_Dicom):
    """Three readers an image, who miss a finding now and then."""

    folder, suffix = "train", ".dicom"

    def identity(self, exam: Exam) -> str:
        return _digest(exam)[:32]

    def tables(self, request: Request) -> dict[str, str]:
        header = ["image_id", "class_name", "class_id", "rad_id", "x_min", "y_min", "x_max", "y_max"]
        rows = [row for exam in request.exams for row in self._rows(request, exam)]
        return {"train.csv": csv_text(header, rows)}

    def _rows(self, request: Request, exam: Exam) -> Iterator[list[object]]:
        rng = request.rng(exam)
        for reader in ("R8", "R9", "R10"):
            seen = [name for name, names in _VINDR.items() if _has(exam, names) and rng.random() < 0.9]
            for name in seen:
                left, top, width, height = _box(rng, request.side)
                corners = [float(value) for value in (left, top, left + width, top + height)]
                yield [self.identity(exam), name, vindr.FINDINGS.index(name), reader, *corners]
            if not seen:
                yield [self.identity(exam), vindr.NO_FINDING, len(vindr.FINDINGS), reader, "", "", "", ""]


class Rsna(_Dicom):
    """A row per box, or one without."""

    folder, suffix = "stage_2_train_images", ".dcm"

    def identity(self, exam: Exam) -> str:
        return str(uuid.UUID(_digest(exam)[:32]))

    def tables(self, request: Request) -> dict[str, str]:
        header = ["patientId", "x", "y", "width", "height", "Target"]
        rows = [row for exam in request.exams for row in self._rows(request, exam)]
        return {"stage_2_train_labels.csv": csv_text(header, rows)}

    def _rows(self, request: Request, exam: Exam) -> Iterator[list[object]]:
        if not _has(exam, ("Pneumonia", "Consolidation", "Infiltration")):
            yield [self.identity(exam), "", "", "", "", 0]
            return
        rng = request.rng(exam)
        for _ in range(1 + exam.index % 2):
            yield [self.identity(exam), *map(float, _box(rng, request.side)), 1]
