"""Lines of equal height of a map, on its image."""

import numpy as np
import pytest

from trainer.data.packs.records import Geometry
from trainer.explanation.boxes import find_boxes_on_image
from trainer.explanation.contours import LEVELS, contours
from trainer.explanation.heatmap import scaled
from trainer.explanation.placement import placement


def hill(seed=0):
    map_hw = np.random.default_rng(seed).normal(0, 0.1, (7, 7))
    map_hw[3, 2] += 5
    return map_hw


@pytest.mark.parametrize("fit", ["crop", "pad", "squash"])
@pytest.mark.parametrize("size", [(160, 120), (90, 240), (1024, 1024)])
def test_line_at_the_level_of_boxes_is_around_the_same_region(fit, size):
    """Two ways to show one level must not disagree."""
    place = placement(*size, Geometry(side=256, fit=fit), 224)
    ((left, top, right, bottom),) = find_boxes_on_image(hill(), place, LEVELS[1]).boxes_F4
    (line_V2,) = contours(hill(), place, LEVELS[1])
    pixel = np.array([1 / place.scale_x, 1 / place.scale_y])
    inside = line_V2[(line_V2 >= 0).all(axis=1) & (line_V2 <= size).all(axis=1)]
    assert (np.abs(inside.min(axis=0) - [left, top]) <= 1.01 * pixel).all()
    assert (np.abs(inside.max(axis=0) - [right, bottom]) <= 1.01 * pixel).all()


def test_map_has_the_value_of_the_level_along_its_line():
    """In fractions of its range."""
    place = placement(320, 320, Geometry(side=256, fit="squash"), 256)
    values_HW = place.laid_over(scaled(hill()))
    for level in LEVELS:
        for line_V2 in contours(hill(), place, level):
            x, y = np.clip(line_V2.astype(int), 0, 319).T
            assert np.abs(values_HW[y, x] / values_HW.max() - level).max() < 0.03


def test_lines_end_at_the_border_of_what_the_model_sees():
    """A line along the border would be one of the image's, not of the map's."""
    map_hw = np.zeros((4, 4))
    map_hw[:, 0] = 1
    place = placement(100, 100, Geometry(side=72, fit="crop"), 64)
    (line_V2,) = contours(map_hw, place, 0.5)
    left, top, right, bottom = place.original(np.array([[0.0, 0, 64, 64]]))[0]
    assert np.ptp(line_V2[:, 0]) < 0.01
    assert left < line_V2[0, 0] < (left + right) / 2
    assert line_V2[:, 1].min() == pytest.approx(top, abs=1)
    assert line_V2[:, 1].max() == pytest.approx(bottom, abs=1)


@pytest.mark.parametrize("cells", [(1, 1), (7, 7)])
def test_flat_map_has_no_lines(cells):
    """It has no levels."""
    place = placement(100, 100, Geometry(side=72, fit="crop"), 64)
    assert contours(np.full(cells, 3.0), place, 0.5) == []
