"""Comparison of two models on the same images: difference, interval and p value.

Both are evaluated on the same resamples of patients, so that difficult resamples affect both. Shapes: B resamples, K findings.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from trainer.evaluation.bootstrap import mean_over_findings
from trainer.evaluation.document import Comparison, Difference, number
from trainer.evaluation.intervals import difference_interval
from trainer.evaluation.metrics import Floats, mean_defined


def compared(
    other: str,
    findings: Sequence[str],
    ours: tuple[Floats, Floats],
    theirs: tuple[Floats, Floats],
    enough_K: Sequence[bool],
) -> Comparison:
    """AUROC differences (ours minus theirs) of each finding and the mean; each pair is the scores [K] and those on
    resamples [B, K]. Without an interval and p value where there are not enough patients.
    """
    (ours_K, ours_BK), (theirs_K, theirs_BK) = ours, theirs
    is_enough_K = np.array(enough_K, np.bool_)
    p_K = np.array([two_sided_p(difference_B) for difference_B in (ours_BK - theirs_BK).T])
    p_K = np.where(is_enough_K, p_K, np.nan)
    corrected_K = holm(p_K)
    rows = [
        _difference(
            name,
            (ours_K[k], theirs_K[k]),
            ours_BK[:, k] - theirs_BK[:, k],
            (p_K[k], corrected_K[k]),
            has_interval=enough,
        )
        for k, (name, enough) in enumerate(zip(findings, enough_K, strict=True))
    ]
    defined_K = ~np.isnan(ours_K) & ~np.isnan(theirs_K)
    ours_B, theirs_B = (mean_over_findings(values_BK, defined_K) for values_BK in (ours_BK, theirs_BK))
    means = (mean_defined(ours_K[defined_K]), mean_defined(theirs_K[defined_K]))
    enough = bool(is_enough_K[defined_K].all())
    p = two_sided_p(ours_B - theirs_B) if enough else float("nan")
    rows.append(_difference("mean", means, ours_B - theirs_B, (p, float("nan")), has_interval=enough))
    return Comparison(other=other, differences=rows)


def _difference(
    name: str, values: tuple[float, float], difference_B: Floats, p: tuple[float, float], *, has_interval: bool
) -> Difference:
    """`values` are ours and theirs; `p` is the p value before and after correction."""
    return Difference(
        name=name,
        ours=number(values[0]),
        other=number(values[1]),
        difference=difference_interval(*values, difference_B, has_interval=has_interval),
        p=number(p[0]),
        p_holm=number(p[1]),
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
