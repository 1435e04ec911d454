"""Scores of predictions: AUROC per finding or accuracy over classes, as table and CSV.

Shapes: N images, K findings.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from trainer.errors import on_one_line
from trainer.evaluation.calibration import Calibrated
from trainer.evaluation.class_scores import proportion_of
from trainer.evaluation.document import Proportion
from trainer.evaluation.known_labels import binary
from trainer.evaluation.metrics import (
    auroc_per_finding,
    binary_cross_entropy,
    class_cross_entropy,
    class_log_odds,
    mean_defined,
    probability,
)
from trainer.evaluation.predictions import PREFIX, RAW
from trainer.formats.spreadsheet import line

Logits = NDArray[np.float32]
LogOdds = NDArray[np.float64]


def _unchanged(logits_NK: Logits) -> LogOdds:
    return logits_NK.astype(np.float64)


LOG_ODDS: Final[Mapping[str, Callable[[Logits], LogOdds]]] = {"bce": _unchanged, "cross_entropy": class_log_odds}
"""From a network's logits to log-odds of each finding, by loss; only log-odds are evaluated and written."""


@dataclass(frozen=True)
class Scores:
    """Scores of the predictions of one split."""

    findings: Sequence[str]
    auroc_K: NDArray[np.float64]
    """nan where a class is absent among the known labels."""
    loss: float
    """Mean cross-entropy: binary over known labels of images and findings, or of the classes over images."""
    images: int
    known_K: NDArray[np.intp]
    """Images with a known label."""
    accuracy: Proportion | None = None
    """Of single-label images only."""

    @property
    def mean_auroc(self) -> float:
        """Mean over the findings with a defined AUROC; nan without any."""
        return mean_defined(self.auroc_K)

    def as_json(self) -> dict[str, Any]:
        """JSON with null for undefined values; with numbers of known labels where some are unknown."""
        auroc = zip(self.findings, self.auroc_K.tolist(), strict=True)
        document = {
            "images": self.images,
            "mean_auroc": null_if_nan(self.mean_auroc),
            "loss": null_if_nan(self.loss),
            "auroc": {finding: null_if_nan(value) for finding, value in auroc},
        }
        if self.has_unknown:
            document["known"] = dict(zip(self.findings, self.known_K.tolist(), strict=True))
        return document | ({"accuracy": self.accuracy} if self.accuracy else {})

    @property
    def has_unknown(self) -> bool:
        """Whether a label is unknown."""
        return bool((self.known_K < self.images).any())


def score(
    log_odds_NK: LogOdds,
    labels_NK: NDArray[np.floating],
    patients_N: NDArray[np.integer],
    findings: Sequence[str],
    *,
    classes: bool,
) -> Scores:
    """Scores of these predictions; with `classes`, each image has one class and the largest log-odds is the prediction."""
    auroc_K = auroc_per_finding(log_odds_NK, binary(labels_NK))
    known_K = (~np.isnan(labels_NK)).sum(axis=0)
    if not classes:
        return Scores(findings, auroc_K, binary_cross_entropy(log_odds_NK, labels_NK), len(labels_NK), known_K)
    accuracy = proportion_of(log_odds_NK.argmax(axis=1) == labels_NK.argmax(axis=1), patients_N)
    return Scores(findings, auroc_K, class_cross_entropy(log_odds_NK, labels_NK), len(labels_NK), known_K, accuracy)


def predictions_csv(
    images: Sequence[str], log_odds_NK: LogOdds, findings: Sequence[str], calibrated: Calibrated | None
) -> bytes:
    """Probabilities, one row per image: `Image Index`, then calibrated `prob_<finding>` and uncalibrated `raw_<finding>`.

    Without calibrated ones there are only `prob_<finding>`, which are uncalibrated. With all digits: fewer would create ties, and the
    file's AUROC and decisions would differ from the run's.
    """
    header, values_NM = [f"{PREFIX}{finding}" for finding in findings], probability(log_odds_NK)
    if calibrated is not None:
        header += [f"{RAW}{finding}" for finding in findings]
        values_NM = np.concatenate([calibrated.probability_NK, values_NM], axis=1)
    rows = zip(images, values_NM.tolist(), strict=True)
    return "".join([line(["Image Index", *header]), *(line([name, *chances]) for name, chances in rows)]).encode()


def as_table(scores: Mapping[str, Scores]) -> str:
    """AUROC per finding and split, their mean, and accuracy of single-label models, as aligned text; `-` for undefined.

    Where labels are unknown, the number of known ones is beside each AUROC.
    """
    findings = list(map(on_one_line, next(iter(scores.values())).findings))
    width = max(map(len, [*findings, "  95 % from"]))
    lines = [" " * width + "".join(f"{split:>9}" for split in scores)]
    has_unknown = any(one.has_unknown for one in scores.values())
    if has_unknown:
        lines[0] += "".join(f"{f'{split} known':>13}" for split in scores)
    for number, finding in enumerate(findings):
        known = "".join(f"{one.known_K[number]:>13,}" for one in scores.values()) if has_unknown else ""
        lines.append(f"{finding:<{width}}" + "".join(_cell(one.auroc_K[number]) for one in scores.values()) + known)
    lines.append(f"{'mean AUROC':<{width}}" + "".join(_cell(one.mean_auroc) for one in scores.values()))
    lines.extend(_accuracy_lines(scores, width))
    lines.append(f"{'images':<{width}}" + "".join(f"{one.images:>9,}" for one in scores.values()))
    return "\n".join(lines)


def _accuracy_lines(scores: Mapping[str, Scores], width: int) -> list[str]:
    accuracies = {split: one.accuracy for split, one in scores.items() if one.accuracy is not None}
    if not accuracies:
        return []
    rows = {
        "accuracy": [one["value"] for one in accuracies.values()],
        "  95 % from": [one["low"] for one in accuracies.values()],
        "  95 % to": [one["high"] for one in accuracies.values()],
    }
    lines = [f"{name:<{width}}" + "".join(map(_cell, values)) for name, values in rows.items()]
    return [*lines, f"{'correct':<{width}}" + "".join(f"{one['correct']:>9,}" for one in accuracies.values())]


def null_if_nan(value: float) -> float | None:
    """None, JSON's null, for nan."""
    return None if math.isnan(value) else value


def _cell(value: float | None) -> str:
    return f"{'-':>9}" if value is None or math.isnan(value) else f"{value:>9.4f}"
