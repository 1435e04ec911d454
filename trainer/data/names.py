"""Names of images: `images_006/00011997_000.png` in one file may be `00011997_000.png` in another."""

from collections.abc import Iterable
from pathlib import PurePosixPath


def plain(name: str) -> str:
    """The name with forward slashes, and without `./` and a leading slash."""
    path = PurePosixPath(name.replace("\\", "/"))
    return str(path.relative_to(path.anchor)) if path.anchor else str(path)


class Names:
    """Names of a data set's images, found under other names of the same images."""

    def __init__(self, names: Iterable[str]) -> None:
        self._names: dict[str, list[str]] = {}
        for name in names:
            self._names.setdefault(PurePosixPath(name).name, []).append(name)

    def find(self, name: str) -> str | None:
        """The image meant by a name with more, fewer or other folders; None where there is none, or more than one.

        Folders decide only between images of the same file name.
        """
        same = self._names.get(PurePosixPath(name).name, [])
        if len(same) < 2:
            return same[0] if same else None
        if name in same:
            return name
        ends = [each for each in same if name.endswith(f"/{each}") or each.endswith(f"/{name}")]
        return ends[0] if len(ends) == 1 else None
