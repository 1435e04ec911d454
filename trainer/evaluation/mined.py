"""The same predictions evaluated on text-mined labels, beside labels of readers.

Shapes: N images, K findings.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trainer.evaluation.bootstrap import auroc_resampled, mean_over_findings
from trainer.evaluation.document import MinedFinding
from trainer.evaluation.intervals import auroc_intervals, difference_interval
from trainer.evaluation.metrics import auroc_per_finding, mean_defined
from trainer.evaluation.sample import Sample, patient_count


@dataclass(frozen=True)
class MinedLabels:
    """Text-mined labels of images that readers have labelled too."""

    findings: tuple[str, ...]
    """Those of the evaluated findings that are text-mined as well."""
    labels_NK: NDArray[np.floating]


def mined_findings(mined: MinedLabels, sample: Sample) -> list[MinedFinding]:
    """AUROC on the text-mined labels, and that on readers' labels minus it, on the same resamples."""
    columns = [sample.findings.index(name) for name in mined.findings]
    scores_NK, ours_NK = sample.scores_NK[:, columns], sample.labels_NK[:, columns]
    mined_NK = np.where(np.isnan(ours_NK), np.nan, mined.labels_NK)  # both on the same images
    mined_K = auroc_per_finding(scores_NK, mined_NK)
    ours_K = auroc_per_finding(scores_NK, ours_NK)
    mined_BK = auroc_resampled(scores_NK, mined_NK, sample.patients_N, sample.resamples)
    difference_BK = sample.draws.auroc_BK[:, columns] - mined_BK
    counts = [patient_count(labels_N, sample.patients_N) for labels_N in mined_NK.T]
    enough_K = [
        count.are_enough and sample.too_few(column) is None for count, column in zip(counts, columns, strict=True)
    ]
    aurocs, _ = auroc_intervals(mined_K, mined_BK, counts)
    rows = [
        MinedFinding(
            name=name,
            positives=int((mined_NK[:, k] > 0).sum()),
            auroc=aurocs[k],
            difference=difference_interval(
                float(ours_K[k]), float(mined_K[k]), difference_BK[:, k], has_interval=enough_K[k]
            ),
        )
        for k, name in enumerate(mined.findings)
    ]
    both_K = ~np.isnan(ours_K) & ~np.isnan(mined_K)
    has_mean = all(enough for enough, both in zip(enough_K, both_K.tolist(), strict=True) if both)
    ours_K, mined_K = (np.where(both_K, values_K, np.nan) for values_K in (ours_K, mined_K))
    _, mean = auroc_intervals(mined_K, mined_BK, counts)
    return [
        *rows,
        MinedFinding(
            name="mean",
            positives=None,
            auroc=mean,
            difference=difference_interval(
                mean_defined(ours_K),
                mean_defined(mined_K),
                mean_over_findings(difference_BK, both_K),
                has_interval=has_mean,
            ),
        ),
    ]
