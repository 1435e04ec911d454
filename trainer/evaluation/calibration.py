"""Calibration of probabilities: a line through the log-odds of each finding, fitted on validation images.

A line with a positive slope keeps the order of images, so AUROC does not change. Shapes: N images, K findings.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from trainer.errors import InputError, on_one_line
from trainer.evaluation.known_labels import binary, known_rows
from trainer.evaluation.logistic import coefficients
from trainer.evaluation.metrics import Floats, class_log_odds, log_odds, probability
from trainer.evaluation.operating import RULES, thresholds
from trainer.limits import parsed_json

FORMAT: Final = 2

_RAW_THRESHOLDS: Final = 1
"""The earlier format, with thresholds of uncalibrated probabilities."""

_BELOW: Final = 1e-9
"""Relative amount by which the log-odds of a converted threshold are lowered, so that rounding does not exclude the image it came
from. Source: float32 logits differ by at least 6e-8 of their value.
"""

_SPACING: Final = 4e-16
"""Error of a float64 probability near 1."""

_PRIOR: Final = 1e-3
"""Weight of the prior slope of 1, in images: decisive where all log-odds are equal, negligible elsewhere."""


@dataclass(frozen=True)
class Calibrator:
    """Calibration and thresholds fitted on val, stored with the model as `model/calibration.json`."""

    findings: tuple[str, ...]
    slope_K: tuple[float, ...]
    intercept_K: tuple[float, ...]
    thresholds: dict[str, dict[str, float]]
    """By rule (`youden`, `best_f1`, `specificity_90`, `specificity_95`) and finding: lowest calibrated probability that counts
    as positive.
    """
    fitted_on: str
    """Split and number of images."""
    images_sha256: str
    """Hash of the names of the images used for fitting."""
    classes: bool = False
    """Whether an image has one class, with probabilities that sum to 1 and share one slope."""
    notes: tuple[str, ...] = ()
    """Findings that could not be fitted."""

    def apply(self, log_odds_NK: NDArray[np.floating]) -> Floats:
        """Calibrated log-odds.

        For classes, the slope is an inverse temperature: softmax of the log-probabilities times the slope, which for
        two classes equals the line.
        """
        raw_NK = log_odds_NK.astype(np.float64)
        if self.classes:
            return class_log_odds(-np.logaddexp(0.0, -raw_NK) * self.slope_K[0])
        line_NK: Floats = raw_NK * np.array(self.slope_K) + np.array(self.intercept_K)
        return line_NK


@dataclass(frozen=True, eq=False)
class Calibrated:
    """Calibrated predictions of some images, with thresholds on the same scale."""

    log_odds_NK: Floats
    probability_NK: Floats
    thresholds: Mapping[str, Mapping[str, float]]
    """By rule and finding, as `Calibrator.thresholds`."""
    fitted_on: str | None
    """Images used to fit calibration or thresholds; None where unknown."""
    notes: tuple[str, ...] = ()

    def rows(self, rows_N: NDArray[np.intp]) -> "Calibrated":
        """Those of some images."""
        return replace(self, log_odds_NK=self.log_odds_NK[rows_N], probability_NK=self.probability_NK[rows_N])


def calibrated(calibrator: Calibrator, log_odds_NK: NDArray[np.floating], findings: Sequence[str]) -> Calibrated:
    """Calibrated predictions from uncalibrated log-odds. Raises: InputError when the calibrator is for other findings."""
    if calibrator.findings != tuple(findings):
        raise InputError(
            f"cannot calibrate: the calibration was fitted for {', '.join(calibrator.findings)}, got predictions of {', '.join(findings)}",
            hint="use calibration and predictions of the same model",
        )
    line_NK = calibrator.apply(log_odds_NK)
    return Calibrated(
        line_NK, probability(line_NK), calibrator.thresholds, calibrator.fitted_on, notes=calibrator.notes
    )


def fit(
    log_odds_NK: NDArray[np.floating],
    labels_NK: NDArray[np.floating],
    findings: Sequence[str],
    images: Sequence[str],
    fitted_on: str,
    *,
    classes: bool = False,
) -> Calibrator:
    """Fit lines, and thresholds of the calibrated probabilities, on these images only; each finding on its known labels."""
    raw_NK, labels_NK = log_odds_NK.astype(np.float64), binary(labels_NK)
    notes: list[str] = []
    if classes:
        lines = [(_temperature(raw_NK, labels_NK, findings, notes), 0.0)] * len(findings)
    else:
        lines = [_platt(raw_NK[:, k], labels_NK[:, k], name, notes) for k, name in enumerate(findings)]
    line = Calibrator(
        findings=tuple(findings),
        slope_K=tuple(slope for slope, _ in lines),
        intercept_K=tuple(intercept for _, intercept in lines),
        thresholds={},
        fitted_on=fitted_on,
        images_sha256=names_sha256(images),
        classes=classes,
        notes=tuple(notes),
    )
    return replace(line, thresholds=thresholds_of(probability(line.apply(raw_NK)), labels_NK, findings))


def thresholds_of(
    probability_NK: Floats, labels_NK: NDArray[np.floating], findings: Sequence[str]
) -> dict[str, dict[str, float]]:
    """Thresholds by rule and finding, from its known labels; a finding without positives or negatives has none."""
    labels_NK = binary(labels_NK)
    rows = [known_rows(labels_N) for labels_N in labels_NK.T]
    chosen = {name: thresholds(probability_NK[rows[k], k], labels_NK[rows[k], k]) for k, name in enumerate(findings)}
    return {rule: {name: by_rule[rule] for name, by_rule in chosen.items() if rule in by_rule} for rule in RULES}


def for_findings(calibrator: Calibrator, findings: Sequence[str], origin: str = "the calibration") -> Calibrator:
    """The calibrator for these findings; those without predictions in `origin` have no thresholds and stay as they are."""
    if calibrator.findings == tuple(findings):
        return calibrator
    lines = dict(zip(calibrator.findings, zip(calibrator.slope_K, calibrator.intercept_K, strict=True), strict=True))
    missing = [name for name in findings if name not in lines]
    note = f"not calibrated and no thresholds, as {origin} has no predictions: {', '.join(missing)}"
    return replace(
        calibrator,
        findings=tuple(findings),
        slope_K=tuple(lines.get(name, (1.0, 0.0))[0] for name in findings),
        intercept_K=tuple(lines.get(name, (1.0, 0.0))[1] for name in findings),
        thresholds={
            rule: {name: value for name, value in by_finding.items() if name in findings}
            for rule, by_finding in calibrator.thresholds.items()
        },
        notes=(*calibrator.notes, *((note,) if missing else ())),
    )


def names_sha256(images: Sequence[str]) -> str:
    """Hash of a set of names, independent of order."""
    return hashlib.sha256("".join(f"{name}\n" for name in sorted(images)).encode()).hexdigest()


def _platt(log_odds_N: Floats, labels_N: NDArray[np.floating], name: str, notes: list[str]) -> tuple[float, float]:
    """Slope and intercept of maximum likelihood; unchanged log-odds when a class is absent.

    The targets are (P + 1) / (P + 2) for positives and 1 / (N + 2) for negatives, so that a few outliers do not make
    the line steep. A negative slope would reverse the order of images: then only the intercept is fitted. Source: Platt
    1999, "Probabilistic outputs for support vector machines", for targets and fit.
    """
    rows, has_unknown = known_rows(labels_N), bool(np.isnan(labels_N).any())
    log_odds_N, positive_N = log_odds_N[rows], labels_N[rows] > 0
    positives, negatives = int(positive_N.sum()), int((~positive_N).sum())
    if not (positives and negatives):
        why = f"validation has no image with{'out' * (not negatives)} it{' among its known labels' * has_unknown}"
        if not len(positive_N):
            why = "its label is unknown for all validation images"
        notes.append(f"{name}: not calibrated and no thresholds: {why}")
        return 1.0, 0.0
    target_N = np.where(positive_N, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    x_N2 = np.stack([log_odds_N, np.ones_like(log_odds_N)], axis=1)
    slope, intercept = coefficients(x_N2, target_N, 0 * log_odds_N, np.array([1.0, 0.0]), np.array([_PRIOR, 0.0]))
    if slope > 0:
        return float(slope), float(intercept)
    notes.append(f"{name}: validation images with it score lower than those without; only the intercept is fitted")
    (intercept,) = coefficients(x_N2[:, 1:], target_N, log_odds_N, np.zeros(1), np.zeros(1))
    return 1.0, float(intercept)


def _temperature(
    log_odds_NK: Floats, labels_NK: NDArray[np.floating], findings: Sequence[str], notes: list[str]
) -> float:
    """The slope of maximum likelihood of the true classes, the inverse temperature; 1 when a class is absent.

    The likelihood has one maximum: bisection finds the zero of its derivative. Targets are smoothed as Platt's. Source:
    Guo et al. 2017, "On calibration of modern neural networks", temperature scaling.
    """
    count_K = (labels_NK > 0).sum(axis=0)
    absent = [name for name, count in zip(findings, count_K.tolist(), strict=True) if not count]
    if absent:
        notes.append(f"not calibrated: validation has no image of {' and '.join(absent)}")
        return 1.0
    total_N1 = labels_NK @ count_K[:, None] + len(findings)
    target_NK = (1 + (labels_NK > 0) * (total_N1 - len(findings))) / total_N1
    log_p_NK = -np.logaddexp(0.0, -log_odds_NK)
    low, high = 1e-3, 1e3
    for _ in range(60):
        middle = float(np.sqrt(low * high))
        p_NK = probability(class_log_odds(middle * log_p_NK))
        rises = ((target_NK - p_NK) * log_p_NK).sum() + _PRIOR * (1 - middle) > 0
        low, high = (middle, high) if rises else (low, middle)
    return float(np.sqrt(low * high))


def to_bytes(calibrator: Calibrator) -> bytes:
    """Content of `model/calibration.json`."""
    return (json.dumps({"format": FORMAT, **asdict(calibrator)}, indent=2, allow_nan=False) + "\n").encode()


def from_bytes(content: bytes, origin: str = "calibration.json") -> Calibrator:
    """Parse what `to_bytes` wrote.

    Raises: InputError for anything else; `origin` names the source in messages.
    """
    try:
        return _parsed(parsed_json(content))
    except (ValueError, TypeError, KeyError, AttributeError) as problem:
        raise InputError(
            f"cannot read the calibration: {on_one_line(str(problem)[:200])}, got `{origin}`",
            hint="use calibration.json and model.safetensors from the same run",
        ) from problem


def _parsed(document: object) -> Calibrator:
    if not isinstance(document, Mapping) or document.get("format") not in {_RAW_THRESHOLDS, FORMAT}:
        raise ValueError(f"it is not a calibration of format {_RAW_THRESHOLDS} or {FORMAT}")
    unknown = set(document) - {"format", *Calibrator.__dataclass_fields__}
    if unknown:
        raise ValueError(f"unknown key `{min(unknown)}`")
    findings = _texts(document["findings"])
    if not isinstance(document["thresholds"], Mapping) or not all(
        isinstance(one, Mapping) for one in document["thresholds"].values()
    ):
        raise TypeError("thresholds must be by rule and finding")
    slopes, intercepts = (_numbers(document[key], len(findings)) for key in ("slope_K", "intercept_K"))
    if min(slopes, default=1.0) <= 0:
        raise ValueError("a slope must be above 0")
    read = Calibrator(
        findings=findings,
        slope_K=slopes,
        intercept_K=intercepts,
        thresholds={
            rule: _thresholds(by_finding, rule, findings) for rule, by_finding in document["thresholds"].items()
        },
        fitted_on=_text(document["fitted_on"]),
        images_sha256=_text(document["images_sha256"]),
        classes=document["classes"] is True,
        notes=_texts(document["notes"]),
    )
    return _converted(read) if document["format"] == _RAW_THRESHOLDS else read


def _converted(earlier: Calibrator) -> Calibrator:
    """The calibrator with thresholds of calibrated probabilities instead of uncalibrated ones."""
    if (
        earlier.classes and len(earlier.findings) > 2
    ):  # a probability after softmax depends on all classes, not on its own alone
        note = "no thresholds: those of an earlier version are of uncalibrated probabilities; evaluate the run again"
        return replace(earlier, thresholds={}, notes=(*earlier.notes, note))
    return replace(
        earlier,
        thresholds={
            rule: {name: _calibrated_threshold(earlier, name, value) for name, value in by_finding.items()}
            for rule, by_finding in earlier.thresholds.items()
        },
    )


def _calibrated_threshold(earlier: Calibrator, name: str, raw: float) -> float:
    if not 0 < raw < 1:
        return raw
    number = earlier.findings.index(name)
    value = float(log_odds(np.array(raw)))
    value -= _BELOW * (1 + abs(value)) + _SPACING / (1 - raw)
    return float(probability(np.array(value * earlier.slope_K[number] + earlier.intercept_K[number])))


def _thresholds(by_finding: Mapping[str, Any], rule: str, findings: Sequence[str]) -> dict[str, float]:
    if rule not in RULES or set(by_finding) - set(findings):
        raise ValueError(f"unknown rule or finding in `{rule}`")
    return dict(zip(by_finding, _numbers(list(by_finding.values()), len(by_finding)), strict=True))


def _numbers(values: object, count: int) -> tuple[float, ...]:
    if not isinstance(values, list) or len(values) != count:
        raise ValueError(f"there must be {count} numbers")
    if not all(
        isinstance(value, int | float) and not isinstance(value, bool) and np.isfinite(value) for value in values
    ):
        raise ValueError("a number is not finite")
    return tuple(map(float, values))


def _texts(values: object) -> tuple[str, ...]:
    if not isinstance(values, list):
        raise TypeError("it must be a list of texts")
    return tuple(map(_text, values))


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("it must be a text")
    return value
