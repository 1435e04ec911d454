"""Image files as gray images: PNG, JPEG, and DICOM where pydicom is installed.

EXIF orientation is ignored, in training, prediction and explanation alike: pixels are used as stored, as by the programs whose
results are compared. `is_turned` tells for which images a viewer shows something else.
"""

import io
import os
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, cast

import numpy as np
from PIL import Image, UnidentifiedImageError
from PIL.ExifTags import Base

from trainer.data.bad_image import BAND_PIXELS, BadImageError, check_scans, check_shape
from trainer.data.codestream import CodestreamError, Frame, read_frame
from trainer.data.dicom import DICOM_HEAD_BYTES, FULL_BITS, is_dicom, quiet, read_dicom
from trainer.errors import InputError
from trainer.limits import DECODED_BYTES, IMAGE_FILE_BYTES, MOST_PIXELS, in_words
from trainer.storage.files import open_regular

__all__ = ["BadImageError", "is_turned", "open_gray", "open_xray"]

FORMATS: Final = ("PNG", "JPEG")
"""Formats accepted, whatever the file's name: some of Pillow's readers start other programs."""

_TURNED: Final = range(2, 9)
"""Values of EXIF's orientation other than 1, upright. Source: Exif 2.32, tag 274."""

_EXIF: Final = ("exif", "xmp", "Raw profile type exif")
"""Where Pillow keeps what may have an orientation."""

MIN_SIDE_PX: Final = 32
"""Smallest X-ray for a network; a smaller one would consist mostly of interpolated pixels."""

LARGE_BYTES: Final = 32 << 20
"""Decoded size above which images are read one at a time; smaller ones are read by several threads at once."""

MOST_COLOURED: Final = 0.05
COLOURED_LEVELS: Final = 24
"""An image is not an X-ray when more than this share of its pixels differ by more than this many levels between red,
green and blue. JPEG's rounding and a coloured mark stay below; a photograph does not.
"""

_PNG_DEPTH_AT: Final = 24
"""Position of the bit depth in a PNG file. Source: the first chunk, IHDR, of W3C's PNG specification."""

_one_large: Final = threading.Lock()


@dataclass(frozen=True)
class Decoded:
    """An image as stored in its file."""

    image: Image.Image
    greatest: int | None = None
    """Greatest value of a 16-bit image, or an upper limit of it; None for all others."""
    is_reduced: bool = False
    """Whether Pillow has reduced a 16-bit colour image to the upper eight bits."""


@dataclass(frozen=True)
class ImageBytes:
    """An image file in memory, such as a member of an archive."""

    name: str
    content: bytes
    size_bytes: int | None = None
    """Size of the file, where its content was not read because it is too large."""


ImageSource = Path | ImageBytes


def open_gray(path: Path, bits: int = FULL_BITS) -> Image.Image:
    """The image in 8-bit gray, whatever its mode; in 16-bit gray, these bits are black to white. Not to be changed in place.

    Raises: BadImageError with the reason, including limits; InputError where a package is missing; OSError of the disk,
    or for anything but a regular file; MemoryError.
    """
    return gray_and_greatest(path, bits)[0]


def gray_and_greatest(source: ImageSource, bits: int = FULL_BITS) -> tuple[Image.Image, int | None]:
    """`open_gray`, and the greatest value of a 16-bit image; None for all others. Raises: as `open_gray`."""
    with ExitStack() as held:
        decoded = _opened(source, held, bits)
        return _to_gray(decoded, bits), decoded.greatest


def open_xray(path: Path, bits: int = FULL_BITS) -> Image.Image:
    """`open_gray` for an image that may be an X-ray: not tiny, not a colour photograph, not of one gray value.

    Raises: as `open_gray`.
    """
    with ExitStack() as held:
        return _checked_xray(_opened(path, held, bits), bits)


def may_use_fewer_bits(path: Path) -> bool:
    """Whether it is a DICOM file or a 16-bit PNG, told by its first bytes. Raises: OSError."""
    with open_regular(path) as file:
        head = file.read(DICOM_HEAD_BYTES)
    is_png = head.startswith(b"\x89PNG")
    return is_dicom(path.name, head) or (is_png and head[_PNG_DEPTH_AT : _PNG_DEPTH_AT + 1] == bytes([FULL_BITS]))


