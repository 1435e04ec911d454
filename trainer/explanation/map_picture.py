"""Picture of a map: the image, the same image with the map, and a caption that says how to read them; does not import torch.

The image is in the upper left corner in its own pixels, so that positions on it are positions in the picture.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from trainer.explanation.contours import LEVELS
from trainer.explanation.overlay import DRAWN, FOUND, colour_bar, overlay
from trainer.explanation.placement import Placement
from trainer.report.captions import NOT_CLINICAL, Entry, room_above_caption, text_px
from trainer.report.formatting import number

Floats = NDArray[np.float64]

_GAP_EMS: Final = 0.4
_BAR_EMS: Final = (8.0, 1.1)
_SAMPLE_EMS: Final = (1.5, 1.0)
_UNSEEN_GRAY: Final = (64, 64, 64)


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The prediction of one finding of an image."""

    image: str
    finding: str
    probability: float
    is_calibrated: bool
    decision: str
    """Whether it counts as positive, in words."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Map:
    """A map on its image, with boxes in the image's pixels."""

    gray: Image.Image
    map_hw: NDArray[np.floating]
    place: Placement
    boxes_B4: Floats
    box_threshold: float
    drawn_B4: Floats | None = None


def map_picture(one: Map, answer: Answer) -> Image.Image:
    """The image, the image with its map and boxes, and the caption below both."""
    width, height = one.gray.size
    px = text_px(one.gray.size)
    gap = round(_GAP_EMS * px)
    picture = room_above_caption((2 * width + gap, height), [list(_said(answer)), list(_legend(one, px))], px)
    picture.paste(one.gray.convert("L"), (0, 0))
    picture.paste(overlay(one.gray, one.map_hw, one.place, one.boxes_B4, one.drawn_B4), (width + gap, 0))
    return picture


def _said(answer: Answer) -> Iterator[Entry]:
    yield Entry(f"{answer.finding.replace('_', ' ')}: probability {number(answer.probability)}", is_title=True)
    yield Entry(f"{'Calibrated' if answer.is_calibrated else 'Not calibrated'}, {answer.decision}.")
    yield Entry(f"{answer.image}. {NOT_CLINICAL}.")


def _legend(one: Map, px: int) -> Iterator[Entry]:
    """What the colours and lines mean, of those that the picture has."""
    low, high = float(one.map_hw.min()), float(one.map_hw.max())
    if high > low:
        lower, upper = LEVELS
        text = f"lowest to highest of this map; lines: {lower:g} (thin), {upper:g} (thick)"
        yield Entry(text, sample=colour_bar(round(_BAR_EMS[0] * px), round(_BAR_EMS[1] * px)))
    else:
        yield Entry("The map has one value everywhere, so it shows no location.")
    if len(one.boxes_B4):
        yield Entry(f"found: around regions above {one.box_threshold:g}", sample=_box(FOUND, px))
    if one.drawn_B4 is not None and len(one.drawn_B4):
        yield Entry("drawn by radiologists", sample=_box(DRAWN, px))
    if not one.place.is_all_seen:
        yield Entry("darker: outside the model's input", sample=Image.new("RGB", _sample_size(px), _UNSEEN_GRAY))


def _sample_size(px: int) -> tuple[int, int]:
    return round(_SAMPLE_EMS[0] * px), round(_SAMPLE_EMS[1] * px)


def _box(colour: tuple[int, int, int], px: int) -> Image.Image:
    width, height = _sample_size(px)
    sample = Image.new("RGB", (width, height), _UNSEEN_GRAY)
    ImageDraw.Draw(sample).rectangle((0, 0, width - 1, height - 1), outline=colour, width=max(2, px // 8))
    return sample
