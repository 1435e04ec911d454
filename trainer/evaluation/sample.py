"""Evaluated images with their resamples, and whether there are enough patients to say how certain a number is.

Shapes: N images, K findings.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from trainer.evaluation.bootstrap import Resampled, Resamples
from trainer.evaluation.calibration import Calibrated
from trainer.evaluation.document import FEWEST
from trainer.evaluation.known_labels import KnownRows, known_rows
from trainer.evaluation.metrics import Floats


@dataclass(frozen=True, kw_only=True, eq=False)
class Sample:
    """Evaluated images with their resamples."""

    findings: tuple[str, ...]
    scores_NK: NDArray[np.floating]
    """Scores by which images are ranked."""
    log_odds_NK: NDArray[np.floating]
    """Uncalibrated."""
    probability_NK: Floats
    """Uncalibrated."""
    calibrated: Calibrated | None
    labels_NK: NDArray[np.floating]
    """1 or 0; NaN where unknown."""
    patients_N: NDArray[np.int64]
    """Numbers from 0 without gaps."""
    unit: str
    """`patient`, or `image` where patients are unknown."""
    resamples: Resamples
    draws: Resampled

    @cached_property
    def counts(self) -> tuple["PatientCount", ...]:
        """Patients with and without each finding."""
        return tuple(patient_count(labels_N, self.patients_N) for labels_N in self.labels_NK.T)

    @cached_property
    def known(self) -> tuple[KnownRows, ...]:
        """Rows of the known labels of each finding."""
        return tuple(map(known_rows, self.labels_NK.T))

    def too_few(self, k: int) -> str | None:
        """Why the numbers of finding k get no interval; None where they do."""
        return self.counts[k].too_few(self.unit)


@dataclass(frozen=True)
class PatientCount:
    """Patients with at least one image with, and at least one without a finding."""

    positive: int
    negative: int

    @property
    def are_enough(self) -> bool:
        """Whether there are enough for an interval."""
        return min(self.positive, self.negative) >= FEWEST

    def too_few(self, unit: str) -> str | None:
        """Which of them are too few, in words; None where there are enough."""
        if self.are_enough:
            return None
        fewer, which = min((self.positive, "with"), (self.negative, "without"))
        if not fewer:
            return f"no {unit} {which} it"
        return f"only {fewer} {unit}{'s' * (fewer > 1)} {which} it"


def patient_count(labels_N: NDArray[np.floating], patients_N: NDArray[np.integer]) -> PatientCount:
    """Of labels that are 1, 0 or NaN, which do not count."""
    return PatientCount(len(np.unique(patients_N[labels_N > 0])), len(np.unique(patients_N[labels_N == 0])))
