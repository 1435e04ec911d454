"""Names of images: `images_006/00011997_000.png` in one file may be `00011997_000.png` in another."""

import re
from collections.abc import Iterable
from typing import Final

from trainer.data.patients import file_name, nih_patient

_IMAGES_FOLDER: Final = re.compile(r"images(_\d+)?")


def plain(name: str) -> str:
    """The name with forward slashes, and without `./` and a leading slash."""
    return "/".join(part for part in name.replace("\\", "/").split("/") if part not in {"", "."}) or "."


def is_images_folder(name: str) -> bool:
    """Whether a folder has a name of the release's folders for images, which identifies no image."""
    return _IMAGES_FOLDER.fullmatch(name) is not None


_MANY: Final = 64
"""Images of one file name from which they are looked up by their folders: CheXpert has 150,000 `view1_frontal.jpg`."""


class Names:
    """Names of a data set's images, found under other names of the same images."""

    def __init__(self, names: Iterable[str]) -> None:
        self._names: dict[str, list[str]] = {}
        self._by_folders: dict[str, dict[tuple[str, ...], list[str]]] = {}
        listed = list(names)
        self._all = frozenset(listed)
        for name in listed:
            self._names.setdefault(file_name(name), []).append(name)

    def same_file(self, name: str) -> list[str]:
        """The images with this file name, in whatever folders."""
        return self._names.get(file_name(name), [])

    def agreeing(self, name: str) -> list[str]:
        """The images that may be meant by this name: those with as many of its folders as possible, and no others.

        Folders other than images/, images_001/ … must agree as far as both names have them: `p3/view1.png` is not
        `p7/view1.png`.
        """
        same = self.same_file(name)
        if len(same) == 1 and "/" not in same[0]:  # agrees with any folders; the usual case, of which there are 100,000
            return same
        ours = _folders(name)
        if len(same) > _MANY and len(ours) > 1:
            same = self._with_last_folders(name, ours)
        folders = {each: _folders(each) for each in same}
        inside = {each: theirs for each, theirs in folders.items() if _ends_with(ours, theirs)}
        most = max(map(len, inside.values()), default=0)
        around = [each for each, theirs in folders.items() if _ends_with(theirs, ours)]
        return [each for each, theirs in inside.items() if len(theirs) == most] or around

    def _with_last_folders(self, name: str, ours: list[str]) -> list[str]:
        """The images with this file name whose last two folders agree, as far as they have two."""
        file = file_name(name)
        if file not in self._by_folders:
            found = self._by_folders[file] = {}
            for each in self._names[file]:
                found.setdefault(tuple(_folders(each)[-2:]), []).append(each)
        ends = [tuple(ours[-2:]), tuple(ours[-1:]), ()]
        return [each for end in ends for each in self._by_folders[file].get(end, [])]

    def find(self, name: str) -> str | None:
        """The image meant by a name with more or fewer folders; None where there is none, or more than one.

        Only names in the form of NIH's are unique without their folders.
        """
        if name in self._all:
            return name
        same = self.same_file(name)
        agreeing = self.agreeing(name)
        if not agreeing and len(same) == 1 and nih_patient(name):
            return same[0]
        return agreeing[0] if len(agreeing) == 1 else None


def _folders(name: str) -> list[str]:
    """Of 100,000 names, for which `PurePosixPath` takes seconds; a leading slash is a folder, as there."""
    root = ["/"] * name.startswith("/")
    parts = [part for part in name.split("/") if part not in {"", "."}]
    return [*root, *(part for part in parts[:-1] if not is_images_folder(part))]


def _ends_with(folders: list[str], end: list[str]) -> bool:
    return folders[len(folders) - len(end) :] == end if len(end) <= len(folders) else False
