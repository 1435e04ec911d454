"""Comparison of two models on the same images: difference, interval and p value.

Both are evaluated on the same resamples of patients, so that difficult resamples affect both. Shapes: B resamples, K findings.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from trainer.evaluation.bootstrap import mean_over_findings, percentiles
from trainer.evaluation.document import Comparison, Difference, interval, number
from trainer.evaluation.metrics import Floats, mean_defined


def compared(
    other: str, findings: Sequence[str], ours: tuple[Floats, Floats], theirs: tuple[Floats, Floats]
) -> Comparison:
    """AUROC differences (ours minus theirs) of each finding and the mean; each pair is the scores [K] and those on
    resamples [B, K].
    """
    (ours_K, ours_BK), (theirs_K, theirs_BK) = ours, theirs
    p_K = np.array([two_sided_p(difference_B) for difference_B in (ours_BK - theirs_BK).T])
    corrected_K = holm(p_K)
    rows = [
        _difference(name, (ours_K[k], ours_BK[:, k]), (theirs_K[k], theirs_BK[:, k]), p_K[k], corrected_K[k])
        for k, name in enumerate(findings)
    ]
    defined_K = ~np.isnan(ours_K) & ~np.isnan(theirs_K)
    ours_B, theirs_B = (mean_over_findings(values_BK, defined_K) for values_BK in (ours_BK, theirs_BK))
    means = [mean_defined(values_K[defined_K]) for values_K in (ours_K, theirs_K)]
    rows.append(
        _difference("mean", (means[0], ours_B), (means[1], theirs_B), two_sided_p(ours_B - theirs_B), float("nan"))
    )
    return Comparison(other=other, differences=rows)


def _difference(
    name: str, ours: tuple[float, Floats], theirs: tuple[float, Floats], p: float, p_holm: float
) -> Difference:
    low, high = percentiles(ours[1] - theirs[1])
    return Difference(
        name=name,
        ours=number(ours[0]),
        other=number(theirs[0]),
        difference=interval(ours[0] - theirs[0], float(low), float(high)),
        p=number(p),
        p_holm=number(p_holm),
    )


def two_sided_p(differences_B: Floats) -> float:
    """Two-sided p value: twice the smaller share of resamples on either side of 0; nan where at least half are undefined.

    Never 0: B resamples cannot show less than 2 / (B + 1). Source: Davison & Hinkley 1997, §4.2 and §5.4: the level at
    which the percentile interval just touches 0, counting the observed value as one of the draws.
    """
    defined = differences_B[~np.isnan(differences_B)]
    if 2 * len(defined) <= len(differences_B):
        return float("nan")
    smaller = min(int((defined <= 0).sum()), int((defined >= 0).sum()))
    return min(1.0, 2 * (smaller + 1) / (len(defined) + 1))


def holm(p_K: NDArray[np.float64]) -> Floats:
    """P values after Holm's correction for the number of defined tests; nan stays nan.

    Source: Holm 1979, step down: the smallest times K, the next times K - 1, never below the one before.
    """
    corrected_K = np.full(len(p_K), np.nan)
    order = [k for k in np.argsort(p_K, kind="stable").tolist() if not np.isnan(p_K[k])]
    highest = 0.0
    for rank, k in enumerate(order):
        highest = max(highest, min(1.0, float(p_K[k]) * (len(order) - rank)))
        corrected_K[k] = highest
    return corrected_K
