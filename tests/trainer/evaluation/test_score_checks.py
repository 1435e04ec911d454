"""Scores that say little, or that are likely a mistake."""

import numpy as np
import pytest

from trainer.evaluation.document import interval
from trainer.evaluation.metrics import auroc_per_finding
from trainer.evaluation.score_checks import is_exclusive, off_sum, score_notes


@pytest.fixture
def images():
    random = np.random.default_rng(0)
    labels = (random.random((400, 4)) < 0.3).astype(np.uint8)
    return 1 / (1 + np.exp(1.5 - random.normal(labels * 2.0))), labels


def notes(scores, labels):
    auroc = [interval(value, value - 0.05, value + 0.05) for value in auroc_per_finding(scores, labels).tolist()]
    return score_notes("ABCD"[: labels.shape[1]], scores, labels, auroc)


def test_usual_scores_have_no_note(images):
    """A note that is always there is not read; six decimals are what programs write."""
    scores, labels = images
    assert notes(scores, labels) == []
    assert notes(scores.round(6), labels) == []
    assert notes(scores[:1], labels[:1]) == []


def test_constant_scores_are_noted_by_finding(images):
    """AUROC of .5 with an interval without width looks like a result."""
    scores, labels = images
    scores[:, 1:3] = [0.25, 0.3]
    assert notes(scores, labels) == ["every image has the same score, so AUROC is 0.5 whatever the labels: B, C"]
    scores[:] = 0.5
    assert len(notes(scores, labels)) == 1


@pytest.mark.parametrize("decimals", [0, 1, 2, 3])
def test_rounded_scores_are_noted_with_their_decimals(images, decimals):
    """Ties change AUROC and every threshold."""
    scores, labels = images
    (note,) = notes(scores.round(decimals), labels)
    assert note.startswith(f"scores have at most {decimals} decimals: an image with and one without a finding")


def test_scores_of_few_levels_are_noted(images):
    """A network of 8 bits writes many decimals of 256 numbers."""
    scores, labels = images
    (note,) = notes(np.round(scores * 32) / 32.5, labels)
    assert note.startswith("scores are rounded: ")
    assert "of those of 4 findings" in note


def test_complement_of_rounded_scores_is_rounded_too(images):
    """1 - 0.9 is not quite 0.1."""
    scores, labels = images
    (note,) = notes(1 - (1 - scores).round(2), labels)
    assert "at most 2 decimals" in note


def test_inverted_scores_are_noted(images):
    """A column of the probability of health gives .1, and its finder reads it as a bad model."""
    scores, labels = images
    assert notes(1 - scores, labels) == [
        "AUROC is far below 0.5 for 4 of 4 findings: scores may be inverted, or of other columns or images"
    ]
    scores[:, 3] = 1 - scores[:, 3]
    assert notes(scores, labels) == ["AUROC is far below 0.5, so scores may be inverted or of another finding: D"]


def test_undefined_findings_and_wide_intervals_are_not_inverted(images):
    """Five images say nothing."""
    scores, labels = images
    labels[:, 0] = 0
    auroc = [interval(float("nan"), 0, 0), *[interval(0.3, 0.05, 0.6)] * 2, interval(0.3, float("nan"), float("nan"))]
    assert score_notes("ABCD", scores, labels, auroc) == []


def test_exclusive_labels_and_sums_of_probabilities_are_recognised():
    """Of both, classes are known."""
    assert is_exclusive(np.array([[1, 0], [0, 1]]))
    assert not is_exclusive(np.array([[1, 0], [1, 1]]))
    assert not is_exclusive(np.array([[1], [1]]))
    assert off_sum(np.array([[0.5, 0.5], [0.3333, 0.6664], [0.5, 0.6]])) == 1
