"""Types of the evaluation document `metrics.json`: a model's evaluation on one split.

`evaluate` writes it; report, model card and tables read it. An undefined number is None, JSON's null. Findings are the
14, or the classes of a data set in folders.
"""

import json
import math
from collections.abc import Iterable
from decimal import ROUND_HALF_UP, Decimal
from typing import Final, Literal, TypedDict

from trainer.errors import InputError
from trainer.formats.documents import LabelPolicy, checked, shown
from trainer.limits import LimitError, parsed_json

FORMAT: Final = 2

READ: Final = (1, FORMAT)
"""Formats that are read. Documents of format 1 lack the keys of format 2, and their thresholds are uncalibrated probabilities."""

FEWEST: Final = 5
"""Fewest patients with, and without, a finding for which a number gets an interval.

Resamples of fewer patients hardly differ, so that their interval would be too narrow, down to a single number.
"""

_AGAIN: Final = "run `trainer evaluate` again"


class Interval(TypedDict):
    """A number and its 95 % interval."""

    value: float | None
    low: float | None
    high: float | None


class Proportion(TypedDict):
    """A share of images, with Wilson's interval."""

    correct: int
    total: int
    value: float | None
    low: float | None
    high: float | None


class _BinLater(TypedDict, total=False):
    """Keys of format 2."""

    low: float | None
    high: float | None
    """Wilson's interval of the share of positives."""


class Bin(_BinLater):
    """One bin of a reliability plot."""

    predicted: float
    """Mean predicted probability."""
    observed: float
    """Share of positives."""
    count: int


class _CalibrationLater(TypedDict, total=False):
    """Keys of format 2."""

    width: float
    """Width of the bins: 1/15, or wider where there are fewer than 20 images for each bin."""
    slope: Interval
    """Slope of the log-odds of the finding over the predicted log-odds; 1 is perfect, below 1 means too extreme predictions."""
    intercept: Interval
    """Calibration in the large: intercept of the log-odds at a slope of 1; 0 is perfect, above 0 means too low predictions."""
    observed_expected: Interval
    """Number of positives divided by the sum of the probabilities; 1 is perfect."""


class Calibration(_CalibrationLater):
    """Calibration of probabilities."""

    ece: float | None
    """Expected calibration error, in bins of equal width."""
    brier: float | None
    bins: list[Bin]
    """Non-empty bins."""


class Counts(TypedDict):
    """Images by prediction and label."""

    true_positives: int
    false_positives: int
    false_negatives: int
    true_negatives: int


class _OperatingPointLater(TypedDict, total=False):
    """Keys of format 2."""

    counts: Counts
    stated_ppv: Interval
    stated_npv: Interval
    """At the prevalence that the user stated; absent without one."""


class OperatingPoint(_OperatingPointLater):
    """A threshold fixed on another split, and its results on this one."""

    threshold: float
    """Lowest probability that counts as positive, on the scale `Evaluation.scale`."""
    sensitivity: Interval
    specificity: Interval
    ppv: Interval
    npv: Interval
    f1: float | None


class Curve(TypedDict):
    """A curve over a grid, with its confidence band."""

    x: list[float]
    """ROC: false positive rate; precision-recall: recall."""
    y: list[float | None]
    low: list[float | None]
    high: list[float | None]


class _FindingLater(TypedDict, total=False):
    """Keys of format 2."""

    known: int
    """Images where its label is known, on which it is evaluated. Absent in earlier versions: all images."""
    positive_patients: int
    negative_patients: int
    """Patients with at least one image with, and without it; images, where patients are unknown."""
    too_few: str | None
    """Why its numbers have no intervals: fewer than five patients with it or without it."""
    stated_prevalence: float | None
    """Of the population for which predictive values were asked; None without."""
    net_benefit: Curve
    """Decision curve: net benefit over the threshold probability, of the calibrated probabilities if there are such."""


class Finding(_FindingLater):
    """Evaluation of one finding."""

    name: str
    positives: int
    prevalence: float
    """Share of positives among the known labels; 0 without any."""
    auroc: Interval
    auprc: Interval
    raw: Calibration
    """Of uncalibrated probabilities."""
    calibrated: Calibration | None
    """Of calibrated probabilities; None without calibration."""
    operating_points: dict[str, OperatingPoint]
    """By rule: `youden`, `best_f1`, `specificity_90`, `specificity_95`; empty without thresholds."""
    roc: Curve
    pr: Curve


