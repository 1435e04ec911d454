"""Agreement of maps with drawn boxes: accuracy by overlap, false boxes, the pointing game; numpy only.

Boxes are left, top, right, bottom in pixels of the image. Shapes: F boxes found, T boxes drawn.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypedDict

import numpy as np
from numpy.typing import NDArray

from trainer.data.labels import FINDINGS

Floats = NDArray[np.float64]

FORMAT: Final = 1

ALL_BOXES: Final = 984
"""Number of boxes in NIH's list."""

IOU: Final = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
IOBB: Final = (0.1, 0.25, 0.5, 0.75, 0.9)
"""Overlaps above which a box counts as found. Source: Wang et al. 2017, arXiv:1705.02315."""


@dataclass(frozen=True, eq=False)
class Case:
    """One finding on one image: drawn boxes, and the result of a map."""

    finding: str
    drawn_T4: Floats
    found_F4: Floats
    point: tuple[float, float] | None
    """Position of the map's maximum, x and y; None for a flat map, which is a miss."""


class Accuracy(TypedDict):
    """Accuracy at one overlap."""

    overlap: float
    hits: float
    """Drawn boxes that a found box overlaps by more; the mean for baselines with several draws."""
    boxes: int
    value: float
    false_boxes_per_image: float
    """Found boxes that overlap no drawn box by more."""


class Pointing(TypedDict):
    """Pointing game: whether the maximum is inside a drawn box."""

    hits: float
    maps: int
    value: float


class FindingRow(TypedDict):
    """One finding."""

    finding: str
    boxes: int
    images: int
    iou: list[Accuracy]
    iobb: list[Accuracy]
    pointing: Pointing


class Means(TypedDict):
    """Plain means over the findings, as in published tables."""

    iou: list[float]
    iobb: list[float]
    false_boxes_per_image: list[float]
    """By overlap of `iou`."""
    pointing: float


class Method(TypedDict):
    """Results of one kind of map."""

    name: str
    """`model`, `random map` or `image centre`."""
    draws: int
    findings: list[FindingRow]
    mean: Means


class Published(TypedDict):
    """Published accuracies."""

    name: str
    split: str
    boxes: int
    comparable: bool
    """Whether they were measured on exactly the boxes used here."""
    iou: dict[str, dict[str, float]]
    """By overlap, then finding or `mean`."""
    iobb_mean: dict[str, float]
    source: str


class Localisation(TypedDict):
    """The document `localisation.json`."""

    format: int
    model: str
    boxes: int
    """Number of boxes used here."""
    boxes_listed: int
    images: int
    box_threshold: float
    """Threshold of a box, as a fraction of a map's range."""
    map_cells: list[int]
    """Rows and columns of the model's maps."""
    trained_on_known: bool
    trained_on_images: int | None
    """Number of images of patients in the training set; above 0 only when forced; None where unknown."""
    methods: list[Method]
    published: list[Published]
    notes: list[str]


def iou(found_F4: Floats, drawn_T4: Floats) -> Floats:
    """Intersection over union of each found box with each drawn one, [F, T]."""
    shared_FT = _shared(found_F4, drawn_T4)
    return _share(shared_FT, _area(found_F4)[:, None] + _area(drawn_T4)[None, :] - shared_FT)


def iobb(found_F4: Floats, drawn_T4: Floats) -> Floats:
    """Intersection over the area of the *found* box, [F, T]: a small box inside a drawn one is a full hit."""
    shared_FT = _shared(found_F4, drawn_T4)
    return _share(shared_FT, np.broadcast_to(_area(found_F4)[:, None], shared_FT.shape))


def is_inside(point: tuple[float, float] | None, drawn_T4: Floats) -> bool:
    """Whether the point is inside one of the boxes.

    Source: Zhang et al. 2016, arXiv:1608.00507. Differs: no tolerance around the box, where they allow 15 pixels.
    """
    if point is None:
        return False
    x, y = point
    left, top, right, bottom = drawn_T4.T
    return bool(((left <= x) & (x <= right) & (top <= y) & (y <= bottom)).any())


def evaluated(name: str, draws: Sequence[Sequence[Case]]) -> Method:
    """Results of one kind of map, averaged over draws of the same cases; findings in order of first appearance."""
    rows = [
        _row(finding, [[case for case in draw if case.finding == finding] for draw in draws])
        for finding in dict.fromkeys(case.finding for case in draws[0])
    ]
    return Method(name=name, draws=len(draws), findings=rows, mean=_means(rows))


def _row(finding: str, draws: Sequence[Sequence[Case]]) -> FindingRow:
    """`draws` contain the same cases, of this finding only."""
    cases = [case for draw in draws for case in draw]
    images, boxes = len(draws[0]), sum(len(case.drawn_T4) for case in draws[0])
    hits = sum(is_inside(case.point, case.drawn_T4) for case in cases) / len(draws)
    overlaps = {kind: [of(case.found_F4, case.drawn_T4) for case in cases] for kind, of in _OVERLAPS.items()}
    return FindingRow(
        finding=finding,
        boxes=boxes,
        images=images,
        iou=[_accuracy(overlaps["iou"], least, len(draws), boxes, images) for least in IOU],
        iobb=[_accuracy(overlaps["iobb"], least, len(draws), boxes, images) for least in IOBB],
        pointing=Pointing(hits=hits, maps=images, value=hits / images),
    )


_OVERLAPS: Final = {"iou": iou, "iobb": iobb}


