"""Whether a finding counts as positive, in the words of a picture."""

import numpy as np
import pytest
from torch import nn

from trainer.evaluation.calibration import Calibrator
from trainer.explanation.decision import decision

FINDINGS = ("a", "b", "c")
CALIBRATOR = Calibrator(FINDINGS, (2.0, 1.0, 0.5), (1.0, 0.0, -1.0), {"youden": {"a": 0.3, "b": 1.0}}, "val", "0")


@pytest.mark.parametrize(("shown", "side"), [(0.31, "above"), (0.3, "above"), (0.29, "below")])
def test_shown_probability_is_compared_with_the_shown_threshold(make_trained, shown, side):
    """Both are calibrated."""
    trained, shown_K = make_trained(nn.Identity(), calibrator=CALIBRATOR), np.full(3, shown)
    assert decision(trained, shown_K, 0) == f"{side} its threshold of 0.300 (Youden's J)"
    assert decision(trained, shown_K, 1) == "below its threshold of 1.000 (Youden's J)"
    assert decision(trained, shown_K, 2) == "no threshold"


def test_model_without_calibration_has_no_threshold(make_trained):
    """Nothing is decided where nothing was fixed."""
    assert decision(make_trained(nn.Identity()), np.array([0.9, 0.1, 0.1]), 0) == "no threshold"


def test_class_is_the_predicted_one_or_not(make_trained):
    """An image has one class, without any threshold."""
    trained = make_trained(nn.Identity(), loss="cross_entropy", calibrator=CALIBRATOR)
    assert decision(trained, np.array([0.2, 0.5, 0.3]), 1) == "the predicted class"
    assert decision(trained, np.array([0.2, 0.5, 0.3]), 2) == "not the predicted class"
