"""Resamples of patients against scikit-learn, one by one."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score, roc_curve

from trainer.evaluation.bootstrap import GRID, Resamples, mean_over_findings, percentiles, point_curves, resampled, sums

RESAMPLES = 12


def drawn(seed, *, images=80, patients=25, levels=6):
    """Scores with many ties, labels that follow them, and patients with several images each."""
    random = np.random.default_rng(seed)
    labels = (random.random((images, 3)) < [0.5, 0.2, 0.03]).astype(np.uint8)
    scores = random.integers(0, levels, (images, 3)) + labels
    return scores.astype(float), labels, random.integers(0, patients, images)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([2, 6, 10_000]))
def test_every_resample_equals_scikit_learn(seed, levels):
    """An interval is worth what its resamples are: ties, and images that are not drawn at all, included."""
    scores, labels, patients = drawn(seed, levels=levels)
    resamples = Resamples(25, RESAMPLES, seed)
    ours = resampled(scores, labels, patients, resamples)
    counts = np.concatenate(list(resamples.chunks()))
    for b, k in np.ndindex(ours.auroc_BK.shape):
        weights, positive = counts[b][patients], labels[:, k] > 0
        if weights[positive].sum() == 0 or weights[~positive].sum() == 0:
            assert np.isnan([ours.auroc_BK[b, k], ours.auprc_BK[b, k]]).all()
        else:
            auroc = roc_auc_score(labels[:, k], scores[:, k], sample_weight=weights)
            auprc = average_precision_score(labels[:, k], scores[:, k], sample_weight=weights)
            assert ours.auroc_BK[b, k] == pytest.approx(auroc, abs=1e-12)
            assert ours.auprc_BK[b, k] == pytest.approx(auprc, abs=1e-12)


def test_resamples_draw_as_many_patients_as_there_are_and_the_same_again():
    """Two models, and subgroups, are compared on the same draws only if asking twice gives them twice."""
    first, second = (np.concatenate(list(Resamples(9, 20, 3).chunks())) for _ in range(2))
    assert first.shape == (20, 9)
    assert (first.sum(axis=1) == 9).all()
    assert np.array_equal(first, second)
    assert not np.array_equal(first, np.concatenate(list(Resamples(9, 20, 4).chunks())))


def test_roc_and_pr_curves_equal_scikit_learns():
    """A plot is read as the curve itself: its points lie on it."""
    scores, labels, _ = drawn(5, images=300)
    roc, pr = point_curves(scores[:, 1], labels[:, 1])
    false_rate, true_rate, _ = roc_curve(labels[:, 1], scores[:, 1])
    assert roc == pytest.approx(np.interp(GRID, false_rate, true_rate))
    precision, recall, _ = precision_recall_curve(labels[:, 1], scores[:, 1])
    highest = [precision[np.flatnonzero(recall >= max(point, 1e-9) - 1e-12)[-1]] for point in GRID]
    assert pr == pytest.approx(np.array(highest))


def test_curves_of_a_resample_are_those_of_its_images():
    """A band around another curve would say nothing about this one."""
    scores, labels, patients = drawn(6, images=200)
    resamples = Resamples(25, 3, 0)
    ours = resampled(scores, labels, patients, resamples, curves=True)
    again = np.repeat(np.arange(200), np.concatenate(list(resamples.chunks()))[2][patients])
    roc, pr = point_curves(scores[again, 0], labels[again, 0])
    assert ours.roc_BKX[2, 0] == pytest.approx(roc, abs=1e-6)
    assert ours.pr_BKX[2, 0] == pytest.approx(pr, abs=1e-6)


def test_finding_without_positives_is_undefined_in_every_resample():
    """A column of zeros must not become a score of 0 or a plotted line."""
    nothing = np.zeros((6, 1), np.uint8)
    ours = resampled(np.arange(6.0)[:, None], nothing, np.arange(6), Resamples(6, 5, 0), curves=True)
    assert np.isnan(ours.auroc_BK).all()
    assert np.isnan(ours.auprc_BK).all()
    assert np.isnan(ours.roc_BKX).all()
    assert np.isnan(ours.pr_BKX).all()


def test_weighted_sums_count_the_images_of_drawn_patients():
    """Intervals of sensitivity come from them."""
    values = np.array([[True], [True], [False], [True]])
    patients = np.array([0, 0, 1, 2])
    resamples = Resamples(3, 10, 1)
    counts = np.concatenate(list(resamples.chunks()))
    assert np.array_equal(sums(values, patients, resamples)[:, 0], 2 * counts[:, 0] + counts[:, 2])


def test_interval_leaves_out_undefined_resamples_but_not_most_of_them():
    """What remains when a finding is absent from most draws are the lucky ones."""
    some = np.full((100, 2), np.nan)
    some[:60, 0] = np.linspace(0, 1, 60)
    some[:50, 1] = 0.5
    low, high = percentiles(some)
    assert (low[0], high[0]) == (pytest.approx(0.025), pytest.approx(0.975))
    assert np.isnan([low[1], high[1]]).all()


def test_mean_of_a_resample_that_lacks_a_finding_is_undefined():
    """It would be the mean of other findings."""
    values = np.array([[0.5, 0.7, np.nan], [np.nan, 0.9, np.nan]])
    means = mean_over_findings(values, np.array([True, True, False]))
    assert means[0] == pytest.approx(0.6)
    assert np.isnan(means[1])
