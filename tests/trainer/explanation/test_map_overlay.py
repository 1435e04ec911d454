"""A map laid over its image."""

import numpy as np
from PIL import Image

from trainer.data.records import Geometry
from trainer.explanation.overlay import overlay
from trainer.explanation.placement import placement

NO_BOXES = np.empty((0, 4))


def test_overlay_colours_only_where_the_map_is_high():
    """Pixels of the picture are pixels of the image: gray where nothing speaks for the finding, darker where nothing is seen."""
    gray = Image.new("L", (300, 200), 100)
    place = placement(300, 200, Geometry(side=72, fit="crop"), 64)
    map_hw = np.zeros((4, 4))
    map_hw[0, 3] = 5  # upper right of what is seen
    picture = np.asarray(overlay(gray, map_hw, place, NO_BOXES)).astype(int)
    assert picture.shape == (200, 300, 3)
    x, y = place.original(np.array([[56.0, 8.0, 64, 64]]))[0, :2].astype(int)
    assert np.ptp(picture[y, x]) > 40
    np.testing.assert_array_equal(picture[180, 80], 100)
    np.testing.assert_array_equal(picture[100, 5], 50)


def test_large_image_is_coloured_in_bands_without_seams(monkeypatch):
    """A radiograph of ten million pixels would take a gigabyte at once."""
    gray = Image.effect_noise((75, 50), 60)
    place = placement(75, 50, Geometry(side=72, fit="crop"), 64)
    map_hw = np.arange(16.0).reshape(4, 4)
    at_once = np.asarray(overlay(gray, map_hw, place, NO_BOXES))
    for pixels in (1, 7 * 75):
        monkeypatch.setattr("trainer.explanation.overlay.BAND_PIXELS", pixels)
        np.testing.assert_array_equal(np.asarray(overlay(gray, map_hw, place, NO_BOXES)), at_once)


def test_boxes_are_outlined_where_they_are():
    """Found ones and drawn ones in colours of their own, inside their edges."""
    gray = Image.new("L", (100, 100), 0)
    place = placement(100, 100, Geometry(side=64, fit="squash"), 64)
    found, drawn = np.array([[10.0, 20, 30, 40]]), np.array([[60.0, 50, 100, 100]])
    picture = np.asarray(overlay(gray, np.zeros((2, 2)), place, found, drawn)).astype(int)
    coloured = np.argwhere(picture.max(axis=2) > 0)
    blue, green = picture[20, 10], picture[50, 60]
    assert blue[2] == 255
    assert green[1] == 255
    assert np.array_equal(picture[39, 29], blue)
    assert np.array_equal(picture[99, 99], green)
    assert len(coloured) == (20 * 4 - 4) + (40 * 2 + 50 * 2 - 4)
