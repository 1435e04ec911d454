"""Thresholds against trying every score."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.evaluation.metrics import confusion
from trainer.evaluation.operating import RULES, thresholds


@given(st.lists(st.tuples(st.integers(0, 6), st.booleans()), min_size=2, max_size=50))
def test_youden_threshold_is_the_best_of_all_observed_scores(images):
    """A threshold that is off by one image would be applied to every patient after."""
    scores, labels = np.array([one[0] for one in images]) / 7, np.array([one[1] for one in images], int)
    chosen = thresholds(scores, labels)
    if labels.min() == labels.max():
        assert chosen == {}
        return
    tried = {score: confusion(scores, labels, score) for score in scores.tolist()}
    assert set(chosen.values()) <= set(tried)
    worth = {"youden": lambda at: at.sensitivity + at.specificity, "best_f1": lambda at: at.f1}
    for rule, value in worth.items():
        assert value(tried[chosen[rule]]) == pytest.approx(max(map(value, tried.values())))
    for rule, least in {"specificity_90": 0.9, "specificity_95": 0.95}.items():
        allowed = [at.sensitivity for at in tried.values() if at.specificity >= least - 1e-12]
        assert (rule in chosen) == bool(allowed)
        if allowed:
            assert tried[chosen[rule]].specificity >= least - 1e-12
            assert tried[chosen[rule]].sensitivity == max(allowed)


def test_threshold_of_specificity_90_allows_one_false_positive_in_ten():
    """1 - 0.9 is not 0.1 in floating point, and an exact tenth must count."""
    scores = np.concatenate([np.arange(10), [9.5]])
    labels = np.array([0] * 10 + [1])
    scores[10] = 8.5
    assert thresholds(scores, labels)["specificity_90"] == 8.5
    assert list(thresholds(scores, labels)) == list(RULES[:3])
