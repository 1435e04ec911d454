"""Results at thresholds that were fixed on other images.

Shapes: N images, K findings.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from trainer.evaluation.document import Counts, Interval, OperatingPoint, interval, number
from trainer.evaluation.metrics import Confusion, confusion, share
from trainer.evaluation.operating import RULES
from trainer.evaluation.proportions import share_of
from trainer.evaluation.sample import Sample


def operating_points(sample: Sample, k: int, stated_prevalence: float | None) -> dict[str, OperatingPoint]:
    """Results of finding k by rule; empty without thresholds."""
    if sample.calibrated is None:
        return {}
    name, fixed = sample.findings[k], sample.calibrated.thresholds
    return {
        rule: _operating_point(sample, k, fixed[rule][name], stated_prevalence)
        for rule in RULES
        if name in fixed.get(rule, {})
    }


def _operating_point(sample: Sample, k: int, threshold: float, stated_prevalence: float | None) -> OperatingPoint:
    assert sample.calibrated is not None
    rows = sample.known[k]
    probability_N, labels_N = sample.calibrated.probability_NK[rows, k], sample.labels_NK[rows, k]
    counts = confusion(probability_N, labels_N, threshold)
    shares = _shares(
        probability_N >= threshold, labels_N > 0, sample.patients_N[rows], has_intervals=not sample.too_few(k)
    )
    point = OperatingPoint(
        threshold=threshold,
        sensitivity=shares["sensitivity"],
        specificity=shares["specificity"],
        ppv=shares["ppv"],
        npv=shares["npv"],
        f1=number(counts.f1),
        counts=_counts(counts),
    )
    if stated_prevalence is not None:
        point["stated_ppv"], point["stated_npv"] = predictive_values(
            point["sensitivity"], point["specificity"], stated_prevalence
        )
    return point


def _counts(counts: Confusion) -> Counts:
    return Counts(
        true_positives=counts.true_positives,
        false_positives=counts.false_positives,
        false_negatives=counts.false_negatives,
        true_negatives=counts.true_negatives,
    )


def _shares(
    predicted_N: NDArray[np.bool_], positive_N: NDArray[np.bool_], patients_N: NDArray[np.int64], *, has_intervals: bool
) -> Mapping[str, Interval]:
    among = {
        "sensitivity": (predicted_N, positive_N),
        "specificity": (~predicted_N, ~positive_N),
        "ppv": (positive_N, predicted_N),
        "npv": (~positive_N, ~predicted_N),
    }
    return {
        name: share_of(right_N[of_N], patients_N[of_N]).as_interval(has_interval=has_intervals)
        for name, (right_N, of_N) in among.items()
    }


def predictive_values(sensitivity: Interval, specificity: Interval, prevalence: float) -> tuple[Interval, Interval]:
    """PPV and NPV in a population with this prevalence, by Bayes' rule.

    Their bounds are those of sensitivity and specificity together, which makes the interval rather too wide.
    """
    ends = [(sensitivity[end], specificity[end]) for end in ("value", "low", "high")]
    ppv = [_ppv(true, false, prevalence) for true, false in ends]
    npv = [_ppv(false, true, 1 - prevalence) for true, false in ends]
    return interval(*ppv), interval(*npv)


def _ppv(sensitivity: float | None, specificity: float | None, prevalence: float) -> float:
    if sensitivity is None or specificity is None:
        return float("nan")
    true = sensitivity * prevalence
    return share(true, true + (1 - specificity) * (1 - prevalence))
