"""Layouts nih, lists, csv and folders."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from trainer.data.labels import FINDINGS
from trainer.data.synthetic.exams import Exam
from trainer.data.synthetic.form import Request, csv_text
from trainer.data.synthetic.save import save_png

RGBA_EVERY: Final = 23
"""One image in this many is saved as RGBA. Source: the release has some, 6 in one sample of 621."""

_NIH_COLUMNS = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
    "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]"
)
"""NIH's header: two names contain a comma, so it splits into as many columns as the rows have."""


class _Png:
    """Images in images/, with names as NIH's."""

    def image(self, exam: Exam) -> str:
        return f"images/{exam.name}"

    def save(self, pixels_HW: NDArray[np.uint8], path: Path, exam: Exam) -> None:
        save_png(pixels_HW, path, rgba=exam.index % RGBA_EVERY == RGBA_EVERY - 1)


class Nih(_Png):
    """NIH's table and its two lists."""

    def tables(self, request: Request) -> dict[str, str]:
        lists = {"train_val_list.txt": False, "test_list.txt": True}
        return {
            # no newline at the end, as in NIH's own lists
            **{
                file: "\n".join(exam.name for exam in request.exams if exam.in_test == in_test)
                for file, in_test in lists.items()
            },
            "Data_Entry_2017.csv": self._entries(request),
        }

    def _entries(self, request: Request) -> str:
        rows = []
        for exam in request.exams:
            age, sex = request.age_and_sex(exam)
            labels = "|".join(exam.findings) or "No Finding"
            size = (request.side, request.side, 0.143, 0.143)
            rows.append([exam.name, labels, exam.follow_up, exam.patient + 1, age, sex, exam.view, *size])
        return csv_text(_NIH_COLUMNS.split(","), rows)


class Lists(_Png):
    """A name and 14 values 0 or 1 per line."""

    def tables(self, request: Request) -> dict[str, str]:
        return {f"{split}_list.txt": self._list(request.exams, split) for split in ("train", "val", "test")}

    def _list(self, exams: Sequence[Exam], split: str) -> str:
        lines = io.StringIO()
        for exam in exams:
            if exam.split == split:
                lines.write(f"{exam.name} {' '.join(str(int(name in exam.findings)) for name in FINDINGS)}\n")
        return lines.getvalue().rstrip("\n")


class LabelsCsv(_Png):
    """A hospital's export: findings of its own names, some uncertain or unknown, and other columns."""

    def image(self, exam: Exam) -> str:
        return f"scans/{exam.patient + 1:05d}/{exam.follow_up}.png"

    def tables(self, request: Request) -> dict[str, str]:
        header = ["Path", "patient_id", "Age", "Sex", "ViewPosition", "Ward", "split", *FINDINGS, "Any finding"]
        return {"labels.csv": csv_text(header, (self._row(request, exam) for exam in request.exams))}

    def _row(self, request: Request, exam: Exam) -> list[object]:
        rng = request.rng(exam)
        cells = [_perhaps_unknown(name in exam.findings, rng) for name in FINDINGS]
        ward = ("north", "south")[exam.patient % 2]
        others = [*request.age_and_sex(exam), exam.view, ward, exam.split]
        return [self.image(exam), f"P-{exam.patient + 1}", *others, *cells, int(bool(exam.findings))]


def _perhaps_unknown(has_finding: bool, rng: np.random.Generator) -> str:  # noqa: FBT001
    """A label; one in ten is blank, one in twenty uncertain."""
    draw = rng.random()
    return "" if draw < 0.1 else "-1" if draw < 0.15 else str(int(has_finding))


class Folders(_Png):
    """Images with and without a finding, in `train/` and `test/`."""

    def image(self, exam: Exam) -> str:
        return f"{'test' if exam.in_test else 'train'}/{'ABNORMAL' if exam.findings else 'NORMAL'}/{exam.name}"

    def tables(self, request: Request) -> dict[str, str]:  # noqa: ARG002 - the folders are the labels
        return {}
