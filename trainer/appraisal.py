"""What is said of a trained network once it is scored: calibration, evidence and report; on the primary.

None of it may cost a run its results: what goes wrong is told, with the way to make it again.
Shapes: N images, K findings.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer.history import Entry
from trainer.run import Run


@dataclass(frozen=True)
class Predicted:
    """What the network says of one split, beside what is so."""

    images: Sequence[str]
    rows_N: NDArray[np.int64]
    """Rows of the data set."""
    log_odds_NK: NDArray[np.float64]
    labels_NK: NDArray[np.uint8]


def appraise(run: Run, predicted: Mapping[str, Predicted], document: dict[str, Any], entries: Sequence[Entry]) -> None:
    """Write calibration, evidence and report."""
