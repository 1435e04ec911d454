"""Calibration slope, calibration in the large and observed over expected, against other code."""

import numpy as np
import pytest
from scipy.optimize import minimize

from trainer.evaluation.calibration_measures import bins_for, calibration_of
from trainer.evaluation.metrics import probability


@pytest.fixture(scope="module")
def images():
    """Overconfident predictions of 900 images of 300 patients, who are alike."""
    random = np.random.default_rng(0)
    patients = np.repeat(np.arange(300), 3)
    true = random.normal(-1, 1.2, 300)[patients]
    labels = (random.random(900) < probability(true)).astype(np.uint8)
    return 2 * true + 0.5, labels, patients


def measured(images, *, has_intervals=True):
    log_odds, labels, patients = images
    return calibration_of(probability(log_odds), log_odds, labels, patients, has_intervals=has_intervals)


def likeliest(log_odds, labels, *, is_slope_free):
    """Intercept, or slope and intercept, by a general optimiser."""

    def loss(beta):
        z = beta[0] * log_odds + beta[1] if is_slope_free else log_odds + beta[0]
        return np.logaddexp(0, z).sum() - (labels * z).sum()

    return minimize(loss, [1.0, 0.0] if is_slope_free else [0.0], method="Nelder-Mead", options={"xatol": 1e-8}).x


def test_slope_and_intercept_are_those_of_maximum_likelihood(images):
    """A model that is twice too sure has a slope of a half."""
    log_odds, labels, _ = images
    found = measured(images)
    assert found["slope"]["value"] == pytest.approx(likeliest(log_odds, labels, is_slope_free=True)[0], abs=1e-4)
    assert found["intercept"]["value"] == pytest.approx(likeliest(log_odds, labels, is_slope_free=False)[0], abs=1e-4)
    assert found["slope"]["low"] < 0.5 < found["slope"]["high"]


def test_observed_over_expected_is_their_ratio(images):
    """As the checklists ask for it."""
    log_odds, labels, _ = images
    found = measured(images)["observed_expected"]
    assert found["value"] == pytest.approx(labels.sum() / (1 / (1 + np.exp(-log_odds))).sum())
    assert found["low"] < found["value"] < found["high"]


@pytest.mark.parametrize("key", ["slope", "intercept", "observed_expected"])
def test_intervals_are_as_wide_as_those_of_resampled_patients(images, key):
    """The formulas by patients against a plain bootstrap of patients."""
    log_odds, labels, patients = images
    random, values = np.random.default_rng(1), []
    for _ in range(300):
        rows = (random.integers(0, 300, 300)[:, None] * 3 + np.arange(3)).ravel()
        drawn = (log_odds[rows], labels[rows], patients[rows])
        values.append(measured(drawn, has_intervals=False)[key]["value"])
    low, high = np.percentile(values, [2.5, 97.5])
    found = measured(images)[key]
    assert found["high"] - found["low"] == pytest.approx(high - low, rel=0.15)


def test_copies_of_images_do_not_narrow_an_interval(images):
    """Ten images of a patient that are the same say what one says."""
    log_odds, labels, patients = (values[::3] for values in images)
    copies = tuple(np.repeat(values, 10) for values in (log_odds, labels, patients))
    for key in ("slope", "intercept", "observed_expected"):
        one, ten = measured((log_odds, labels, patients))[key], measured(copies)[key]
        assert (ten["low"], ten["high"]) == pytest.approx((one["low"], one["high"]), abs=1e-6)


@pytest.mark.parametrize(
    ("log_odds", "labels"),
    [([-2.0, -1.0, 1.0, 2.0], [0, 0, 1, 1]), ([2.0, 1.0, -1.0, -2.0], [0, 0, 1, 1]), ([0.5] * 4, [0, 1, 0, 1])],
    ids=["separated", "separated the other way", "constant"],
)
def test_slope_is_undefined_where_any_steepness_is_as_likely(log_odds, labels):
    """A number from an iteration that did not end is none."""
    found = measured((np.array(log_odds), np.array(labels), np.arange(4)), has_intervals=False)
    assert found["slope"] == {"value": None, "low": None, "high": None}
    assert found["intercept"]["value"] is not None


def test_one_class_has_no_line():
    """Its intercept would be infinite."""
    found = measured((np.array([0.1, 0.2]), np.array([1, 1]), np.arange(2)), has_intervals=False)
    assert found["slope"]["value"] is found["intercept"]["value"] is None


@pytest.mark.parametrize(("images", "bins"), [(0, 1), (1, 1), (39, 1), (79, 3), (299, 14), (300, 15), (25_596, 15)])
def test_small_sets_have_fewer_bins(images, bins):
    """Fifteen bins of five images each are never calibrated; the published error has fifteen."""
    assert bins_for(images) == bins


def test_bins_have_the_interval_of_their_share(images):
    """A bin of three images is not a point."""
    for one in measured(images)["bins"]:
        assert 0 <= one["low"] <= one["observed"] <= one["high"] <= 1
        assert one["high"] - one["low"] > 0.01
