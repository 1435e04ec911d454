"""A map laid over its image."""

import numpy as np
import pytest
from PIL import Image

from trainer.data.packs.records import Geometry
from trainer.explanation.overlay import colour_bar, overlay, tinted
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


@pytest.mark.parametrize("value", [0.0, 0.3, 0.7, 1.0])
def test_tint_leaves_every_pixel_as_bright_as_it_is(value):
    """The lung under the map must be as readable as without it: an opaque colour hid it."""
    shades_HW = np.arange(256, dtype=np.uint8).reshape(16, 16)
    colours_HW3 = tinted(shades_HW, np.full((16, 16), value))
    as_gray = np.asarray(Image.fromarray(colours_HW3).convert("L")).astype(int)
    assert np.abs(as_gray - shades_HW).max() <= 1
    assert (np.diff(colours_HW3.reshape(256, 3).astype(int), axis=0) >= 0).all(), "brighter pixels stay brighter"


def test_colour_is_the_stronger_the_higher_the_map():
    """And none where it is lowest; black and white have no colour that is as bright."""
    shades_HW = np.full((1, 101), 120, np.uint8)
    colours = tinted(shades_HW, np.linspace(0, 1, 101)[None]).astype(int)[0]
    strength = np.ptp(colours, axis=1)
    assert strength[0] == 0
    assert (np.diff(strength) >= 0).all()
    assert strength[-1] > 150
    assert np.ptp(tinted(np.array([[0, 255]], np.uint8), np.ones((1, 2))), axis=2).max() == 0


def test_contours_are_drawn_at_their_levels():
    """White between black; nothing else of the picture is brighter or darker than the image."""
    gray, place = Image.new("L", (300, 300), 128), placement(300, 300, Geometry(side=64, fit="squash"), 64)
    map_hw = np.tile(np.linspace(0, 1, 64), (64, 1))
    row = np.asarray(overlay(gray, map_hw, place, NO_BOXES))[150].astype(int)
    white = np.flatnonzero((row == 255).all(axis=1))
    black = np.flatnonzero((row == 0).all(axis=1))
    assert len(white) == 3
    assert abs(white[0] - 150) <= 3
    assert abs(white[1:] - 0.7 * 300).max() <= 3
    assert black.tolist() == [white[0] - 1, white[0] + 1, white[1] - 1, white[2] + 1]


def test_contours_do_not_leave_the_image():
    """In the padding of a narrow image the map may be high; the plain image lies beside."""
    gray, place = Image.new("L", (40, 200), 128), placement(40, 200, Geometry(side=64, fit="pad"), 64)
    map_hw = np.zeros((7, 7))
    map_hw[3, 0] = 1
    picture = np.asarray(overlay(gray, map_hw, place, NO_BOXES)).astype(int)
    assert picture.shape == (200, 40, 3)
    assert not (picture == 255).all(axis=2).any()


def test_colour_bar_has_the_colours_and_lines_of_the_picture():
    """A key in other colours explains nothing."""
    bar = np.asarray(colour_bar(200, 14)).astype(int)
    assert bar.shape == (14, 200, 3)
    assert np.ptp(bar[7, 0]) == 0
    assert np.ptp(bar[7, 199]) > 150
    white = np.flatnonzero((bar[7] == 255).all(axis=1))
    assert {round(at / 199, 1) for at in white.tolist()} == {0.5, 0.7}


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
