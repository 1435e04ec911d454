"""What is kept of the maps: pictures, and a line of JSON for each.

    OUT/<image>.<finding>.png   the image with the map and its boxes
    OUT/maps.jsonl              a line for each map

Shapes: T boxes drawn, h x w cells of a map.
"""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TextIO, TypedDict

import numpy as np
from numpy.typing import NDArray

from trainer.console import Reporter
from trainer.data.imagefiles import ImageFile
from trainer.errors import InputError
from trainer.explanation.boxes import found_on_image
from trainer.explanation.explainer import Explained, Explainer
from trainer.explanation.overlay import overlay
from trainer.trained import Trained

Floats = NDArray[np.float64]

MAPS: Final = "maps.jsonl"

STEM_BYTES: Final = 150
FINDING_BYTES: Final = 80
"""What an image and a finding may give to a picture's name, which file systems end at 255 bytes."""

_UNFIT_FOR_A_NAME = re.compile(r"[^\w.+-]+")


class MapBox(TypedDict):
    """A box of a map, in pixels of the image."""

    x: float
    y: float
    width: float
    height: float
    score: float
    """Highest place within, as a share of the map's range: 1 for the first."""


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
    """The picture's name in OUT."""


@dataclass(frozen=True)
class Output:
    """Where to, and how."""

    folder: Path
    box_threshold: float
    overlays: bool


Bad = tuple[str, str]
"""Name of an image that can't be used, and why."""


def each(
    explainer: Explainer,
    files: Sequence[ImageFile],
    numbers: Sequence[int],
    do: Callable[[Explained], Any],
    say: Reporter,
) -> list[Bad]:
    """Do something with every image that can be read; names and reasons of the others."""
    bad: list[Bad] = []
    with say.progress("explaining", len(files)) as advance:

        def refuse(file: ImageFile, reason: str) -> None:
            bad.append((file.name, reason))
            advance(1, "")

        for seen in explainer.explain(files, list(numbers), refuse):
            do(seen)
            advance(1, "")
    return bad


@contextmanager
def opened(
    trained: Trained, output: Output, files: Sequence[ImageFile], tell: Callable[[Line], None] = lambda _: None
) -> Iterator["MapWriter"]:
    """Writes to OUT the maps of these images; `tell` is given each line.

    Raises: InputError where OUT can't be written.
    """
    with writing(output.folder):
        output.folder.mkdir(parents=True, exist_ok=True)
        file = (output.folder / MAPS).open("w", encoding="utf-8")
    with file:
        yield MapWriter(trained, output, files, file, tell)


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Files are written in the block. Raises: InputError where that fails."""
    try:
        yield
    except OSError as problem:
        reason = (problem.strerror or str(problem)).lower()
        raise InputError(f"cannot write to `{folder}`: {reason} (from `--out`)") from problem


class MapWriter:
    """Writes pictures and lines to OUT."""

    def __init__(
        self, trained: Trained, output: Output, files: Sequence[ImageFile], file: TextIO, tell: Callable[[Line], None]
    ) -> None:
        self._trained = trained
        self._output = output
        self._stems = stems(files)
        self._file = file
        self._tell = tell

    def write(self, name: str, content: str | bytes) -> None:
        """Another file in OUT."""
        with writing(self._output.folder):
            (self._output.folder / name).write_bytes(content.encode() if isinstance(content, str) else content)

    def add(self, seen: Explained, number: int, drawn_T4: Floats | None = None) -> None:
        """One map of one image, beside boxes drawn on it, in its pixels."""
        finding, map_hw = self._trained.findings[number], seen.maps[number]
        boxes = found_on_image(map_hw, seen.place, self._output.box_threshold)
        picture = None
        if self._output.overlays:
            picture = f"{self._stems[seen.file]}.{_fit_for_a_name(finding, FINDING_BYTES)}.png"
            with writing(self._output.folder):
                shown = overlay(seen.gray, map_hw, seen.place, boxes.boxes_F4, drawn_T4)
                shown.save(self._output.folder / picture)
        line = Line(
            image=seen.file.name,
            finding=finding,
            probability=round(float(seen.probability_K[number]), 6),
            calibrated=self._trained.calibrator is not None,
            width=seen.place.width,
            height=seen.place.height,
            cells=list(map_hw.shape),
            boxes=[_as_line(*one) for one in zip(boxes.boxes_F4.tolist(), boxes.scores_F.tolist(), strict=True)],
            overlay=picture,
        )
        with writing(self._output.folder):
            self._file.write(json.dumps(line) + "\n")
        self._tell(line)


def stems(files: Sequence[ImageFile]) -> dict[ImageFile, str]:
    """What the pictures of each image are called: its name without folders and suffix, numbered where two would be one."""
    taken: set[str] = set()
    next_number: dict[str, int] = {}  # many a series has one name for all its files, each in a folder of its own
    names = {}
    for file in files:
        stem = name = _fit_for_a_name(file.path.stem, STEM_BYTES)
        while name.lower() in taken:
            number = next_number.get(stem, 2)
            name, next_number[stem] = f"{stem}-{number}", number + 1
        taken.add(name.lower())
        names[file] = name
    return names


def _fit_for_a_name(text: str, most_bytes: int) -> str:
    """The text as part of a file's name on any system."""
    return _UNFIT_FOR_A_NAME.sub("_", text).encode()[:most_bytes].decode(errors="ignore")


def _as_line(corners: Sequence[float], score: float) -> MapBox:
    left, top, right, bottom = (round(corner, 1) for corner in corners)
    return MapBox(x=left, y=top, width=round(right - left, 1), height=round(bottom - top, 1), score=round(score, 3))
