"""Conversion of images to records: square, 8-bit gray, resized as the recipe does."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from trainer.config import PackFit
from trainer.data.bad_image import BadImageError
from trainer.data.decode import ImageSource, gray_and_greatest, is_turned
from trainer.data.dicom import FULL_BITS

Gray = NDArray[np.uint8]

LEAST_SIDE_PX: Final = 8
"""Smaller images are broken files or icons; the smallest radiographs in use, MedMNIST's, have 28."""

_FILTER: Final = Image.Resampling.BILINEAR

RESIZE_FILTER: Final = "Pillow BILINEAR (antialiased)"
"""The filter for other programs; one without antialiasing gives other pixels, and so other probabilities."""


@dataclass(frozen=True, kw_only=True)
class Geometry:
    """How images become records."""

    side: int
    fit: PackFit
    filter: str = "bilinear"
    gray_bits: int | None = None
    """Bits of 16-bit images that are black to white; None for all of them, without anybody having chosen it."""

    @property
    def bits(self) -> int:
        """Bits of 16-bit images that are black to white."""
        return FULL_BITS if self.gray_bits is None else self.gray_bits

    def described(self) -> dict[str, Any]:
        """What decides the records; the gray range only where it is not the full one, as in packs of earlier versions."""
        described = asdict(self)
        if self.bits == FULL_BITS:
            del described["gray_bits"]
        return described


@dataclass(frozen=True, eq=False)
class Record:
    """An image in a pack."""

    gray_SS: Gray
    size: tuple[int, int]
    """Original width and height."""
    greatest: int | None
    """Greatest value of a 16-bit image; None for all others."""
    turned: bool
    """Whether it has an EXIF orientation, which is ignored."""


def to_gray_square(path: Path, geometry: Geometry) -> Gray:
    """The image as side x side 8-bit gray.

    Raises: as `open_gray`; BadImageError also for an image that is too small.
    """
    return to_record(path, geometry).gray_SS


def to_record(path: ImageSource, geometry: Geometry) -> Record:
    """The record of an image. Raises: as `to_gray_square`."""
    gray, greatest = gray_and_greatest(path, geometry.bits)
    if min(gray.size) < LEAST_SIDE_PX:
        raise BadImageError(f"it has {gray.width} x {gray.height} pixels, at least {LEAST_SIDE_PX} per side are needed")
    return Record(np.asarray(to_square(gray, geometry)), gray.size, greatest, is_turned(gray))


def to_square(gray: Image.Image, geometry: Geometry) -> Image.Image:
    """The gray image as a square record."""
    side = geometry.side
    width, height = gray.size
    if width == height or geometry.fit == "squash":
        return gray.resize((side, side), _FILTER)
    if geometry.fit == "pad":
        scale = side / max(width, height)
        small = gray.resize((max(1, round(width * scale)), max(1, round(height * scale))), _FILTER)
        square = Image.new("L", (side, side))
        square.paste(small, ((side - small.width) // 2, (side - small.height) // 2))
        return square
    # Short side to `side`, then the centre: equals torchvision's Resize and CenterCrop pixel by pixel.
    if width < height:
        gray = gray.resize((side, int(side * height / width)), _FILTER)
    else:
        gray = gray.resize((int(side * width / height), side), _FILTER)
    left, top = round((gray.width - side) / 2), round((gray.height - side) / 2)
    return gray.crop((left, top, left + side, top + side))
