"""Maps drawn over their images; does not import torch.

The picture has the image's size, so that positions are the same. Shapes: H x W pixels, B boxes.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from trainer.explanation.heatmap import scaled
from trainer.explanation.placement import Placement

Floats = NDArray[np.float64]

COLORMAP: Final = "inferno"
"""Perceptually uniform from dark to bright, unlike jet, and readable with colour blindness."""

STRONGEST: Final = 0.6
"""Opacity of the colour at the map's maximum."""

BAND_PIXELS: Final = 1 << 18
"""Pixels coloured at a time: ten million at once would take a gigabyte."""

_FOUND: Final = (64, 224, 255)
_DRAWN: Final = (0, 255, 96)


def overlay(
    gray: Image.Image, map_hw: NDArray[np.floating], place: Placement, boxes_B4: Floats, drawn_B4: Floats | None = None
) -> Image.Image:
    """The image with the map in colour, opaque where it is high, and outlines of boxes: found ones blue, drawn ones green.

    Regions outside the model's input stay gray and are darkened. Boxes are in the image's pixels.
    """
    shades_HW, scaled_hw = np.asarray(gray.convert("L")), scaled(map_hw)
    mixed_HW3 = np.empty((*shades_HW.shape, 3), np.uint8)
    height = max(1, BAND_PIXELS // place.width)
    for top in range(0, place.height, height):
        rows = slice(top, top + height)
        mixed_HW3[rows] = _mixed(shades_HW[rows], place.laid_over(scaled_hw, rows))
    picture = Image.fromarray(mixed_HW3)
    _outline(picture, boxes_B4, _FOUND)
    if drawn_B4 is not None:
        _outline(picture, drawn_B4, _DRAWN)
    return picture


def _mixed(shades_HW: NDArray[np.uint8], values_HW: Floats) -> NDArray[np.uint8]:
    """Gray with colour over it, [H, W, 3]; values are nan outside the model's input."""
    from matplotlib import colormaps  # noqa: PLC0415 - would delay the start of each training process

    seen_HW = ~np.isnan(values_HW)
    values_HW = np.where(seen_HW, values_HW, 0.0)
    gray_HW1 = shades_HW[:, :, None] / 255
    colour_HW3 = colormaps[COLORMAP](values_HW)[:, :, :3]
    alpha_HW1 = STRONGEST * values_HW[:, :, None]
    mixed_HW3 = gray_HW1 * (1 - alpha_HW1) + colour_HW3 * alpha_HW1
    mixed_HW3 = np.where(seen_HW[:, :, None], mixed_HW3, mixed_HW3 / 2)
    return (mixed_HW3 * 255 + 0.5).astype(np.uint8)


def _outline(picture: Image.Image, boxes_B4: Floats, colour: tuple[int, int, int]) -> None:
    draw = ImageDraw.Draw(picture)
    thickness = max(1, round(min(picture.size) / 300))
    for left, top, right, bottom in boxes_B4.tolist():
        draw.rectangle((left, top, max(left, right - 1), max(top, bottom - 1)), outline=colour, width=thickness)
