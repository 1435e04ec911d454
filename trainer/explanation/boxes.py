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
    roots, highest = _joined(rows_R, starts_R, ends_R), _highest(values_HW, rows_R, starts_R, ends_R).tolist()
    found: dict[int, tuple[int, int, int, int, float]] = {}
    for root, row, start, end, high in zip(
        roots, rows_R.tolist(), starts_R.tolist(), ends_R.tolist(), highest, strict=True
    ):
        left, top, right, _, so_far = found.get(root, (start, row, end, row, high))
        found[root] = min(left, start), top, max(right, end), row + 1, max(so_far, high)
    regions_P5 = np.array(list(found.values()), np.float64).reshape(-1, 5)
    return regions_P5[:, :4], regions_P5[:, 4]


def _runs(mask_HW: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Row, start and end of every run of true pixels, in reading order."""
    height, width = mask_HW.shape
    # Each row is followed by a false pixel, and the first is preceded by one, so that no run extends into the next row.
    row_length = width + 1
    flat = np.zeros(1 + height * row_length, np.bool_)
    flat[1:].reshape(height, row_length)[:, :width] = mask_HW
    edges = np.flatnonzero(flat[1:] != flat[:-1])
    rows_R, starts_R = np.divmod(edges[::2], row_length)
    return rows_R, starts_R, edges[1::2] - rows_R * row_length


def _highest(
    values_HW: Floats, rows_R: NDArray[np.int64], starts_R: NDArray[np.int64], ends_R: NDArray[np.int64]
) -> Floats:
    """The maximum of each run."""
    first_R = rows_R * values_HW.shape[1]
    bounds = np.stack([first_R + starts_R, first_R + ends_R], axis=1).ravel()
    highest_R: Floats = np.maximum.reduceat(np.append(values_HW.ravel(), -np.inf), bounds)[::2]
    return highest_R


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
