"""Drawn boxes matched to given images, and the check against training images.

Shapes: T boxes of one finding on one image.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

import numpy as np
from numpy.typing import NDArray

from trainer.data.finding_names import matching
from trainer.data.image_files import ImageFile
from trainer.data.patients import patient_in_name
from trainer.errors import InputError, listing
from trainer.explanation.boxlist import DrawnBox

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Drawn:
    """Drawn boxes on given images, of the model's findings."""

    boxes: Mapping[ImageFile, Mapping[int, Floats]]
    """By image and index of the finding: left, top, right, bottom in fractions of width and height, or in pixels."""
    listed: int
    """Number of boxes in the list, of all images and findings."""
    notes: Sequence[str]
    in_pixels: bool = False
    """Whether boxes are in pixels of the original images."""

    @property
    def files(self) -> list[ImageFile]:
        """Images with a box."""
        return list(self.boxes)

    def on(self, file: ImageFile, number: int, width: int, height: int) -> Floats:
        """Boxes [T, 4] of a finding in pixels of the image, which has this size.

        Raises: InputError for a box beyond the image, which then is no original.
        """
        boxes_T4 = self.boxes[file][number]
        if not self.in_pixels:
            return np.multiply(boxes_T4, np.array([width, height] * 2, np.float64))
        if (boxes_T4[:, 2:] > [width, height]).any():
            raise InputError(
                f"cannot use the boxes on `{file.name}`: they reach beyond its {width} x {height} pixels (from `--boxes`)",
                hint="the boxes are in pixels of the original images; give these, or a list with columns width and height",
            )
        return boxes_T4

    @property
    def used(self) -> int:
        """Number of boxes."""
        return sum(len(boxes_T4) for one in self.boxes.values() for boxes_T4 in one.values())


def matched(
    drawn: Sequence[DrawnBox], files: Sequence[ImageFile], findings: Sequence[str], *, only: Sequence[int] = ()
) -> Drawn:
    """The boxes on these images, of the findings `only`, by default of all the model's findings.

    Images are matched by file name without suffix: copies in other formats have the same name. Findings are those of the
    model under their names in other sets; boxes of several are joined where the model has them as one.

    Raises: InputError when there is none, or when two images with a box have the same name.
    """
    drawn, renamed = _named_as(drawn, findings)
    requested = {findings[number] for number in only} or set(findings)
    usable = [box for box in drawn if box.finding in requested]
    if not usable:
        listed = ", ".join(sorted({box.finding for box in drawn}))
        raise InputError(
            f"cannot use the boxes: none is of a requested finding; they are of {listed}",
            hint=f"requested are {', '.join(sorted(requested))}",
        )
    by_name = _by_name([file for file in files if not file.problem], {_name(box.image) for box in usable})
    rows: dict[ImageFile, dict[int, list[tuple[float, ...]]]] = {}
    for box in usable:
        file = by_name.get(_name(box.image))
        if file is not None:
            of_finding = rows.setdefault(file, {}).setdefault(findings.index(box.finding), [])
            of_finding.append((box.left, box.top, box.right, box.bottom))
    if not rows:
        raise InputError(
            f"cannot use the boxes: none of the {len({box.image for box in usable}):,} images with boxes "
            f"is among the {len(files):,} given (from `--boxes`)",
            hint=f"images are matched by file name, for example {usable[0].image}",
        )
    boxes = {
        file: {number: np.array(corners, np.float64) for number, corners in one.items()} for file, one in rows.items()
    }
    unknown = sorted({box.finding for box in drawn} - set(findings))
    notes = [f"boxes of {', '.join(unknown)} are skipped: the model has no such findings"] if unknown else []
    if renamed:
        notes.append(f"boxes of {', '.join(f'{old} are those of {new}' for old, new in renamed.items())}")
    return Drawn(boxes, len(drawn), notes, in_pixels=any(box.in_pixels for box in usable))


def _named_as(drawn: Sequence[DrawnBox], findings: Sequence[str]) -> tuple[list[DrawnBox], dict[str, str]]:
    """The boxes under the model's names of their findings, and these names by those of the list where they differ."""
    found = matching(findings, list(dict.fromkeys(box.finding for box in drawn)))
    outputs = {label: match.outputs[0] for match in found.matches if len(match.outputs) == 1 for label in match.labels}
    renamed = {label: output for label, output in outputs.items() if label != output}
    return [replace(box, finding=renamed.get(box.finding, box.finding)) for box in drawn], renamed


def _by_name(files: Sequence[ImageFile], boxed: set[str]) -> dict[str, ImageFile]:
    """Raises: InputError when two images have the same name."""
    files_by_name: dict[str, ImageFile] = {}
    for file in files:
        name = _name(file.path.name)
        if name in files_by_name and name in boxed:
            paths = listing(str(one.path) for one in (files_by_name[name], file))
            raise InputError(f"cannot match the boxes of `{name}`: two images have this name:{paths}")
        files_by_name.setdefault(name, file)
    return files_by_name


def _name(image: str) -> str:
    return PurePosixPath(image).stem


def refuse_trained(trained_on: Mapping[str, str] | None, files: Sequence[ImageFile], *, force: bool) -> int | None:
    """Number of these images of patients in the model's training set; None where unknown.

    Images are compared by file name without suffix, and by patient where the name identifies one, as NIH's do.

    Raises: InputError when there are any, unless forced.
    """
    if trained_on is None:
        return None
    known = {_patient(name) for name, split in trained_on.items() if split == "train"}
    seen = [file.name for file in files if _patient(file.path.name) in known]
    if seen and not force:
        raise InputError(
            f"cannot evaluate the model on {len(seen)} of {len(files)} images with a box: their patients are in its training set:{listing(seen)}",
            hint="remove them; with --force they are used, and the result states it",
        )
    return len(seen)


def _patient(image: str) -> str:
    """The patient in the image's name, otherwise the name; without suffix, which differs in other formats."""
    return patient_in_name(image) or _name(image)
