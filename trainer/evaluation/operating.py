"""Operating points: thresholds by rule, chosen on other images than those evaluated.

Shapes: N images, G distinct scores.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from trainer.evaluation.metrics import Floats, Groups, groups

RULES: Final = ("youden", "best_f1", "specificity_90", "specificity_95")
"""Highest Youden's J (sensitivity + specificity - 1) or F1; highest sensitivity at a specificity of at least 0.90 or
0.95.
"""

RULE_TITLES: Final = {
    "youden": "Youden's J",
    "best_f1": "best F1",
    "specificity_90": "specificity 90 %",
    "specificity_95": "specificity 95 %",
}

_SPECIFICITY: Final = {"specificity_90": 0.90, "specificity_95": 0.95}


def thresholds(scores_N: NDArray[np.floating], labels_N: NDArray[np.floating]) -> dict[str, float]:
    """The threshold of each rule: the lowest score that counts as positive, one of the given scores.

    Empty when a class is absent. A specificity that no threshold reaches is left out, as when too many negatives share
    the highest score. Of equally good thresholds the lowest is chosen, which misses the fewest positives.
    """
    by_score = groups(scores_N, labels_N)
    if not by_score.is_defined:
        return {}
    return {rule: chosen for rule in RULES if (chosen := _threshold(by_score, rule)) is not None}


def _threshold(by_score: Groups, rule: str) -> float | None:
    tp_G = _at_or_above(by_score.positive_G)
    fp_G = _at_or_above(by_score.negative_G)
    positives, negatives = tp_G[0], fp_G[0]
    if rule in _SPECIFICITY:
        # Rounded, as 1 - 10/100 is slightly below 0.9.
        reached = np.flatnonzero(fp_G <= round(negatives * (1 - _SPECIFICITY[rule]), 9))
        return float(by_score.score_G[reached[0]]) if len(reached) else None
    # J times both counts: integers, so that ties are exact.
    j_G = tp_G * negatives - fp_G * positives
    worth_G = j_G if rule == "youden" else 2 * tp_G / (tp_G + fp_G + positives)
    return float(by_score.score_G[int(np.argmax(worth_G))])


def _at_or_above(count_G: Floats) -> Floats:
    """Sum of each count and all at higher scores."""
    total: Floats = np.cumsum(count_G[::-1])[::-1]
    return total
