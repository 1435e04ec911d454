"""Bootstrap confidence intervals: scores on resamples of the patients.

Patients are resampled instead of images, as images of one patient are alike. An image then counts as often as its
patient was drawn, so that the images of a finding are sorted only once for all resamples. Shapes: N images, P patients,
K findings, B resamples, G distinct scores of positives, X points of a grid.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from trainer.evaluation.known_labels import known_rows
from trainer.evaluation.metrics import Floats

GRID: Final[Floats] = np.linspace(0.0, 1.0, 101)
"""False positive rates of ROC curves, and recalls of precision-recall curves."""

_CHUNK: Final = 8
"""Resamples per chunk: the counts of one finding's images stay in the CPU cache, and memory is bounded."""

_MOST_UNDEFINED: Final = 0.5
"""Share of undefined resamples from which on there is no interval: the remaining ones would be a selection."""

Counts = NDArray[np.int32]


@dataclass(frozen=True)
class Resamples:
    """Draws of the patients with replacement; the same in every iteration."""

    patients: int
    count: int
    seed: int

    def chunks(self) -> Iterator[Counts]:
        """Number of draws of each patient, int32 [b, P], a few resamples at a time.

        Zero for a single patient: drawing the same one each time would make every score look certain.
        """
        random = np.random.Generator(np.random.PCG64(self.seed))
        for start in range(0, self.count, _CHUNK):
            rows = min(_CHUNK, self.count - start)
            counts_BP = np.zeros((rows, self.patients), np.int32)
            for row in counts_BP if self.patients > 1 else ():
                row[:] = np.bincount(random.integers(self.patients, size=self.patients), minlength=self.patients)
            yield counts_BP


@dataclass(frozen=True)
class Ranked:
    """The images of one finding sorted by score, lowest first, and the positions of the scores that positives have.

    Scores of negatives only need no position: they contribute nothing.
    """

    patient_N: NDArray[np.intp]
    start_G: NDArray[np.intp]
    stop_G: NDArray[np.intp]
    positive_patient: NDArray[np.intp]
    """The same for positives only, in the same order."""
    positive_start_G: NDArray[np.intp]
    positive_stop_G: NDArray[np.intp]


def ranked(
    scores_N: NDArray[np.floating], labels_N: NDArray[np.number | np.bool_], patients_N: NDArray[np.integer]
) -> Ranked:
    """Sort the images once for all resamples."""
    order = np.argsort(scores_N, kind="stable")
    scores, positive = scores_N[order], labels_N[order] > 0
    patient_N = patients_N[order].astype(np.intp)
    scores_P = scores[positive]
    first_G = np.flatnonzero(np.diff(scores_P, prepend=-np.inf) > 0) if len(scores_P) else np.zeros(0, np.intp)
    score_G = scores_P[first_G]
    return Ranked(
        patient_N=patient_N,
        start_G=np.searchsorted(scores, score_G, side="left"),
        stop_G=np.searchsorted(scores, score_G, side="right"),
        positive_patient=patient_N[positive],
        positive_start_G=first_G,
        positive_stop_G=np.append(first_G[1:], len(scores_P)).astype(np.intp)[: len(first_G)],
    )


def _ranked_findings(
    scores_NK: NDArray[np.floating], labels_NK: NDArray[np.floating], patients_N: NDArray[np.integer]
) -> list[Ranked]:
    """The images with a known label of each finding."""
    rows = [known_rows(labels_N) for labels_N in labels_NK.T]
    return [ranked(scores_NK[of, k], labels_NK[of, k], patients_N[of]) for k, of in enumerate(rows)]


