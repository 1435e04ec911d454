"""Scores of each finding, and their means.

Shapes: N images, K findings, X points of a curve.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from trainer.evaluation.bootstrap import GRID, mean_over_findings, percentiles, point_curves
from trainer.evaluation.calibration_measures import calibration_of
from trainer.evaluation.document import Curve, Finding, Interval, curve
from trainer.evaluation.intervals import auroc_intervals, resampled_interval
from trainer.evaluation.metrics import auprc_per_finding, auroc_per_finding, mean_defined
from trainer.evaluation.net_benefit import net_benefit
from trainer.evaluation.operating_points import operating_points
from trainer.evaluation.sample import Sample


@dataclass(frozen=True)
class FindingScores:
    """Scores of all findings."""

    findings: list[Finding]
    mean_auroc: Interval
    mean_auprc: Interval


def finding_scores(sample: Sample, prevalences: Mapping[str, float]) -> FindingScores:
    """`prevalences` are those that the user stated, by finding."""
    counts = sample.counts
    auroc_K, auprc_K = (score(sample.scores_NK, sample.labels_NK) for score in (auroc_per_finding, auprc_per_finding))
    aurocs, mean_auroc = auroc_intervals(auroc_K, sample.draws.auroc_BK, counts)
    auprcs = [
        resampled_interval(float(auprc_K[k]), sample.draws.auprc_BK[:, k], has_interval=count.are_enough)
        for k, count in enumerate(counts)
    ]
    mean_auprc = resampled_interval(
        mean_defined(auprc_K),
        mean_over_findings(sample.draws.auprc_BK, ~np.isnan(auprc_K)),
        has_interval=all(one["low"] is not None for one in auprcs if one["value"] is not None),
    )
    findings = [
        _finding(sample, k, aurocs[k], auprcs[k], prevalences.get(name)) for k, name in enumerate(sample.findings)
    ]
    return FindingScores(findings, mean_auroc, mean_auprc)


def _finding(sample: Sample, k: int, auroc: Interval, auprc: Interval, stated_prevalence: float | None) -> Finding:
    rows, too_few, count = sample.known[k], sample.too_few(k), sample.counts[k]
    labels_N, patients_N = sample.labels_NK[rows, k], sample.patients_N[rows]
    positives = int((labels_N > 0).sum())
    scales = [(sample.probability_NK, sample.log_odds_NK)]
    if sample.calibrated is not None:
        scales.append((sample.calibrated.probability_NK, sample.calibrated.log_odds_NK))
    measures = [
        calibration_of(
            probability_NK[rows, k], log_odds_NK[rows, k], labels_N, patients_N, has_intervals=too_few is None
        )
        for probability_NK, log_odds_NK in scales
    ]
    roc, pr = _curves(sample, k)
    return Finding(
        name=sample.findings[k],
        known=len(labels_N),
        positives=positives,
        prevalence=positives / len(labels_N) if len(labels_N) else 0.0,
        positive_patients=count.positive,
        negative_patients=count.negative,
        too_few=too_few,
        stated_prevalence=stated_prevalence,
        auroc=auroc,
        auprc=auprc,
        raw=measures[0],
        calibrated=measures[1] if len(measures) > 1 else None,
        operating_points=operating_points(sample, k, stated_prevalence),
        roc=roc,
        pr=pr,
        net_benefit=net_benefit(
            scales[-1][0][rows, k], labels_N, patients_N, sample.resamples, has_band=too_few is None
        ),
    )


def _curves(sample: Sample, k: int) -> tuple[Curve, Curve]:
    """ROC and precision-recall curve of a finding with their confidence bands."""
    assert sample.draws.roc_BKX is not None
    assert sample.draws.pr_BKX is not None
    rows = sample.known[k]
    roc_X, pr_X = point_curves(sample.scores_NK[rows, k], sample.labels_NK[rows, k])
    undefined_X = np.full(len(GRID), np.nan)
    bands = [(undefined_X, undefined_X)] * 2
    if sample.too_few(k) is None:
        bands = [percentiles(sample.draws.roc_BKX[:, k]), percentiles(sample.draws.pr_BKX[:, k])]
    roc, pr = (
        curve(GRID, value_X, low_X, high_X) for value_X, (low_X, high_X) in zip((roc_X, pr_X), bands, strict=True)
    )
    return roc, pr
