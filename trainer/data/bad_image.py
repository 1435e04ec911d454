"""Error of an unusable image, and the checks of image size before decoding."""

from typing import Final

from trainer.data.codestream import Frame
from trainer.limits import MOST_ELONGATED, MOST_PIXELS, SCANNED_PIXELS, SCANS

BAND_PIXELS: Final = 1 << 20
"""Pixels processed at a time: intermediate values of a whole image would take gigabytes."""


class BadImageError(ValueError):
    """Reason why one image is unusable; readers of many images collect it and continue."""


def check_shape(width: int, height: int) -> None:
    """Raises: BadImageError for more pixels than any X-ray has, and for a narrow strip."""
    if width * height > MOST_PIXELS:
        raise BadImageError(f"it has {width} x {height} pixels, too many pixels for an X-ray: at most {MOST_PIXELS:,}")
    if max(width, height) > MOST_ELONGATED * min(width, height):
        raise BadImageError(f"it has {width} x {height} pixels, too narrow for an X-ray")


def check_scans(frame: Frame) -> None:
    """Raises: BadImageError for a JPEG that would take minutes to decode."""
    if frame.scans > SCANS or frame.scans * frame.width * frame.height > SCANNED_PIXELS:
        raise BadImageError(
            f"it is a JPEG of {frame.scans:,} scans over {frame.width} x {frame.height} pixels, too many: at most {SCANS} are read"
        )
