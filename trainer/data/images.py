"""One image file as gray: PNG, JPEG, and DICOM where the package for it is installed.

Orientation in EXIF is not looked at: training reads pixels as they are stored, and so does whatever is compared with it.
"""

from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image, UnidentifiedImageError

from trainer.data.dicom import DICOM_HEAD_BYTES, MOST_PIXELS, BadImageError, is_dicom, quiet, read_dicom

__all__ = ["BadImageError", "open_gray", "open_xray"]

FORMATS: Final = ("PNG", "JPEG")
"""What is read, whatever the file's name: some of Pillow's readers start other programs."""

MIN_SIDE_PX: Final = 32
"""The smallest picture that a network looks at; what is smaller would be made up of interpolated pixels."""

MOST_ELONGATED: Final = 10
"""How many times longer than wide an X-ray may be; a line of pixels grows to gigabytes when its short side is resized."""

MOST_COLOURED: Final = 0.05
COLOURED_LEVELS: Final = 24
"""A picture is no X-ray when more than this share of its pixels differ by more than so many levels between red, green and blue.
JPEG's rounding and a coloured mark stay below; a photograph does not."""


def open_gray(path: Path) -> Image.Image:
    """The image in 8-bit gray, whatever its mode; 16-bit gray by its full range.

    Raises: BadImageError with the reason; InputError where a package is missing; OSError of the disk.
    """
    return _to_gray(_opened(path))


def open_xray(path: Path) -> Image.Image:
    """The same, of an image that may be an X-ray: not tiny, no strip, not a colour photograph, not of one shade.

    Raises: as `open_gray`.
    """
    image = _opened(path)
    if min(image.size) < MIN_SIDE_PX:
        raise BadImageError(f"it has {image.width} x {image.height} pixels, at least {MIN_SIDE_PX} a side are needed")
    if max(image.size) > MOST_ELONGATED * min(image.size):
        raise BadImageError(f"it has {image.width} x {image.height} pixels, too narrow for an X-ray")
    share = _coloured_share(image)
    if share > MOST_COLOURED:
        raise BadImageError(f"it is a colour picture ({share:.0%} of its pixels are not gray), no X-ray")
    gray = _to_gray(image)
    low, high = gray.getextrema()
    if low == high:
        raise BadImageError("all its pixels have one shade")
    return gray


def _opened(path: Path) -> Image.Image:
    """The image, decoded, in the mode it has."""
    with path.open("rb") as file:
        if is_dicom(path.name, file.read(DICOM_HEAD_BYTES)):
            return read_dicom(path)
        file.seek(0)
        try:
            with quiet():
                image = Image.open(file, formats=FORMATS)
            if image.width * image.height <= MOST_PIXELS:
                image.load()
                image.info.pop("transparency", None)  # not looked at; Pillow warns of a palette that has shades of it
                return image
        except UnidentifiedImageError:
            raise BadImageError("it is no image: neither PNG, JPEG nor DICOM") from None
        except Image.DecompressionBombError:
            pass
        except Exception as problem:
            if isinstance(problem, OSError) and problem.errno is not None:  # not the image: the disk, the mount, rights
                raise
            raise BadImageError(f"it can't be decoded: {str(problem) or type(problem).__name__}") from problem
    raise BadImageError("it has too many pixels for an X-ray")


def _to_gray(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16-bit gray opens as I;16 or I; its full range becomes 8 bits
        wide = np.asarray(image).astype(np.int64)
        return Image.fromarray(((np.clip(wide, 0, 65535) + 128) // 257).astype(np.uint8))
    return image.convert("L")


def _coloured_share(image: Image.Image) -> float:
    """Share of the pixels that are not gray."""
    if image.mode in {"1", "L", "LA", "F"} or image.mode.startswith("I"):
        return 0.0
    levels = np.asarray(image.convert("RGB"))
    spread = levels.max(axis=2) - levels.min(axis=2)
    return float((spread > COLOURED_LEVELS).mean())
