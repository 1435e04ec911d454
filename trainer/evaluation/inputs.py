"""Predictions and labels of one split, the input of an evaluation; does not import torch.

Used for files of predictions and for models that are run here. Shapes: N images, K findings.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from trainer.data.finding_names import counterparts
from trainer.errors import InputError, listing
from trainer.evaluation.calibration import Calibrated, Calibrator, calibrated, fit, for_findings, thresholds_of
from trainer.evaluation.document import CohortPart, Data, Evaluation, ExternalTest, Shortcut
from trainer.evaluation.evaluate import EvaluationRequest, evaluate, name_order
from trainer.evaluation.known_labels import binary
from trainer.evaluation.metadata import Metadata
from trainer.evaluation.metrics import Floats
from trainer.evaluation.mined import MinedLabels
from trainer.evaluation.predictions import finite_log_odds
from trainer.evaluation.reference import OTHER, part_of_list, published_list
from trainer.formats.documents import LabelPolicy

UNKNOWN_TRAINING: Final = "the model's training images are unknown: patients evaluated here may be among them"


@dataclass(frozen=True, kw_only=True)
class SplitPredictions:
    """Predictions and labels of the images of one split."""

    images: tuple[str, ...]
    log_odds_NK: Floats
    """Uncalibrated."""
    labels_NK: NDArray[np.floating]
    patients_N: NDArray[np.int64]
    """Numbered over the whole data set, so that a patient has the same number in every split."""
    probabilities_NK: Floats | None = None
    """Given uncalibrated probabilities, if predictions were given as such."""
    calibrated_NK: Floats | None = None
    """Given calibrated probabilities."""
    findings: tuple[str, ...] | None = None
    """Findings of the columns, where they may be fewer than those evaluated."""
    patients_known: bool = True
    """Whether the patient of every image is known."""


@dataclass(frozen=True, kw_only=True)
class EvaluationInput:
    """A model's predictions with their context."""

    model: str
    """Name of the model in tables."""
    findings: tuple[str, ...]
    classes: bool
    """Whether an image has one class, with log-odds of the classes."""
    positive_class: str | None = None
    """As in `EvaluationRequest`."""
    scored: SplitPredictions
    part: str
    """The evaluated split: `train`, `val` or `test`, or `all` for a file without splits."""
    labels: str
    """Name of the labels' file or data set."""
    val: SplitPredictions | None = None
    """Split for fitting thresholds and calibration."""
    val_name: str = "val"
    calibrator: Calibrator | None = None
    """The calibration stored with the model, used without a split for fitting."""
    prevalences: Mapping[str, float] = field(default_factory=dict)
    """As in `EvaluationRequest`."""
    split: str | None = None
    """`official`, `random` or `other`, if known from the data set; otherwise determined by the evaluated images."""
    metadata: Metadata | None = None
    """Of the evaluated images."""
    drawn: bool = False
    """Whether the images are synthetic phantoms."""
    edition: str | None = None
    """Edition of ChestX-ray14's labels, if they are."""
    mined: MinedLabels | None = None
    """Text-mined labels of the evaluated images, evaluated beside those of readers."""
    trained_on_known: bool = False
    trained_on_images: int | None = None
    shortcuts: tuple[Shortcut, ...] = ()
    """Of the evaluated images."""
    cohort: CohortPart | None = None
    """The evaluated split."""
    external: ExternalTest | None = None
    label_policy: LabelPolicy = field(default_factory=LabelPolicy)
    """As in `Evaluation`."""
    notes: tuple[str, ...] = ()


def evaluated(
    inputs: EvaluationInput, *, other: tuple[str, Floats] | None = None, resamples: int = 1000, seed: int = 0
) -> Evaluation:
    """Evaluate, with thresholds and calibration fitted on val only. `other` as for `evaluate`.

    Raises: InputError when no finding can be evaluated, and when val shares patients with the evaluated images.
    """
    scored = inputs.scored
    _check_scorable(scored, inputs.labels)
    fitted = calibrated_predictions(inputs)
    published = published_list(scored.images) or (OTHER, inputs.part)
    part = published[1] if inputs.part == "all" else inputs.part
    data = Data(
        drawn=inputs.drawn,
        edition=inputs.edition,
        labels=inputs.labels,
        part=part,
        split=inputs.split or (published[0] if part == published[1] else OTHER),
        images=len(scored.images),
        patients=len(np.unique(scored.patients_N)),
        patients_known=scored.patients_known,
        fitted_on=None if fitted is None else fitted.fitted_on,
        trained_on_known=inputs.trained_on_known,
        trained_on_images=inputs.trained_on_images,
    )
    request = EvaluationRequest(
        model=inputs.model,
        images=scored.images,
        log_odds_NK=scored.log_odds_NK,
        probabilities_NK=scored.probabilities_NK,
        labels_NK=scored.labels_NK,
        patients_N=scored.patients_N,
        findings=inputs.findings,
        data=data,
        classes=inputs.classes,
        positive_class=inputs.positive_class,
        calibrated=fitted,
        prevalences=inputs.prevalences,
        metadata=inputs.metadata,
        other=other,
        mined=inputs.mined,
        shortcuts=inputs.shortcuts,
        cohort=() if inputs.cohort is None else (inputs.cohort,),
        notes=(*inputs.notes, *(() if inputs.drawn else part_of_list(scored.images))),
        resamples=resamples,
        seed=seed,
    )
    return with_context(evaluate(request), inputs.external, inputs.label_policy)


