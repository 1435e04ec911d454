"""Agreement of a model's maps with drawn boxes, compared with baselines that ignore the image.

    OUT/localisation.json
    OUT/localisation.png    accuracy over overlap

Shapes: T boxes drawn, h x w cells of a map.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from trainer.data.image_files import ImageFile
from trainer.errors import InputError, listing
from trainer.explanation.baselines import centre_map, random_map
from trainer.explanation.boxes import find_boxes_on_image, peak_on_image
from trainer.explanation.explainer import Explained, Explainer
from trainer.explanation.ground_truth import Drawn
from trainer.explanation.localisation import ALL_BOXES, FORMAT, Case, Localisation, evaluated, wang_2017
from trainer.explanation.localisation_plot import plotted
from trainer.explanation.map_writer import Bad, Line, MapWriter, Output, each, opened
from trainer.explanation.placement import Placement
from trainer.report.drawing import as_png
from trainer.report.formatting import last_name
from trainer.runtime.console import Reporter

Floats = NDArray[np.float64]

LOCALISATION: Final = "localisation.json"
PLOT: Final = "localisation.png"

RANDOM_DRAWS: Final = 10
"""Random maps per map of the model."""


def localise(
    explainer: Explainer,
    drawn: Drawn,
    *,
    trained_on_images: int | None,
    output: Output,
    seed: int,
    reporter: Reporter,
) -> tuple[Localisation, list[Bad]]:
    """Compare the model's maps with drawn boxes and write the result and the maps to OUT; also returns unusable images.

    Raises: InputError when no image with a box is usable, or OUT cannot be written.
    """
    numbers = sorted({number for boxes in drawn.boxes.values() for number in boxes})
    cases = _Cases(explainer.trained.findings, output.box_threshold, np.random.default_rng(seed))
    with opened(explainer.trained, output, drawn.files, others=(LOCALISATION, PLOT)) as writer:

        def draw(seen: Explained) -> list[_Drawn]:
            return [_drawn(seen, number, drawn, writer) for number in drawn.boxes[seen.file]]

        def add(findings: list[_Drawn]) -> None:
            for one in findings:
                cases.add(one)
            writer.add(one.line for one in findings)

        bad = each(explainer, drawn.files, numbers, draw=draw, add=add, reporter=reporter)
        if not cases.model:
            raise InputError(f"cannot use any image with a box:{listing(f'{name}: {why}' for name, why in bad)}")
        document = _document(explainer, drawn, cases, trained_on_images)
        writer.write(LOCALISATION, json.dumps(document, indent=1) + "\n")
        writer.write(PLOT, as_png(plotted(document)))
    return document, bad


@dataclass(frozen=True, eq=False)
class _Drawn:
    """A finding of an image with its map, and the boxes drawn by radiologists."""

    file: ImageFile
    place: Placement
    number: int
    map_hw: NDArray[np.float32]
    drawn_T4: Floats
    line: Line


def _drawn(seen: Explained, number: int, drawn: Drawn, writer: MapWriter) -> _Drawn:
    drawn_T4 = drawn.on(seen.file, number, seen.place.width, seen.place.height)
    return _Drawn(seen.file, seen.place, number, seen.maps[number], drawn_T4, writer.draw(seen, number, drawn_T4))


class _Cases:
    """Collects, for each drawn finding, the results of the model's map and of the baselines."""

    def __init__(self, findings: Sequence[str], threshold: float, generator: np.random.Generator) -> None:
        self.model: list[Case] = []
        self.random: list[list[Case]] = [[] for _ in range(RANDOM_DRAWS)]
        self.centre: list[Case] = []
        self.cells: tuple[int, int] = (0, 0)
        self.images: set[ImageFile] = set()
        self.threshold = threshold
        self._findings = findings
        self._generator = generator

    def add(self, one: _Drawn) -> None:
        """Add one finding of one image. The order of the calls decides which random maps it gets."""
        rows, columns = one.map_hw.shape
        self.cells = rows, columns
        self.images.add(one.file)

        def case(map_hw: NDArray[np.floating]) -> Case:
            boxes = find_boxes_on_image(map_hw, one.place, self.threshold)
            return Case(self._findings[one.number], one.drawn_T4, boxes.boxes_F4, peak_on_image(map_hw, one.place))

        self.model.append(case(one.map_hw))
        self.centre.append(case(centre_map()))
        for draw in self.random:
            draw.append(case(random_map(self.cells, self._generator)))


def _document(explainer: Explainer, drawn: Drawn, cases: _Cases, trained_on_images: int | None) -> Localisation:
    boxes = sum(len(case.drawn_T4) for case in cases.model)
    return Localisation(
        format=FORMAT,
        model=last_name(explainer.trained.origin),
        boxes=boxes,
        boxes_listed=drawn.listed,
        images=len(cases.images),
        box_threshold=cases.threshold,
        map_cells=list(cases.cells),
        trained_on_known=trained_on_images is not None,
        trained_on_images=trained_on_images,
        methods=[
            evaluated("model", [cases.model]),
            evaluated("random map", cases.random),
            evaluated("image centre", [cases.centre]),
        ],
        published=[wang_2017(comparable=boxes == ALL_BOXES and trained_on_images == 0)],
        notes=[*drawn.notes, *_notes(trained_on_images), *explainer.notes()],
    )


def _notes(trained_on_images: int | None) -> list[str]:
    if trained_on_images is None:
        return ["the model's training images are unknown"]
    if trained_on_images:
        return [f"{trained_on_images} images are of patients in the training set: these results are too optimistic"]
    return []
