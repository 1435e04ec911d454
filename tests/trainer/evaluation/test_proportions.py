"""Shares of images and their differences, with intervals."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.evaluation.metrics import wilson
from trainer.evaluation.proportions import difference, effective_size, share_of


@given(st.lists(st.booleans(), min_size=1, max_size=60))
def test_share_of_images_of_different_patients_has_wilsons_interval(right):
    """The plain formula, where images are independent."""
    right = np.array(right)
    expected = wilson(float(right.mean()), len(right))
    assert share_of(right, np.arange(len(right))).bounds == pytest.approx(expected)
    assert share_of(right).bounds == pytest.approx(expected)


def test_images_of_a_patient_that_are_all_alike_count_once():
    """A hundred copies of ten images tell no more than ten do."""
    once = np.random.default_rng(0).random(50) < 0.3
    copies, patients = np.repeat(once, 10), np.repeat(np.arange(50), 10)
    assert effective_size(copies, patients) == pytest.approx(50, rel=0.03)
    assert share_of(copies, patients).bounds == pytest.approx(share_of(once).bounds, abs=0.01)


def test_images_of_a_patient_that_are_independent_all_count():
    """Grouping at random changes nothing but noise; the size never exceeds the number of images."""
    random = np.random.default_rng(1)
    sizes = [effective_size(random.random(600) < 0.3, random.integers(0, 200, 600)) for _ in range(50)]
    assert max(sizes) <= 600
    assert np.mean(sizes) > 540


@pytest.mark.parametrize("value", [False, True])
def test_share_without_exceptions_counts_patients(value):
    """There is no variance to estimate how alike a patient's images are."""
    assert effective_size(np.full(30, value), np.arange(30) // 3) == 10


def test_share_of_nothing_is_undefined():
    """A class without images has no recall, and no interval."""
    assert share_of(np.zeros(0, bool)).as_proportion() == {
        "correct": 0,
        "total": 0,
        "value": None,
        "low": None,
        "high": None,
    }


def test_difference_of_two_shares_is_newcombes():
    """The worked example of the paper, 56 of 70 minus 48 of 80: method 10 gives 0.0524 to 0.3339."""
    one, other = (share_of(np.arange(total) < count) for count, total in ((56, 70), (48, 80)))
    found = difference(one, other)
    assert [round(found[key], 4) for key in ("value", "low", "high")] == [0.2, 0.0524, 0.3339]


def test_difference_of_two_perfect_shares_is_uncertain():
    """10 of 10 and 10 of 10 may differ by a lot."""
    found = difference(share_of(np.ones(10, bool)), share_of(np.ones(10, bool)))
    assert found["low"] < -0.2
    assert found["high"] > 0.2
