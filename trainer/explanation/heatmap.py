"""Coarse maps made ready to be looked at: scaled to 0..1, and read off between cells; numpy only.

Shapes: h x w cells of a map, H x W points it is read at.
"""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def scaled(map_hw: NDArray[np.floating]) -> Floats:
    """0 at the map's lowest place, 1 at its highest; all 0 where it is flat.

    Not cut at zero: for a finding with less than even odds even the place that speaks for it most may be negative.
    """
    low, high = float(map_hw.min()), float(map_hw.max())
    if not high > low:
        return np.zeros(map_hw.shape)
    spread: Floats = (map_hw.astype(np.float64) - low) / (high - low)
    return spread


def read_off(map_hw: NDArray[np.floating], rows_H: Floats, columns_W: Floats) -> Floats:
    """The map between the centres of its cells, [H, W]: bilinear, constant outside the outermost centres.

    Places are shares of the map's height and width: 0 its upper or left edge, 1 the other.
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
    """Centre of the highest cell as (x, y), shares of width and height; None where the map is flat."""
    if not map_hw.max() > map_hw.min():
        return None
    row, column = np.unravel_index(int(map_hw.argmax()), map_hw.shape)
    return (int(column) + 0.5) / map_hw.shape[1], (int(row) + 0.5) / map_hw.shape[0]


def _weights(places: Floats, cells: int) -> Floats:
    """How much each cell gives to each place, [places, cells]: tents one cell wide to each side; rows sum to 1."""
    position = np.clip(places * cells - 0.5, 0, cells - 1)
    weights: Floats = np.maximum(0.0, 1.0 - np.abs(position[:, None] - np.arange(cells)))
    return weights
