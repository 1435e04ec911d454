"""Gray range of 16-bit images: which of their values are black to white.

Detectors measure 10 to 14 bits, and programs write them to 16-bit files. Of an image that uses 12 bits or fewer, the full
range shows at most a sixteenth of the gray scale: it is nearly black, and a model answers differently.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Final

from trainer.config import check_gray_range
from trainer.data.bad_image import BadImageError
from trainer.data.decode import gray_and_greatest, may_use_fewer_bits
from trainer.data.dicom import FULL_BITS
from trainer.data.image_files import ImageFile
from trainer.data.packs.records import Geometry
from trainer.errors import InputError
from trainer.runtime.console import Reporter
from trainer.runtime.progress import USUALLY_FEW

FEW_BITS: Final = 12
"""Images that use no more than this are nearly black at full range. Source: DICOM's usual BitsStored of radiographs."""


def resolved(requested: str | None, greatest: int | None, where: str) -> int | None:
    """Bits that are black to white in 16-bit images whose greatest value is `greatest`; None where nobody need choose.

    `requested` is `full`, `used`, a number of bits, or None. `greatest` is None where there are no 16-bit images.

    Raises: InputError when the images use few bits and nothing is requested.
    """
    if requested is not None and requested != "used":
        return FULL_BITS if requested == "full" else int(requested)
    if greatest is None:
        return None
    bits = max(1, greatest.bit_length())
    if requested == "used":
        return bits
    if greatest and bits <= FEW_BITS:
        raise InputError(
            f"cannot choose the gray range of the 16-bit images of {where}: they use {bits} of {FULL_BITS} bits "
            f"(their greatest value is {greatest:,} of 65,535), so the full range shows them nearly black",
            hint=f"--gray-range {bits} shows 0 to {2**bits - 1:,} as black to white, --gray-range used finds the number; "
            "--gray-range full is for a model trained so, and for 16-bit colour images, which have no other",
        )
    return FULL_BITS


def preliminary(requested: str | None) -> int | None:
    """Bits to decode with before the greatest value is known."""
    return None if requested is None or requested == "used" else resolved(requested, None, "")


def of_files(geometry: Geometry, files: Sequence[ImageFile], requested: str | None, reporter: Reporter) -> Geometry:
    """How these files are read for a model: with its own gray range, otherwise with the requested one.

    Only where the model has none, the 16-bit images are read twice.

    Raises: InputError as `resolved`, and for a request that contradicts the model.
    """
    check_request(geometry, requested)
    if geometry.gray_bits is not None:
        return geometry
    paths = [file.path for file in files if file.problem is None]
    with reporter.progress("looking for 16-bit images", len(paths), USUALLY_FEW) as advance:
        greatest = greatest_of(paths, lambda: advance(1, ""))
    return replace(geometry, gray_bits=resolved(requested, greatest, "the given files"))


def check_request(geometry: Geometry, requested: str | None) -> None:
    """Raises: InputError for a request that is no gray range, or not that of the model."""
    check_gray_range(requested)
    if None not in {geometry.gray_bits, requested} and preliminary(requested) != geometry.gray_bits:
        raise InputError(
            f"cannot read images with `--gray-range {requested}`: the model was trained with {geometry.gray_bits} bits",
            hint="remove --gray-range",
        )


def greatest_of(paths: Sequence[Path], advance: Callable[[], object]) -> int | None:
    """Greatest value of the 16-bit images among these; None without any. `advance` is called after each.

    Unreadable images are left out: they are reported when they are used.
    """
    values = []
    for path in paths:
        with suppress(OSError, BadImageError, MemoryError, InputError):
            values.append(gray_and_greatest(path)[1] if may_use_fewer_bits(path) else None)
        advance()
    return max((value for value in values if value is not None), default=None)
