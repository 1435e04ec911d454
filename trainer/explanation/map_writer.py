"""Files of maps: pictures, and a line of JSON per map.

    OUT/<image>.<finding>.png   the image, and the image with the map and its boxes
    OUT/maps.jsonl              one line per map

Shapes: T boxes drawn, h x w cells of a map.
"""

import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TextIO, TypedDict, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from trainer.data.decode import is_turned, turned_note
from trainer.data.image_files import ImageFile
from trainer.devices import Arithmetic
from trainer.explanation.boxes import find_boxes_on_image
from trainer.explanation.decision import decision
from trainer.explanation.explainer import Explained, Explainer, Unusable
from trainer.explanation.map_picture import Answer, Map, map_picture
from trainer.limits import parsed_json
from trainer.models.load import LoadedModel
from trainer.report.picture_files import as_png, different_names, existing, stems, writing
from trainer.runtime.console import Reporter
from trainer.storage import AbsentError, LocalStorage, output_files
from trainer.storage.files import open_new, replacing, write_file

Floats = NDArray[np.float64]
Drawn = TypeVar("Drawn")

MAPS: Final = "maps.jsonl"

FINDING_BYTES: Final = 80
"""Bytes of a finding's name in a picture's name, which has the image's name too."""


class MapBox(TypedDict):
    """A box of a map, in pixels of the image."""

    x: float
    y: float
    width: float
    height: float
    score: float
    """Maximum inside the box, as a fraction of the map's range: 1 for the first."""


class Line(TypedDict):
    """A line of maps.jsonl: one map."""

    image: str
    finding: str
    probability: float
    calibrated: bool
    width: int
    height: int
    """Of the image, in pixels."""
    cells: list[int]
    """Rows and columns of the map."""
    boxes: list[MapBox]
    overlay: str | None
    """Name of the picture in OUT."""
    precision: Arithmetic
    """Of the network up to its last feature maps."""


@dataclass(frozen=True)
class Output:
    """Destination and options."""

    folder: Path
    box_threshold: float
    overlays: bool


Bad = tuple[str, str]
"""Name of an unusable image, and the reason."""


def each(
    explainer: Explainer,
    files: Sequence[ImageFile],
    numbers: Sequence[int],
    *,
    draw: Callable[[Explained], Drawn],
    add: Callable[[Drawn], object],
    reporter: Reporter,
) -> list[Bad]:
    """Process every readable image; returns names and reasons of the others.

    `draw` is called in several threads at once, `add` gets its results in the order of the files.
    """
    bad: list[Bad] = []
    turned = 0

    def drawn(seen: Explained) -> tuple[Drawn, bool]:
        return draw(seen), is_turned(seen.gray)

    with reporter.progress("explaining", len(files)) as advance:
        for one in explainer.explain(files, list(numbers), drawn):
            if isinstance(one, Unusable):
                bad.append((one.file.name, one.reason))
            else:
                add(one[0])
                turned += one[1]
            advance(1, "")
    if turned:
        reporter.line(f"note: {turned_note(turned, len(files))}")
    return bad


@contextmanager
def opened(
    trained: LoadedModel,
    output: Output,
    files: Sequence[ImageFile],
    report: Callable[[Line], None] = lambda _: None,
    *,
    others: Sequence[str] = (),
) -> Iterator["MapWriter"]:
    """Writer of the maps of these images to OUT; `report` gets each line. OUT/maps.jsonl appears at the end of the block.

    Raises: InputError when OUT cannot be written, or when it has foreign files with the names of pictures or `others`.
    """
    names = stems(files)
    with ExitStack() as held:
        with writing(output.folder):
            output.folder.mkdir(parents=True, exist_ok=True)
            _check_free(trained, output, names, others)
            partial = held.enter_context(replacing(output.folder / MAPS))
            file = held.enter_context(io.TextIOWrapper(open_new(partial), encoding="utf-8"))
        yield MapWriter(trained, output, names, file, report)


