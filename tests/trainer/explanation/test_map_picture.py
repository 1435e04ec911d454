"""The picture of a map: the image, the map, and what they mean."""

import dataclasses

import numpy as np
import pytest
from PIL import Image

from trainer.data.packs.records import Geometry
from trainer.explanation.map_picture import Answer, Map, _legend, _said, map_picture
from trainer.explanation.overlay import DRAWN, FOUND, overlay
from trainer.explanation.placement import placement
from trainer.report.captions import text_px

NO_BOXES = np.empty((0, 4))
BOX = np.array([[10.0, 20, 60, 70]])
ANSWER = Answer(
    image="a.png", finding="Pleural_Thickening", probability=0.2345, is_calibrated=True, decision="no threshold"
)


def shown(size=(160, 120), fit="crop", boxes=NO_BOXES, drawn=None, flat=False):
    map_hw = np.zeros((7, 7)) if flat else np.random.default_rng(0).normal(size=(7, 7))
    return Map(
        gray=Image.effect_noise(size, 60),
        map_hw=map_hw,
        place=placement(*size, Geometry(side=72, fit=fit), 64 if fit == "crop" else 72),
        boxes_B4=boxes,
        box_threshold=0.7,
        drawn_B4=drawn,
    )


@pytest.mark.parametrize("size", [(160, 120), (32, 320), (640, 512)])
def test_plain_image_lies_in_the_corner_and_the_map_beside_it(size):
    """So positions of boxes are positions in the picture, and the image can be seen without the map."""
    one = shown(size, boxes=BOX)
    picture = map_picture(one, ANSWER)
    width, height = size
    np.testing.assert_array_equal(picture.crop((0, 0, width, height)), one.gray.convert("RGB"))
    gap = round(0.4 * text_px(size))
    expected = overlay(one.gray, one.map_hw, one.place, BOX)
    left = width + gap
    np.testing.assert_array_equal(picture.crop((left, 0, left + width, height)), expected)
    assert (np.asarray(picture)[:height, width:left] == 255).all()
    assert picture.tobytes() == map_picture(one, ANSWER).tobytes()


@pytest.mark.parametrize("size", [(40, 40), (200, 200), (1024, 800)])
def test_text_does_not_reach_the_edges_of_the_picture(size):
    """With a name of more than forty letters, at the size of a thumbnail."""
    answer = dataclasses.replace(ANSWER, finding="Reticulonodular_" * 6, image=f"{'0' * 120}.png")
    caption = np.asarray(map_picture(shown(size, boxes=BOX, drawn=BOX), answer))[size[1] :]
    for edge in (caption[0], caption[-1], caption[:, 0], caption[:, -1]):
        assert (edge == 255).all()


def count(picture, colour):
    return int((np.asarray(picture) == colour).all(axis=2).sum())


def test_legend_explains_only_what_the_picture_has():
    """A colour that is explained is looked for."""
    size = (160, 120)
    below = {
        name: map_picture(shown(size, boxes=boxes, drawn=drawn), ANSWER).crop((0, 120, 325, 600))
        for name, boxes, drawn in [
            ("none", NO_BOXES, None),
            ("found", BOX, None),
            ("none drawn", BOX, NO_BOXES),
            ("both", BOX, BOX),
        ]
    }
    coloured = {name: (count(one, FOUND) > 0, count(one, DRAWN) > 0) for name, one in below.items()}
    assert coloured == {
        "none": (False, False),
        "found": (True, False),
        "none drawn": (True, False),
        "both": (True, True),
    }
    texts = {fit: [entry.text for entry in _legend(shown(fit=fit), 13)] for fit in ("crop", "pad", "squash")}
    assert texts["crop"] == [*texts["squash"], "darker: outside the model's input"]
    assert texts["pad"] == texts["squash"] == ["lowest to highest of this map; lines: 0.5 (thin), 0.7 (thick)"]


def test_map_of_one_value_is_said_to_show_nothing():
    """A network that sees 32 pixels has maps of one cell."""
    (entry,) = _legend(shown(fit="squash", flat=True), 13)
    assert entry.text == "The map has one value everywhere, so it shows no location."


def test_finding_and_probability_are_on_the_picture():
    """The map of an absent finding looks like any other."""
    said = [(entry.text, entry.is_title) for entry in _said(ANSWER)]
    assert said == [
        ("Pleural Thickening: probability 0.235", True),
        ("Calibrated, no threshold.", False),
        ("a.png. Not for clinical use.", False),
    ]
    raw = dataclasses.replace(ANSWER, is_calibrated=False, decision="the predicted class")
    assert [entry.text for entry in _said(raw)][1] == "Not calibrated, the predicted class."
