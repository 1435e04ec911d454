"""Files below the folders of a data set. Links to folders are followed, and each real folder is read once."""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from trainer.limits import FOLDER_DEPTH

Identity = tuple[int, int]


def files_below(folder: Path, unreadable: Callable[[OSError], None]) -> Iterator[Path]:
    """`files_in` for a single folder."""
    return (path for _, path in files_in([folder], unreadable))


Again = Callable[[Path, Path], None]
"""Called with a name under which a folder is not read, and the name under which it is."""


def files_in(
    folders: Sequence[Path], unreadable: Callable[[OSError], None], again: Again = lambda _name, _read: None
) -> Iterator[tuple[Path, Path]]:
    """Each of the folders with each file below it, sorted by name, a folder's own files before those of its subfolders.

    Hidden files are left out. A folder is read under its own name, whatever links lead to it: one in the folder of
    another class would give its images two labels, and one to `.` or `..` would never end. A folder outside is read
    through the first link to it; `again` gets every other name. `unreadable` is called for folders that cannot be read or
    are nested too deeply. Everything but a folder counts as a file, also pipes and broken links.
    """
    walk = _Walk(unreadable, again, above=_above(folders))
    for folder in folders:
        if not folder.is_symlink():
            walk.claim(folder)
    for folder in folders:
        yield from ((folder, path) for path in walk.files(folder))


@dataclass
class _Walk:
    unreadable: Callable[[OSError], None]
    again: Again
    above: set[Identity]
    """Folders that contain those of the data set: a link to one of them would lead back here."""
    seen: dict[Identity, Path] = field(default_factory=dict)
    """Folders that have been read, and under which name."""
    claimed: dict[Identity, Path] = field(default_factory=dict)
    """Folders below those of the data set, without following links, and their names."""
    listings: dict[Path, "_Listing"] = field(default_factory=dict)

    def claim(self, folder: Path) -> None:
        """Note all folders below this one, without following links."""
        pending = [(folder, 0)]
        while pending:
            current, depth = pending.pop()
            try:
                self.claimed.setdefault(_identity(current), current)
                folders = self._listed(current).folders
            except OSError:  # reported by `files`
                continue
            if depth < FOLDER_DEPTH:
                pending += [(current / name, depth + 1) for name in folders]

    def files(self, folder: Path) -> Iterator[Path]:
        """Files below the folder, except those of folders that are read elsewhere."""
        pending = [(folder, 0)]
        while pending:
            current, depth = pending.pop()
            try:
                if not self._enters(current):
                    continue
                listing = self._listed(current)
            except OSError as problem:
                self.unreadable(problem)
                continue
            below = sorted([*listing.folders, *listing.links], reverse=True)
            if below and depth == FOLDER_DEPTH:
                self.unreadable(OSError(0, f"folders nested more than {FOLDER_DEPTH} deep", str(current)))
                continue
            yield from (current / name for name in listing.files)
            pending += [(current / name, depth + 1) for name in below]

    def _enters(self, folder: Path) -> bool:
        """Whether the folder is still to be read, and under this name."""
        identity = _identity(folder)
        if identity in self.above:
            return False
        name = self.claimed.get(identity) or self.seen.get(identity) or folder
        if name != folder or identity in self.seen:
            self.again(folder, name)
            return False
        self.seen[identity] = folder
        return True

    def _listed(self, folder: Path) -> "_Listing":
        if folder not in self.listings:
            self.listings[folder] = _listed(folder)
        return self.listings[folder]


@dataclass(frozen=True)
class _Listing:
    """Names in a folder without hidden ones, sorted."""

    files: list[str]
    folders: list[str]
    links: list[str]
    """Links to folders."""


def _above(folders: Sequence[Path]) -> set[Identity]:
    above = {place for folder in folders for place in (*folder.absolute().parents, *folder.resolve().parents)}
    present = {_identity(folder) for folder in folders if folder.is_dir()}
    return {_identity(place) for place in above if place.is_dir()} - present


def _identity(folder: Path) -> Identity:
    status = folder.stat()
    return status.st_dev, status.st_ino


def _listed(folder: Path) -> _Listing:
    listing = _Listing([], [], [])
    with os.scandir(folder) as entries:
        for entry in entries:
            if not entry.name.startswith("."):
                is_link = entry.is_symlink()
                kind = listing.files if not is_folder(entry) else listing.links if is_link else listing.folders
                kind.append(entry.name)
    for names in (listing.files, listing.folders, listing.links):
        names.sort()
    return listing


def is_folder(entry: "os.DirEntry[str]") -> bool:
    """Whether it is a folder or a link to one; a circular link is not."""
    try:
        return entry.is_dir()
    except OSError:
        return False
