"""Maps scaled and read off between cells."""

import numpy as np
import torch
from torch.nn import functional

from trainer.explanation import heatmap


def test_enlarged_equals_torchs_bilinear_interpolation():
    """The usual way to show a map, without torch."""
    map_hw = np.random.default_rng(0).normal(size=(7, 7))
    theirs = functional.interpolate(torch.from_numpy(map_hw)[None, None], size=(96, 96), mode="bilinear")
    np.testing.assert_allclose(heatmap.enlarged(map_hw, 96), theirs[0, 0].numpy(), atol=1e-12)


def test_scaled_map_spans_0_to_1_whatever_its_sign():
    """A map of a finding with low odds is negative everywhere and has a highest place all the same."""
    np.testing.assert_allclose(heatmap.scaled(np.array([[-9.0, -5.0], [-7.0, -5.0]])), [[0, 1], [0.5, 1]])
    np.testing.assert_array_equal(heatmap.scaled(np.full((2, 2), -3.0)), 0)


def test_peak_is_the_centre_of_the_highest_cell():
    """As (x, y), not (row, column)."""
    map_hw = np.zeros((4, 2))
    map_hw[3, 0] = 1
    assert heatmap.peak(map_hw) == (0.25, 0.875)
    assert heatmap.peak(np.ones((4, 2))) is None
