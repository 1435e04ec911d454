"""Boxes around the high parts of a map."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.data.packs.records import Geometry
from trainer.explanation.boxes import find_boxes, find_boxes_on_image, peak_on_image, regions
from trainer.explanation.placement import placement


def flooded(mask):
    """Boxes of connected parts by flood fill, another way."""
    left, boxes = mask.copy(), set()
    while left.any():
        start = tuple(int(axis[0]) for axis in np.nonzero(left))
        stack, cells = [start], []
        while stack:
            row, column = stack.pop()
            if 0 <= row < mask.shape[0] and 0 <= column < mask.shape[1] and left[row, column]:
                left[row, column] = False
                cells.append((row, column))
                stack += [(row + 1, column), (row - 1, column), (row, column + 1), (row, column - 1)]
        rows, columns = zip(*cells, strict=True)
        boxes.add((min(columns), min(rows), max(columns) + 1, max(rows) + 1, len(cells)))
    return boxes


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 2**32 - 1), st.sampled_from([0.2, 0.5, 0.8]))
def test_connected_components_equal_a_flood_fill(height, width, seed, density):
    """Also where parts meet only further down, as the arms of a U do."""
    values = np.random.default_rng(seed).random((height, width))
    boxes, peaks = regions(values, density)
    expected = flooded(values >= density)
    assert sorted(tuple(box) for box in boxes.tolist()) == sorted(box[:4] for box in expected)
    assert all(density <= peak <= 1 for peak in peaks)
    assert len(peaks) == 0 or peaks.max() == values.max()


def test_two_peaks_are_two_boxes_the_higher_first():
    """Each isolated part is a finding's place of its own."""
    map_hw = np.zeros((8, 8))
    map_hw[1, 1], map_hw[6, 5] = 0.8, 1.0
    both = find_boxes(map_hw, 64, threshold=0.5)
    assert both.scores_F.tolist() == pytest.approx([1.0, 0.8], abs=0.01)
    for (left, top, right, bottom), (x, y) in zip(both.boxes_F4.tolist(), [(44, 52), (12, 12)], strict=True):
        assert left < x < right <= left + 16
        assert top < y < bottom <= top + 16
    assert len(find_boxes(map_hw, 64, threshold=0.95).boxes_F4) == 1


def test_a_flat_map_has_no_box():
    """Nothing stands out, nothing is boxed."""
    assert find_boxes(np.full((7, 7), 2.5), 64).boxes_F4.shape == (0, 4)


def test_box_threshold_is_relative_to_the_range_of_the_map():
    """Maps of rare findings are negative throughout; their boxes must not depend on that."""
    map_hw = np.random.default_rng(3).normal(size=(7, 7))
    np.testing.assert_allclose(find_boxes(map_hw, 96).boxes_F4, find_boxes(map_hw * 5 - 100, 96).boxes_F4)


@pytest.mark.parametrize(
    ("fit", "row", "expected"),
    [("squash", 2, (105.0, 37.5)), ("crop", 2, (82.5, 37.5)), ("pad", 1, (105.0, 15.0))],
)
def test_peak_is_in_pixels_of_an_image_that_is_not_square(fit, row, expected):
    """120 pixels wide and 60 high: a crop sees the middle of it, padding lies above and below."""
    map_hw = np.zeros((4, 4))
    map_hw[row, 3] = 1
    assert peak_on_image(map_hw, placement(120, 60, Geometry(side=64, fit=fit), 64)) == pytest.approx(expected)


def test_peak_in_padding_is_none():
    """Moved to the border of the image it could hit a box that lies there."""
    place = placement(120, 60, Geometry(side=64, fit="pad"), 64)
    map_hw = np.zeros((4, 4))
    map_hw[0, 3] = 1
    assert peak_on_image(map_hw, place) is None
    assert len(find_boxes_on_image(map_hw, place).boxes_F4) == 0
    assert peak_on_image(np.zeros((4, 4)), place) is None
