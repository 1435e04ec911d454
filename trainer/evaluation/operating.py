"""From which score on an image is taken for positive: thresholds by rule, chosen where they are not judged.

Shapes: N images, G different scores.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from trainer.evaluation.metrics import Floats, Groups, groups

RULES: Final = ("youden", "best_f1", "specificity_90", "specificity_95")
"""Youden's J (sensitivity + specificity - 1) or F1 at its highest; all the sensitivity that a specificity of 0.90 or 0.95 allows."""

RULE_TITLES: Final = {
    "youden": "Youden's J",
    "best_f1": "best F1",
    "specificity_90": "specificity 90 %",
    "specificity_95": "specificity 95 %",
}

_SPECIFICITY: Final = {"specificity_90": 0.90, "specificity_95": 0.95}


def thresholds(scores_N: NDArray[np.floating], labels_N: NDArray[np.integer]) -> dict[str, float]:
    """The threshold of each rule that has one: a score of these images, from which on, itself included, an image is positive.

    Nothing when a class is absent. A specificity that no score reaches, as when more negatives than it allows share the
    highest, has none. Of equally good thresholds the lowest, which misses the fewest.
    """
    by_score = groups(scores_N, labels_N)
    if not by_score.is_defined:
        return {}
    return {rule: chosen for rule in RULES if (chosen := _threshold(by_score, rule)) is not None}


def _threshold(by_score: Groups, rule: str) -> float | None:
    found_G = _from_here_on(by_score.positive_G)
    wrong_G = _from_here_on(by_score.negative_G)
    positives, negatives = found_G[0], wrong_G[0]
    if rule in _SPECIFICITY:
        # In whole numbers: 1 - 10/100 is a little below 0.9.
        reached = np.flatnonzero(wrong_G <= round(negatives * (1 - _SPECIFICITY[rule]), 9))
        return float(by_score.score_G[reached[0]]) if len(reached) else None
    if rule == "youden":
        worth_G = found_G * negatives - wrong_G * positives  # J times both numbers: whole, so that equals are equal
    else:
        worth_G = 2 * found_G / (found_G + wrong_G + positives)
    return float(by_score.score_G[int(np.argmax(worth_G))])


def _from_here_on(count_G: Floats) -> Floats:
    """Sum of each and all higher ones."""
    total: Floats = np.cumsum(count_G[::-1])[::-1]
    return total
