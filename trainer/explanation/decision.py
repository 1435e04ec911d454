"""Whether a finding counts as positive on an image, in words. Shapes: K findings."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from trainer.evaluation.operating import RULE_TITLES
from trainer.models.load import LoadedModel
from trainer.report.formatting import number as in_digits

Floats = NDArray[np.float64]

RULE: Final = "youden"
"""The rule of `trainer predict`, unless another is chosen there."""


def decision(trained: LoadedModel, probability_K: Floats, number: int) -> str:
    """The decision on one finding of an image by these probabilities, or that there is none."""
    if trained.loss == "cross_entropy":
        return "the predicted class" if number == int(probability_K.argmax()) else "not the predicted class"
    threshold = _threshold(trained, number)
    if threshold is None:
        return "no threshold"
    side = "above" if probability_K[number] >= threshold else "below"
    return f"{side} its threshold of {in_digits(threshold)} ({RULE_TITLES[RULE]})"


def _threshold(trained: LoadedModel, number: int) -> float | None:
    """Lowest calibrated probability that counts as positive; None without one."""
    fitted = trained.calibrator
    return None if fitted is None else fitted.thresholds.get(RULE, {}).get(trained.findings[number])
