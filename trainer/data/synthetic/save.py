"""Image files of phantoms: PNG with 8 or 16 bits, JPEG, DICOM."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_UID_ROOT: Final = "2.25."
"""Root of unique ids that are derived from a number. Source: DICOM PS3.5 B.2."""

_DIGITAL_X_RAY: Final = "1.2.840.10008.5.1.4.1.1.1.1"
_EXPLICIT_LITTLE_ENDIAN: Final = "1.2.840.10008.1.2.1"


def save_png(pixels_HW: NDArray[np.uint8], path: Path, *, rgba: bool = False) -> None:
    """Write gray pixels, or the same in four channels."""
    picture = Image.fromarray(pixels_HW)
    # fastest compression: most of the image is noise, which does not compress
    (picture.convert("RGBA") if rgba else picture).save(path, compress_level=1)


def save_png16(pixels_HW: NDArray[np.uint8], path: Path) -> None:
    """Write gray pixels as 16 bits, 0 to 65,535."""
    Image.fromarray(pixels_HW.astype(np.uint16) * 257).save(path, compress_level=1)


def save_jpeg(pixels_HW: NDArray[np.uint8], path: Path) -> None:
    """Write gray pixels with the usual loss."""
    Image.fromarray(pixels_HW).save(path, quality=90)


def writes_dicom() -> bool:
    """Whether DICOM files can be written: pydicom is installed."""
    return find_spec("pydicom") is not None


def save_dicom(pixels_HW: NDArray[np.uint8], path: Path, number: int) -> None:
    """Write a DICOM file of gray pixels; `number` identifies it. Needs pydicom."""
    from pydicom.dataset import FileDataset, FileMetaDataset  # noqa: PLC0415 - optional
    from pydicom.uid import UID  # noqa: PLC0415

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = UID(_DIGITAL_X_RAY)
    meta.MediaStorageSOPInstanceUID = UID(f"{_UID_ROOT}{number + 1}")
    meta.TransferSyntaxUID = UID(_EXPLICIT_LITTLE_ENDIAN)
    file: Any = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    file.SOPClassUID, file.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    file.Modality, file.SamplesPerPixel, file.PhotometricInterpretation = "DX", 1, "MONOCHROME2"
    file.Rows, file.Columns = pixels_HW.shape
    file.BitsAllocated, file.BitsStored, file.HighBit, file.PixelRepresentation = 8, 8, 7, 0
    file.PixelData = pixels_HW.tobytes()
    file.save_as(path, enforce_file_format=True)