class GroupFinding(TypedDict):
    """One finding in a subgroup, at the threshold of Youden's J, and its difference to all other images."""

    positive_patients: int | None
    negative_patients: int | None
    """Patients with at least one image with, and without it; None where the number of the subgroup's patients is not shown."""
    auroc_difference: Interval
    sensitivity: Interval
    sensitivity_difference: Interval
    """A subgroup with a lower sensitivity than others is underdiagnosed."""
    false_positive_rate: Interval
    false_positive_rate_difference: Interval


class _GroupLater(TypedDict, total=False):
    """Keys of format 2."""

    not_scored: str | None
    """Why the group is listed without numbers: too few patients; None where it is scored."""
    difference: Interval
    """Mean AUROC minus that of all other images, over the findings with an AUROC in both."""
    findings: dict[str, GroupFinding]
    """By finding; only those with enough patients in the group."""


class Group(_GroupLater):
    """Evaluation of one subgroup of images."""

    by: str
    """`sex`, `age` or `view`."""
    group: str
    images: int | None
    patients: int | None
    """Both None where they are not shown: see `cohort`."""
    mean_auroc: Interval
    auroc: dict[str, Interval]
    """By finding."""


class Classes(TypedDict):
    """Evaluation of a single-label model."""

    accuracy: Proportion
    positive: str
    """The class of which sensitivity and specificity are given."""
    sensitivity: Proportion
    specificity: Proportion
    """Share of the other classes' images that are not predicted as it."""
    recall: dict[str, Proportion]
    """By class."""
    majority_share: float
    """Accuracy of always predicting the most common class."""


class Difference(TypedDict):
    """Ours minus another model's on the same resamples."""

    name: str
    """A finding, or `mean`."""
    ours: float | None
    other: float | None
    difference: Interval
    p: float | None
    """Two-sided bootstrap p value."""
    p_holm: float | None
    """Corrected for the number of findings; None for the mean."""


class Comparison(TypedDict):
    """Two models on the same images."""

    other: str
    differences: list[Difference]


class MinedFinding(TypedDict):
    """Evaluation of a finding on text-mined labels, beside that on labels of readers."""

    name: str
    """A finding, or `mean`."""
    positives: int | None
    """None for the mean."""
    auroc: Interval
    difference: Interval
    """AUROC on the labels of readers minus this one, on the same resamples."""


class _OfClasses(TypedDict, total=False):
    """Keys of results published for two classes."""

    accuracy: float
    sensitivity: float
    """For pneumonia."""
    specificity: float


class Reference(_OfClasses):
    """A published result."""

    name: str
    split: str
    """`official`, `random`, `kaggle` or `other`, as `Data.split`."""
    comparable: bool
    """Whether it was measured on exactly the evaluated images."""
    auroc: dict[str, float]
    """By finding; empty where only the mean, or no AUROC, was published."""
    mean: float | None
    """Mean AUROC; None where none was published."""
    note: str
    source: str


class Shortcut(TypedDict):
    """How well a number unrelated to the lungs predicts the classes."""

    name: str
    """`pixel count` or `aspect ratio` of the original image."""
    auroc: dict[str, float | None]
    """By finding; values below 0.5 are inverted, so that 0.5 is the minimum."""


class CohortCell(TypedDict):
    """Images of one sex or view."""

    group: str
    """`F`, `M`, `PA` or `AP`."""
    images: int | None
    """None where it is not shown."""
    patients: int | None
    """None where it is not shown, and where patients are unknown."""
    fewer_than: int | None
    """Where it is not shown because it has fewer patients than this."""


class _CohortLater(TypedDict, total=False):
    """Keys missing in documents of earlier versions."""

    known: dict[str, int]
    """Images where the label of each finding is known. Absent in earlier versions: all images."""


class CohortPart(_CohortLater):
    """Images and patients of one split."""

    part: str
    """`train`, `val`, `test` or `all`."""
    images: int
    patients: int | None
    """None where the patient of an image is unknown."""
    images_of_unknown_patients: int
    images_per_patient_median: float | None
    images_per_patient_most: int | None
    positives: dict[str, int]
    """Images with each finding."""
    sex: list[CohortCell]
    """Empty where no image has one."""
    sex_unknown: int
    """Images."""
    age_median: float | None
    """Years, over images; None where unknown or not shown."""
    age_lower_quartile: float | None
    age_upper_quartile: float | None
    age_unknown: int
    """Images."""
    view: list[CohortCell]
    """Empty where no image has one."""
    view_unknown: int
    """Images."""
    smallest_shown: int | None
    """Least number of patients of a shown group; None for public data, of which all are shown."""


