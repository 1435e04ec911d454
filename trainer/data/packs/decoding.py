"""Images to records in a decoder process: written to their place in a shard, with what is known about each image."""

import errno
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from trainer.data.decode import ImageBytes, ImageSource
from trainer.data.packs.checksums import GROUP, checksums_of
from trainer.data.packs.decoders import MEMORY_HINT, note_image
from trainer.data.packs.records import Geometry, Gray, to_record
from trainer.errors import InputError, KnownError, TryAgainError


@dataclass
class Decoded:
    """Images that a decoder has written."""

    sizes: list[tuple[int, int]]
    """Original width and height; 0 and 0 for unreadable ones."""
    greatest: list[int] = field(default_factory=list)
    """Greatest value of each 16-bit image."""
    unreadable: dict[int, str] = field(default_factory=dict)
    """Reason by position among these images."""
    turned: int = 0
    """Images whose EXIF orientation is ignored."""
    checksums: list[int] = field(default_factory=list)
    """Of the records, where they were written to a shard."""


def decode(shard: Path, first_row: int, offset: int, paths: Sequence[Path], geometry: Geometry) -> Decoded:
    """Write the records of these images from record `offset` of the shard on; `first_row` is the row of its first record.

    Raises: as `decode_images`; OSError.
    """
    records_NSS, done = decode_images(first_row + offset, paths, geometry)
    with shard.open("r+b") as file:
        file.seek(offset * geometry.side**2)
        file.write(records_NSS.data)
    for first in range(0, len(records_NSS), GROUP):
        done.checksums += checksums_of(records_NSS[first : first + GROUP]).tolist()
    return done


def decode_images(first_number: int, images: Sequence[ImageSource], geometry: Geometry) -> tuple[Gray, Decoded]:
    """The records of these images [N, S, S], and what is known about them; unreadable ones are black.

    Images are noted for `decoders` by their numbers, from `first_number` on.

    Raises: InputError for a missing package, too little memory, and for a pipe or folder with an image's name;
    TryAgainError when an image cannot be reached.
    """
    done = Decoded([(0, 0)] * len(images))
    records_NSS = np.zeros((len(images), geometry.side, geometry.side), np.uint8)
    for position, image in enumerate(images):
        note_image(first_number + position)
        try:
            record = to_record(image, geometry)
            records_NSS[position], done.sizes[position] = record.gray_SS, record.size
            done.greatest += [] if record.greatest is None else [record.greatest]
            done.turned += record.turned
        except InputError:  # a package is missing, for all images
            raise
        except MemoryError:
            name = image.name if isinstance(image, ImageBytes) else image
            raise InputError(f"cannot decode `{name}`: there is not enough memory", hint=MEMORY_HINT) from None
        except Exception as problem:  # noqa: BLE001 - a damaged image fails in its decoder in many ways
            # an error of disk, mount or permissions, not of the image
            if isinstance(problem, OSError) and problem.errno is not None and isinstance(image, Path):
                raise _unreachable(image, problem) from None
            done.unreadable[position] = str(problem) or type(problem).__name__
    note_image(-1)
    return records_NSS, done


def _unreachable(path: Path, problem: OSError) -> KnownError:
    """A restart helps when a mount is away, but not when a pipe or a folder has an image's name."""
    kind = InputError if problem.errno == errno.EINVAL else TryAgainError
    return kind(f"cannot read `{path}`: {problem.strerror}", hint="check --data and its permissions")
