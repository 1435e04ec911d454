"""Maps drawn over their images; does not import torch.

The picture has the image's size, so that positions are the same. Shapes: H x W pixels, B boxes, V points of a line.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from trainer.explanation.contours import LEVELS, contours
from trainer.explanation.heatmap import scaled
from trainer.explanation.placement import Placement

Floats = NDArray[np.float64]
Draw = ImageDraw.ImageDraw

LUMA: Final = (0.299, 0.587, 0.114)
"""Brightness of red, green and blue. Source: ITU-R BT.601, as Pillow turns colours to gray."""

HUE: Final = (1.0, 0.4, 0.0)
"""Colour of the map: orange, which colour-blind readers also tell from gray."""

STEEPNESS: Final = 1.5
"""Power of the map's value that gives the strength of the colour: low values leave the image gray."""

BAND_PIXELS: Final = 1 << 18
"""Pixels coloured at a time: ten million at once would take a gigabyte."""

FOUND: Final = (64, 224, 255)
DRAWN: Final = (0, 255, 96)
"""Outlines of boxes found in the map, and of boxes drawn by radiologists."""

_LINE: Final = (255, 255, 255)
_EDGE: Final = (0, 0, 0)
"""Contours are white between black, to be seen on any gray."""


def overlay(
    gray: Image.Image, map_hw: NDArray[np.floating], place: Placement, boxes_B4: Floats, drawn_B4: Floats | None = None
) -> Image.Image:
    """The image tinted where the map is high, with contours at fixed levels and outlines of boxes.

    The tint leaves the brightness of each pixel as it is. Regions outside the model's input stay gray and are darkened. Boxes are
    in the image's pixels: found ones blue, drawn ones green.
    """
    shades, scaled_hw = gray.convert("L"), scaled(map_hw)
    picture = Image.new("RGB", gray.size)
    height = max(1, BAND_PIXELS // place.width)
    for top in range(0, place.height, height):
        rows = slice(top, min(top + height, place.height))
        shades_HW = np.asarray(shades.crop((0, rows.start, place.width, rows.stop)))
        picture.paste(Image.fromarray(tinted(shades_HW, place.laid_over(scaled_hw, rows))), (0, top))
    draw, thickness = ImageDraw.Draw(picture), line_px(picture.size)
    for number, level in enumerate(LEVELS, start=1):
        for line_V2 in contours(map_hw, place, level):
            draw_contour(draw, line_V2, number * thickness)
    _outline(draw, boxes_B4, FOUND, thickness)
    if drawn_B4 is not None:
        _outline(draw, drawn_B4, DRAWN, thickness)
    return picture


def line_px(size: tuple[int, int]) -> int:
    """Thickness of the lower contour and of boxes; the upper contour is twice as thick."""
    return max(1, round(min(size) / 300))


def tinted(shades_HW: NDArray[np.uint8], values_HW: Floats) -> NDArray[np.uint8]:
    """Gray mixed with the most saturated colour of equal brightness, [H, W, 3]; values are nan outside the model's input."""
    seen_HW1 = ~np.isnan(values_HW)[:, :, None]
    strength_HW1 = np.where(seen_HW1, values_HW[:, :, None], 0.0) ** STEEPNESS
    gray_HW1 = shades_HW[:, :, None] / 255
    mixed_HW3 = gray_HW1 + strength_HW1 * (_COLOURS[shades_HW] - gray_HW1)
    mixed_HW3 = np.where(seen_HW1, mixed_HW3, mixed_HW3 / 2)
    return (mixed_HW3 * 255 + 0.5).astype(np.uint8)


def draw_contour(draw: Draw, line_V2: Floats, thickness: int) -> None:
    points = [(x, y) for x, y in line_V2.tolist()]
    draw.line(points, _EDGE, thickness + 2 * max(1, thickness // 3), joint="curve")
    draw.line(points, _LINE, thickness, joint="curve")


def colour_bar(width: int, height: int) -> Image.Image:
    """Colours from the lowest value of a map to its highest, over dark and bright pixels, with the lines of the contours."""
    shades_HW = np.repeat(np.linspace(224, 48, height).astype(np.uint8)[:, None], width, axis=1)
    values_HW = np.broadcast_to(np.linspace(0, 1, width), (height, width))
    bar = Image.fromarray(tinted(shades_HW, values_HW))
    draw = ImageDraw.Draw(bar)
    for number, level in enumerate(LEVELS, start=1):
        at = level * (width - 1)
        draw_contour(draw, np.array([[at, 0], [at, height - 1]]), number * max(1, round(height / 14)))
    return bar


def _colours() -> Floats:
    """For each of 256 grays the most saturated colour of the map's hue that is as bright, [256, 3]."""
    hue_3, gray_G1 = np.array(HUE), np.arange(256)[:, None] / 255
    luma = float(hue_3 @ np.array(LUMA))
    dark_G3 = hue_3 * gray_G1 / luma
    bright_G3 = hue_3 + (1 - hue_3) * (gray_G1 - luma) / (1 - luma)
    return np.where(gray_G1 <= luma, dark_G3, bright_G3)


_COLOURS: Final = _colours()


def _outline(draw: Draw, boxes_B4: Floats, colour: tuple[int, int, int], thickness: int) -> None:
    for left, top, right, bottom in boxes_B4.tolist():
        draw.rectangle((left, top, max(left, right - 1), max(top, bottom - 1)), outline=colour, width=thickness)
