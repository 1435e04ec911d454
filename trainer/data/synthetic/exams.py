"""Patients, images and findings of a synthetic data set; all follow from its seed."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import IntEnum

import numpy as np

from trainer.data.labels import FINDINGS

_HEALTHY = 0.3
"""Share of images without findings by design; chance adds a few."""

_PREVALENCE = dict(
    zip(FINDINGS, (0.18, 0.14, 0.17, 0.18, 0.15, 0.16, 0.15, 0.14, 0.15, 0.13, 0.13, 0.14, 0.14, 0.12), strict=True)
)
"""Share of images with each finding: common ones stay common, but rare ones also occur in a small data set."""

_IMAGES_PER_PATIENT = (0.35, 0.25, 0.20, 0.12, 0.08)
"""Probability of 1, 2, 3, 4 and 5 images."""

_TEST_EVERY = 5
"""Every fifth patient is in test."""

_VAL_EVERY = 10
"""Every tenth patient, from the first, is in val where a layout has it."""


class Purpose(IntEnum):
    """Purpose of a random generator: part of its seed, so that generators never share numbers."""

    PATIENT = 0
    SHAPE = 1
    LABELS = 2
    DRAWING = 3
    TABLE = 4


@dataclass(frozen=True)
class Exam:
    """One image of one patient."""

    index: int
    patient: int
    follow_up: int
    findings: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return f"{self.patient + 1:08d}_{self.follow_up:03d}.png"

    @property
    def split(self) -> str:
        """Every fifth patient is in test, and every tenth in val, where a layout has it."""
        return "test" if self.in_test else "val" if self.patient % _VAL_EVERY == 0 else "train"

    @property
    def view(self) -> str:
        """`AP` for patients who cannot stand, otherwise `PA`."""
        return "AP" if "Edema" in self.findings else "PA"

    @property
    def in_test(self) -> bool:
        return self.patient % _TEST_EVERY == _TEST_EVERY - 1


def exams(seed: int) -> Iterator[Exam]:
    """Endless images, patient after patient."""
    index = patient = 0
    while True:
        count = 1 + np.random.default_rng((seed, Purpose.PATIENT, patient)).choice(5, p=_IMAGES_PER_PATIENT)
        for follow_up in range(count):
            exam = Exam(index, patient, follow_up)
            yield replace(exam, findings=_findings(exam, seed))
            index += 1
        patient += 1


def _findings(exam: Exam, seed: int) -> tuple[str, ...]:
    """Independently drawn findings; the first 14 patients of test also have one finding each, so that small sets have all."""
    rng = np.random.default_rng((seed, Purpose.LABELS, exam.index))
    sick = rng.random() >= _HEALTHY
    chance = rng.random(len(FINDINGS))
    findings = {
        name
        for name, drawn in zip(FINDINGS, chance, strict=True)
        if sick and drawn < _PREVALENCE[name] / (1 - _HEALTHY)
    }
    nth_test = exam.patient // _TEST_EVERY
    if exam.in_test and exam.follow_up == 0 and nth_test < len(FINDINGS):
        findings.add(FINDINGS[nth_test])
    return tuple(name for name in FINDINGS if name in findings)
