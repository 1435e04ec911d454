"""Contour lines of a map at fixed levels of its range; does not import torch.

Shapes: h x w cells of a map, V points of a line as x and y.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from trainer.explanation.boxes import THRESHOLD
from trainer.explanation.heatmap import enlarged, scaled
from trainer.explanation.placement import Placement
from trainer.report.drawing import canvas, styled

Floats = NDArray[np.float64]

LEVELS: Final = (0.5, THRESHOLD)
"""Half of the map's range, and the level of boxes."""


@styled()
def contours(map_hw: NDArray[np.floating], place: Placement, level: float) -> list[Floats]:
    """Lines [V, 2] around the regions of the model's input above this level, in pixels of the image; none for a flat map.

    Regions are those of `boxes.find_boxes`. Lines end at the border of the input; in its padding they are outside the image.
    """
    values_PP = enlarged(scaled(map_hw), place.crop_px)
    top = values_PP.max()
    if not top > 0:
        return []
    centres_P = np.arange(place.crop_px) + 0.5
    _, (axes,) = canvas(1, 1, [(0, 0, 1, 1)])
    drawn = axes.contour(centres_P, centres_P, values_PP / top, levels=[level])
    start_2, scale_2 = np.array([place.start_x, place.start_y]), np.array([place.scale_x, place.scale_y])
    return [(line_V2 + start_2) / scale_2 for line_V2 in drawn.allsegs[0]]
