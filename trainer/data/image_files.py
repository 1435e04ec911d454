"""Image files in a list of files and directories given by the user."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISDIR, S_ISREG
from typing import Final

from trainer.data.class_folders import IMAGE_SUFFIXES, OTHER_IMAGES
from trainer.data.directory_walk import files_below
from trainer.data.look_alikes import looks_like_image
from trainer.storage.output_files import is_own_picture

_NO_FILE: Final = "it is neither a file nor a directory"


@dataclass(frozen=True)
class ImageFile:
    """A file expected to be an image."""

    path: Path
    problem: str | None = None
    """Why it is not one, where known without opening it."""

    @property
    def name(self) -> str:
        """The path as printable text."""
        text = os.fsencode(self.path).decode("utf-8", "backslashreplace")
        return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def image_files(places: Sequence[Path]) -> list[ImageFile]:
    """The given files, and below each directory all files with the suffix or first bytes of an image, sorted by name.

    Pictures that this program has written there are left out. Duplicates are removed. Missing files, and directories without
    images, are listed with their problem.
    """
    return list(dict.fromkeys(file for place in places for file in _at(place)))


def _at(place: Path) -> list[ImageFile]:
    try:
        mode = place.stat().st_mode
    except FileNotFoundError:
        return [ImageFile(place, "there is no such file")]
    except OSError as problem:  # a directory without permission, or a name that is too long
        return [ImageFile(place, str(problem.strerror).lower())]
    if S_ISREG(mode):
        return [ImageFile(place)]
    if not S_ISDIR(mode):
        return [ImageFile(place, _NO_FILE)]
    problems: list[ImageFile] = []
    files = [ImageFile(path, _obstacle(path)) for path in _below(place, problems) if _is_image(path)]
    return [*files, *problems] or [ImageFile(place, "there is no image in this directory")]


def _obstacle(path: Path) -> str | None:
    """Why this is not a readable file: opening a pipe would block. A broken link is reported when it is opened."""
    try:
        return None if S_ISREG(path.stat().st_mode) else _NO_FILE
    except OSError:
        return None


def _below(folder: Path, problems: list[ImageFile]) -> Iterator[Path]:
    """Files below the folder without hidden ones; links to directories are followed, each directory once."""

    def unreadable(problem: OSError) -> None:
        problems.append(ImageFile(Path(problem.filename), str(problem.strerror).lower()))

    return files_below(folder, unreadable)


def _is_image(path: Path) -> bool:
    if path.suffix.lower() in {*IMAGE_SUFFIXES, *OTHER_IMAGES}:
        return not is_own_picture(path)
    return looks_like_image(path)
