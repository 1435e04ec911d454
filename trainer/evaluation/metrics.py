"""Metrics of predictions; numpy only.

Labels [N, K] may be NaN where unknown; labels [N] are those of one finding, all of them known. Shapes: N images, K findings.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from trainer.evaluation.known_labels import known_rows

Z_95: Final = 1.959963984540054
"""97.5 % quantile of the standard normal distribution, for two-sided 95 % intervals."""

CALIBRATION_BINS: Final = 15
"""Bins of the expected calibration error. Source: as for the published value it is compared with, and Guo et al.
2017.
"""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Groups:
    """Images grouped by score, lowest first, with G distinct scores: positive and negative weight of each."""

    score_G: Floats
    positive_G: Floats
    negative_G: Floats

    @property
    def is_defined(self) -> bool:
        """Whether there are positives and negatives, and no score is nan."""
        return bool(self.positive_G.sum() > 0 and self.negative_G.sum() > 0 and not np.isnan(self.score_G).any())


def groups(
    scores_N: NDArray[np.floating], labels_N: NDArray[np.number | np.bool_], weights_N: NDArray[Any] | None = None
) -> Groups:
    """Group the images by score; a weight counts as that many images."""
    score_G, group_N = np.unique(scores_N, return_inverse=True)
    weight_N = np.ones(len(scores_N)) if weights_N is None else weights_N
    count = len(score_G)
    positive_N = labels_N > 0
    return Groups(
        score_G.astype(np.float64),
        np.bincount(group_N, weight_N * positive_N, count).astype(np.float64),
        np.bincount(group_N, weight_N * ~positive_N, count).astype(np.float64),
    )


def auroc(
    scores_N: NDArray[np.floating],
    labels_N: NDArray[np.number | np.bool_],
    weights_N: NDArray[Any] | None = None,
) -> float:
    """Probability that a positive scores above a negative, ties counting half; nan when a class is absent or a score is nan.

    Source: Hanley & McNeil 1982: share of pairs of a positive and a negative that are in the right order, counted by score.
    """
    by_score = groups(scores_N, labels_N, weights_N)
    if not by_score.is_defined:
        return float("nan")
    below_G = np.cumsum(by_score.negative_G) - by_score.negative_G / 2
    pairs = by_score.positive_G.sum() * by_score.negative_G.sum()
    return float((by_score.positive_G * below_G).sum() / pairs)


def auprc(
    scores_N: NDArray[np.floating],
    labels_N: NDArray[np.number | np.bool_],
    weights_N: NDArray[Any] | None = None,
) -> float:
    """Average precision: the precision at each score, weighted by the gain of recall; nan as for `auroc`.

    Source: the sum over thresholds without interpolation, as in scikit-learn's `average_precision_score`.
    """
    by_score = groups(scores_N, labels_N, weights_N)
    if not by_score.is_defined:
        return float("nan")
    found_G = np.cumsum(by_score.positive_G[::-1])
    predicted_G = found_G + np.cumsum(by_score.negative_G[::-1])
    precision_G = np.divide(found_G, predicted_G, out=np.zeros_like(found_G), where=predicted_G > 0)
    return float((precision_G * by_score.positive_G[::-1]).sum() / found_G[-1])


def auroc_per_finding(scores_NK: NDArray[np.floating], labels_NK: NDArray[np.floating]) -> Floats:
    """AUROC of each finding over its known labels, shape K; nan where undefined."""
    return np.array([auroc(scores_N, labels_N) for scores_N, labels_N in _known_columns(scores_NK, labels_NK)])


def auprc_per_finding(scores_NK: NDArray[np.floating], labels_NK: NDArray[np.floating]) -> Floats:
    """Average precision of each finding over its known labels, shape K; nan where undefined."""
    return np.array([auprc(scores_N, labels_N) for scores_N, labels_N in _known_columns(scores_NK, labels_NK)])


def _known_columns(
    scores_NK: NDArray[np.floating], labels_NK: NDArray[np.floating]
) -> Iterator[tuple[NDArray[np.floating], NDArray[np.floating]]]:
    """Scores and labels of each finding, without its unknown labels."""
    for scores_N, labels_N in zip(scores_NK.T, labels_NK.T, strict=True):
        rows = known_rows(labels_N)
        yield scores_N[rows], labels_N[rows]


def mean_defined(values_K: Floats) -> float:
    """Mean of the defined values; nan without any."""
    defined = values_K[~np.isnan(values_K)]
    return float(defined.mean()) if len(defined) else float("nan")


def binary_cross_entropy(logits_NK: NDArray[np.floating], labels_NK: NDArray[np.floating]) -> float:
    """Mean over the known labels of all images and findings, in nats; nan without any. A fraction is a soft target."""
    is_known_NK = ~np.isnan(labels_NK)
    if not is_known_NK.any():
        return float("nan")
    logits = logits_NK.astype(np.float64)
    losses_NK = np.logaddexp(0.0, logits) - logits * labels_NK
    return float(np.mean(losses_NK if is_known_NK.all() else losses_NK[is_known_NK]))


def class_log_odds(logits_NK: NDArray[np.floating]) -> Floats:
    """Log-odds of each class under softmax: their sigmoid is the probability of the class. Needs at least two classes.

    Both losses use log-odds for evaluation, calibration and output, so that no later code depends on the loss.
    """
    logits = logits_NK.astype(np.float64)
    others = np.empty_like(logits)
    for column in range(logits.shape[1]):
        others[:, column] = np.logaddexp.reduce(np.delete(logits, column, axis=1), axis=1)
    return logits - others


def probability(log_odds: NDArray[np.floating]) -> Floats:
    """The logistic function of log-odds, without overflow."""
    p: Floats = np.exp(-np.logaddexp(0.0, -log_odds.astype(np.float64)))
    return p


def log_odds(probability_N: NDArray[np.floating]) -> Floats:
    """The logit of probabilities; infinite at 0 and 1."""
    p_N = probability_N.astype(np.float64)
    with np.errstate(divide="ignore"):
        odds: Floats = np.log(p_N) - np.log1p(-p_N)
    return odds


def brier(probability_N: NDArray[np.floating], labels_N: NDArray[np.floating]) -> float:
    """Mean squared error of the probabilities; nan without images. Source: Brier 1950."""
    return float(np.mean((probability_N - labels_N) ** 2)) if len(labels_N) else float("nan")


@dataclass(frozen=True)
class Reliability:
    """Images by predicted probability, in bins of equal width, without empty ones."""

    predicted: Floats
    """Mean probability in each bin."""
    observed: Floats
    """Share of positives in each bin."""
    count: NDArray[np.int64]
    bin_N: NDArray[np.intp]
    """Bin of each image."""

    @property
    def ece(self) -> float:
        """Expected calibration error: mean distance of the two, weighted by images; nan without any. Source: Naeini et al. 2015."""
        if not self.count.sum():
            return float("nan")
        return float((np.abs(self.predicted - self.observed) * self.count).sum() / self.count.sum())


def reliability(
    probability_N: NDArray[np.floating], labels_N: NDArray[np.floating], bins: int = CALIBRATION_BINS
) -> Reliability:
    """Predicted and observed frequencies by bin; the last bin includes probability 1."""
    position_N = np.minimum((probability_N * bins).astype(np.int64), bins - 1)
    _, bin_N, count = np.unique(position_N, return_inverse=True, return_counts=True)
    return Reliability(
        np.bincount(bin_N, probability_N, len(count)) / count,
        np.bincount(bin_N, labels_N, len(count)) / count,
        count,
        bin_N,
    )


@dataclass(frozen=True)
class Confusion:
    """Confusion matrix of images."""

    true_positives: int
    false_positives: int
    false_negatives: int
    true_negatives: int

    @property
    def sensitivity(self) -> float:
        """Share of positives predicted as positive; nan without any."""
        return share(self.true_positives, self.true_positives + self.false_negatives)

    @property
    def specificity(self) -> float:
        """Share of negatives predicted as negative; nan without any."""
        return share(self.true_negatives, self.true_negatives + self.false_positives)

    @property
    def ppv(self) -> float:
        """Share of true positives among positive predictions; nan without any."""
        return share(self.true_positives, self.true_positives + self.false_positives)

    @property
    def npv(self) -> float:
        """Share of true negatives among negative predictions; nan without any."""
        return share(self.true_negatives, self.true_negatives + self.false_negatives)

    @property
    def f1(self) -> float:
        """Harmonic mean of sensitivity and positive predictive value; nan without positives."""
        if not self.true_positives + self.false_negatives:
            return float("nan")
        return 2 * self.true_positives / (2 * self.true_positives + self.false_positives + self.false_negatives)


def confusion(scores_N: NDArray[np.floating], labels_N: NDArray[np.floating], threshold: float) -> Confusion:
    """Confusion matrix when scores at or above the threshold count as positive."""
    predicted_N, positive_N = scores_N >= threshold, labels_N > 0
    return Confusion(
        int((predicted_N & positive_N).sum()),
        int((predicted_N & ~positive_N).sum()),
        int((~predicted_N & positive_N).sum()),
        int((~predicted_N & ~positive_N).sum()),
    )


def share(part: float, whole: float) -> float:
    """Ratio of two numbers; nan when the second is 0."""
    return part / whole if whole else float("nan")


def wilson(value: float, size: float) -> tuple[float, float]:
    """95 % interval of a share of this many independent images; nan, nan without any.

    Source: Wilson 1927, doi:10.1080/01621459.1927.10502953; unlike the normal approximation it stays within 0 and 1.
    """
    if not size > 0:
        return float("nan"), float("nan")
    spread = Z_95 * Z_95 / size
    centre = value + spread / 2
    reach = Z_95 * math.sqrt((value * (1 - value) + spread / 4) / size)
    low, high = (centre - reach) / (1 + spread), (centre + reach) / (1 + spread)
    return (0.0 if value == 0 else low), (1.0 if value == 1 else high)


def class_cross_entropy(log_odds_NK: NDArray[np.floating], labels_NK: NDArray[np.floating]) -> float:
    """Mean over images of the negative log-probability of the true class, in nats, for single-label images; nan without images."""
    if log_odds_NK.size == 0:
        return float("nan")
    true_N = np.take_along_axis(log_odds_NK, labels_NK.argmax(axis=1)[:, None], axis=1)
    return float(np.mean(np.logaddexp(0.0, -true_N)))
