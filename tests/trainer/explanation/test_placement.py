"""Places on what the model sees and on the image: there, back, and against the pixels themselves."""

import numpy as np
import pytest
import torch
from PIL import Image

from trainer.data.augment import center_boxes, cut
from trainer.data.packs.records import Geometry, to_gray_square
from trainer.explanation.placement import placement

SIZES = [(200, 200), (320, 200), (201, 333), (64, 50)]
FITS = ["crop", "pad", "squash"]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("fit", FITS)
def test_box_mapped_to_the_image_and_back_is_unchanged(size, fit):
    """What is seen of the image, corner by corner, and only what is seen."""
    place = placement(*size, Geometry(side=72, fit=fit), 64)
    corners = np.array([[0.0, 0.0, 64.0, 64.0], [10.0, 20.0, 30.5, 40.25]])
    back = place.seen(place.original(corners))
    np.testing.assert_allclose(back[1], corners[1], atol=1e-9)
    border = place.seen(np.array([[0.0, 0.0, *map(float, size)]]))[0]
    np.testing.assert_allclose(back[0], [*np.maximum(border[:2], 0), *np.minimum(border[2:], 64)], atol=1e-9)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("fit", FITS)
def test_placement_matches_the_pixels_of_a_packed_image(size, fit, tmp_path):
    """A bright rectangle, decoded and cropped as for the model, lies where the placement says: within a pixel."""
    width, height = size
    drawn = (round(width * 0.4), round(height * 0.35), round(width * 0.6), round(height * 0.55))
    image = Image.new("L", size)
    image.paste(255, drawn)
    image.save(tmp_path / "image.png")
    geometry = Geometry(side=72, fit=fit)
    record = torch.from_numpy(to_gray_square(tmp_path / "image.png", geometry).copy())[None, None]
    seen = cut(record, center_boxes(1, 72, 64), 64)[0, 0].numpy()
    rows, columns = np.nonzero(seen > 127)
    found = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    expected = placement(width, height, geometry, 64).seen(np.array([drawn], np.float64))[0]
    np.testing.assert_allclose(found, expected, atol=1.0)


@pytest.mark.parametrize("fit", FITS)
def test_map_cells_are_placed_over_their_image_pixels(fit):
    """The cell over a place has that place's value; nothing is said of what the model does not see."""
    place = placement(300, 200, Geometry(side=72, fit=fit), 64)
    map_hw = np.arange(16.0).reshape(4, 4)
    values = place.laid_over(map_hw)
    assert values.shape == (200, 300)
    for row in range(4):
        for column in range(4):
            x, y = place.original(np.array([[column * 16 + 8.0, row * 16 + 8.0, 64, 64]]))[0, :2]
            if 0 < x < 299 and 0 < y < 199:
                assert values[int(y), int(x)] == pytest.approx(map_hw[row, column], abs=0.6)
    unseen = np.isnan(values)
    assert unseen.any()
    x0, y0, x1, y1 = place.original(np.array([[0.0, 0.0, 64.0, 64.0]]))[0]
    inside = np.zeros_like(unseen)
    inside[int(np.ceil(y0 - 0.5)) : int(np.floor(y1 + 0.5)), int(np.ceil(x0 - 0.5)) : int(np.floor(x1 + 0.5))] = True
    np.testing.assert_array_equal(unseen, ~inside)
