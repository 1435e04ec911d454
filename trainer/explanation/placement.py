"""Positions on an image and in the model's input: record and crop, in both directions; numpy only.

Positions are in pixels from the upper left corner, so that the first pixel spans 0 to 1. Boxes are left, top, right, bottom.
"Seen" are the crop_px x crop_px pixels of the model's input. Shapes: B boxes, H x W pixels of the image, h x w cells of a map.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trainer.data.packs.records import Geometry
from trainer.explanation.heatmap import read_off

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Placement:
    """Along each axis: seen = original * scale - start."""

    width: int
    height: int
    crop_px: int
    scale_x: float
    scale_y: float
    start_x: float
    start_y: float

    def seen(self, boxes_B4: Floats) -> Floats:
        """Boxes of the image in the model's input; regions outside it are outside 0..crop_px."""
        return boxes_B4 * self._scale_4 - self._start_4

    def original(self, boxes_B4: Floats) -> Floats:
        """Boxes of the model's input in the image's own pixels, clipped to the image (without padding)."""
        boxes_B4 = (boxes_B4 + self._start_4) / self._scale_4
        return np.clip(boxes_B4, 0, [self.width, self.height, self.width, self.height])

    def laid_over(self, map_hw: NDArray[np.floating], band: slice = slice(None)) -> Floats:
        """A map of the model's input at every pixel of these rows of the image, [H, W]; nan outside the input."""
        columns = ((np.arange(self.width) + 0.5) * self.scale_x - self.start_x) / self.crop_px
        rows = ((np.arange(self.height)[band] + 0.5) * self.scale_y - self.start_y) / self.crop_px
        values = read_off(map_hw, rows, columns)
        values[(rows < 0) | (rows > 1), :] = np.nan
        values[:, (columns < 0) | (columns > 1)] = np.nan
        return values

    @property
    def is_all_seen(self) -> bool:
        """Whether the whole image is in the model's input, but for less than half a pixel of the input."""
        box_4 = self.seen(np.array([[0.0, 0.0, self.width, self.height]]))[0]
        return bool((box_4[:2] > -0.5).all() and (box_4[2:] < self.crop_px + 0.5).all())

    @property
    def _scale_4(self) -> Floats:
        return np.array([self.scale_x, self.scale_y] * 2)

    @property
    def _start_4(self) -> Floats:
        return np.array([self.start_x, self.start_y] * 2)


def placement(width: int, height: int, geometry: Geometry, crop_px: int) -> Placement:
    """Position of the record's centre crop on an image of this size.

    Follows `data.pack` and `data.augment.center_boxes` with their rounding.
    """
    side = geometry.side
    wide, high, left, top = side, side, 0, 0  # size of the resized image, and its crop (negative for padding)
    if geometry.fit == "pad" and width != height:
        scale = side / max(width, height)
        wide, high = max(1, round(width * scale)), max(1, round(height * scale))
        left, top = -((side - wide) // 2), -((side - high) // 2)
    elif geometry.fit == "crop" and width < height:
        high = int(side * height / width)
        top = round((high - side) / 2)
    elif geometry.fit == "crop" and width > height:
        wide = int(side * width / height)
        left = round((wide - side) / 2)
    start = round((side - crop_px) / 2)
    return Placement(
        width=width,
        height=height,
        crop_px=crop_px,
        scale_x=wide / width,
        scale_y=high / height,
        start_x=float(left + start),
        start_y=float(top + start),
    )
