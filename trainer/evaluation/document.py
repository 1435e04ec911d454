"""The document `metrics.json`: what is known of a model's predictions on one split, as types.

`evaluate` writes it, report, model card and tables read it. An undefined number is None, JSON's null.
Findings are the 14, or the classes of a data set in folders.
"""

import json
import math
from typing import Final, Literal, TypedDict

from trainer.errors import InputError
from trainer.formats.documents import checked, shown
from trainer.limits import LimitError, parsed_json

FORMAT: Final = 1

_AGAIN: Final = "`trainer evaluate` writes it anew"


class Interval(TypedDict):
    """A number and its 95 % interval."""

    value: float | None
    low: float | None
    high: float | None


class Bin(TypedDict):
    """One bin of a reliability plot."""

    predicted: float
    """Mean predicted probability."""
    observed: float
    """Share of positives."""
    count: int


class Calibration(TypedDict):
    """How far probabilities are from frequencies."""

    ece: float | None
    """Expected calibration error, 15 bins of equal width."""
    brier: float | None
    bins: list[Bin]
    """Without empty ones."""


class OperatingPoint(TypedDict):
    """A threshold fixed on another split, and what it does on this one."""

    threshold: float
    """Of the probability as predicted, before calibration: positive from here on."""
    sensitivity: Interval
    specificity: Interval
    ppv: Interval
    npv: Interval
    f1: float | None


class Curve(TypedDict):
    """One curve over a grid, with its band."""

    x: list[float]
    """ROC: false positive rate; precision-recall: recall."""
    y: list[float | None]
    low: list[float | None]
    high: list[float | None]


class Finding(TypedDict):
    """One finding on this split."""

    name: str
    positives: int
    prevalence: float
    auroc: Interval
    auprc: Interval
    raw: Calibration
    """Of the probabilities as predicted."""
    calibrated: Calibration | None
    """After what was fitted on val; None where nothing was."""
    operating_points: dict[str, OperatingPoint]
    """By rule: `youden`, `best_f1`, `specificity_90`, `specificity_95`; empty where none was fixed."""
    roc: Curve
    pr: Curve


class Group(TypedDict):
    """The images of one subgroup."""

    by: str
    """`sex`, `age` or `view`."""
    group: str
    images: int
    patients: int
    mean_auroc: Interval
    auroc: dict[str, Interval]
    """By finding."""


class Proportion(TypedDict):
    """A share of counted images, with Wilson's interval."""

    correct: int
    total: int
    value: float | None
    low: float | None
    high: float | None


class Classes(TypedDict):
    """Of a model that says one class for each image."""

    accuracy: Proportion
    positive: str
    """The class that sensitivity is about: the last by name."""
    sensitivity: Proportion
    specificity: Proportion
    """Images of all other classes not taken for it."""
    recall: dict[str, Proportion]
    """By class."""
    majority_share: float
    """Accuracy of always saying the most common class."""


class Difference(TypedDict):
    """Ours minus another model's on the same resamples."""

    name: str
    """A finding, or `mean`."""
    ours: float | None
    other: float | None
    difference: Interval
    p: float | None
    """Two-sided, by the bootstrap."""
    p_holm: float | None
    """Corrected for the number of findings; None for the mean."""


class Comparison(TypedDict):
    """Two models on the same images."""

    other: str
    differences: list[Difference]


class Reference(TypedDict):
    """Published AUROCs."""

    name: str
    split: str
    """`official` or `random`, as `Data.split`."""
    comparable: bool
    """Whether they were measured on the very images scored here."""
    auroc: dict[str, float]
    """By finding."""
    mean: float
    note: str
    source: str


class Shortcut(TypedDict):
    """How well a number that says nothing about the lungs tells the classes apart."""

    name: str
    """`pixel count` or `aspect ratio` of the original image."""
    auroc: dict[str, float | None]
    """By finding; 0.5 and below is turned around, so that 0.5 is the least."""


