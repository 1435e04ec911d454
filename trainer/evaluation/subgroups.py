"""Scores of subgroups of patients: by sex, age and view.

Shapes: N images, K findings, B resamples.
"""

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from trainer.evaluation.bootstrap import Resamples, auroc_resampled, mean_over_findings, percentiles
from trainer.evaluation.document import Group, interval
from trainer.evaluation.metadata import Metadata
from trainer.evaluation.metrics import auroc_per_finding, mean_defined

AGE_BANDS: Final = (("under 18", 0, 18), ("under 40", 0, 40), ("40-60", 40, 61), ("over 60", 61, 1000))
"""Name, first year, and year after the last. Children are also counted in `under 40`, as in published tables."""


def groups(metadata: Metadata) -> Iterator[tuple[str, str, NDArray[np.bool_]]]:
    """Attribute, group and image mask of each non-empty group.

    Images with an unknown attribute are in no group. A group of all images is left out.
    """
    everything = [("sex", sex, metadata.sex_N == sex) for sex in ("M", "F")]
    everything += [("age", name, (metadata.age_N >= first) & (metadata.age_N < end)) for name, first, end in AGE_BANDS]
    everything += [("view", view, metadata.view_N == view) for view in ("PA", "AP")]
    for by, group, inside_N in everything:
        if inside_N.any() and not inside_N.all():
            yield by, group, inside_N


def subgroup(
    by: str,
    group: str,
    *,
    findings: Sequence[str],
    scores_NK: NDArray[np.floating],
    labels_NK: NDArray[np.integer],
    patients_N: NDArray[np.int64],
    resamples: Resamples,
) -> Group:
    """Scores of the given images of one group, on the resamples of all patients."""
    auroc_K = auroc_per_finding(scores_NK, labels_NK)
    patients = len(np.unique(patients_N))
    auroc_BK = auroc_resampled(scores_NK, labels_NK, patients_N, resamples)
    if patients < 2:  # all draws of one patient are equal
        auroc_BK = np.full_like(auroc_BK, np.nan)
    low_K, high_K = percentiles(auroc_BK)
    low, high = percentiles(mean_over_findings(auroc_BK, ~np.isnan(auroc_K)))
    return Group(
        by=by,
        group=group,
        images=len(labels_NK),
        patients=patients,
        mean_auroc=interval(mean_defined(auroc_K), float(low), float(high)),
        auroc={name: interval(float(auroc_K[k]), float(low_K[k]), float(high_K[k])) for k, name in enumerate(findings)},
    )
