"""Pictures of images with their predictions.

    OUT/<image>.prediction.png   the image, with its prediction below it
    OUT/predictions.png          the first images side by side

They show the image, the name of its file and the prediction; nothing else that is in the file.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from PIL import Image

from trainer.data.decode import BadImageError, open_xray, why_not
from trainer.data.image_files import ImageFile
from trainer.errors import InputError
from trainer.evaluation.operating import RULE_TITLES
from trainer.inference.predict import Prediction
from trainer.models.load import LoadedModel
from trainer.report.captions import LEAST_TEXT_PX, NOT_CLINICAL, Entry, text_px, with_caption
from trainer.report.formatting import number
from trainer.report.picture_files import as_png, existing, stems, writing
from trainer.storage import LocalStorage, output_files
from trainer.storage.files import write_file
from trainer.storage.output_files import SHEET

ENDING: Final = ".prediction.png"

MOST_PX: Final = 1024
"""Longest side of an image in its picture, that of ChestX-ray14's; larger images are reduced."""

SHEET_IMAGES: Final = 12
SHEET_COLUMNS: Final = 4
TILE_PX: Final = 320
"""Images on the sheet, images in a row of it, and the longest side of each in pixels."""

MOST_PROBABLE: Final = 3
"""Findings that are named where none is above its threshold."""

_GAP_PX: Final = 12


@dataclass(frozen=True)
class PictureOutput:
    """The directory for the pictures of these files."""

    folder: Path
    files: Sequence[ImageFile]
    names: Mapping[ImageFile, str]
    """Name of each file's picture."""

    def drawn(self, predictions: Iterable[Prediction], trained: LoadedModel, rule: str) -> Iterator[Prediction]:
        """The predictions of the files, in their order, each after its picture is written; the sheet is written at the end.

        Raises: InputError when a picture cannot be written, or an image is not readable any more; all as the predictions.
        """
        with writing(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        tiles: list[Image.Image] = []
        readable = 0
        for file, each in zip(self.files, predictions, strict=True):
            if each.error is None:
                readable += 1
                gray, entries = _opened(file, trained.geometry.bits), said(each, trained, rule)
                name = Path(file.name).name
                self._write(self.names[file], prediction_picture(gray, [*entries, Entry(f"{name}. {NOT_CLINICAL}.")]))
                if len(tiles) < SHEET_IMAGES:
                    tiles.append(with_caption(_reduced(gray, TILE_PX), [[*entries, Entry(name)]], LEAST_TEXT_PX))
            yield each
        if tiles:
            self._write(SHEET, _sheet(tiles, readable))

    def _write(self, name: str, picture: Image.Image) -> None:
        with writing(self.folder):
            write_file(self.folder / name, as_png(picture))


def picture_output(folder: Path, files: Sequence[ImageFile]) -> PictureOutput:
    """The directory, checked before anything is predicted.

    Raises: InputError when it is none, or has foreign files with the names of pictures.
    """
    if folder.exists() and not folder.is_dir():
        raise InputError(
            f"cannot write to `{folder}`: it is not a directory (from `--out`)", hint="name a directory, or none yet"
        )
    names = {file: f"{stem}{ENDING}" for file, stem in stems(files).items()}
    with writing(folder):
        earlier = existing(folder, {SHEET, *names.values()})
    storage = LocalStorage(str(folder))
    output_files.check(storage, earlier)
    storage.sweep("", names={SHEET, *names.values()})
    return PictureOutput(folder, files, names)


def _opened(file: ImageFile, bits: int) -> Image.Image:
    """The image, decoded again: to keep those of a batch until they are predicted would take too much memory."""
    try:
        return open_xray(file.path, bits)
    except (BadImageError, InputError, OSError, MemoryError) as problem:
        raise InputError(f"cannot draw `{file.name}`: {why_not(problem)}") from problem


def prediction_picture(gray: Image.Image, entries: Sequence[Entry]) -> Image.Image:
    """The image in gray, reduced if it is large, above the entries."""
    shown = _reduced(gray, MOST_PX)
    return with_caption(shown, [entries], text_px(shown.size))


def said(each: Prediction, trained: LoadedModel, rule: str) -> list[Entry]:
    """The answer: class and confidence, or findings above their thresholds, or the most probable ones."""
    calibrated = "calibrated" if trained.calibrator else "not calibrated"
    if trained.loss == "cross_entropy":
        name, confidence = each.best
        return [Entry(_named(name), is_title=True), Entry(f"confidence {number(confidence)}, {calibrated}")]
    by_probability = sorted(each.probability, key=lambda name: -each.probability[name])
    most = f"most probable: {_listed(each, by_probability[:MOST_PROBABLE])}"
    if not any(decision is not None for decision in each.positive.values()):
        return [Entry(most[0].upper() + most[1:], is_title=True), Entry(f"{calibrated}, no thresholds")]
    positive = [name for name in by_probability if each.positive[name]]
    how = f"{calibrated}, thresholds by {RULE_TITLES[rule]}"
    if positive:
        return [Entry(_listed(each, positive), is_title=True), Entry(f"above threshold; {how}")]
    return [Entry("No finding above its threshold", is_title=True), Entry(f"{most}; {how}")]


def _listed(each: Prediction, names: Sequence[str]) -> str:
    """Names with probabilities, which a line break does not part."""
    return ", ".join(f"{_named(name)}\N{NO-BREAK SPACE}{number(each.probability[name])}" for name in names)


def _named(name: str) -> str:
    return name.replace("_", " ")


def _reduced(gray: Image.Image, most_px: int) -> Image.Image:
    shown = gray.convert("L")
    if max(shown.size) > most_px:
        shown.thumbnail((most_px, most_px), Image.Resampling.LANCZOS)
    return shown


def _sheet(tiles: Sequence[Image.Image], readable: int) -> Image.Image:
    """The tiles in rows, above a caption."""
    rows = [tiles[start : start + SHEET_COLUMNS] for start in range(0, len(tiles), SHEET_COLUMNS)]
    column = max(tile.width for tile in tiles) + _GAP_PX
    heights = [max(tile.height for tile in row) + _GAP_PX for row in rows]
    grid = Image.new("L", (column * len(rows[0]) - _GAP_PX, sum(heights)), "white")
    for number_of_row, row in enumerate(rows):
        for number_in_row, tile in enumerate(row):
            grid.paste(tile, (number_in_row * column, sum(heights[:number_of_row])))
    shown = (
        f"{len(tiles)} of {readable:,} images" if readable > len(tiles) else f"{readable} image{'s' * (readable > 1)}"
    )
    return with_caption(grid, [[Entry(f"{'First ' * (readable > len(tiles))}{shown}. {NOT_CLINICAL}.")]], LEAST_TEXT_PX)
