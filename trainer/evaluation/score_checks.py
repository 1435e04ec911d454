"""Notes about scores that say little, or that suggest a mistake in their file: constant, rounded or inverted ones.

Shapes: N images, K findings.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from trainer.evaluation.document import Interval
from trainer.evaluation.known_labels import known_rows
from trainer.evaluation.metrics import Floats, groups

_INVERTED: Final = 0.4
"""AUROC below which, with its whole interval below 0.5, a finding counts as inverted."""

_TIED: Final = 0.01
"""Share of tied pairs from which on they are noted: they change an AUROC by up to half of it."""

_DECIMALS: Final = 3
"""Decimals of scores that count as rounded. Six, as programs write by default, leave hardly a tie."""

_NEAR: Final = 1e-12
"""Distance of a number from its own decimals, as 1 - 0.9 has."""

_SUM_TOLERANCE: Final = 1e-3
"""Probabilities that sum to 1 within this tolerance are those of exclusive classes; six decimals each cannot be further off."""


def score_notes(
    findings: Sequence[str], scores_NK: NDArray[np.floating], labels_NK: NDArray[np.floating], auroc: Sequence[Interval]
) -> list[str]:
    """Notes about scores of at least two images; `auroc` are those of the findings."""
    if len(scores_NK) < 2:
        return []
    constant = [name for k, name in enumerate(findings) if (scores_NK[:, k] == scores_NK[0, k]).all()]
    notes = []
    if constant:
        notes.append(f"every image has the same score, so AUROC is 0.5 whatever the labels: {', '.join(constant)}")
    varied = [k for k, name in enumerate(findings) if name not in constant]
    return [*notes, *_rounded(findings, scores_NK, labels_NK, varied), *_inverted(findings, auroc)]


def _rounded(
    findings: Sequence[str], scores_NK: NDArray[np.floating], labels_NK: NDArray[np.floating], varied: Sequence[int]
) -> list[str]:
    known = {k: known_rows(labels_NK[:, k]) for k in varied}
    tied = {k: _tied_pairs(scores_NK[rows, k], labels_NK[rows, k]) for k, rows in known.items()}
    many = {k: share for k, share in tied.items() if share >= _TIED}
    decimals = _decimals(scores_NK[:, list(varied)]) if any(tied.values()) else None
    if not many and decimals is None:
        return []
    what = "scores are rounded" if decimals is None else f"scores have at most {decimals} decimals"
    worst = max(tied, key=lambda k: tied[k])
    where = f"{100 * tied[worst]:.2g} % of the pairs of {findings[worst]}"
    if len(many) > 1:
        where += f", at least {100 * _TIED:.0f} % of those of {len(many)} findings"
    return [
        f"{what}: an image with and one without a finding often have the same score ({where}), which counts half in AUROC"
    ]


def _tied_pairs(scores_N: NDArray[np.floating], labels_N: NDArray[np.floating]) -> float:
    """Share of the pairs of a positive and a negative image that have the same score; 0 without pairs."""
    by_score = groups(scores_N, labels_N)
    pairs = by_score.positive_G.sum() * by_score.negative_G.sum()
    return float((by_score.positive_G * by_score.negative_G).sum() / pairs) if pairs else 0.0


def _decimals(scores_NK: NDArray[np.floating]) -> int | None:
    """Decimals that all scores have at most; None above `_DECIMALS`."""
    off = (float(np.abs(np.round(scores_NK, d) - scores_NK).max(initial=0.0)) for d in range(_DECIMALS + 1))
    return next((d for d, distance in enumerate(off) if distance < _NEAR), None)


def _inverted(findings: Sequence[str], auroc: Sequence[Interval]) -> list[str]:
    defined = [name for name, one in zip(findings, auroc, strict=True) if one["value"] is not None]
    below = [
        name
        for name, one in zip(findings, auroc, strict=True)
        if one["value"] is not None and one["value"] < _INVERTED and one["high"] is not None and one["high"] < 0.5
    ]
    if not below:
        return []
    if 2 * len(below) >= len(defined):
        count = f"{len(below)} of {len(defined)} findings"
        return [f"AUROC is far below 0.5 for {count}: scores may be inverted, or of other columns or images"]
    return [f"AUROC is far below 0.5, so scores may be inverted or of another finding: {', '.join(below)}"]


def is_exclusive(labels_NK: NDArray[np.floating]) -> bool:
    """Whether every image has exactly one of at least two labels."""
    has_one_N = ((labels_NK == 1).sum(axis=1) == 1) & ((labels_NK != 0).sum(axis=1) == 1)
    return labels_NK.shape[1] > 1 and bool(has_one_N.all())


def off_sum(probabilities_NK: Floats) -> int:
    """Number of images whose probabilities do not sum to 1."""
    return int((np.abs(probabilities_NK.sum(axis=1) - 1) > _SUM_TOLERANCE).sum())
