"""Which image of a label table a member of an archive, or an object of a bucket, is."""

from collections.abc import Callable
from pathlib import PurePosixPath

from trainer.data.layouts.source import Source
from trainer.data.names import Names
from trainer.data.patients import file_name

ImageOf = Callable[[str], str | None]
"""From a place, such as `images/00000001_000.png`, to the name in the label files; None where it is none of them."""


def image_finder(source: Source) -> ImageOf:
    """The rule for names of this data set, by its placement, with any folders before a place."""
    if source.placement in {"anywhere", "stems"}:
        by_stem = source.placement == "stems"
        name_of = {file_name(name): name for name in source.table.images}

        def find(place: str) -> str | None:
            path = PurePosixPath(place)
            return name_of.get(path.stem if by_stem else path.name)

        return find
    return Names(source.table.images).find
