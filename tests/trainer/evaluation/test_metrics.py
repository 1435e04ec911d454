"""Scores against scikit-learn and by hand."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, brier_score_loss, log_loss, roc_auc_score

from trainer.evaluation.metrics import (
    auprc,
    auroc,
    auroc_per_finding,
    binary_cross_entropy,
    brier,
    confusion,
    mean_defined,
    reliability,
    wilson,
)

IMAGES = st.lists(st.tuples(st.integers(-3, 3), st.booleans(), st.integers(0, 3)), min_size=2, max_size=40)
"""Score, label and weight of each image, with many ties."""


def columns(images):
    scores, labels, weights = zip(*images, strict=True)
    return np.array(scores, float), np.array(labels, int), np.array(weights)


@given(IMAGES)
def test_scores_equal_scikit_learns_with_many_ties(images):
    """Ties are common in early training and easily counted wrong."""
    scores, labels, _ = columns(images)
    if labels.min() == labels.max():
        assert math.isnan(auroc(scores, labels))
        assert math.isnan(auprc(scores, labels))
    else:
        assert auroc(scores, labels) == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)
        assert auprc(scores, labels) == pytest.approx(average_precision_score(labels, scores), abs=1e-12)


@given(IMAGES)
def test_image_of_weight_n_counts_as_n_images(images):
    """The bootstrap weighs images instead of repeating them; scikit-learn does so too."""
    scores, labels, weights = columns(images)
    again = np.repeat(np.arange(len(scores)), weights)
    if len(set(labels[weights > 0].tolist())) == 2:
        shares = weights / 7
        assert auroc(scores, labels, shares) == pytest.approx(roc_auc_score(labels, scores, sample_weight=shares))
        expected = average_precision_score(labels, scores, sample_weight=shares)
        assert auprc(scores, labels, shares) == pytest.approx(expected)
    for score in (auroc, auprc):
        weighted, repeated = score(scores, labels, weights), score(scores[again], labels[again])
        assert weighted == pytest.approx(repeated, abs=1e-12, nan_ok=True)


@given(st.lists(st.tuples(st.integers(0, 997), st.booleans()), min_size=1, max_size=60))
def test_reliability_bins_hold_every_image_once(images):
    """An image lost between two bins, or a probability of 1 in a sixteenth, would hide overconfidence."""
    probability, labels = np.array([one[0] / 997 for one in images]), np.array([one[1] for one in images], int)
    bins = reliability(probability, labels)
    assert bins.count.sum() == len(images)
    assert (bins.predicted * bins.count).sum() == pytest.approx(probability.sum())
    assert (bins.observed * bins.count).sum() == pytest.approx(labels.sum())
    assert brier(probability, labels) == pytest.approx(brier_score_loss(labels, probability))
    by_hand = sum(
        abs(probability[inside].sum() - labels[inside].sum())
        for number in range(15)
        if (inside := (probability >= number / 15) & ((probability < (number + 1) / 15) | (number == 14))).any()
    )
    assert bins.ece == pytest.approx(by_hand / len(images))


def test_confusion_takes_scores_at_the_threshold_for_positive():
    """A threshold is a score that was seen: the image that set it must be found."""
    counted = confusion(np.array([0.1, 0.5, 0.5, 0.9]), np.array([0, 1, 0, 1]), 0.5)
    assert (counted.sensitivity, counted.specificity) == (1.0, 0.5)
    assert (counted.ppv, counted.npv) == (pytest.approx(2 / 3), 1.0)
    assert counted.f1 == pytest.approx(0.8)


def test_rates_without_images_are_undefined():
    """A finding nobody has is neither always found nor never."""
    counted = confusion(np.array([0.1, 0.2]), np.array([0, 0]), 0.5)
    assert math.isnan(counted.sensitivity)
    assert math.isnan(counted.ppv)
    assert math.isnan(counted.f1)
    assert counted.specificity == 1.0


@pytest.mark.parametrize("label", [0, 1])
def test_auroc_is_undefined_when_a_class_is_absent(label):
    """0 or 1 would enter the mean and choose the wrong checkpoint."""
    assert math.isnan(auroc(np.array([0.1, 0.9]), np.array([label, label])))


def test_auroc_of_nan_scores_is_undefined():
    """Equal, as nan may be taken, they would score 0.5 and could be the best."""
    assert math.isnan(auroc(np.array([np.nan, np.nan]), np.array([0, 1])))


def test_mean_leaves_out_undefined_findings():
    """A rare finding absent from validation must not make the mean undefined."""
    scores = np.array([[0.9, 0.5], [0.1, 0.5]])
    per_finding = auroc_per_finding(scores, np.array([[1, 0], [0, 0]]))
    assert mean_defined(per_finding) == 1.0
    assert math.isnan(mean_defined(np.array([np.nan])))


def test_loss_equals_scikit_learn_and_survives_extreme_logits():
    """Validation loss drives the plateau schedule."""
    logits = np.array([[2.0], [-1.0], [0.5]])
    labels = np.array([[1], [0], [0]])
    assert binary_cross_entropy(logits, labels) == pytest.approx(
        log_loss(labels[:, 0], 1 / (1 + np.exp(-logits[:, 0])))
    )
    assert binary_cross_entropy(np.array([[1e4]], np.float32), np.array([[0]])) == pytest.approx(1e4)


@given(st.integers(1, 700), st.floats(0, 1))
def test_interval_of_a_proportion_is_wilsons(total, share):
    """Its bounds are the shares from which the counted one is 1.96 standard errors away, never outside 0 and 1."""
    correct = round(share * total)
    for bound in wilson(correct / total, total):
        assert 0 <= bound <= 1
        assert abs(correct / total - bound) == pytest.approx(
            1.959964 * math.sqrt(bound * (1 - bound) / total), abs=1e-6
        )


def test_interval_of_a_proportion_of_no_images_is_undefined():
    """A class without images has no recall."""
    assert all(math.isnan(bound) for bound in wilson(0, 0))