def with_context(evaluation: Evaluation, external: ExternalTest | None, label_policy: LabelPolicy) -> Evaluation:
    """The document with what is known of its images and labels."""
    if external is not None:
        evaluation["external"] = external
    if label_policy:
        evaluation["label_policy"] = label_policy
    return evaluation


def _check_scorable(scored: SplitPredictions, labels: str) -> None:
    labels_NK, total = binary(scored.labels_NK), len(scored.labels_NK)
    if not ((labels_NK == 1).any(axis=0) & (labels_NK == 0).any(axis=0)).any():
        raise InputError(
            "cannot evaluate: no finding has both positive and negative images, "
            f"got {total:,} image{'s' * (total != 1)} (from `{labels}`)",
            hint="AUROC is undefined with one class only; evaluate more images",
        )


def calibrated_predictions(inputs: EvaluationInput) -> Calibrated | None:
    """Calibrated predictions with thresholds: as given with both, else by the model's calibrator, else fitted on val.

    Raises: InputError when val shares patients with the evaluated images.
    """
    scored, val = inputs.scored, inputs.val
    if val is None and inputs.calibrator is not None:
        return calibrated(inputs.calibrator, scored.log_odds_NK, inputs.findings)
    if val is not None:
        _check_other_patients(inputs, val)
    if scored.calibrated_NK is None or (val is not None and val.calibrated_NK is None):
        return None if val is None else calibrated(_fitted(inputs, val), scored.log_odds_NK, inputs.findings)
    thresholds = {}
    if val is not None and val.calibrated_NK is not None:
        thresholds = thresholds_of(val.calibrated_NK, val.labels_NK, val.findings or inputs.findings)
    fitted_on = None if val is None else _extent(inputs, val)
    return Calibrated(finite_log_odds(scored.calibrated_NK), scored.calibrated_NK, thresholds, fitted_on)


def scores_of(first: EvaluationInput, inputs: EvaluationInput) -> tuple[str, Floats]:
    """Name and log-odds of the first model for the images and findings of the other; nan for findings that it does not predict.

    The first may have a finding under another name: models are trained on sets with different names.

    Raises: InputError where the first has no prediction of an image.
    """
    row_of = {name: row for row, name in enumerate(first.scored.images)}
    missing = [name for name in inputs.scored.images if name not in row_of]
    if missing:
        raise InputError(
            f"cannot compare {inputs.model} with {first.model}: {len(missing):,} images have no prediction of {first.model}{listing(missing)}",
            hint="evaluate both on the same images",
        )
    rows = [row_of[name] for name in inputs.scored.images]
    scores_NK = np.full((len(rows), len(inputs.findings)), np.nan)
    for name, of_first in counterparts(inputs.findings, first.findings).items():
        column = first.findings.index(of_first)
        scores_NK[:, inputs.findings.index(name)] = first.scored.log_odds_NK[rows, column]
    return first.model, scores_NK


def _extent(inputs: EvaluationInput, val: SplitPredictions) -> str:
    return f"{inputs.val_name}, {len(val.images):,} images"


def _check_other_patients(inputs: EvaluationInput, val: SplitPredictions) -> None:
    """Raises: InputError where val shares patients with the evaluated images."""
    shared_N = np.isin(val.patients_N, inputs.scored.patients_N)
    if shared_N.any():
        names = [val.images[row] for row in np.flatnonzero(shared_N).tolist()]
        raise InputError(
            f"cannot fit thresholds: patients of {len(names):,} of {len(val.images):,} images are also evaluated, "
            f"got `{inputs.val_name}`{listing(names)}",
            hint="thresholds and calibration must be fitted on images of other patients",
        )


def _fitted(inputs: EvaluationInput, val: SplitPredictions) -> Calibrator:
    findings = val.findings or inputs.findings
    if inputs.classes and set(findings) != set(inputs.findings):
        raise InputError(
            f"cannot calibrate: it needs the probabilities of all classes, got those of {', '.join(findings)} (from `{inputs.val_name}`)",
            hint=f"the classes are {', '.join(inputs.findings)}",
        )
    order_N = name_order(val.images)
    fitted = fit(
        val.log_odds_NK[order_N],
        val.labels_NK[order_N],
        findings,
        val.images,
        _extent(inputs, val),
        classes=inputs.classes,
    )
    return for_findings(fitted, inputs.findings, inputs.val_name)
