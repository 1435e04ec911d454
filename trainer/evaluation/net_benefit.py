"""Decision curves: what deciding by a model is worth, compared with treating every patient or none.

Shapes: B resamples, N images, X threshold probabilities.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from trainer.evaluation.bootstrap import Resamples, percentiles, sums
from trainer.evaluation.document import Curve, curve
from trainer.evaluation.metrics import Floats

THRESHOLDS: Final[Floats] = np.concatenate([np.linspace(0.0, 0.1, 21), np.linspace(0.11, 0.99, 89)])
"""Threshold probabilities, denser below 0.1, as most findings are rare."""

_ODDS_X: Final[Floats] = THRESHOLDS / (1 - THRESHOLDS)


def net_benefit(
    probability_N: Floats,
    labels_N: NDArray[np.floating],
    patients_N: NDArray[np.integer],
    resamples: Resamples,
    *,
    has_band: bool,
) -> Curve:
    """True positives minus false positives times the odds of the threshold, per image, over threshold probabilities.

    Source: Vickers & Elkin 2006, doi:10.1177/0272989X06295361. The band is the pointwise 95 % interval over resamples.
    """
    positive_N = labels_N > 0
    predicted_NX = probability_N[:, None] >= THRESHOLDS
    true_NX, false_NX = predicted_NX & positive_N[:, None], predicted_NX & ~positive_N[:, None]
    value_X = (true_NX.sum(axis=0) - _ODDS_X * false_NX.sum(axis=0)) / max(1, len(labels_N))
    low_X = high_X = np.full(len(THRESHOLDS), np.nan)
    if has_band:
        everyone_N1 = np.ones((len(labels_N), 1), np.bool_)
        counted_BM = sums(np.concatenate([true_NX, false_NX, everyone_N1], axis=1), patients_N, resamples)
        true_BX, false_BX, images_B1 = np.split(counted_BM, [len(THRESHOLDS), 2 * len(THRESHOLDS)], axis=1)
        images_B1[images_B1 == 0] = np.nan  # a resample without a known label of this finding
        low_X, high_X = percentiles((true_BX - _ODDS_X * false_BX) / images_B1)
    return curve(THRESHOLDS, value_X, low_X, high_X)
