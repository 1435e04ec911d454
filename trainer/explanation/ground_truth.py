"""Which drawn boxes lie on given images, and what is known of training on those.

Shapes: T boxes of one finding on one image.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np
from numpy.typing import NDArray

from trainer.data.class_folders import patient_in_name
from trainer.data.image_files import ImageFile
from trainer.errors import InputError, listing
from trainer.explanation.boxlist import DrawnBox

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Drawn:
    """Boxes that were drawn on given images, of findings that the model knows."""

    boxes: Mapping[ImageFile, Mapping[int, Floats]]
    """By image and number of the finding: left, top, right, bottom as shares of width and height."""
    listed: int
    """How many the list has, of whatever image and finding."""
    notes: Sequence[str]

    @property
    def files(self) -> list[ImageFile]:
        """Images with a box."""
        return list(self.boxes)

    @property
    def used(self) -> int:
        """How many boxes there are."""
        return sum(len(boxes_T4) for one in self.boxes.values() for boxes_T4 in one.values())


def matched(
    drawn: Sequence[DrawnBox], files: Sequence[ImageFile], findings: Sequence[str], *, only: Sequence[int] = ()
) -> Drawn:
    """The boxes on these images, of the findings with the numbers `only`, else of all that the model knows.

    Images are matched by file name without its suffix: copies in other formats have the same.

    Raises: InputError when there is none, or two images with a box have one name.
    """
    wanted = {findings[number] for number in only} or set(findings)
    usable = [box for box in drawn if box.finding in wanted]
    if not usable:
        known = ", ".join(sorted({box.finding for box in drawn}))
        raise InputError(
            f"cannot use the boxes: none is of a finding that the model is asked about; they are of {known}",
            hint=f"the model is asked about {', '.join(sorted(wanted))}",
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
            f"cannot use the boxes: none of the {len({box.image for box in usable}):,} images they lie on "
            f"is among the {len(files):,} given (from `--boxes`)",
            hint=f"images are matched by file name, for example {usable[0].image}",
        )
    boxes = {
        file: {number: np.array(corners, np.float64) for number, corners in one.items()} for file, one in rows.items()
    }
    unknown = sorted({box.finding for box in drawn} - set(findings))
    notes = [f"boxes of {', '.join(unknown)} are left out: the model does not know them"] if unknown else []
    return Drawn(boxes, len(drawn), notes)


def _by_name(files: Sequence[ImageFile], wanted: set[str]) -> dict[str, ImageFile]:
    """Raises: InputError where one name is two images'."""
    found: dict[str, ImageFile] = {}
    for file in files:
        name = _name(file.path.name)
        if name in found and name in wanted:
            paths = listing(str(one.path) for one in (found[name], file))
            raise InputError(f"cannot tell on which `{name}` the boxes lie: two images are given:{paths}")
        found.setdefault(name, file)
    return found


def _name(image: str) -> str:
    return PurePosixPath(image).stem


def refuse_trained(trained_on: Mapping[str, str] | None, files: Sequence[ImageFile], *, force: bool) -> int | None:
    """How many of these images are of patients that a model was trained on; None where that is unknown.

    Images are compared by file name without suffix, and by patient where names tell it, as NIH's do.

    Raises: InputError when there are any, unless forced.
    """
    if trained_on is None:
        return None
    known = {_patient(name) for name, part in trained_on.items() if part == "train"}
    seen = [file.name for file in files if _patient(file.path.name) in known]
    if seen and not force:
        raise InputError(
            f"cannot judge the model by {len(seen)} of {len(files)} images with a box: it was trained on their patients:{listing(seen)}",
            hint="leave them out; with --force they are used, and the result says so",
        )
    return len(seen)


def _patient(image: str) -> str:
    """Whose image it is, where its name tells that, else the name; without suffix, which a copy in another format does not have."""
    name = _name(image)
    return patient_in_name(f"{name}.png") or name
