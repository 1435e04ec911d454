"""Boxes around the high regions of a map; numpy only.

Boxes are left, top, right, bottom in pixels from the upper left corner. Shapes: F boxes found, H x W pixels, h x w cells of a
map, R runs of a mask's rows.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from trainer.explanation.heatmap import enlarged, peak, scaled
from trainer.explanation.placement import Placement

Floats = NDArray[np.float64]

THRESHOLD: Final = 0.7
"""Threshold of a box, as a fraction of a map's range.

Source: Wang et al. 2017, arXiv:1705.02315, who scale maps to 0..255, threshold them at 60 and at 180 and box every connected
region. Differs: only the upper threshold, as two would give each finding twice.
"""


@dataclass(frozen=True, eq=False)
class FoundBox:
    """Boxes of one map, the one with the highest peak first."""

    boxes_F4: Floats
    scores_F: Floats
    """Highest scaled value in the box's region: 1 for the first."""


def find_boxes(map_hw: NDArray[np.floating], side: int, threshold: float = THRESHOLD) -> FoundBox:
    """Boxes of every connected region that reaches the threshold, in pixels of the model's input; none for a flat map.

    The map is enlarged to side x side pixels.
    """
    values_HW = enlarged(scaled(map_hw), side)
    top = values_HW.max()  # below 1 when the highest cell's centre is between pixels
    if not top > 0:
        return FoundBox(np.empty((0, 4)), np.empty(0))
    boxes_F4, scores_F = regions(values_HW / top, threshold)
    order = np.argsort(-scores_F, kind="stable")
    return FoundBox(boxes_F4[order], scores_F[order])


def find_boxes_on_image(map_hw: NDArray[np.floating], place: Placement, threshold: float = THRESHOLD) -> FoundBox:
    """Boxes in pixels of the image; boxes entirely in its padding are dropped."""
    seen = find_boxes(map_hw, place.crop_px, threshold)
    boxes_F4 = place.original(seen.boxes_F4)
    on_image_F = (boxes_F4[:, 2:] > boxes_F4[:, :2]).all(axis=1)
    return FoundBox(boxes_F4[on_image_F], seen.scores_F[on_image_F])


def peak_on_image(map_hw: NDArray[np.floating], place: Placement) -> tuple[float, float] | None:
    """Position of the map's maximum, x and y in pixels of the image; None for a flat map, or when it is in the padding."""
    point = peak(map_hw)
    if point is None:
        return None
    x, y = (share * place.crop_px for share in point)
    left, top, right, bottom = place.seen(np.array([[0.0, 0.0, place.width, place.height]]))[0].tolist()
    if not (left <= x <= right and top <= y <= bottom):
        return None
    x, y, _, _ = place.original(np.array([[x, y, x, y]]))[0].tolist()
    return x, y


def regions(values_HW: Floats, threshold: float) -> tuple[Floats, Floats]:
    """Box and maximum of every connected region (pixels that share an edge) above or at `threshold`, from the top down."""
    rows_R, starts_R, ends_R = _runs(values_HW >= threshold)
    roots_R = _joined(rows_R, starts_R, ends_R)
    _, region_of_R = np.unique(roots_R, return_inverse=True)
    count = int(region_of_R.max()) + 1 if len(region_of_R) else 0
    low_P2, high_P2 = np.full((count, 2), np.inf), np.full((count, 2), -np.inf)
    np.minimum.at(low_P2, region_of_R, np.stack([starts_R, rows_R], axis=1))
    np.maximum.at(high_P2, region_of_R, np.stack([ends_R, rows_R + 1], axis=1))
    peaks_P = np.zeros(count)
    if count:
        width = values_HW.shape[1]
        ends_of_runs = np.stack([rows_R * width + starts_R, rows_R * width + ends_R], axis=1).ravel()
        highest_R = np.maximum.reduceat(np.append(values_HW.ravel(), -np.inf), ends_of_runs)[::2]
        np.maximum.at(peaks_P, region_of_R, highest_R)
    return np.concatenate([low_P2, high_P2], axis=1), peaks_P


def _runs(mask_HW: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Row, start and end of every run of true pixels, in reading order."""
    steps = np.diff(np.pad(mask_HW.astype(np.int8), ((0, 0), (1, 1))), axis=1)
    rows_R, starts_R = np.nonzero(steps == 1)
    return rows_R, starts_R, np.nonzero(steps == -1)[1]


def _joined(rows_R: NDArray[np.int64], starts_R: NDArray[np.int64], ends_R: NDArray[np.int64]) -> list[int]:
    """For each run the first run of its region: overlapping runs of neighbouring rows are connected."""
    parent = list(range(len(rows_R)))

    def root(run: int) -> int:
        while parent[run] != run:
            parent[run] = parent[parent[run]]
            run = parent[run]
        return run

    # Runs are in reading order, so those of the row above that overlap a run are consecutive.
    row_length = int(ends_R.max(initial=0)) + 1
    above_R = (rows_R - 1) * row_length
    firsts_R = np.searchsorted(rows_R * row_length + ends_R, above_R + starts_R, side="right")
    lasts_R = np.searchsorted(rows_R * row_length + starts_R, above_R + ends_R, side="left")
    for run, (first, last) in enumerate(zip(firsts_R.tolist(), lasts_R.tolist(), strict=True)):
        for above in range(first, last):
            older, newer = sorted((root(above), root(run)))
            parent[newer] = older
    return [root(run) for run in range(len(parent))]
