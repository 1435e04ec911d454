"""Evaluation of predictions against labels; numpy only.

Thresholds and calibration are fitted elsewhere, on other images: the labels here do not influence them. Shapes: N
images, K findings.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from trainer.data.positive_class import default_positive_class
from trainer.evaluation import evaluation_notes
from trainer.evaluation.bootstrap import Resamples, auroc_resampled, resampled
from trainer.evaluation.calibration import Calibrated
from trainer.evaluation.class_scores import class_scores
from trainer.evaluation.cohort import hide_small
from trainer.evaluation.comparison import compared
from trainer.evaluation.document import (
    FORMAT,
    Classes,
    CohortPart,
    Comparison,
    Data,
    Evaluation,
    Reference,
    Shortcut,
    unit_of,
)
from trainer.evaluation.finding_scores import finding_scores
from trainer.evaluation.known_labels import binary
from trainer.evaluation.metadata import Metadata
from trainer.evaluation.metrics import Floats, auroc_per_finding, probability
from trainer.evaluation.mined import MinedLabels, mined_findings
from trainer.evaluation.reference import references
from trainer.evaluation.sample import Sample
from trainer.evaluation.score_checks import score_notes
from trainer.evaluation.subgroups import scored_group, subgroups

DRAWN: Final = "the images are synthetic phantoms, not X-rays: these numbers only show that the program works"


@dataclass(frozen=True, kw_only=True)
class EvaluationRequest:
    """Predictions and labels to evaluate, with their context."""

    model: str
    log_odds_NK: NDArray[np.floating]
    """Uncalibrated."""
    labels_NK: NDArray[np.floating]
    """NaN where unknown; each finding is evaluated on its known labels. A fraction counts as positive from 0.5 on."""
    patients_N: NDArray[np.integer]
    findings: Sequence[str]
    data: Data
    classes: bool
    """Whether an image has one class, with log-odds of the classes."""
    positive_class: str | None = None
    """Class of which sensitivity is reported; None to choose it by the names of the classes."""
    calibrated: Calibrated | None = None
    """Calibrated predictions of the same images, with thresholds."""
    prevalences: Mapping[str, float] = field(default_factory=dict)
    """By finding: prevalence of a population, for which predictive values are computed as well."""
    metadata: Metadata | None = None
    other: tuple[str, NDArray[np.floating]] | None = None
    """Name and log-odds of another model, or other scores with the same order; nan for findings that it does not predict."""
    mined: MinedLabels | None = None
    """Other labels of the same images, evaluated with the same predictions."""
    cohort: Sequence[CohortPart] = ()
    """Of the splits of the data set; small subgroups that it does not show have no numbers either."""
    images: Sequence[str] | None = None
    """Names of the images; with them, results do not depend on the order of rows."""
    shortcuts: Sequence[Shortcut] = ()
    notes: Sequence[str] = ()
    resamples: int = 1000
    seed: int = 0
    probabilities_NK: Floats | None = None
    """Given uncalibrated probabilities, if predictions were given as such: they rank the images."""


def evaluate(request: EvaluationRequest) -> Evaluation:
    """Evaluate predictions."""
    request = request if request.images is None else _in_name_order(request, request.images)
    sample = _sample(request)
    scores = finding_scores(sample, request.prevalences)
    metadata = request.metadata
    groups = [] if metadata is None else [scored_group(group, sample) for group in subgroups(metadata)]
    is_public = all(part["smallest_shown"] is None for part in request.cohort)
    hidden = [] if is_public else hide_small(groups)
    evaluation = Evaluation(
        format=FORMAT,
        model=request.model,
        data=request.data,
        resamples=request.resamples,
        seed=request.seed,
        mean_auroc=scores.mean_auroc,
        mean_auprc=scores.mean_auprc,
        findings=scores.findings,
        classes=_classes(request),
        subgroups=groups,
        comparison=None if request.other is None else _compared(request.other, sample),
        mined=[] if request.mined is None else mined_findings(request.mined, sample),
        references=_references(request),
        shortcuts=list(request.shortcuts),
        scale="raw" if sample.calibrated is None else "calibrated",
        notes=[
            *([DRAWN] if request.data.get("drawn") else ()),
            *request.notes,
            *(sample.calibrated.notes if sample.calibrated else ()),
            *score_notes(
                sample.findings, sample.scores_NK, sample.labels_NK, [one["auroc"] for one in scores.findings]
            ),
            *_not_compared(request),
            *evaluation_notes.labels(request.findings, request.labels_NK),
            *evaluation_notes.undefined(sample),
            *evaluation_notes.worse_calibrated(scores.findings),
            *evaluation_notes.unknown(metadata, len(request.labels_NK)),
            *evaluation_notes.partial(groups, scores.findings),
            *hidden,
        ],
    )
    if request.cohort:
        evaluation["cohort"] = list(request.cohort)
    return evaluation


def name_order(images: Sequence[str]) -> NDArray[np.intp]:
    """Rows in the order of their images' names."""
    return np.array(sorted(range(len(images)), key=images.__getitem__), np.intp)