class _Kind(TypedDict, total=False):
    """Keys missing in documents of earlier versions."""

    drawn: bool
    """Whether the images are phantoms of `trainer synth`, not X-rays."""
    patients_known: bool
    """Whether the patient of every evaluated image is known; otherwise, images are resampled. Absent in earlier versions: known."""
    edition: str | None
    """Edition of ChestX-ray14's labels, with the file they are from; None for other labels."""


class Data(_Kind):
    """The evaluated data."""

    labels: str
    """File or data set of the labels; only its last name, as the document may be published."""
    part: str
    """The evaluated split: `train`, `val` or `test`; `all` for a file without splits."""
    split: str
    """Which division into splits: `official` (NIH's lists), `random` (the published 70/10/20 lists), `kaggle` (the test
    images of the pneumonia set), otherwise `other`."""
    images: int
    patients: int
    fitted_on: str | None
    """Images used to fit thresholds and calibration; None without."""
    trained_on_known: bool
    """Whether the model's training images are known."""
    trained_on_images: int | None
    """Number of evaluated images of patients in the training set; above 0 only when forced; None where unknown."""


class FindingMatch(TypedDict):
    """A finding under its names in model and data set."""

    name: str
    outputs: list[str]
    """Outputs of the model; of several, the highest log-odds are evaluated."""
    labels: list[str]
    """Labels of the data set; of several, an image has the finding if it has one of them."""


class ExternalTest(TypedDict):
    """A test on images that are not of the data set that the model was trained on."""

    trained_on: str
    """The data set of the model's run; only its last name."""
    matches: list[FindingMatch]
    """Evaluated findings."""
    outputs_without_labels: list[str]
    labels_without_outputs: list[str]


class _Later(TypedDict, total=False):
    """Keys missing in documents of earlier versions, and where they say nothing."""

    external: ExternalTest
    """Absent for images of the model's own data set, and where its training images are unknown."""
    label_policy: LabelPolicy
    """What was done to labels before they were evaluated."""

    scale: Literal["raw", "calibrated"]
    """Scale of the thresholds: uncalibrated or calibrated probabilities. Absent in format 1: uncalibrated."""

    mined: list[MinedFinding]
    """The same predictions on text-mined labels; empty unless the labels are those of readers."""
    cohort: list[CohortPart]
    """The splits of a run, or the evaluated one."""


def unit_of(data: Data) -> str:
    """What is resampled, and kept in one split: `patient`, or `image` where nothing tells patients apart."""
    return "patient" if data.get("patients_known", True) else "image"


def scale_of_thresholds(evaluation: "Evaluation") -> str:
    """The probabilities that thresholds apply to, in words."""
    when = "after" if evaluation.get("scale") == "calibrated" else "before"
    return f"probabilities {when} calibration"


def known_images(evaluation: "Evaluation", finding: Finding) -> int:
    """Images on which a finding is evaluated: those where its label is known."""
    return finding.get("known", evaluation["data"]["images"])


def shown_prevalence(evaluation: "Evaluation", finding: Finding) -> float | None:
    """Share of positives among the known labels; None without any."""
    return finding["prevalence"] if known_images(evaluation, finding) else None


def has_unknown(evaluation: "Evaluation") -> bool:
    """Whether a label of an evaluated image is unknown."""
    images = evaluation["data"]["images"]
    return any(known_images(evaluation, finding) < images for finding in evaluation["findings"])


def extent(data: Data) -> str:
    """How many images and patients are evaluated, in words."""
    if unit_of(data) == "image":
        return f"{data['images']:,} images, of patients that are not all known"
    return f"{data['images']:,} images of {data['patients']:,} patients"


class Evaluation(_Later):
    """The whole document."""

    format: int
    model: str
    """Source of the predictions: a run's name with its step, a checkpoint, or a file."""
    data: Data
    resamples: int
    """Bootstrap resamples of patients, or of images where patients are unknown."""
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
    """Caveats: unknown training data, absent classes, skipped images."""


def number(value: float) -> float | None:
    """None, JSON's null, for nan."""
    return None if math.isnan(value) else float(value)


def decimals(value: float, digits: int) -> str:
    """A number with this many decimals, rounded as its shortest form is written: .9175 becomes .918.

    The binary number may be a little below the decimal one, so that Python's own rounding gives .917.
    """
    step = Decimal(1).scaleb(-digits)
    return f"{Decimal(repr(float(value))).quantize(step, ROUND_HALF_UP):f}" if math.isfinite(value) else str(value)


