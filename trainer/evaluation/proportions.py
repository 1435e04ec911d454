"""Shares of images with Wilson's interval, and differences of two shares with Newcombe's.

Images of one patient are alike, so 100 images of 20 patients tell less than 100 images of 100 patients: the intervals use an
effective number of images. With one image per patient they are the plain ones. Shapes: N images, P patients.
"""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from trainer.evaluation.document import Interval, Proportion, interval, number
from trainer.evaluation.metrics import share, wilson

_NO_BOUNDS: Final = (math.nan, math.nan)


@dataclass(frozen=True)
class Share:
    """A share of images."""

    correct: int
    total: int
    size: float
    """Effective number of images: as many independent ones would tell as much."""

    @property
    def value(self) -> float:
        """The share; nan without images."""
        return share(self.correct, self.total)

    @property
    def bounds(self) -> tuple[float, float]:
        """Wilson's 95 % interval; nan, nan without images."""
        return wilson(self.value, self.size)

    def as_interval(self, *, has_interval: bool = True) -> Interval:
        return interval(self.value, *(self.bounds if has_interval else _NO_BOUNDS))

    def as_proportion(self, *, has_interval: bool = True) -> Proportion:
        low, high = map(number, self.bounds if has_interval else _NO_BOUNDS)
        return Proportion(correct=self.correct, total=self.total, value=number(self.value), low=low, high=high)


def share_of(is_right_N: NDArray[np.bool_], patients_N: NDArray[np.integer] | None = None) -> Share:
    """The share of true values; without `patients_N` every image is of another patient."""
    correct, total = int(is_right_N.sum()), len(is_right_N)
    return Share(correct, total, float(total) if patients_N is None else effective_size(is_right_N, patients_N))


def effective_size(is_right_N: NDArray[np.bool_], patients_N: NDArray[np.integer]) -> float:
    """Number of independent images with the same variance of the share, between 1 and N.

    N divided by the design effect: variance of the share over patients, divided by that of independent images. A share of 0 or 1
    has no variance, so there the number of patients is used. Source: Kish 1965, "Survey Sampling", design effect; its use in
    Wilson's interval: Dean & Pagano 2015, doi:10.1093/jssam/smv024.
    """
    total = len(is_right_N)
    _, patient_N = np.unique(patients_N, return_inverse=True)
    patients = int(patient_N.max()) + 1 if total else 0
    if patients in {total, 1}:
        return float(patients)
    mean = float(is_right_N.mean())
    if mean in {0.0, 1.0}:
        return float(patients)
    residual_P = np.bincount(patient_N, is_right_N - mean, patients)
    between = patients / (patients - 1) * float((residual_P**2).sum()) / total**2
    return total / max(1.0, between / (mean * (1 - mean) / total))


def difference(one: Share, other: Share) -> Interval:
    """The first share minus the second, with the 95 % interval for shares of different patients.

    Source: Newcombe 1998, doi:10.1002/(SICI)1097-0258(19980430)17:8<873::AID-SIM779>3.0.CO;2-I, method 10, from Wilson's intervals.
    """
    (low_1, high_1), (low_2, high_2) = one.bounds, other.bounds
    value = one.value - other.value
    below = math.hypot(one.value - low_1, high_2 - other.value)
    above = math.hypot(high_1 - one.value, other.value - low_2)
    return interval(value, value - below, value + above)
