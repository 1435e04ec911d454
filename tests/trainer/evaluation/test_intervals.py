"""Intervals from resamples, and where they are all equal."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.evaluation.intervals import auroc_intervals, difference_interval, resampled_interval, score_bounds
from trainer.evaluation.sample import PatientCount


def standard_error(value, positive, negative):
    """Hanley & McNeil 1982, with the numbers of both classes replaced by their mean, as Newcombe's method 5."""
    larger = (positive + negative) / 2 - 1
    first, second = value / (2 - value) - value**2, 2 * value**2 / (1 + value) - value**2
    return np.sqrt((value * (1 - value) + larger * (first + second)) / (positive * negative))


@given(st.floats(0, 1), st.integers(1, 80), st.integers(1, 80))
def test_bounds_of_an_auroc_are_as_far_as_their_own_standard_errors(value, positive, negative):
    """By the definition of a score interval, with the error written as in the paper."""
    low, high = score_bounds(value, PatientCount(positive, negative))
    assert 0 <= low <= value <= high <= 1
    for bound in {low, high} - {0.0, 1.0, value}:
        assert abs(value - bound) == pytest.approx(1.959964 * standard_error(bound, positive, negative), rel=1e-4)


def test_auroc_of_one_has_a_bound_that_rises_with_the_patients():
    """1.000 of five and of five hundred are not the same news."""
    lows = [score_bounds(1.0, PatientCount(count, count))[0] for count in (5, 50, 500)]
    assert lows == sorted(lows)
    assert lows[0] < 0.75
    assert lows[2] > 0.98


def test_equal_resamples_are_no_interval():
    """They would be drawn as certainty."""
    assert resampled_interval(0.5, np.full(100, 0.5)) == {"value": 0.5, "low": None, "high": None}


def test_mean_is_without_interval_where_a_finding_is():
    """The finding's uncertainty would be missing in that of the mean."""
    value_BK = np.random.default_rng(0).normal([0.8, 0.7], 0.02, (200, 2))
    rows, mean = auroc_intervals(np.array([0.8, 0.7]), value_BK, [PatientCount(4, 90), PatientCount(20, 70)])
    assert rows[0] == {"value": 0.8, "low": None, "high": None}
    assert rows[1]["low"] < 0.7 < rows[1]["high"]
    assert mean == {"value": pytest.approx(0.75), "low": None, "high": None}


def test_finding_without_a_score_does_not_touch_the_mean():
    """Nobody has it: the mean is of the others, with their interval."""
    value_BK = np.random.default_rng(0).normal([0.8, 0.7], 0.02, (200, 2))
    value_BK[:, 1] = np.nan
    rows, mean = auroc_intervals(np.array([0.8, np.nan]), value_BK, [PatientCount(40, 90), PatientCount(0, 70)])
    assert mean == rows[0]
    assert rows[1] == {"value": None, "low": None, "high": None}


def test_equal_models_that_err_differ_by_nothing():
    """The same order of images gives the same AUROC on every resample; without an error any order does."""
    assert difference_interval(0.7, 0.7, np.zeros(50)) == {"value": 0.0, "low": 0.0, "high": 0.0}
    assert difference_interval(1.0, 1.0, np.zeros(50)) == {"value": 0.0, "low": None, "high": None}
