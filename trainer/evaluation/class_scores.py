"""Scores of models that predict one class of an image.

Shapes: N images, K classes.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from trainer.evaluation.document import FEWEST, Classes, Proportion
from trainer.evaluation.proportions import share_of


def class_scores(
    log_odds_NK: NDArray[np.floating],
    labels_NK: NDArray[np.floating],
    patients_N: NDArray[np.integer],
    findings: Sequence[str],
    positive_class: str,
) -> Classes:
    """Scores of the most probable class of each image. Needs at least one image."""
    predicted_N, true_N = log_odds_NK.argmax(axis=1), labels_NK.argmax(axis=1)
    right_N, is_negative_N = predicted_N == true_N, true_N != findings.index(positive_class)
    recall = {name: proportion_of(right_N[true_N == k], patients_N[true_N == k]) for k, name in enumerate(findings)}
    called_negative_N = predicted_N != findings.index(positive_class)
    return Classes(
        accuracy=proportion_of(right_N, patients_N),
        positive=positive_class,
        sensitivity=recall[positive_class],
        specificity=proportion_of(called_negative_N[is_negative_N], patients_N[is_negative_N]),
        recall=recall,
        majority_share=float(np.bincount(true_N).max() / len(true_N)),
    )


def proportion_of(is_right_N: NDArray[np.bool_], patients_N: NDArray[np.integer]) -> Proportion:
    """The share of true values; without an interval for too few patients."""
    return share_of(is_right_N, patients_N).as_proportion(has_interval=len(np.unique(patients_N)) >= FEWEST)
