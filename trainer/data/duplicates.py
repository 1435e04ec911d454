"""Images with equal pixels in several splits: a model is then tested on images that it has seen.

Records of a pack are compared, so files that differ only in format or metadata are found too. They are reported and
stay in the data set: it is what its maker says.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from trainer.data.labels import LabelTable
from trainer.data.packs.reading import Pack
from trainer.data.packs.records import Gray

Group = dict[str, str]
"""Split of each of the images that are equal, by name."""


def in_several_splits(pack: Pack, table: LabelTable, rows: Mapping[str, NDArray[np.int64]]) -> list[Group]:
    """Groups of equal images that are not all in one split. Raises: TryAgainError for a damaged pack."""
    split_of = {row: split for split, rows_N in rows.items() for row in rows_N.tolist()}
    same_checksum: dict[int, list[int]] = {}
    for row in sorted(split_of):
        same_checksum.setdefault(int(pack.checksums_N[row]), []).append(row)
    candidates = [group for group in same_checksum.values() if len({split_of[row] for row in group}) > 1]
    equal = [rows for group in candidates for rows in _equal(pack, group)]
    groups = [{table.images[row]: split_of[row] for row in rows} for rows in equal]
    return [group for group in groups if len(set(group.values())) > 1]


def in_words(groups: Sequence[Group]) -> str | None:
    """How many images are equal to one in another split, for a log line; None without any."""
    if not groups:
        return None
    in_test = images_in_test(groups)
    total = sum(len(group) for group in groups)
    first = " = ".join(f"{name} ({split})" for name, split in groups[0].items())
    test = f", {in_test:,} of them in test, which makes its results too good" if in_test else ""
    return f"{total:,} images have the pixels of an image in another split{test}; the first are {first}"


def images_in_test(groups: Sequence[Group]) -> int:
    """Number of test images that are equal to one in another split."""
    return sum(split == "test" for group in groups for split in group.values())


def _equal(pack: Pack, rows: Sequence[int]) -> list[list[int]]:
    """The rows by content: different images may have one checksum."""
    side = pack.index.geometry.side
    record_1SS: Gray = np.empty((1, side, side), np.uint8)
    by_content: dict[bytes, list[int]] = {}
    for row in rows:
        pack.gather(np.array([row]), record_1SS)
        by_content.setdefault(record_1SS.tobytes(), []).append(row)
    return list(by_content.values())
