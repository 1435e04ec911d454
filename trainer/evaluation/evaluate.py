"""Evaluation of predictions against labels; numpy only.

Thresholds and calibration are fitted elsewhere, on other images: the labels here do not influence them. Shapes: N
images, K findings, B resamples, X points of a curve.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from trainer.data.positive_class import default_positive_class
from trainer.errors import InputError
from trainer.evaluation import subgroups
from trainer.evaluation.bootstrap import (
    GRID,
    Resampled,
    Resamples,
    auroc_resampled,
    mean_over_findings,
    percentiles,
    point_curves,
    resampled,
    sums,
)
from trainer.evaluation.calibration import Calibrator
from trainer.evaluation.comparison import compared
from trainer.evaluation.document import (
    FORMAT,
    Bin,
    Calibration,
    Classes,
    Comparison,
    Curve,
    Data,
    Evaluation,
    Finding,
    Group,
    Interval,
    MinedFinding,
    OperatingPoint,
    Proportion,
    Reference,
    Shortcut,
    interval,
    number,
)
from trainer.evaluation.metadata import Metadata
from trainer.evaluation.metrics import (
    Floats,
    auprc_per_finding,
    auroc_per_finding,
    brier,
    confusion,
    mean_defined,
    probability,
    reliability,
    share,
    wilson,
)
from trainer.evaluation.operating import RULES
from trainer.evaluation.reference import references
from trainer.evaluation.score_checks import score_notes

DRAWN: Final = "the images are synthetic phantoms, not X-rays: these numbers only show that the program works"


@dataclass(frozen=True)
class MinedLabels:
    """Text-mined labels of images that readers have labelled too."""

    findings: tuple[str, ...]
    """Those of the evaluated findings that are text-mined as well."""
    labels_NK: NDArray[np.integer]


@dataclass(frozen=True)
class _Scored:
    """The images and their resamples."""

    findings: tuple[str, ...]
    scores_NK: NDArray[np.floating]
    """Scores by which images are ranked."""
    probability_NK: Floats
    labels_NK: NDArray[np.integer]
    patients_N: NDArray[np.int64]
    """Numbers from 0 without gaps."""
    resamples: Resamples
    draws: Resampled


@dataclass(frozen=True, kw_only=True)
class EvaluationRequest:
    """Predictions and labels to evaluate, with their context."""

    model: str
    log_odds_NK: NDArray[np.floating]
    labels_NK: NDArray[np.integer]
    patients_N: NDArray[np.integer]
    findings: Sequence[str]
    data: Data
    classes: bool
    """Whether an image has one class, with log-odds of the classes."""
    positive_class: str | None = None
    """Class of which sensitivity is reported; None to choose it by the names of the classes."""
    calibrator: Calibrator | None = None
    metadata: Metadata | None = None
    other: tuple[str, NDArray[np.floating]] | None = None
    """Name and log-odds of another model, or other scores with the same order; nan for findings that it does not predict."""
    mined: MinedLabels | None = None
    """Other labels of the same images, evaluated with the same predictions."""
    images: Sequence[str] | None = None
    """Names of the images; with them, results do not depend on the order of rows."""
    shortcuts: Sequence[Shortcut] = ()
    notes: Sequence[str] = ()
    resamples: int = 1000
    seed: int = 0
    probabilities_NK: Floats | None = None
    """Given probabilities, if predictions were given as such: they rank the images and are compared with thresholds,
    while log-odds are calibrated."""


def evaluate(request: EvaluationRequest) -> Evaluation:
    """Evaluate predictions. Raises: InputError when the calibrator is for other findings."""
    request = request if request.images is None else _in_name_order(request, request.images)
    calibrator = request.calibrator
    _check(calibrator, request.findings)
    drawn = _scored(request)
    calibrated_NK = None if calibrator is None else probability(calibrator.apply(request.log_odds_NK))
    auroc_K, auprc_K = (score(drawn.scores_NK, drawn.labels_NK) for score in (auroc_per_finding, auprc_per_finding))
    groups = _groups(drawn, request.metadata)
    findings = _findings(drawn, auroc_K, auprc_K, calibrated_NK, calibrator)
    return Evaluation(
        format=FORMAT,
        model=request.model,
        data=request.data,
        resamples=request.resamples,
        seed=request.seed,
        mean_auroc=_mean(auroc_K, drawn.draws.auroc_BK),
        mean_auprc=_mean(auprc_K, drawn.draws.auprc_BK),
        findings=findings,
        classes=_classes(request),
        subgroups=groups,
        comparison=None if request.other is None else _compared(request.other, drawn, auroc_K),
        mined=[] if request.mined is None else _mined(request.mined, drawn, auroc_K),
        references=_references(request),
        shortcuts=list(request.shortcuts),
        notes=[
            *([DRAWN] if request.data.get("drawn") else ()),
            *request.notes,
            *(calibrator.notes if calibrator else ()),
            *score_notes(drawn.findings, drawn.scores_NK, drawn.labels_NK, [one["auroc"] for one in findings]),
            *_not_compared(request),
            *_undefined(drawn),
            *_unknown(request.metadata, len(request.labels_NK)),
            *_partial(groups, auroc_K, drawn.findings),
        ],
    )


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
    given_NK, other, mined = request.probabilities_NK, request.other, request.mined
    return replace(
        request,
        images=[images[row] for row in order_N.tolist()],
        log_odds_NK=request.log_odds_NK[order_N],
        labels_NK=request.labels_NK[order_N],
        patients_N=first_P.argsort().argsort()[inverse_N],
        probabilities_NK=None if given_NK is None else given_NK[order_N],
        metadata=None if request.metadata is None else request.metadata.rows(order_N),
        other=None if other is None else (other[0], other[1][order_N]),
        mined=None if mined is None else replace(mined, labels_NK=mined.labels_NK[order_N]),
    )


def _classes(request: EvaluationRequest) -> Classes | None:
    if not request.classes or not len(request.labels_NK):
        return None
    positive_class = request.positive_class or default_positive_class(request.findings)
    return classes_of(request.log_odds_NK, request.labels_NK, tuple(request.findings), positive_class)


def _references(request: EvaluationRequest) -> list[Reference]:
    """Published results to compare with; phantoms have none."""
    data = request.data
    if data.get("drawn"):
        return []
    return references(tuple(request.findings), split=data["split"], part=data["part"], images=len(request.labels_NK))


def _check(calibrator: Calibrator | None, findings: Sequence[str]) -> None:
    if calibrator is not None and calibrator.findings != tuple(findings):
        raise InputError(
            f"cannot calibrate: the calibration was fitted for {', '.join(calibrator.findings)}, got predictions of {', '.join(findings)}",
            hint="use calibration and predictions of the same model",
        )


def _scored(request: EvaluationRequest) -> _Scored:
    members, patient_N = np.unique(request.patients_N, return_inverse=True)
    given_NK = request.probabilities_NK
    scores_NK = request.log_odds_NK if given_NK is None else given_NK
    draw = Resamples(max(1, len(members)), request.resamples, request.seed)
    patient_N = patient_N.astype(np.int64)
    return _Scored(
        findings=tuple(request.findings),
        scores_NK=scores_NK,
        probability_NK=probability(request.log_odds_NK) if given_NK is None else given_NK,
        labels_NK=request.labels_NK,
        patients_N=patient_N,
        resamples=draw,
        draws=resampled(scores_NK, request.labels_NK, patient_N, draw, curves=True),
    )


def _mean(value_K: Floats, value_BK: Floats) -> Interval:
    low, high = percentiles(mean_over_findings(value_BK, ~np.isnan(value_K)))
    return interval(mean_defined(value_K), float(low), float(high))


def _findings(
    drawn: _Scored, auroc_K: Floats, auprc_K: Floats, calibrated_NK: Floats | None, calibrator: Calibrator | None
) -> list[Finding]:
    bounds = [percentiles(values_BK) for values_BK in (drawn.draws.auroc_BK, drawn.draws.auprc_BK)]
    points = _operating_points(drawn, calibrator)
    rows = []
    for k, name in enumerate(drawn.findings):
        labels_N = drawn.labels_NK[:, k]
        positives = int((labels_N > 0).sum())
        roc, pr = _curves(drawn, k)
        auroc, auprc = (
            interval(float(value_K[k]), float(low_K[k]), float(high_K[k]))
            for value_K, (low_K, high_K) in zip((auroc_K, auprc_K), bounds, strict=True)
        )
        rows.append(
            Finding(
                name=name,
                positives=positives,
                prevalence=positives / len(labels_N) if len(labels_N) else 0.0,
                auroc=auroc,
                auprc=auprc,
                raw=_calibration(drawn.probability_NK[:, k], labels_N),
                calibrated=None if calibrated_NK is None else _calibration(calibrated_NK[:, k], labels_N),
                operating_points=points[name],
                roc=roc,
                pr=pr,
            )
        )
    return rows


def _calibration(probability_N: Floats, labels_N: NDArray[np.integer]) -> Calibration:
    bins = reliability(probability_N, labels_N)
    rows = zip(bins.predicted.tolist(), bins.observed.tolist(), bins.count.tolist(), strict=True)
    return Calibration(
        ece=number(bins.ece),
        brier=number(brier(probability_N, labels_N)),
        bins=[Bin(predicted=predicted, observed=observed, count=count) for predicted, observed, count in rows],
    )


def _curves(drawn: _Scored, k: int) -> tuple[Curve, Curve]:
    """ROC and precision-recall curve of a finding with their confidence bands."""
    assert drawn.draws.roc_BKX is not None
    assert drawn.draws.pr_BKX is not None
    roc_X, pr_X = point_curves(drawn.scores_NK[:, k], drawn.labels_NK[:, k])
    bands = (percentiles(drawn.draws.roc_BKX[:, k]), percentiles(drawn.draws.pr_BKX[:, k]))
    roc, pr = (
        Curve(x=_plain(GRID), y=_points(value_X), low=_points(low_X), high=_points(high_X))
        for value_X, (low_X, high_X) in zip((roc_X, pr_X), bands, strict=True)
    )
    return roc, pr


def _plain(values_X: Floats) -> list[float]:
    return [round(value, 6) for value in values_X.tolist()]


def _points(values_X: Floats) -> list[float | None]:
    return [number(round(value, 6)) for value in values_X.tolist()]


def _operating_points(drawn: _Scored, calibrator: Calibrator | None) -> dict[str, dict[str, OperatingPoint]]:
    """Results of the thresholds fixed elsewhere, by finding and rule."""
    points: dict[str, dict[str, OperatingPoint]] = {name: {} for name in drawn.findings}
    fixed = {} if calibrator is None else calibrator.thresholds
    points_M = [
        (k, name, rule, fixed[rule][name])
        for k, name in enumerate(drawn.findings)
        for rule in RULES
        if name in fixed.get(rule, {})
    ]
    if not points_M:
        return points
    positive_NM = np.stack([drawn.labels_NK[:, k] > 0 for k, _, _, _ in points_M], axis=1)
    predicted_NM = np.stack([drawn.probability_NK[:, k] >= threshold for k, _, _, threshold in points_M], axis=1)
    counts = [
        sums(values_NM, drawn.patients_N, drawn.resamples)
        for values_NM in (
            predicted_NM & positive_NM,
            predicted_NM & ~positive_NM,
            ~predicted_NM & positive_NM,
            ~(predicted_NM | positive_NM),
        )
    ]
    for m, (k, name, rule, threshold) in enumerate(points_M):
        points[name][rule] = _operating_point(drawn, k, threshold, [count_BM[:, m] for count_BM in counts])
    return points


def _operating_point(drawn: _Scored, k: int, threshold: float, counts: Sequence[Floats]) -> OperatingPoint:
    """Results of one threshold; `counts` are true positives, false positives, false negatives and true negatives of
    each resample.
    """
    tp_B, fp_B, fn_B, tn_B = counts
    point = confusion(drawn.probability_NK[:, k], drawn.labels_NK[:, k], threshold)

    def shares(value: float, part_B: Floats, rest_B: Floats) -> Interval:
        total_B = part_B + rest_B
        low, high = percentiles(np.divide(part_B, total_B, out=np.full(len(total_B), np.nan), where=total_B > 0))
        return interval(value, float(low), float(high))

    return OperatingPoint(
        threshold=threshold,
        sensitivity=shares(point.sensitivity, tp_B, fn_B),
        specificity=shares(point.specificity, tn_B, fp_B),
        ppv=shares(point.ppv, tp_B, fp_B),
        npv=shares(point.npv, tn_B, fn_B),
        f1=number(point.f1),
    )


def classes_of(
    log_odds_NK: NDArray[np.floating], labels_NK: NDArray[np.integer], findings: tuple[str, ...], positive_class: str
) -> Classes:
    """Scores of the most probable class of each image. Needs at least one image."""
    predicted_N, true_N = log_odds_NK.argmax(axis=1), labels_NK.argmax(axis=1)
    positive = findings.index(positive_class)
    recall = {name: _proportion(predicted_N[true_N == k] == k) for k, name in enumerate(findings)}
    return Classes(
        accuracy=_proportion(predicted_N == true_N),
        positive=positive_class,
        sensitivity=recall[positive_class],
        specificity=_proportion(predicted_N[true_N != positive] != positive),
        recall=recall,
        majority_share=float(np.bincount(true_N).max() / len(true_N)),
    )


def _proportion(right_N: NDArray[np.bool_]) -> Proportion:
    correct, total = int(right_N.sum()), len(right_N)
    low, high = wilson(correct, total)
    return Proportion(
        correct=correct, total=total, value=number(share(correct, total)), low=number(low), high=number(high)
    )


def _groups(drawn: _Scored, metadata: Metadata | None) -> list[Group]:
    if metadata is None:
        return []
    return [
        subgroups.subgroup(
            by,
            group,
            findings=drawn.findings,
            scores_NK=drawn.scores_NK[inside_N],
            labels_NK=drawn.labels_NK[inside_N],
            patients_N=drawn.patients_N[inside_N],
            resamples=drawn.resamples,
        )
        for by, group, inside_N in subgroups.groups(metadata)
    ]


def _compared(other: tuple[str, NDArray[np.floating]], drawn: _Scored, auroc_K: Floats) -> Comparison:
    """On the findings that both models predict."""
    name, scores_NK = other
    both = np.flatnonzero(~np.isnan(scores_NK).any(axis=0))
    scores_NK, labels_NK = scores_NK[:, both], drawn.labels_NK[:, both]
    theirs_BK = auroc_resampled(scores_NK, labels_NK, drawn.patients_N, drawn.resamples)
    return compared(
        name,
        [drawn.findings[k] for k in both.tolist()],
        (auroc_K[both], drawn.draws.auroc_BK[:, both]),
        (auroc_per_finding(scores_NK, labels_NK), theirs_BK),
    )


def _not_compared(request: EvaluationRequest) -> list[str]:
    """Findings that the other model does not predict."""
    if request.other is None:
        return []
    name, scores_NK = request.other
    missing = [each for k, each in enumerate(request.findings) if np.isnan(scores_NK[:, k]).any()]
    return [f"{name} has no predictions, so it is not compared: {', '.join(missing)}"] if missing else []


def _mined(mined: MinedLabels, drawn: _Scored, auroc_K: Floats) -> list[MinedFinding]:
    """AUROC of the same predictions on the text-mined labels, on the same resamples."""
    columns = [drawn.findings.index(name) for name in mined.findings]
    scores_NK = drawn.scores_NK[:, columns]
    mined_K, ours_K = auroc_per_finding(scores_NK, mined.labels_NK), auroc_K[columns]
    mined_BK = auroc_resampled(scores_NK, mined.labels_NK, drawn.patients_N, drawn.resamples)
    differences_BK = drawn.draws.auroc_BK[:, columns] - mined_BK
    positive_K = (mined.labels_NK > 0).sum(axis=0).tolist()
    rows = []
    for k, name in enumerate(mined.findings):
        low, high = percentiles(mined_BK[:, k])
        auroc = interval(float(mined_K[k]), float(low), float(high))
        low, high = percentiles(differences_BK[:, k])
        difference = interval(float(ours_K[k] - mined_K[k]), float(low), float(high))
        rows.append(MinedFinding(name=name, positives=positive_K[k], auroc=auroc, difference=difference))
    both_K = ~np.isnan(ours_K) & ~np.isnan(mined_K)
    means = (
        _mean(np.where(both_K, values_K, np.nan), values_BK)
        for values_K, values_BK in ((mined_K, mined_BK), (ours_K - mined_K, differences_BK))
    )
    auroc, difference = means
    return [*rows, MinedFinding(name="mean", positives=None, auroc=auroc, difference=difference)]


def _undefined(drawn: _Scored) -> list[str]:
    """Findings without a score, resamples without a score for a finding, and intervals that are too narrow."""
    if drawn.resamples.patients < 2:
        return ["no intervals: all images are of one patient", *_absent(drawn)]
    notes = _absent(drawn)
    is_positive_NK = drawn.labels_NK > 0
    defined_K = np.asarray(is_positive_NK.any(axis=0) & ~is_positive_NK.all(axis=0))
    for k, name in enumerate(drawn.findings):
        lost = int(np.isnan(drawn.draws.auroc_BK[:, k]).sum())
        if defined_K[k] and lost:
            notes.append(
                f"{name}: {lost:,} of {drawn.resamples.count:,} resamples skipped, without positives or without negatives"
            )
    lost = int(np.isnan(mean_over_findings(drawn.draws.auroc_BK, defined_K)).sum())
    if lost and defined_K.sum() > 1:
        notes.append(f"mean: {lost:,} of {drawn.resamples.count:,} resamples skipped, in which a finding was skipped")
    alone = [
        name for k, name in enumerate(drawn.findings) if len(np.unique(drawn.patients_N[is_positive_NK[:, k]])) == 1
    ]
    if alone:
        notes.append(f"positive images of one patient only, so the interval is too narrow: {', '.join(alone)}")
    return notes


def _absent(drawn: _Scored) -> list[str]:
    """Findings without a score."""
    total = len(drawn.labels_NK)
    count_K = (drawn.labels_NK > 0).sum(axis=0).tolist()
    return [
        f"{name}: not evaluated: {'every' if count else 'no'} image here has it"
        for name, count in zip(drawn.findings, count_K, strict=True)
        if count in {0, total}
    ]


def _unknown(metadata: Metadata | None, images: int) -> list[str]:
    if metadata is None:
        return []
    counts = {
        "sex": int((metadata.sex_N == "").sum()),
        "age": int(np.isnan(metadata.age_N).sum()),
        "view": int((metadata.view_N == "").sum()),
    }
    unknown = [
        f"{what} unknown for {count:,} of {images:,} images, which are in no group by {what}"
        for what, count in counts.items()
        if 0 < count < images
    ]
    return [*metadata.notes, *unknown]


def _partial(groups: Sequence[Group], auroc_K: Floats, findings: Sequence[str]) -> list[str]:
    """Groups whose mean lacks findings, or whose images are also in another group."""
    notes = []
    if {"under 18", "under 40"} <= {group["group"] for group in groups}:
        notes.append("age under 18 is also in the group under 40")
    for group in groups:
        absent = [
            name
            for k, name in enumerate(findings)
            if not np.isnan(auroc_K[k]) and group["auroc"][name]["value"] is None
        ]
        if absent:
            notes.append(
                f"mean of {group['by']} {group['group']}: without {', '.join(absent)}, for which it has too few images"
            )
    return notes
