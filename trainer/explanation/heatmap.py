"""Scaling and interpolation of coarse maps; numpy only.

Shapes: h x w cells of a map, H x W points of interpolation.
"""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def scaled(map_hw: NDArray[np.floating]) -> Floats:
    """The map scaled from its minimum to its maximum as 0 to 1; all 0 if it is flat.

    Not clipped at zero: for an improbable finding, even the highest value may be negative.
    """
    low, high = float(map_hw.min()), float(map_hw.max())
    if not high > low:
        return np.zeros(map_hw.shape)
    spread: Floats = (map_hw.astype(np.float64) - low) / (high - low)
    return spread


def read_off(map_hw: NDArray[np.floating], rows_H: Floats, columns_W: Floats) -> Floats:
    """The map interpolated between the centres of its cells, [H, W]: bilinear, constant beyond the outermost centres.

    Positions are fractions of the map's height and width, from 0 at its upper or left edge to 1.
    """
    weights_Hh = _weights(rows_H, map_hw.shape[0])
    weights_Ww = _weights(columns_W, map_hw.shape[1])
    values: Floats = weights_Hh @ map_hw.astype(np.float64) @ weights_Ww.T
    return values


def enlarged(map_hw: NDArray[np.floating], side: int) -> Floats:
    """The map at the centres of side x side pixels."""
    centres = (np.arange(side) + 0.5) / side
    return read_off(map_hw, centres, centres)


def peak(map_hw: NDArray[np.floating]) -> tuple[float, float] | None:
    """Centre of the highest cell as (x, y), in fractions of width and height; None for a flat map."""
    if not map_hw.max() > map_hw.min():
        return None
    row, column = np.unravel_index(int(map_hw.argmax()), map_hw.shape)
    return (int(column) + 0.5) / map_hw.shape[1], (int(row) + 0.5) / map_hw.shape[0]


def _weights(positions: Floats, cells: int) -> Floats:
    """Weight of each cell at each position, [positions, cells]: triangles one cell wide to each side; rows sum to 1."""
    cell = np.clip(positions * cells - 0.5, 0, cells - 1)
    weights: Floats = np.maximum(0.0, 1.0 - np.abs(cell[:, None] - np.arange(cells)))
    return weights
