"""How good predictions are; numpy only.

Shapes: N images, K findings.
"""

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

Z_95: Final = 1.959963984540054
"""97.5 % point of the standard normal distribution: the two-sided 95 % interval."""

Floats = NDArray[np.float64]


def auroc(scores_N: NDArray[np.floating], labels_N: NDArray[np.integer]) -> float:
    """Probability that a positive scores above a negative, ties counting half; nan when a class is absent or a score is nan.

    Source: Hanley & McNeil 1982, by the sum of the positives' midranks.
    """
    if np.isnan(scores_N).any():
        return float("nan")
    positive_N = labels_N > 0
    positives = int(positive_N.sum())
    negatives = len(labels_N) - positives
    if positives == 0 or negatives == 0:
        return float("nan")
    _, rank_of, count = np.unique(scores_N, return_inverse=True, return_counts=True)
    midrank = np.cumsum(count) - (count - 1) / 2
    rank_sum = midrank[rank_of][positive_N].sum()
    return float((rank_sum - positives * (positives + 1) / 2) / (positives * negatives))


def auroc_per_finding(scores_NK: NDArray[np.floating], labels_NK: NDArray[np.integer]) -> Floats:
    """AUROC of each finding, shape K; nan where it is undefined."""
    columns = zip(scores_NK.T, labels_NK.T, strict=True)
    return np.array([auroc(scores_N, labels_N) for scores_N, labels_N in columns], dtype=np.float64)


def mean_defined(values_K: Floats) -> float:
    """Mean of those that are defined; nan when none is."""
    defined = values_K[~np.isnan(values_K)]
    return float(defined.mean()) if len(defined) else float("nan")


def binary_cross_entropy(logits_NK: NDArray[np.floating], labels_NK: NDArray[np.integer]) -> float:
    """Mean over images and findings, in nats; nan without images."""
    if logits_NK.size == 0:
        return float("nan")
    logits = logits_NK.astype(np.float64)
    return float(np.mean(np.logaddexp(0.0, logits) - logits * labels_NK))


def class_log_odds(logits_NK: NDArray[np.floating]) -> Floats:
    """Log-odds of each class under softmax: their sigmoid is the class's probability. Two classes or more.

    What is scored, calibrated and written is log-odds for either loss, so that nothing after the network asks which it was.
    """
    logits = logits_NK.astype(np.float64)
    others = np.empty_like(logits)
    for column in range(logits.shape[1]):
        others[:, column] = np.logaddexp.reduce(np.delete(logits, column, axis=1), axis=1)
    return logits - others


def wilson(correct: int, total: int) -> tuple[float, float]:
    """95 % interval of a proportion counted over independent images; nan, nan without any.

    Source: Wilson 1927, doi:10.1080/01621459.1927.10502953; unlike the plain normal interval it stays within 0 and 1.
    """
    if total == 0:
        return float("nan"), float("nan")
    share, spread = correct / total, Z_95 * Z_95 / total
    centre = share + spread / 2
    reach = Z_95 * math.sqrt((share * (1 - share) + spread / 4) / total)
    low, high = (centre - reach) / (1 + spread), (centre + reach) / (1 + spread)
    return (0.0 if correct == 0 else low), (1.0 if correct == total else high)