def is_turned(gray: Image.Image) -> bool:
    """Whether the file of this image, from `open_gray` or `open_xray`, asks viewers to turn or mirror it."""
    if gray.info.keys().isdisjoint(_EXIF):
        return False
    try:
        with quiet():
            return gray.getexif().get(Base.Orientation) in _TURNED
    except Exception:  # noqa: BLE001 - damaged EXIF data fail in many ways, and nothing else reads them
        return False


def turned_note(turned: int, total: int) -> str:
    """For the user: that EXIF orientation is ignored."""
    return (
        f"the EXIF orientation of {turned:,} of {total:,} images is ignored: their pixels are used as stored, "
        "while viewers show them turned or mirrored"
    )


def why_not(problem: BadImageError | InputError | OSError | MemoryError) -> str:
    """The reason why an image is unusable, to print after its name."""
    if isinstance(problem, InputError):  # a package is missing
        return str(problem.args[0])
    if isinstance(problem, MemoryError):
        return "there is not enough memory to decode it"
    if isinstance(problem, OSError):
        return str(problem.strerror or type(problem).__name__).lower()
    return str(problem)


def _checked_xray(decoded: Decoded, bits: int) -> Image.Image:
    image = decoded.image
    if min(image.size) < MIN_SIDE_PX:
        raise BadImageError(f"it has {image.width} x {image.height} pixels, at least {MIN_SIDE_PX} per side are needed")
    share = _coloured_share(image)
    if share > MOST_COLOURED:
        raise BadImageError(f"it is a colour picture ({share:.0%} of its pixels are not gray), not an X-ray")
    gray = _to_gray(decoded, bits)
    if _has_one_value(gray):
        raise BadImageError("all its pixels have the same gray value")
    return gray


