"""Scores of subgroups of patients by sex, age and view, and their differences to all others.

Shapes: N images, K findings, B resamples.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from trainer.evaluation.bootstrap import auroc_resampled, mean_over_findings
from trainer.evaluation.document import FEWEST, UNDEFINED, Group, GroupFinding, Interval
from trainer.evaluation.intervals import auroc_intervals, resampled_interval
from trainer.evaluation.metadata import Metadata
from trainer.evaluation.metrics import Floats, auroc_per_finding, mean_defined
from trainer.evaluation.proportions import Share, difference, share_of
from trainer.evaluation.sample import PatientCount, Sample, patient_count

AGE_BANDS: Final = (("under 18", 0, 18), ("under 40", 0, 40), ("40-60", 40, 61), ("over 60", 61, 1000))
"""Name, first year, and year after the last. Children are also counted in `under 40`, as in published tables."""

FEWEST_PATIENTS: Final = 20
"""Fewest patients of a subgroup that is scored."""

_RULE: Final = "youden"


@dataclass(frozen=True, eq=False)
class Subgroup:
    """Images of a subgroup, and of all others whose attribute is known."""

    by: str
    name: str
    inside_N: NDArray[np.bool_]
    others_N: NDArray[np.bool_]


def subgroups(metadata: Metadata) -> Iterator[Subgroup]:
    """Each subgroup with images. Images with an unknown attribute are in none, and a group of all images is left out."""
    sex_N, age_N, view_N = metadata.sex_N, metadata.age_N, metadata.view_N
    known = {"sex": sex_N != "", "age": ~np.isnan(age_N), "view": view_N != ""}
    everything = [("sex", sex, sex_N == sex) for sex in ("M", "F")]
    everything += [("age", name, (age_N >= first) & (age_N < end)) for name, first, end in AGE_BANDS]
    everything += [("view", view, view_N == view) for view in ("PA", "AP")]
    for by, name, inside_N in everything:
        if inside_N.any() and not inside_N.all():
            yield Subgroup(by, name, inside_N, known[by] & ~inside_N)


def scored_group(group: Subgroup, sample: Sample) -> Group:
    """Scores of a subgroup on the resamples of all patients; without numbers where it has too few patients.

    A finding is scored with at least five patients with, and without it; a difference also needs those among the others. Intervals of
    differences of rates take the patients of both as different ones: where a patient has images in both, as in PA and AP, they are
    too wide rather than too narrow.
    """
    images, patients = int(group.inside_N.sum()), len(np.unique(sample.patients_N[group.inside_N]))
    counts = [_count(sample, k, group.inside_N) for k in range(len(sample.findings))]
    why = _not_scored(patients, counts, sample.unit)
    if why is not None:
        return Group(
            by=group.by,
            group=group.name,
            images=images,
            patients=patients,
            mean_auroc=UNDEFINED,
            auroc=dict.fromkeys(sample.findings, UNDEFINED),
            not_scored=why,
            difference=UNDEFINED,
            findings={},
        )
    others = [_count(sample, k, group.others_N) for k in range(len(sample.findings))]
    aurocs = _aurocs(group, sample, counts, others)
    return Group(
        by=group.by,
        group=group.name,
        images=images,
        patients=patients,
        mean_auroc=aurocs.mean,
        auroc=dict(zip(sample.findings, aurocs.auroc, strict=True)),
        not_scored=None,
        difference=aurocs.mean_difference,
        findings={
            name: _finding(group, sample, k, counts[k], aurocs)
            for k, name in enumerate(sample.findings)
            if counts[k].are_enough
        },
    )


def _count(sample: Sample, k: int, of_N: NDArray[np.bool_]) -> PatientCount:
    return patient_count(sample.labels_NK[of_N, k], sample.patients_N[of_N])


def _not_scored(patients: int, counts: list[PatientCount], unit: str) -> str | None:
    if patients < FEWEST_PATIENTS:
        return f"only {patients} {unit}{'s' * (patients > 1)}, fewer than {FEWEST_PATIENTS}"
    if not any(count.are_enough for count in counts):
        return f"fewer than {FEWEST} {unit}s with, or without, each finding"
    return None


def _aurocs(
    group: Subgroup, sample: Sample, counts: Sequence[PatientCount], others: Sequence[PatientCount]
) -> "_Aurocs":
    is_scored_K = np.array([count.are_enough for count in counts])
    has_both_K = is_scored_K & np.array([count.are_enough for count in others])
    (inside_K, inside_BK), (others_K, others_BK) = (_auroc(sample, of_N) for of_N in (group.inside_N, group.others_N))
    inside_K = np.where(is_scored_K, inside_K, np.nan)
    difference_K, difference_BK = np.where(has_both_K, inside_K - others_K, np.nan), inside_BK - others_BK
    rows, mean = auroc_intervals(inside_K, inside_BK, counts)
    return _Aurocs(
        auroc=rows,
        difference=[resampled_interval(float(value), difference_BK[:, k]) for k, value in enumerate(difference_K)],
        mean=mean,
        mean_difference=resampled_interval(mean_defined(difference_K), mean_over_findings(difference_BK, has_both_K)),
        has_both_K=has_both_K,
    )


@dataclass(frozen=True, eq=False)
class _Aurocs:
    """AUROC of a subgroup, and its difference to that of all others, by finding and in the mean."""

    auroc: list[Interval]
    difference: list[Interval]
    mean: Interval
    mean_difference: Interval
    has_both_K: NDArray[np.bool_]
    """Whether there are enough patients in both."""


def _auroc(sample: Sample, of_N: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    scores_NK, labels_NK = sample.scores_NK[of_N], sample.labels_NK[of_N]
    resampled_BK = auroc_resampled(scores_NK, labels_NK, sample.patients_N[of_N], sample.resamples)
    return auroc_per_finding(scores_NK, labels_NK), resampled_BK


def _finding(group: Subgroup, sample: Sample, k: int, count: PatientCount, aurocs: _Aurocs) -> GroupFinding:
    ours, theirs = (_rates(sample, k, of_N) for of_N in (group.inside_N, group.others_N))
    differences = [UNDEFINED, UNDEFINED]
    if ours and theirs and aurocs.has_both_K[k]:
        differences = [difference(one, other) for one, other in zip(ours, theirs, strict=True)]
    shares = [one.as_interval() for one in ours] if ours else [UNDEFINED, UNDEFINED]
    return GroupFinding(
        positive_patients=count.positive,
        negative_patients=count.negative,
        auroc_difference=aurocs.difference[k],
        sensitivity=shares[0],
        sensitivity_difference=differences[0],
        false_positive_rate=shares[1],
        false_positive_rate_difference=differences[1],
    )


def _rates(sample: Sample, k: int, of_N: NDArray[np.bool_]) -> tuple[Share, Share] | None:
    """Sensitivity and false positive rate of these images at the threshold of Youden's J; None without one."""
    name, calibrated = sample.findings[k], sample.calibrated
    threshold = None if calibrated is None else calibrated.thresholds.get(_RULE, {}).get(name)
    if calibrated is None or threshold is None:
        return None
    labels_N, patients_N = sample.labels_NK[of_N, k], sample.patients_N[of_N]
    predicted_N = calibrated.probability_NK[of_N, k] >= threshold
    return (
        share_of(predicted_N[labels_N > 0], patients_N[labels_N > 0]),
        share_of(predicted_N[labels_N == 0], patients_N[labels_N == 0]),
    )
