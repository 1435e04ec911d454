"""What is kept of the maps: pictures, and a line of JSON for each.

    OUT/<image>.<finding>.png   the image with the map and its boxes
    OUT/maps.jsonl              a line for each map

Shapes: T boxes drawn, h x w cells of a map.
"""

import io
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TextIO, TypedDict

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from trainer.data.image_files import ImageFile
from trainer.errors import InputError
from trainer.explanation.boxes import found_on_image
from trainer.explanation.explainer import Explained, Explainer
from trainer.explanation.overlay import overlay
from trainer.limits import parsed_json
from trainer.models.load import LoadedModel
from trainer.runtime.console import Reporter
from trainer.storage import AbsentError, LocalStorage, output_files
from trainer.storage.files import open_new, replacing, write_file

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
    reporter: Reporter,
) -> list[Bad]:
    """Do something with every image that can be read; names and reasons of the others."""
    bad: list[Bad] = []
    with reporter.progress("explaining", len(files)) as advance:

        def refuse(file: ImageFile, reason: str) -> None:
            bad.append((file.name, reason))
            advance(1, "")

        for seen in explainer.explain(files, list(numbers), refuse):
            do(seen)
            advance(1, "")
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
    """Writes to OUT the maps of these images; `report` is given each line. OUT/maps.jsonl appears at the end of the block.

    Raises: InputError where OUT can't be written, or files of others have the names of pictures or of these `others`.
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
        ends = tuple(_ending(finding) for finding in trained.findings)
        mine = {f"{stem}{end}" for stem in names.values() for end in ends}
        there = [entry.name for entry in os.scandir(output.folder) if entry.name in mine]
        output_files.check(storage, there, ours=_drawn_before(storage) if there else ())
        storage.sweep("", names=mine)


def _drawn_before(storage: LocalStorage) -> set[str]:
    """Pictures that are listed in the file of an earlier call: those of older versions don't say whose they are."""
    found = set()
    with suppress(AbsentError):
        for line in storage.read(MAPS).splitlines():
            with suppress(ValueError, AttributeError):
                found.add(str(parsed_json(line).get("overlay")))
    return found


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
        self._file = file
        self._report = report

    def write(self, name: str, content: str | bytes) -> None:
        """Another file in OUT."""
        content = content.encode() if isinstance(content, str) else content
        with writing(self._output.folder):
            write_file(self._output.folder / name, content)

    def add(self, seen: Explained, number: int, drawn_T4: Floats | None = None) -> None:
        """One map of one image, beside boxes drawn on it, in its pixels."""
        finding, map_hw = self._trained.findings[number], seen.maps[number]
        boxes = found_on_image(map_hw, seen.place, self._output.box_threshold)
        picture = None
        if self._output.overlays:
            picture = f"{self._stems[seen.file]}{_ending(finding)}"
            self.write(picture, _as_png(overlay(seen.gray, map_hw, seen.place, boxes.boxes_F4, drawn_T4)))
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
        self._report(line)


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


def _ending(finding: str) -> str:
    """How the names of pictures of this finding end."""
    return f".{_fit_for_a_name(finding, FINDING_BYTES)}.png"


def _as_png(picture: Image.Image) -> bytes:
    """The file, which says that this program wrote it."""
    about, out = PngInfo(), io.BytesIO()
    about.add(*output_files.PNG_MARK)
    picture.save(out, format="PNG", pnginfo=about)
    return out.getvalue()


def _fit_for_a_name(text: str, most_bytes: int) -> str:
    """The text as part of a file's name on any system."""
    return _UNFIT_FOR_A_NAME.sub("_", text).encode()[:most_bytes].decode(errors="ignore")


def _as_line(corners: Sequence[float], score: float) -> MapBox:
    left, top, right, bottom = (round(corner, 1) for corner in corners)
    return MapBox(x=left, y=top, width=round(right - left, 1), height=round(bottom - top, 1), score=round(score, 3))
