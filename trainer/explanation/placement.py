"""Where on an image what the model sees of it lies: record and crop, there and back; numpy only.

Places are in pixels from the upper left corner, so that the first pixel reaches from 0 to 1. Boxes are left, top, right, bottom.
"Seen" are the crop_px x crop_px pixels that the model gets. Shapes: B boxes, H x W pixels of the image, h x w cells of a map.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trainer.data.records import Geometry
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
        """Boxes of the image as the model sees them; parts it does not see lie outside 0..crop_px."""
        return boxes_B4 * self._scale_4 - self._start_4

    def original(self, boxes_B4: Floats) -> Floats:
        """Boxes of what the model sees in the image's own pixels, cut at its border (padding is no part of it)."""
        boxes_B4 = (boxes_B4 + self._start_4) / self._scale_4
        return np.clip(boxes_B4, 0, [self.width, self.height, self.width, self.height])

    def laid_over(self, map_hw: NDArray[np.floating], band: slice = slice(None)) -> Floats:
        """A map of what the model sees, at every pixel of these rows of the image, [H, W]; nan where the model sees nothing."""
        columns = ((np.arange(self.width) + 0.5) * self.scale_x - self.start_x) / self.crop_px
        rows = ((np.arange(self.height)[band] + 0.5) * self.scale_y - self.start_y) / self.crop_px
        values = read_off(map_hw, rows, columns)
        values[(rows < 0) | (rows > 1), :] = np.nan
        values[:, (columns < 0) | (columns > 1)] = np.nan
        return values

    @property
    def _scale_4(self) -> Floats:
        return np.array([self.scale_x, self.scale_y] * 2)

    @property
    def _start_4(self) -> Floats:
        return np.array([self.start_x, self.start_y] * 2)


def placement(width: int, height: int, geometry: Geometry, crop_px: int) -> Placement:
    """Where the centre of the record of an image of this size lies on the image.

    Follows `data.pack` and `data.augment.center_boxes` with their rounding.
    """
    side = geometry.side
    wide, high, left, top = side, side, 0, 0  # size of the resized image, and what is cut off it (padding: less than 0)
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
