"""95 % intervals from resamples, and where these are all equal.

Shapes: K findings, B resamples.
"""

import math
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np

from trainer.evaluation.bootstrap import mean_over_findings, percentiles
from trainer.evaluation.document import Interval, interval
from trainer.evaluation.metrics import Z_95, Floats, mean_defined
from trainer.evaluation.sample import PatientCount

_HALVINGS: Final = 60


def resampled_interval(value: float, values_B: Floats, *, has_interval: bool = True) -> Interval:
    """The value with the percentiles of its resamples; without bounds where these are all equal, as they say nothing then."""
    low, high = map(float, percentiles(values_B)) if has_interval else (math.nan, math.nan)
    return interval(value, low, high) if low < high else interval(value, math.nan, math.nan)


def difference_interval(one: float, other: float, difference_B: Floats, *, has_interval: bool = True) -> Interval:
    """A difference of two AUROCs, as `resampled_interval`; of two equal orders of images that err it is 0, with certainty."""
    are_equal = bool((difference_B[~np.isnan(difference_B)] == 0).all()) and one == other and 0 < one < 1
    if are_equal and has_interval:
        return interval(0.0, 0.0, 0.0)
    return resampled_interval(one - other, difference_B, has_interval=has_interval)


def auroc_intervals(
    value_K: Floats, value_BK: Floats, counts: Sequence[PatientCount]
) -> tuple[list[Interval], Interval]:
    """AUROC of each finding, and their mean; without bounds where there are too few patients.

    Where a finding separates the images without error, all resamples do: then the bounds are Newcombe's, and those of the mean
    are the means of the bounds, as if all findings erred in the same direction.
    """
    rows, is_equal = [], False
    for k, count in enumerate(counts):
        one = resampled_interval(float(value_K[k]), value_BK[:, k], has_interval=count.are_enough)
        if count.are_enough and one["value"] is not None and one["low"] is None:
            one, is_equal = interval(one["value"], *score_bounds(one["value"], count)), True
        rows.append(one)
    mean = mean_defined(value_K)
    scored = [(one, count) for one, count in zip(rows, counts, strict=True) if one["value"] is not None]
    if not all(count.are_enough for _, count in scored):
        return rows, interval(mean, math.nan, math.nan)
    if is_equal:
        bounds = [[one["low"] or 0.0 for one, _ in scored], [one["high"] or 0.0 for one, _ in scored]]
        return rows, interval(mean, float(np.mean(bounds[0])), float(np.mean(bounds[1])))
    return rows, resampled_interval(mean, mean_over_findings(value_BK, ~np.isnan(value_K)))


def score_bounds(auroc: float, count: PatientCount) -> tuple[float, float]:
    """Bounds of an AUROC that do not vanish at 0 and 1, by bisection.

    Source: Newcombe 2006, doi:10.1002/sim.2324, method 5: the values whose distance is 1.96 of their own standard errors, after
    Hanley & McNeil 1982 with equal numbers of both classes.
    """
    larger = (count.positive + count.negative) / 2 - 1

    def is_outside(value: float) -> bool:
        spread = 1 + larger * ((1 - value) / (2 - value) + value / (1 + value))
        return (auroc - value) ** 2 > Z_95**2 * value * (1 - value) * spread / (count.positive * count.negative)

    return _bisected(is_outside, 0.0, auroc), _bisected(is_outside, 1.0, auroc)


def _bisected(is_outside: Callable[[float], bool], outside: float, inside: float) -> float:
    """The bound between a value outside and one inside of the interval; the first, if that is inside as well."""
    if outside == inside:
        return outside
    for _ in range(_HALVINGS):
        middle = (outside + inside) / 2
        outside, inside = (middle, inside) if is_outside(middle) else (outside, middle)
    return inside
