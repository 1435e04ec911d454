"""Scores against scikit-learn and by hand."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import log_loss, roc_auc_score

from trainer.metrics import auroc, auroc_per_finding, binary_cross_entropy, mean_defined, wilson


@given(st.lists(st.tuples(st.integers(-3, 3), st.booleans()), min_size=2, max_size=60))
def test_auroc_equals_scikit_learn_with_many_ties(pairs):
    """Ties are common in early training and easily counted wrong."""
    scores, labels = np.array([pair[0] for pair in pairs], float), np.array([pair[1] for pair in pairs], int)
    ours = auroc(scores, labels)
    if labels.min() == labels.max():
        assert math.isnan(ours)
    else:
        assert ours == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)


@pytest.mark.parametrize("label", [0, 1])
def test_auroc_is_undefined_when_a_class_is_absent(label):
    """0 or 1 would enter the mean and choose the wrong checkpoint."""
    assert math.isnan(auroc(np.array([0.1, 0.9]), np.array([label, label])))


def test_auroc_of_scores_that_are_no_numbers_is_undefined():
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
    for bound in wilson(correct, total):
        assert 0 <= bound <= 1
        assert abs(correct / total - bound) == pytest.approx(
            1.959964 * math.sqrt(bound * (1 - bound) / total), abs=1e-6
        )


def test_interval_of_nothing_is_undefined():
    """A class without images has no recall."""
    assert all(math.isnan(bound) for bound in wilson(0, 0))
