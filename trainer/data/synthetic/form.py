"""How a data set of phantoms is written in one layout: paths of its images, and its tables."""

import csv
import gzip
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from trainer.data.synthetic.exams import Exam, Purpose


@dataclass(frozen=True)
class Request:
    """What is drawn."""

    exams: Sequence[Exam]
    seed: int
    side: int

    def rng(self, exam: Exam) -> np.random.Generator:
        """A generator for what the tables say about an image beside its findings."""
        return np.random.default_rng((self.seed, Purpose.TABLE, exam.index))

    def age_and_sex(self, exam: Exam) -> tuple[int, str]:
        """Years, and `M` or `F`, of the patient."""
        rng = np.random.default_rng((self.seed, Purpose.PATIENT, exam.patient, 1))
        return int(rng.integers(18, 90)) + exam.follow_up, "MF"[rng.integers(2)]


class Form(Protocol):
    """One layout."""

    def image(self, exam: Exam) -> str:
        """Path of an image below the data set's directory."""

    def save(self, pixels_HW: NDArray[np.uint8], path: Path, exam: Exam) -> None:
        """Write an image."""

    def tables(self, request: Request) -> dict[str, str]:
        """Texts of the label files by name, that of a name with `.gz` before compression."""


def csv_text(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table; cells are this program's own words."""
    file = io.StringIO(newline="")
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return file.getvalue()


def write_table(path: Path, text: str) -> None:
    """Write a label file, compressed where its name says so; the same text gives the same bytes."""
    content = text.encode()
    path.write_bytes(gzip.compress(content, mtime=0) if path.suffix == ".gz" else content)
