"""AUROC of image properties that are unrelated to the lungs.

If classes come from different machines or hospitals, image size alone may separate them. A model may learn that, too,
so its AUROC must be read next to these values.

Shapes: N images, K findings.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from trainer.evaluation.document import Shortcut
from trainer.evaluation.metrics import auroc_per_finding


def shortcuts(
    sizes_N2: NDArray[np.integer], labels_NK: NDArray[np.floating], findings: Sequence[str]
) -> list[Shortcut]:
    """AUROC of the original image's pixel count and aspect ratio for each finding; empty where all images have one size.

    `sizes_N2` is width and height; unreadable images, which have no size, are ignored.
    """
    has_size_N = (sizes_N2 > 0).all(axis=1)
    sizes_N2, labels_NK = sizes_N2[has_size_N].astype(np.float64), labels_NK[has_size_N]
    if len(np.unique(sizes_N2, axis=0)) < 2:
        return []
    width_N, height_N = sizes_N2.T
    values = {"pixel count": width_N * height_N, "aspect ratio": width_N / height_N}
    return [_shortcut(name, value_N, labels_NK, findings) for name, value_N in values.items()]


def _shortcut(
    name: str, value_N: NDArray[np.float64], labels_NK: NDArray[np.floating], findings: Sequence[str]
) -> Shortcut:
    auroc_K = auroc_per_finding(np.repeat(value_N[:, None], len(findings), axis=1), labels_NK)
    best_K = np.maximum(auroc_K, 1 - auroc_K)
    return Shortcut(
        name=name,
        auroc={
            finding: None if np.isnan(value) else value
            for finding, value in zip(findings, best_K.tolist(), strict=True)
        },
    )