def _has_one_value(gray: Image.Image) -> bool:
    """Whether all pixels are equal. The middle row decides for nearly all X-rays; a search of all rows holds Python's lock."""
    middle = gray.crop((0, gray.height // 2, gray.width, gray.height // 2 + 1))
    return all(low == high for low, high in (part.getextrema() for part in (middle, gray)))


def _opened(source: ImageSource, held: ExitStack, bits: int) -> Decoded:
    """The decoded image in its own mode, of DICOM in 8 bits. A large image holds the lock on large images until `held` ends."""
    with _file_of(source) as (file, size_bytes):
        if size_bytes > IMAGE_FILE_BYTES:
            raise BadImageError(f"its file has {in_words(size_bytes)}, at most {in_words(IMAGE_FILE_BYTES)} are read")
        head = file.read(DICOM_HEAD_BYTES)
        file.seek(0)
        if is_dicom(source.name, head):
            held.enter_context(_one_large)  # the size is in the header, and DICOM files are read one at a time anyway
            return Decoded(*read_dicom(file, bits))
        try:
            return _decoded(file, held)
        except (BadImageError, MemoryError):
            raise
        except UnidentifiedImageError:
            raise BadImageError("it is not a PNG, JPEG or DICOM image") from None
        except Image.DecompressionBombError:
            raise BadImageError(f"it has too many pixels for an X-ray, more than {MOST_PIXELS:,}") from None
        except Exception as problem:
            if isinstance(problem, OSError) and problem.errno is not None:  # disk, mount or permissions, not the image
                raise
            raise BadImageError(f"it can't be decoded: {str(problem) or type(problem).__name__}") from problem


@contextmanager
def _file_of(source: ImageSource) -> Iterator[tuple[BinaryIO, int]]:
    """The open file and its size. Raises: OSError."""
    if isinstance(source, ImageBytes):
        yield io.BytesIO(source.content), source.size_bytes or len(source.content)
        return
    with open_regular(source) as file:
        yield file, os.fstat(file.fileno()).st_size


def _decoded(file: BinaryIO, held: ExitStack) -> Decoded:
    """A PNG or JPEG, decoded after its headers are checked against the limits."""
    with quiet():
        image = Image.open(file, formats=FORMATS)
    check_shape(image.width, image.height)
    frame = _checked_jpeg(file, image.size) if image.format != "PNG" else None
    bytes_needed = image.width * image.height * _bytes_per_pixel(image.mode, frame)
    if bytes_needed > DECODED_BYTES:
        raise BadImageError(
            f"it has {image.width} x {image.height} pixels, which need {in_words(bytes_needed)} in mode {image.mode}; "
            f"at most {in_words(DECODED_BYTES)} are allowed"
        )
    held.enter_context(_large_image_lock(bytes_needed))
    is_wide = image.format == "PNG" and str(image.tile[0][3]).endswith(";16B")  # "RGB;16B", for example
    image.load()
    image.info.pop("transparency", None)  # ignored; Pillow warns about transparency in a palette
    if not is_wide:
        return Decoded(image)
    if image.mode.startswith("I"):
        return Decoded(image, max(int(np.asarray(band).max()) for _, band in _bands(image)))
    return Decoded(image, (_greatest_channel(image) << 8) + 0xFF, is_reduced=True)


def _greatest_channel(image: Image.Image) -> int:
    """Greatest gray or colour value, without transparency."""
    channels = [image.getchannel(name) for name in image.getbands() if name != "A"]
    return max(int(cast("tuple[int, int]", channel.getextrema())[1]) for channel in channels)


def _checked_jpeg(file: BinaryIO, size: tuple[int, int]) -> Frame:
    """The headers of a JPEG. Raises: BadImageError for too many scans or contradictory sizes."""
    at = file.tell()
    file.seek(0)
    try:
        frame = read_frame(file.read())
    except CodestreamError as problem:
        raise BadImageError(f"it can't be decoded: {problem}") from None
    file.seek(at)
    check_scans(frame)
    if (frame.width, frame.height) != size:
        raise BadImageError("it can't be decoded: its JPEG data has several sizes")
    return frame


def _bytes_per_pixel(mode: str, frame: Frame | None) -> int:
    """Bytes per pixel of Pillow, and of libjpeg for a picture with several scans: two bytes per component."""
    by_mode = {"1": 1, "L": 1, "P": 1, "CMYK": 8}  # CMYK is inverted in a copy
    pillow_bytes = by_mode.get(mode, 2 if mode.startswith("I;16") else 4)
    return pillow_bytes if frame is None or frame.scans == 1 else pillow_bytes + 2 * frame.components


def _large_image_lock(bytes_needed: int) -> AbstractContextManager[object]:
    """The lock on large images if this one is large."""
    return _one_large if bytes_needed > LARGE_BYTES else nullcontext()


def _to_gray(decoded: Decoded, bits: int) -> Image.Image:
    image, white = decoded.image, 2**bits - 1
    if decoded.is_reduced and bits < FULL_BITS:
        raise BadImageError(
            f"it is a 16-bit colour image, which cannot be read as {bits} bits; convert it to 16-bit gray"
        )
    if decoded.greatest is not None and decoded.greatest > white:
        raise BadImageError(f"it has gray values up to {decoded.greatest:,}, and {bits} bits end at {white:,}")
    if not image.mode.startswith("I"):
        return image if image.mode == "L" else image.convert("L")
    gray = np.empty((image.height, image.width), np.uint8)
    for top, band in _bands(image):  # 16-bit gray opens as I;16 or I
        wide = np.asarray(band).astype(np.int64)
        gray[top : top + band.height] = (np.maximum(wide, 0) * 255 + white // 2) // white
    narrow = Image.fromarray(gray)
    narrow.info = image.info
    return narrow


def _bands(image: Image.Image) -> Iterator[tuple[int, Image.Image]]:
    """Stripes of the image from the top, each with its first row."""
    rows = max(1, BAND_PIXELS // image.width)
    for top in range(0, image.height, rows):
        yield top, image.crop((0, top, image.width, min(top + rows, image.height)))


def _coloured_share(image: Image.Image) -> float:
    """Share of pixels that are not gray."""
    if image.mode in {"1", "L", "LA", "F"} or image.mode.startswith("I"):
        return 0.0
    coloured = 0
    for _, band in _bands(image):
        red, green, blue = map(np.asarray, band.convert("RGB").split())
        spread = np.maximum(np.maximum(red, green), blue) - np.minimum(np.minimum(red, green), blue)
        coloured += int((spread > COLOURED_LEVELS).sum())
    return coloured / (image.width * image.height)