def _accuracy(overlaps: Sequence[Floats], least: float, draws: int, boxes: int, images: int) -> Accuracy:
    hits = sum(int((one_FT > least).any(axis=0).sum()) for one_FT in overlaps) / draws
    false_boxes = sum(int((~(one_FT > least).any(axis=1)).sum()) for one_FT in overlaps) / draws
    return Accuracy(
        overlap=least, hits=hits, boxes=boxes, value=hits / boxes, false_boxes_per_image=false_boxes / images
    )


def _means(rows: Sequence[FindingRow]) -> Means:
    return Means(
        iou=_mean([[one["value"] for one in row["iou"]] for row in rows]),
        iobb=_mean([[one["value"] for one in row["iobb"]] for row in rows]),
        false_boxes_per_image=_mean([[one["false_boxes_per_image"] for one in row["iou"]] for row in rows]),
        pointing=float(np.mean([row["pointing"]["value"] for row in rows])),
    )


def _mean(values: list[list[float]]) -> list[float]:
    return [float(value) for value in np.mean(values, axis=0)]


def _area(boxes_B4: Floats) -> Floats:
    area_B: Floats = np.prod(np.maximum(boxes_B4[:, 2:] - boxes_B4[:, :2], 0), axis=1)
    return area_B


def _shared(found_F4: Floats, drawn_T4: Floats) -> Floats:
    low = np.maximum(found_F4[:, None, :2], drawn_T4[None, :, :2])
    high = np.minimum(found_F4[:, None, 2:], drawn_T4[None, :, 2:])
    shared_FT: Floats = np.prod(np.maximum(high - low, 0), axis=2)
    return shared_FT


def _share(part_FT: Floats, whole_FT: Floats) -> Floats:
    return np.divide(part_FT, whole_FT, out=np.zeros_like(part_FT), where=whole_FT > 0)


_BOXED: Final = (*FINDINGS[:8], "mean")
"""The eight findings of the list of boxes, which are the first eight of the 14, in the column order of Wang's table."""


def wang_2017(*, comparable: bool) -> Published:
    """The first published accuracies on these boxes; rows of 0.2, 0.4 and 0.6 as means only.

    Source: Wang et al. 2017, arXiv:1705.02315, ResNet-50; IoBB of the model with 14 findings.
    """
    rows = {
        "0.1": (0.689, 0.938, 0.660, 0.707, 0.400, 0.139, 0.633, 0.378, 0.568),
        "0.3": (0.244, 0.459, 0.301, 0.276, 0.153, 0.038, 0.167, 0.133, 0.221),
        "0.5": (0.050, 0.178, 0.111, 0.065, 0.012, 0.013, 0.033, 0.031, 0.062),
        "0.7": (0.006, 0.027, 0.020, 0.0, 0.0, 0.0, 0.008, 0.020, 0.010),
    }
    by_finding = {overlap: dict(zip(_BOXED, row, strict=True)) for overlap, row in rows.items()}
    means = {"0.2": 0.373, "0.4": 0.116, "0.6": 0.028}
    return Published(
        name="Wang et al. 2017",
        split="official",
        boxes=ALL_BOXES,
        comparable=comparable,
        iou=dict(sorted((by_finding | {overlap: {"mean": value} for overlap, value in means.items()}).items())),
        iobb_mean={"0.1": 0.681, "0.25": 0.546, "0.5": 0.408, "0.75": 0.275, "0.9": 0.208},
        source="https://arxiv.org/abs/1705.02315",
    )


def as_table(document: Localisation) -> str:
    """Accuracy by overlap of every method and finding, false boxes and the pointing game, as text of at most 80 columns."""
    heads = ["boxes", *(f">{least}".replace("0", "") for least in IOU), "IoBB", "false", "point"]
    lines = [
        "share of boxes found at IoU > .1 to .7 and at IoBB > .5; false boxes",
        "per image; pointing game",
        "",
    ]
    for method in document["methods"]:
        lines.append(f"{method['name']:<14}" + "".join(f"{head:>6}" for head in heads))
        for row in method["findings"]:
            values = [one["value"] for one in row["iou"]] + [_at_half(row["iobb"])["value"]]
            values += [row["iou"][0]["false_boxes_per_image"], row["pointing"]["value"]]
            lines.append(f"  {row['finding']:<12}{row['boxes']:>6}" + _cells(values))
        mean = method["mean"]
        values = [*mean["iou"], mean["iobb"][IOBB.index(0.5)], mean["false_boxes_per_image"][0], mean["pointing"]]
        lines += [f"  {'mean':<12}{document['boxes']:>6}" + _cells(values), ""]
    for other in document["published"]:
        lines.append(_published_line(other))
    return "\n".join(lines)


def _at_half(accuracies: Sequence[Accuracy]) -> Accuracy:
    return next(one for one in accuracies if one["overlap"] == 0.5)


def _cells(values: Sequence[float]) -> str:
    """Without the leading 0, where there is no other digit."""
    return "".join(f"{value:.3f}".removeprefix("0").rjust(6) for value in values)


def _published_line(other: Published) -> str:
    """A published row, with the data it was measured on."""
    means = [other["iou"][str(least)]["mean"] for least in IOU] + [other["iobb_mean"]["0.5"]]
    basis = "on these boxes" if other["comparable"] else "other boxes: not comparable"
    return f"{other['name']} ({other['split']} split, {other['boxes']} boxes, {basis})\n  {'mean':<12}{other['boxes']:>6}{_cells(means)}"
