"""Which image files a user means by a list of files and directories."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISDIR, S_ISREG
from typing import Final

from trainer.data.class_folders import IMAGE_SUFFIXES, OTHER_IMAGES
from trainer.data.dicom import DICOM_HEAD_BYTES, is_dicom
from trainer.data.directory_walk import files_below
from trainer.storage.files import open_regular

_NO_FILE: Final = "it is neither a file nor a directory"


@dataclass(frozen=True)
class ImageFile:
    """A file that should be an image."""

    path: Path
    problem: str | None = None
    """Why it is none, where that is known without opening it."""

    @property
    def name(self) -> str:
        """As the user would write it, in text that can be printed."""
        text = os.fsencode(self.path).decode("utf-8", "backslashreplace")
        return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def image_files(places: Sequence[Path]) -> list[ImageFile]:
    """The files given, and below each directory all that are called images or are DICOM, in the order of their names.

    A file that is named twice is in the list once. What is not there, and a directory without images, is in it with the problem.
    """
    return list(dict.fromkeys(file for place in places for file in _at(place)))


def _at(place: Path) -> list[ImageFile]:
    try:
        mode = place.stat().st_mode
    except FileNotFoundError:
        return [ImageFile(place, "there is no such file")]
    except OSError as problem:  # a folder that may not be looked into, a name too long
        return [ImageFile(place, str(problem.strerror).lower())]
    if S_ISREG(mode):
        return [ImageFile(place)]
    if not S_ISDIR(mode):
        return [ImageFile(place, _NO_FILE)]
    problems: list[ImageFile] = []
    found = [ImageFile(path, _obstacle(path)) for path in _below(place, problems) if _is_image(path)]
    return [*found, *problems] or [ImageFile(place, "no image lies in this directory")]


def _obstacle(path: Path) -> str | None:
    """Why this is no file to read: whoever opens a pipe waits for ever. A link to nowhere says so when it is opened."""
    try:
        return None if S_ISREG(path.stat().st_mode) else _NO_FILE
    except OSError:
        return None


def _below(folder: Path, problems: list[ImageFile]) -> Iterator[Path]:
    """Files below the folder, hidden ones left out; links to directories are followed, each directory once."""

    def unreadable(problem: OSError) -> None:
        problems.append(ImageFile(Path(problem.filename), str(problem.strerror).lower()))

    return files_below(folder, unreadable)


def _is_image(path: Path) -> bool:
    if path.suffix.lower() in {*IMAGE_SUFFIXES, *OTHER_IMAGES}:
        return True
    if path.suffix and not path.suffix[1:].isdigit():  # DICOM's unique names are numbers and points
        return False
    try:
        with open_regular(path) as file:
            return is_dicom("", file.read(DICOM_HEAD_BYTES))
    except OSError:
        return False
