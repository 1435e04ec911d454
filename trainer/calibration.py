"""Probabilities that mean what they say: a line through the log-odds of each finding, fitted on validation images.

Shapes: N images, K findings.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Calibrator:
    """What was fitted on val, and is stored with the model as `model/calibration.json`."""

    findings: tuple[str, ...]
    slope_K: tuple[float, ...]
    intercept_K: tuple[float, ...]
    thresholds: dict[str, dict[str, float]]
    """By rule (`youden`, `best_f1`, `specificity_90`, `specificity_95`) and finding: uncalibrated probability from which it is positive."""
    fitted_on: str
    """Split and number of images."""
    images_sha256: str
    """Hash of the names of the images it was fitted on."""

    def apply(self, log_odds_NK: NDArray[np.floating]) -> Floats:
        """Calibrated log-odds."""
        line_NK: Floats = log_odds_NK.astype(np.float64) * np.array(self.slope_K) + np.array(self.intercept_K)
        return line_NK
