"""Labels as statistics use them: positive, negative or unknown.

A label is 1, 0, NaN where it is unknown, or a fraction where readers disagree. Shapes: N images, K findings.
"""

import numpy as np
from numpy.typing import NDArray

from trainer.data.labels import POSITIVE_FROM

KnownRows = NDArray[np.intp] | slice
"""Rows of an array; a slice of all of them where every label is known, so that nothing is copied."""


def binary(labels: NDArray[np.floating]) -> NDArray[np.float32]:
    """1 for positives, 0 for negatives, NaN for unknown labels, in the same shape; of fractions, those from 0.5 on are positive."""
    values: NDArray[np.float32] = np.where(np.isnan(labels), np.nan, labels >= POSITIVE_FROM).astype(np.float32)
    return values


def known_rows(labels_N: NDArray[np.floating]) -> KnownRows:
    """Rows of a finding's known labels."""
    is_unknown_N = np.isnan(labels_N)
    return np.flatnonzero(~is_unknown_N) if is_unknown_N.any() else slice(None)


def fractions(labels_NK: NDArray[np.floating]) -> int:
    """Number of labels between 0 and 1."""
    return int(((labels_NK > 0) & (labels_NK < 1)).sum())