class _Kind(TypedDict, total=False):
    """What documents of before lack."""

    drawn: bool
    """Whether the images are phantoms of `trainer synth`, and no X-rays."""


class Data(_Kind):
    """What was scored."""

    labels: str
    """File or data set that the labels come from; its last name, for the document is passed on."""
    part: str
    """`train`, `val` or `test`; `all` for a file without parts."""
    split: str
    """`official` (NIH's lists), `random` (the published 70/10/20 lists), else `other`."""
    images: int
    patients: int
    fitted_on: str | None
    """What thresholds and calibration were fitted on; None without any."""
    trained_on_known: bool
    """Whether it is known which images the model was trained on."""
    trained_on_images: int | None
    """How many images here are of patients it was trained on; more than 0 only when forced; None where unknown."""


class Evaluation(TypedDict):
    """The whole document."""

    format: int
    model: str
    """Which predictions: a run's name with its step, a checkpoint, or a file."""
    data: Data
    resamples: int
    """Bootstrap resamples of patients."""
    seed: int
    mean_auroc: Interval
    mean_auprc: Interval
    findings: list[Finding]
    classes: Classes | None
    subgroups: list[Group]
    comparison: Comparison | None
    references: list[Reference]
    shortcuts: list[Shortcut]
    notes: list[str]
    """What a reader must know: training data unknown, classes absent, images left out."""


def number(value: float) -> float | None:
    """None, JSON's null, for nan."""
    return None if math.isnan(value) else float(value)


def interval(value: float, low: float, high: float) -> Interval:
    """The three, null where undefined; no interval around what is undefined."""
    if math.isnan(value):
        return Interval(value=None, low=None, high=None)
    return Interval(value=float(value), low=number(low), high=number(high))


def to_json(evaluation: Evaluation) -> bytes:
    """`metrics.json`."""
    return (json.dumps(evaluation, indent=1, allow_nan=False) + "\n").encode()


def from_json(content: bytes, origin: str) -> Evaluation:
    """What `to_json` wrote; `origin` says where it was read.

    Raises: InputError for what is no such document, or one of another format.
    """
    try:
        found = parsed_json(content)
    except LimitError as problem:
        raise InputError(f"cannot read the evaluation: {problem}, got `{origin}`", hint=_AGAIN) from problem
    except ValueError as problem:
        raise InputError(f"cannot read the evaluation: it is no JSON, got `{origin}`", hint=_AGAIN) from problem
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        told = shown(found.get("format")) if isinstance(found, dict) else None
        raise InputError(
            f"cannot read the evaluation: its format is {told}, this program's is {FORMAT}, got `{origin}`", hint=_AGAIN
        )
    missing = Evaluation.__annotations__.keys() - found.keys()
    if missing:
        raise InputError(
            f"cannot read the evaluation: it lacks {', '.join(sorted(missing))}, got `{origin}`", hint=_AGAIN
        )
    try:
        checked_evidence: Evaluation = checked(found, Evaluation)
        _check_curves(checked_evidence)
    except ValueError as problem:
        raise InputError(f"cannot read the evaluation: {problem}, got `{origin}`", hint=_AGAIN) from problem
    return checked_evidence


def _check_curves(evaluation: Evaluation) -> None:
    for one in evaluation["findings"]:
        for curve in (one["roc"], one["pr"]):
            lengths = {len(curve["x"]), len(curve["y"]), len(curve["low"]), len(curve["high"])}
            if len(lengths) > 1:
                raise ValueError(
                    f"a curve of `{shown(one['name'])}` has {max(lengths)} points, and {min(lengths)} values"
                )


def mean_calibration(
    evaluation: Evaluation, which: Literal["raw", "calibrated"], key: Literal["ece", "brier"]
) -> float | None:
    """Mean over all findings; None where one has no such number, for a mean over the others would be of something else."""
    parts = [one["raw"] if which == "raw" else one["calibrated"] for one in evaluation["findings"]]
    values = [part[key] for part in parts if part is not None]
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known and len(known) == len(parts) else None
