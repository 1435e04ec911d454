"""Conversion of images to records: square, 8-bit gray, resized as the recipe does."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from trainer.config import PackFit
from trainer.data.bad_image import BadImageError
from trainer.data.decode import is_turned, open_gray

Gray = NDArray[np.uint8]

LEAST_SIDE_PX: Final = 8
"""Smaller images are broken files or icons; the smallest radiographs in use, MedMNIST's, have 28."""


@dataclass(frozen=True, kw_only=True)
class Geometry:
    """How images become records."""

    side: int
    fit: PackFit
    filter: str = "bilinear"


def to_gray_square(path: Path, geometry: Geometry) -> Gray:
    """The image as side x side 8-bit gray.

    Raises: as `open_gray`; BadImageError also for an image that is too small.
    """
    return square_and_size(path, geometry).square


class Record(NamedTuple):
    """An image as it is kept."""

    square: Gray
    size: tuple[int, int]
    """Original width and height."""
    turned: bool
    """Whether it has an EXIF orientation, which is ignored."""


def square_and_size(path: Path, geometry: Geometry) -> Record:
    """The record of an image, and what is known about its file."""
    gray = open_gray(path)
    if min(gray.size) < LEAST_SIDE_PX:
        raise BadImageError(f"it has {gray.width} x {gray.height} pixels, at least {LEAST_SIDE_PX} per side are needed")
    return Record(np.asarray(to_square(gray, geometry)), gray.size, is_turned(gray))


def to_square(gray: Image.Image, geometry: Geometry) -> Image.Image:
    """The gray image as a square record."""
    side = geometry.side
    width, height = gray.size
    if width == height or geometry.fit == "squash":
        return gray.resize((side, side), Image.Resampling.BILINEAR)
    if geometry.fit == "pad":
        scale = side / max(width, height)
        small = gray.resize((max(1, round(width * scale)), max(1, round(height * scale))), Image.Resampling.BILINEAR)
        square = Image.new("L", (side, side))
        square.paste(small, ((side - small.width) // 2, (side - small.height) // 2))
        return square
    # Short side to `side`, then the centre: equals torchvision's Resize and CenterCrop pixel by pixel.
    if width < height:
        gray = gray.resize((side, int(side * height / width)), Image.Resampling.BILINEAR)
    else:
        gray = gray.resize((int(side * width / height), side), Image.Resampling.BILINEAR)
    left, top = round((gray.width - side) / 2), round((gray.height - side) / 2)
    return gray.crop((left, top, left + side, top + side))
