"""Two models on the same resamples."""

import numpy as np
import pytest

from trainer.evaluation.bootstrap import Resamples, resampled
from trainer.evaluation.comparison import compared, holm, two_sided_p
from trainer.evaluation.metrics import auroc_per_finding

FINDINGS = ("Atelectasis", "Hernia")


def scored(scores, labels, patients):
    draws = resampled(scores, labels, patients, Resamples(int(patients.max()) + 1, 200, 0))
    return auroc_per_finding(scores, labels), draws.auroc_BK


@pytest.fixture(scope="module")
def images():
    random = np.random.default_rng(0)
    labels = (random.random((400, 2)) < 0.3).astype(np.uint8)
    return random.normal(labels * 1.5), labels, np.arange(400) // 2, random


def test_comparing_a_model_with_itself_finds_no_difference(images):
    """The same resamples for both leave no difference at all, where two draws would make one up."""
    scores, labels, patients, _ = images
    same = scored(scores, labels, patients)
    twice = scored(2 * scores, labels, patients)
    for row in compared("other", FINDINGS, same, twice, (True, True))["differences"]:
        assert row["difference"] == {"value": 0.0, "low": 0.0, "high": 0.0}
        assert row["p"] == 1.0


def test_better_model_differs_significantly_from_a_noisy_one(images):
    """A difference that is there must be seen, with its sign, and the mean beside the findings."""
    scores, labels, patients, random = images
    noisy = scores + random.normal(size=scores.shape) * [3.0, 0.0]
    ours, theirs = scored(scores, labels, patients), scored(noisy, labels, patients)
    rows = compared("noisy", FINDINGS, ours, theirs, (True, True))["differences"]
    assert [row["name"] for row in rows] == ["Atelectasis", "Hernia", "mean"]
    assert rows[0]["difference"]["low"] > 0
    assert rows[0]["p"] == pytest.approx(2 / 201)
    assert rows[0]["p_holm"] == pytest.approx(4 / 201)
    assert rows[2]["difference"]["value"] == pytest.approx(rows[0]["difference"]["value"] / 2)
    assert rows[2]["p_holm"] is None


def test_difference_of_too_few_patients_has_no_interval_and_no_p_value(images):
    """Neither has the mean that contains it; the correction counts the other tests only."""
    scores, labels, patients, random = images
    noisy = scored(scores + random.normal(size=scores.shape), labels, patients)
    rows = compared("noisy", FINDINGS, scored(scores, labels, patients), noisy, (True, False))["differences"]
    assert rows[0]["p_holm"] == rows[0]["p"] is not None
    for row in rows[1:]:
        assert row["difference"]["value"] is not None
        assert (row["difference"]["low"], row["p"], row["p_holm"]) == (None, None, None)


def test_two_models_without_an_error_do_not_differ_by_nothing_for_certain(images):
    """All resamples agree there, whatever the two models are: that is no interval of zero width."""
    _, labels, patients, random = images
    one, other = (scored(labels + random.random(labels.shape) / 2, labels, patients) for _ in range(2))
    for row in compared("other", FINDINGS, one, other, (True, True))["differences"]:
        assert row["difference"] == {"value": 0.0, "low": None, "high": None}


def test_holm_steps_down_and_leaves_undefined_ones_out():
    """By hand: four tests, the third undefined, so three are corrected for."""
    corrected = holm(np.array([0.04, 0.01, np.nan, 0.03]))
    assert corrected[[0, 1, 3]] == pytest.approx([0.06, 0.03, 0.06])
    assert np.isnan(corrected[2])
    assert holm(np.array([0.9, 0.8])).tolist() == [1.0, 1.0]


def test_p_value_is_undefined_where_most_resamples_are():
    """A finding that most draws lack can't be compared."""
    assert np.isnan(two_sided_p(np.array([0.1, np.nan, np.nan])))
