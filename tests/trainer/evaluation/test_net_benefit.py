"""Decision curves against their definition."""

import numpy as np
import pytest

from trainer.evaluation.bootstrap import Resamples
from trainer.evaluation.net_benefit import THRESHOLDS, net_benefit

RESAMPLES = Resamples(100, 200, 0)


@pytest.fixture(scope="module")
def images():
    random = np.random.default_rng(0)
    chances = random.random(300)
    return chances, (random.random(300) < chances).astype(np.uint8), random.integers(0, 100, 300)


def test_net_benefit_is_counted_at_each_threshold(images):
    """True positives minus false ones, weighted by the odds: by hand, image by image."""
    chances, labels, patients = images
    curve = net_benefit(chances, labels, patients, RESAMPLES, has_band=True)
    assert curve["x"] == pytest.approx(THRESHOLDS.tolist())
    for x, y, low, high in zip(curve["x"], curve["y"], curve["low"], curve["high"], strict=True):
        taken = [(chance >= x, label) for chance, label in zip(chances, labels, strict=True)]
        true, false = taken.count((True, 1)), taken.count((True, 0))
        assert y == pytest.approx((true - false * x / (1 - x)) / 300, abs=1e-6)
        assert low <= y <= high


def test_benefit_at_no_threshold_is_that_of_treating_everybody(images):
    """Both curves start at the prevalence."""
    chances, labels, patients = images
    curve = net_benefit(chances, labels, patients, RESAMPLES, has_band=False)
    assert curve["y"][0] == pytest.approx(labels.mean(), abs=1e-6)
    assert set(curve["low"]) == set(curve["high"]) == {None}