@dataclass(frozen=True)
class Tally:
    """Images and positives of some resamples, in total and up to each score of a positive."""

    images_B: Floats
    positives_B: Floats
    images_below_BG: Floats
    images_upto_BG: Floats
    positives_below_BG: Floats
    positives_upto_BG: Floats

    def auroc(self) -> Floats:
        """Shape B; nan where a class is absent."""
        gained_BG = self.positives_upto_BG - self.positives_below_BG
        below_BG = self.images_below_BG - self.positives_below_BG
        upto_BG = self.images_upto_BG - self.positives_upto_BG
        pairs_B = self.positives_B * (self.images_B - self.positives_B)
        won_B = (gained_BG * (below_BG + upto_BG)).sum(axis=1) / 2
        return _divided(won_B, pairs_B)

    def auprc(self) -> Floats:
        """Average precision, shape B; nan where a class is absent."""
        gained_BG = self.positives_upto_BG - self.positives_below_BG
        precision_BG = self._precision()
        is_defined_B = (self.positives_B > 0) & (self.positives_B < self.images_B)
        total_B = np.where(is_defined_B, self.positives_B, 0)
        return _divided((gained_BG * precision_BG).sum(axis=1), total_B)

    def roc(self) -> Floats:
        """True positive rate on the grid, [B, X], linearly interpolated; nan where a class is absent."""
        negatives_B = self.images_B - self.positives_B
        rates_BX = np.full((len(negatives_B), len(GRID)), np.nan)
        below_BG = self.images_below_BG - self.positives_below_BG
        upto_BG = self.images_upto_BG - self.positives_upto_BG
        for row in np.flatnonzero((negatives_B > 0) & (self.positives_B > 0)):
            x = 1 - _interleaved(upto_BG[row], below_BG[row]) / negatives_B[row]
            y = 1 - _interleaved(self.positives_upto_BG[row], self.positives_below_BG[row]) / self.positives_B[row]
            rates_BX[row] = np.interp(GRID, np.concatenate([[0.0], x, [1.0]]), np.concatenate([[0.0], y, [1.0]]))
        return rates_BX

    def precision_recall(self) -> Floats:
        """Precision at the highest threshold with each recall of the grid, [B, X]; nan where a class is absent."""
        precision_BX = np.full((len(self.images_B), len(GRID)), np.nan)
        precision_BG = self._precision()
        for row in np.flatnonzero((self.positives_B > 0) & (self.positives_B < self.images_B)):
            total = self.positives_B[row]
            found = (total - self.positives_below_BG[row])[::-1]
            required = np.maximum(np.ceil(GRID * total - 1e-9), 1)
            precision_BX[row] = precision_BG[row, ::-1][np.searchsorted(found, required)]
        return precision_BX

    def _precision(self) -> Floats:
        taken_BG = self.images_B[:, None] - self.images_below_BG
        found_BG = self.positives_B[:, None] - self.positives_below_BG
        return np.divide(found_BG, taken_BG, out=np.zeros_like(found_BG), where=taken_BG > 0)


def _interleaved(first_G: Floats, second_G: Floats) -> Floats:
    """Both values of each score in turn, from the highest score down."""
    return np.stack([first_G[::-1], second_G[::-1]], axis=1).ravel()


def tally(images: Ranked, counts_BP: Counts) -> Tally:
    """Counts for resamples with these numbers of draws per patient."""
    images_BN = _running(images.patient_N, counts_BP)
    positives_BN = _running(images.positive_patient, counts_BP)
    return Tally(
        images_B=images_BN[:, -1].astype(np.float64),
        positives_B=positives_BN[:, -1].astype(np.float64),
        images_below_BG=images_BN[:, images.start_G].astype(np.float64),
        images_upto_BG=images_BN[:, images.stop_G].astype(np.float64),
        positives_below_BG=positives_BN[:, images.positive_start_G].astype(np.float64),
        positives_upto_BG=positives_BN[:, images.positive_stop_G].astype(np.float64),
    )


def _running(patient_N: NDArray[np.intp], counts_BP: Counts) -> Counts:
    """Number of images before each position, [B, N + 1]; integers, so that ties stay exact."""
    before_BN = np.zeros((len(counts_BP), len(patient_N) + 1), np.int32)
    images_BN = np.take(counts_BP, patient_N, axis=1, mode="clip")  # `clip` skips the bounds check of every index
    np.cumsum(images_BN, axis=1, dtype=np.int32, out=before_BN[:, 1:])
    return before_BN


@dataclass(frozen=True)
class Resampled:
    """Scores of every finding on every resample; nan where a class is absent."""

    auroc_BK: Floats
    auprc_BK: Floats
    roc_BKX: NDArray[np.float32] | None
    """Only if curves are requested."""
    pr_BKX: NDArray[np.float32] | None