def interval(value: float, low: float, high: float) -> Interval:
    """Value and interval, null where undefined; an undefined value has no interval."""
    if math.isnan(value):
        return Interval(value=None, low=None, high=None)
    return Interval(value=float(value), low=number(low), high=number(high))


def curve(x: Iterable[float], y: Iterable[float], low: Iterable[float], high: Iterable[float]) -> Curve:
    """A curve with six decimals, null where undefined."""
    values, lower, upper = ([number(round(value, 6)) for value in each] for each in (y, low, high))
    return Curve(x=[float(round(value, 6)) for value in x], y=values, low=lower, high=upper)


UNDEFINED: Final = Interval(value=None, low=None, high=None)


def to_json(evaluation: Evaluation) -> bytes:
    """Content of `metrics.json`."""
    return (json.dumps(evaluation, indent=1, allow_nan=False) + "\n").encode()


def from_json(content: bytes, origin: str) -> Evaluation:
    """Parse what `to_json` wrote; `origin` names the source in messages.

    Raises: InputError for anything else, also for another format.
    """
    try:
        document = parsed_json(content)
    except LimitError as problem:
        raise InputError(f"cannot read the evaluation: {problem}, got `{origin}`", hint=_AGAIN) from problem
    except ValueError as problem:
        raise InputError(f"cannot read the evaluation: it is not JSON, got `{origin}`", hint=_AGAIN) from problem
    if not isinstance(document, dict) or document.get("format") not in READ:
        written_format = shown(document.get("format")) if isinstance(document, dict) else None
        raise InputError(
            f"cannot read the evaluation: its format is {written_format}, this program reads {READ[0]} to {FORMAT}, got `{origin}`",
            hint=_AGAIN,
        )
    missing = Evaluation.__required_keys__ - document.keys()
    if missing:
        raise InputError(
            f"cannot read the evaluation: it lacks {', '.join(sorted(missing))}, got `{origin}`", hint=_AGAIN
        )
    try:
        evaluation: Evaluation = checked(document, Evaluation)
        _check_curves(evaluation)
    except ValueError as problem:
        raise InputError(f"cannot read the evaluation: {problem}, got `{origin}`", hint=_AGAIN) from problem
    return evaluation if evaluation["format"] == FORMAT else _withdrawn(evaluation)


def _withdrawn(evaluation: Evaluation) -> Evaluation:
    """A document of format 1 without intervals of too few images: they were narrow, down to a single number.

    Numbers of patients are not in it, but there are at most as many as images.
    """
    for finding in evaluation["findings"]:
        positives = finding["positives"]
        negatives = evaluation["data"]["images"] - positives
        fewer, which = min((positives, "with"), (negatives, "without"))
        if not 0 < fewer < FEWEST:
            continue
        finding["too_few"] = f"only {fewer} image{'s' * (fewer > 1)} {which} it"
        points = finding["operating_points"].values()
        shares = [point[key] for point in points for key in ("sensitivity", "specificity", "ppv", "npv")]
        means = [evaluation["mean_auroc"], evaluation["mean_auprc"]]
        for one in (finding["auroc"], finding["auprc"], *shares, *means):
            one["low"] = one["high"] = None
    return evaluation


def _check_curves(evaluation: Evaluation) -> None:
    for one in evaluation["findings"]:
        for curve in (one["roc"], one["pr"]):
            lengths = {len(curve["x"]), len(curve["y"]), len(curve["low"]), len(curve["high"])}
            if len(lengths) > 1:
                raise ValueError(
                    f"a curve of `{shown(one['name'])}` has {max(lengths)} points but {min(lengths)} values"
                )


def rows_of_classes(positive_class: str) -> str:
    """Of which class the rows of operating points are, in a sentence."""
    return f"Each row is of its own class, as if that were the positive one; the positive class is {positive_class}."


def mean_calibration(
    evaluation: Evaluation, which: Literal["raw", "calibrated"], key: Literal["ece", "brier"]
) -> float | None:
    """Mean over all findings; None where one is undefined, as a mean over the others would not be comparable."""
    calibrations = [one["raw"] if which == "raw" else one["calibrated"] for one in evaluation["findings"]]
    values = [calibration[key] for calibration in calibrations if calibration is not None]
    defined = [value for value in values if value is not None]
    return sum(defined) / len(defined) if defined and len(defined) == len(calibrations) else None