def _check_free(trained: LoadedModel, output: Output, names: Mapping[ImageFile, str], others: Sequence[str]) -> None:
    storage = LocalStorage(str(output.folder))
    output_files.check(storage, [MAPS, *others], beside=MAPS)
    if output.overlays:
        pictures = {f"{stem}{ending}" for stem in names.values() for ending in _endings(trained.findings)}
        earlier = existing(output.folder, pictures)
        output_files.check(storage, earlier, ours=_drawn_before(storage) if earlier else ())
        storage.sweep("", names=pictures)


def _drawn_before(storage: LocalStorage) -> set[str]:
    """Pictures listed in the file of an earlier call; those of older versions have no mark of their own."""
    pictures = set()
    with suppress(AbsentError):
        for line in storage.read(MAPS).splitlines():
            with suppress(ValueError, AttributeError):
                pictures.add(str(parsed_json(line).get("overlay")))
    return pictures


class MapWriter:
    def __init__(
        self,
        trained: LoadedModel,
        output: Output,
        names: Mapping[ImageFile, str],
        file: TextIO,
        report: Callable[[Line], None],
    ) -> None:
        self._trained = trained
        self._output = output
        self._stems = names
        self._ending_of = dict(zip(trained.findings, _endings(trained.findings), strict=True))
        self._file = file
        self._report = report

    def write(self, name: str, content: str | bytes) -> None:
        """Write another file to OUT."""
        content = content.encode() if isinstance(content, str) else content
        with writing(self._output.folder):
            write_file(self._output.folder / name, content)

    def draw(self, seen: Explained, number: int, drawn_T4: Floats | None = None) -> Line:
        """The line of one map of one image; writes its picture, with boxes drawn on it in its pixels. Threads may call it."""
        finding, map_hw = self._trained.findings[number], seen.maps[number]
        boxes = find_boxes_on_image(map_hw, seen.place, self._output.box_threshold)
        picture = None
        if self._output.overlays:
            picture = f"{self._stems[seen.file]}{self._ending_of[finding]}"
            self.write(picture, as_png(self._drawn(seen, number, boxes.boxes_F4, drawn_T4)))
        return Line(
            image=seen.file.name,
            finding=finding,
            probability=round(float(seen.probability_K[number]), 6),
            calibrated=self._trained.calibrator is not None,
            width=seen.place.width,
            height=seen.place.height,
            cells=list(map_hw.shape),
            boxes=[_as_line(*one) for one in zip(boxes.boxes_F4.tolist(), boxes.scores_F.tolist(), strict=True)],
            overlay=picture,
            precision=seen.precision,
        )

    def add(self, lines: Iterable[Line]) -> None:
        """Write these lines."""
        for line in lines:
            with writing(self._output.folder):
                self._file.write(json.dumps(line) + "\n")
            self._report(line)

    def _drawn(self, seen: Explained, number: int, boxes_F4: Floats, drawn_T4: Floats | None) -> Image.Image:
        shown = Map(
            gray=seen.gray,
            map_hw=seen.maps[number],
            place=seen.place,
            boxes_B4=boxes_F4,
            box_threshold=self._output.box_threshold,
            drawn_B4=drawn_T4,
        )
        answer = Answer(
            image=Path(seen.file.name).name,
            finding=self._trained.findings[number],
            probability=float(seen.probability_K[number]),
            is_calibrated=self._trained.calibrator is not None,
            decision=decision(self._trained, seen.probability_K, number),
        )
        return map_picture(shown, answer)


def _endings(findings: Sequence[str]) -> list[str]:
    """Suffix of the pictures of each finding, numbered where two would be equal, as `Nodule/Mass` and `Nodule_Mass`."""
    return [f".{name}.png" for name in different_names(findings, FINDING_BYTES)]


def _as_line(corners: Sequence[float], score: float) -> MapBox:
    left, top, right, bottom = (round(corner, 1) for corner in corners)
    return MapBox(x=left, y=top, width=round(right - left, 1), height=round(bottom - top, 1), score=round(score, 3))