def resampled(
    scores_NK: NDArray[np.floating],
    labels_NK: NDArray[np.floating],
    patients_N: NDArray[np.integer],
    resamples: Resamples,
    *,
    curves: bool = False,
) -> Resampled:
    """Scores on each resample, of the known labels of each finding.

    `patients_N` are numbers below `resamples.patients`; some of them may have no image.
    """
    findings = _ranked_findings(scores_NK, labels_NK, patients_N)
    auroc_BK, auprc_BK = (np.empty((resamples.count, len(findings))) for _ in range(2))
    shape = (resamples.count, len(findings), len(GRID)) if curves else (0,)
    roc_BKX, pr_BKX = (np.empty(shape, np.float32) for _ in range(2))
    done = 0
    for counts_BP in resamples.chunks():
        rows = slice(done, done + len(counts_BP))
        for k, images in enumerate(findings):
            counted = tally(images, counts_BP)
            auroc_BK[rows, k], auprc_BK[rows, k] = counted.auroc(), counted.auprc()
            if curves:
                roc_BKX[rows, k], pr_BKX[rows, k] = counted.roc(), counted.precision_recall()
        done = rows.stop
    return Resampled(auroc_BK, auprc_BK, roc_BKX if curves else None, pr_BKX if curves else None)


def auroc_resampled(
    scores_NK: NDArray[np.floating],
    labels_NK: NDArray[np.floating],
    patients_N: NDArray[np.integer],
    resamples: Resamples,
) -> Floats:
    """AUROC only, [B, K]: the same values in less time."""
    findings = _ranked_findings(scores_NK, labels_NK, patients_N)
    return np.concatenate(
        [
            np.stack([tally(images, counts_BP).auroc() for images in findings], axis=1)
            for counts_BP in resamples.chunks()
        ]
    )


def point_curves(scores_N: NDArray[np.floating], labels_N: NDArray[np.floating]) -> tuple[Floats, Floats]:
    """ROC and precision-recall curves on the grid, for all images without resampling; all labels are known."""
    everyone = np.arange(len(scores_N), dtype=np.intp)
    counted = tally(ranked(scores_N, labels_N, everyone), np.ones((1, len(scores_N)), np.int32))
    return counted.roc()[0], counted.precision_recall()[0]


def sums(values_NM: NDArray[np.bool_], patients_N: NDArray[np.integer], resamples: Resamples) -> Floats:
    """Number of true values in each column of each resample, [B, M]."""
    per_patient_PM = np.stack(
        [np.bincount(patients_N, values_N, resamples.patients) for values_N in values_NM.T], axis=1
    )
    return np.concatenate([counts_BP.astype(np.float64) @ per_patient_PM for counts_BP in resamples.chunks()])


def mean_over_findings(values_BK: Floats, defined_K: NDArray[np.bool_]) -> Floats:
    """Mean over the findings defined on all images, shape B; nan for resamples where one of them is undefined.

    A mean over the other findings would not be comparable: findings differ more than resamples do.
    """
    if not defined_K.any():
        return np.full(len(values_BK), np.nan)
    mean_B: Floats = values_BK[:, defined_K].mean(axis=1)
    return mean_B


def percentiles(values_B: NDArray[np.floating]) -> tuple[Floats, Floats]:
    """2.5 % and 97.5 % percentiles of the defined values over the first axis; nan where at least half are undefined.

    Source: the percentile interval of Efron 1979.
    """
    undefined = np.isnan(values_B)
    if not undefined.any():
        low, high = np.percentile(values_B, [2.5, 97.5], axis=0)
        return low.astype(np.float64), high.astype(np.float64)
    enough = undefined.mean(axis=0) < _MOST_UNDEFINED
    usable = np.where(enough, values_B, 0)
    low, high = np.nanpercentile(usable, [2.5, 97.5], axis=0)
    return np.where(enough, low, np.nan), np.where(enough, high, np.nan)


def _divided(numerator_B: Floats, denominator_B: Floats) -> Floats:
    ratio_B: Floats = np.divide(
        numerator_B, denominator_B, out=np.full(len(numerator_B), np.nan), where=denominator_B > 0
    )
    return ratio_B
