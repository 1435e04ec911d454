"""Baseline maps that do not depend on the image; numpy only."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_CELLS = 15
"""Cells of the centre map: odd, so that the highest cell is in the middle."""


def random_map(cells: tuple[int, int], generator: np.random.Generator) -> Floats:
    """Noise with as many cells as the model's map, so that its boxes have similar sizes."""
    return generator.random(cells)


def centre_map() -> Floats:
    """A square hill, highest in the middle and lowest at the border."""
    distance = np.abs(np.arange(_CELLS) - _CELLS // 2)
    map_hw: Floats = -np.maximum(distance[:, None], distance[None, :]).astype(np.float64)
    return map_hw
