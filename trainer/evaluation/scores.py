"""Scores of predictions: AUROC per finding or accuracy over classes, their table and CSV.

Shapes: N images, C channels, H x W pixels, K findings.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from trainer.evaluation.metrics import (
    auroc_per_finding,
    binary_cross_entropy,
    class_cross_entropy,
    class_log_odds,
    mean_defined,
    probability,
    wilson,
)
from trainer.formats.spreadsheet import line

Logits = NDArray[np.float32]
LogOdds = NDArray[np.float64]


def _as_they_are(logits_NK: Logits) -> LogOdds:
    return logits_NK.astype(np.float64)


LOG_ODDS: Final[Mapping[str, Callable[[Logits], LogOdds]]] = {"bce": _as_they_are, "cross_entropy": class_log_odds}
"""What a network's logits say, by the loss it was trained with: log-odds of each finding, which is all that is scored and written."""


@dataclass(frozen=True)
class Accuracy:
    """Images whose class was the network's first choice."""

    correct: int
    total: int

    @property
    def value(self) -> float:
        """Their share; nan without images."""
        return self.correct / self.total if self.total else float("nan")

    def as_json(self) -> dict[str, Any]:
        """The same with Wilson's 95 % interval."""
        low, high = wilson(self.correct, self.total)
        return {
            "correct": self.correct,
            "total": self.total,
            "value": null_if_nan(self.value),
            "low": null_if_nan(low),
            "high": null_if_nan(high),
        }


@dataclass(frozen=True)
class Scores:
    """How good the predictions of one split are."""

    findings: Sequence[str]
    auroc_K: NDArray[np.float64]
    """nan where a class is absent."""
    loss: float
    """Mean cross-entropy: binary over images and findings, or of the classes over images."""
    images: int
    accuracy: Accuracy | None = None
    """Where each image has one class."""

    @property
    def mean_auroc(self) -> float:
        """Mean over the findings where it is defined; nan when it is nowhere."""
        return mean_defined(self.auroc_K)

    def as_json(self) -> dict[str, Any]:
        """The same, null for undefined."""
        auroc = zip(self.findings, self.auroc_K.tolist(), strict=True)
        document = {
            "images": self.images,
            "mean_auroc": null_if_nan(self.mean_auroc),
            "loss": null_if_nan(self.loss),
            "auroc": {finding: null_if_nan(value) for finding, value in auroc},
        }
        return document | ({"accuracy": self.accuracy.as_json()} if self.accuracy else {})


def score(log_odds_NK: LogOdds, labels_NK: NDArray[np.uint8], findings: Sequence[str], *, classes: bool) -> Scores:
    """Scores of these predictions; `classes` where each image has one of the findings, and the largest is the answer."""
    auroc_K = auroc_per_finding(log_odds_NK, labels_NK)
    if not classes:
        return Scores(findings, auroc_K, binary_cross_entropy(log_odds_NK, labels_NK), len(labels_NK))
    right_N = log_odds_NK.argmax(axis=1) == labels_NK.argmax(axis=1)
    accuracy = Accuracy(int(right_N.sum()), len(labels_NK))
    return Scores(findings, auroc_K, class_cross_entropy(log_odds_NK, labels_NK), len(labels_NK), accuracy)


def predictions_csv(images: Sequence[str], log_odds_NK: LogOdds, findings: Sequence[str]) -> bytes:
    """Probabilities, one row an image: `Image Index`, then `prob_<finding>`.

    With every digit they have: fewer would make ties, and the file's AUROC and decisions others than the run's.
    """
    rows = zip(images, probability(log_odds_NK).tolist(), strict=True)
    header = ["Image Index", *(f"prob_{finding}" for finding in findings)]
    return "".join([line(header), *(line([name, *chances]) for name, chances in rows)]).encode()


def as_table(scores: Mapping[str, Scores]) -> str:
    """AUROC per finding and split, their mean, and accuracy where there are classes, as aligned text; `-` for undefined."""
    findings = list(next(iter(scores.values())).findings)
    width = max(map(len, [*findings, "  95 % from"]))
    lines = [" " * width + "".join(f"{split:>9}" for split in scores)]
    for number, finding in enumerate(findings):
        lines.append(f"{finding:<{width}}" + "".join(_cell(one.auroc_K[number]) for one in scores.values()))
    lines.append(f"{'mean AUROC':<{width}}" + "".join(_cell(one.mean_auroc) for one in scores.values()))
    lines.extend(_accuracy_lines(scores, width))
    lines.append(f"{'images':<{width}}" + "".join(f"{one.images:>9,}" for one in scores.values()))
    return "\n".join(lines)


def _accuracy_lines(scores: Mapping[str, Scores], width: int) -> list[str]:
    told = {split: one.accuracy for split, one in scores.items() if one.accuracy is not None}
    if not told:
        return []
    intervals = {split: wilson(one.correct, one.total) for split, one in told.items()}
    rows = {
        "accuracy": [one.value for one in told.values()],
        "  95 % from": [low for low, _ in intervals.values()],
        "  95 % to": [high for _, high in intervals.values()],
    }
    lines = [f"{name:<{width}}" + "".join(map(_cell, values)) for name, values in rows.items()]
    return [*lines, f"{'correct':<{width}}" + "".join(f"{one.correct:>9,}" for one in told.values())]


def null_if_nan(value: float) -> float | None:
    """None, JSON's null, for nan."""
    return None if math.isnan(value) else value


def _cell(value: float) -> str:
    return f"{'-':>9}" if math.isnan(value) else f"{value:>9.4f}"
