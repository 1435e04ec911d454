"""How well predicted probabilities agree with observed frequencies.

Shapes: N images.
"""

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from trainer.evaluation.document import UNDEFINED, Bin, Calibration, Interval, interval, number
from trainer.evaluation.logistic import coefficients, robust_errors
from trainer.evaluation.metrics import CALIBRATION_BINS, Z_95, Floats, Reliability, brier, reliability
from trainer.evaluation.proportions import share_of

IMAGES_PER_BIN: Final = 20
"""Images per bin on average, below which there are fewer bins: a bin of a few images is never calibrated."""

_STEEPEST: Final = 1e3
"""A slope beyond is not defined: predictions separate the images without error."""


def bins_for(images: int) -> int:
    """Number of bins of the calibration error for this many images."""
    return min(CALIBRATION_BINS, max(1, images // IMAGES_PER_BIN))


def calibration_of(
    probability_N: Floats,
    log_odds_N: NDArray[np.floating],
    labels_N: NDArray[np.floating],
    patients_N: NDArray[np.integer],
    *,
    has_intervals: bool,
) -> Calibration:
    """All measures of these predictions; `log_odds_N` are finite, also where a probability is 0 or 1."""
    count = bins_for(len(labels_N))
    errors = reliability(probability_N, labels_N, count)
    slope, intercept = _line(log_odds_N.astype(np.float64), labels_N, patients_N, has_intervals=has_intervals)
    return Calibration(
        ece=number(errors.ece),
        brier=number(brier(probability_N, labels_N)),
        bins=_bins(errors, labels_N, patients_N),
        width=1 / count,
        slope=slope,
        intercept=intercept,
        observed_expected=_observed_expected(probability_N, labels_N, patients_N, has_interval=has_intervals),
    )


def _bins(errors: Reliability, labels_N: NDArray[np.floating], patients_N: NDArray[np.integer]) -> list[Bin]:
    """Bins with Wilson's intervals of the observed shares."""
    bins = []
    for nth, predicted in enumerate(errors.predicted.tolist()):
        inside_N = errors.bin_N == nth
        observed = share_of(labels_N[inside_N] > 0, patients_N[inside_N])
        low, high = map(number, observed.bounds)
        bins.append(Bin(predicted=predicted, observed=observed.value, count=observed.total, low=low, high=high))
    return bins


def _line(
    log_odds_N: Floats, labels_N: NDArray[np.floating], patients_N: NDArray[np.integer], *, has_intervals: bool
) -> tuple[Interval, Interval]:
    """Calibration slope, and calibration in the large.

    Source: Cox 1958, doi:10.1093/biomet/45.3-4.562; Van Calster et al. 2019, doi:10.1186/s12916-019-1466-7.
    """
    target_N, ones_N = (labels_N > 0).astype(np.float64), np.ones(len(labels_N))
    if len(np.unique(target_N)) < 2:
        return UNDEFINED, UNDEFINED
    flat_N = np.zeros(len(labels_N))
    slope = UNDEFINED
    if not _is_separated(log_odds_N, target_N > 0):
        x_N2 = np.stack([log_odds_N, ones_N], axis=1)
        slope = _first(x_N2, target_N, flat_N, np.array([1.0, 0.0]), patients_N, has_interval=has_intervals)
    intercept = _first(ones_N[:, None], target_N, log_odds_N, np.zeros(1), patients_N, has_interval=has_intervals)
    return slope, intercept


def _is_separated(log_odds_N: Floats, is_positive_N: NDArray[np.bool_]) -> bool:
    """Whether a slope of maximum likelihood is infinite, or any slope is as likely, as all predictions are equal."""
    positive, negative = log_odds_N[is_positive_N], log_odds_N[~is_positive_N]
    return bool(positive.min() >= negative.max() or positive.max() <= negative.min())


def _first(
    x_ND: Floats,
    target_N: Floats,
    offset_N: Floats,
    start_D: Floats,
    patients_N: NDArray[np.integer],
    *,
    has_interval: bool,
) -> Interval:
    """The first coefficient with its interval."""
    beta_D = coefficients(x_ND, target_N, offset_N, start_D, np.zeros(len(start_D)))
    value = float(beta_D[0])
    if abs(value) > _STEEPEST:
        return UNDEFINED
    error = float(robust_errors(x_ND, target_N, offset_N, beta_D, patients_N)[0]) if has_interval else math.nan
    return interval(value, value - Z_95 * error, value + Z_95 * error)


def _observed_expected(
    probability_N: Floats, labels_N: NDArray[np.floating], patients_N: NDArray[np.integer], *, has_interval: bool
) -> Interval:
    """Number of positives over the sum of the probabilities, with an interval over patients on the log scale.

    Source: the ratio estimator of Cochran 1977, "Sampling techniques", §6.3, with patients as sampling units.
    """
    observed, expected = float((labels_N > 0).sum()), float(probability_N.sum())
    if not expected:
        return UNDEFINED
    ratio = observed / expected
    if not has_interval:
        return interval(ratio, math.nan, math.nan)
    _, patient_N = np.unique(patients_N, return_inverse=True)
    patients = int(patient_N.max()) + 1
    residual_P = np.bincount(patient_N, (labels_N > 0) - ratio * probability_N, patients)
    error = math.sqrt(patients / (patients - 1) * float((residual_P**2).sum())) / observed
    return interval(ratio, ratio * math.exp(-Z_95 * error), ratio * math.exp(Z_95 * error))