def _in_name_order(request: EvaluationRequest, images: Sequence[str]) -> EvaluationRequest:
    """The request with rows by name, and patients numbered in this order: resamples then draw the same patients.

    NIH's table is in this order of patients.
    """
    order_N = name_order(images)
    patients_N = np.asarray(request.patients_N)[order_N]
    _, first_P, inverse_N = np.unique(patients_N, return_index=True, return_inverse=True)
    given_NK, other, mined, calibrated = request.probabilities_NK, request.other, request.mined, request.calibrated
    return replace(
        request,
        images=[images[row] for row in order_N.tolist()],
        log_odds_NK=request.log_odds_NK[order_N],
        labels_NK=request.labels_NK[order_N],
        patients_N=first_P.argsort().argsort()[inverse_N],
        probabilities_NK=None if given_NK is None else given_NK[order_N],
        calibrated=None if calibrated is None else calibrated.rows(order_N),
        metadata=None if request.metadata is None else request.metadata.rows(order_N),
        other=None if other is None else (other[0], other[1][order_N]),
        mined=None if mined is None else replace(mined, labels_NK=mined.labels_NK[order_N]),
    )


def _classes(request: EvaluationRequest) -> Classes | None:
    if not request.classes or not len(request.labels_NK):
        return None
    positive_class = request.positive_class or default_positive_class(request.findings)
    return class_scores(
        request.log_odds_NK, request.labels_NK, request.patients_N, tuple(request.findings), positive_class
    )


def _references(request: EvaluationRequest) -> list[Reference]:
    """Published results to compare with; phantoms have none."""
    data = request.data
    if data.get("drawn"):
        return []
    return references(tuple(request.findings), split=data["split"], part=data["part"], images=len(request.labels_NK))


def _sample(request: EvaluationRequest) -> Sample:
    members, patient_N = np.unique(request.patients_N, return_inverse=True)
    given_NK, labels_NK = request.probabilities_NK, binary(request.labels_NK)
    scores_NK = request.log_odds_NK if given_NK is None else given_NK
    draw = Resamples(max(1, len(members)), request.resamples, request.seed)
    patient_N = patient_N.astype(np.int64)
    return Sample(
        findings=tuple(request.findings),
        scores_NK=scores_NK,
        log_odds_NK=request.log_odds_NK,
        probability_NK=probability(request.log_odds_NK) if given_NK is None else given_NK,
        calibrated=request.calibrated,
        labels_NK=labels_NK,
        patients_N=patient_N,
        unit=unit_of(request.data),
        resamples=draw,
        draws=resampled(scores_NK, labels_NK, patient_N, draw, curves=True),
    )


def _compared(other: tuple[str, NDArray[np.floating]], sample: Sample) -> Comparison:
    """On the findings that both models predict."""
    name, scores_NK = other
    both = np.flatnonzero(~np.isnan(scores_NK).any(axis=0))
    theirs_NK, ours_NK, labels_NK = scores_NK[:, both], sample.scores_NK[:, both], sample.labels_NK[:, both]
    theirs_BK = auroc_resampled(theirs_NK, labels_NK, sample.patients_N, sample.resamples)
    return compared(
        name,
        [sample.findings[k] for k in both.tolist()],
        (auroc_per_finding(ours_NK, labels_NK), sample.draws.auroc_BK[:, both]),
        (auroc_per_finding(theirs_NK, labels_NK), theirs_BK),
        [sample.too_few(k) is None for k in both.tolist()],
    )


def _not_compared(request: EvaluationRequest) -> list[str]:
    """Findings that the other model does not predict."""
    if request.other is None:
        return []
    name, scores_NK = request.other
    missing = [each for k, each in enumerate(request.findings) if np.isnan(scores_NK[:, k]).any()]
    return [f"{name} has no predictions, so it is not compared: {', '.join(missing)}"] if missing else []
