"""DICOM images as displayed, in 8 bits.

Messages contain nothing from the file: its header may name the patient, and so may pydicom's messages.
"""

import logging
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any, BinaryIO, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from trainer.data.bad_image import BAND_PIXELS, BadImageError, check_shape
from trainer.data.class_folders import DICOM_SUFFIXES
from trainer.data.dicom_file import UNREAD_COMPRESSION, check_compressed, read_header
from trainer.errors import InputError
from trainer.limits import DECODED_BYTES, TABLE_VALUES, in_words

DICOM_HEAD_BYTES: Final = 132
"""Bytes needed to recognise DICOM. Source: DICOM PS3.10 section 7.1: 128 arbitrary bytes, then `DICM`."""

FULL_BITS: Final = 16
"""Bits of a pixel that count as its full range."""

_TABLE_BITS: Final = (8, *range(10, 17))
"""Bits per value of a VOI table. Source: DICOM PS3.3 C.11.2.1.1."""

_VALUE_BITS: Final = (1, 8, 16, 32)

_COLOUR_BYTES: Final = 10
"""Bytes per value of a colour channel: as stored, and as two float32 for the colour conversion."""

_TABLES_BYTES: Final = 8 * 2 * TABLE_VALUES
"""Size of all tables of a sequence, of which the first is used."""

_LONG_TABLE: Final = f"its table of gray values has more than {TABLE_VALUES:,} values"

_COLOURS: Final = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_RCT", "YBR_ICT")

_DAMAGED: Final = "it is a damaged DICOM file"

_one_at_a_time: Final = threading.Lock()

Floats = NDArray[np.float64]


def is_dicom(name: str, head: bytes) -> bool:
    """Whether a file has a DICOM name or starts like DICOM: many files have no suffix."""
    return name.lower().endswith(DICOM_SUFFIXES) or (
        head[:DICOM_HEAD_BYTES].endswith(b"DICM") and len(head) >= DICOM_HEAD_BYTES
    )


def check_dicom_readable() -> None:
    """Check that DICOM files can be read. Raises: InputError that names the missing package."""
    if find_spec("pydicom") is None:
        raise InputError(
            "cannot read DICOM files: the package pydicom is missing",
            hint="pip install 'chexnet-jobs[dicom]', or pip install pydicom",
        )


def read_dicom(file: BinaryIO, bits: int = FULL_BITS) -> tuple[Image.Image, int | None]:
    """The image as 8-bit gray, or RGB for a colour file, and the greatest value of one that says that it uses 16 bits.

    Stored values go through the modality table or slope, then the first VOI table or window; without either, the full
    range of the stored bits is shown, as for a 16-bit PNG, or `bits` of 16. MONOCHROME1 is inverted. The greatest value
    is None where a table or window tells the range, and for signed values.

    Raises: BadImageError; InputError without pydicom; OSError of the disk; MemoryError.
    """
    check_dicom_readable()
    try:
        with quiet():
            return _picture(file, bits)
    except (BadImageError, MemoryError):
        raise
    except Exception as problem:
        if isinstance(problem, OSError) and problem.errno is not None:
            raise
        # The exception and its text are dropped: they quote the header.
        raise BadImageError(
            _DAMAGED if type(problem).__name__ != "InvalidDicomError" else "it is not a DICOM file"
        ) from None


@contextmanager
def quiet() -> Iterator[None]:
    """Suppress warnings and pydicom's log in the block. One thread at a time, as these settings are global."""
    logger = logging.getLogger("pydicom")  # quotes what it cannot read, such as names of patients
    with _one_at_a_time, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        was_disabled, logger.disabled = logger.disabled, True
        try:
            yield
        finally:
            logger.disabled = was_disabled


def _picture(file: BinaryIO, bits: int) -> tuple[Image.Image, int | None]:
    header = read_header(file)
    _check(header)
    stored = _stored(header)
    photometric = str(header.PhotometricInterpretation)
    if photometric in _COLOURS:
        if stored.dtype != np.uint8:
            raise BadImageError("it is a colour DICOM of more than 8 bits")
        return Image.fromarray(stored), None
    _drop_empty(header)
    is_open = _has_open_range(header)
    if is_open:
        header.BitsStored = bits
    gray = np.empty(stored.shape, np.uint8)
    rows = max(1, BAND_PIXELS // stored.shape[1])
    for top in range(0, len(stored), rows):
        shown = _shown(header, stored[top : top + rows])
        if photometric == "MONOCHROME1":
            shown = 1.0 - shown
        gray[top : top + rows] = (shown * 255.0 + 0.5).astype(np.uint8)
    return Image.fromarray(gray), int(stored.max()) if is_open else None


def _has_open_range(header: Any) -> bool:  # noqa: ANN401
    """Whether all 16 bits would be shown because nothing tells which are used."""
    tells = [header.get("ModalityLUTSequence"), header.get("VOILUTSequence")]
    has_window = header.get("WindowCenter") is not None and header.get("WindowWidth") is not None
    is_full = int(header.BitsStored) == FULL_BITS and int(header.PixelRepresentation) == 0
    return is_full and not has_window and not any(tells)


def _stored(header: Any) -> NDArray[Any]:  # noqa: ANN401 - pydicom's types need pydicom
    """The pixels as stored. Raises: BadImageError where no installed package supports their compression."""
    from pydicom.pixels.utils import pixel_array  # noqa: PLC0415

    try:
        return pixel_array(header, index=0)  # the only frame; otherwise bytes after it would be decoded, too
    except (RuntimeError, NotImplementedError):
        if not header.file_meta.TransferSyntaxUID.is_compressed:
            raise
        raise BadImageError(UNREAD_COMPRESSION) from None


def _check(header: Any) -> None:  # noqa: ANN401
    """Raises: BadImageError unless the file has a single picture of a supported kind and size."""
    if "PixelData" not in header:
        raise BadImageError("it is a DICOM file without pixels")
    if int(header.get("NumberOfFrames") or 1) > 1:
        raise BadImageError("it is a DICOM file of several images; a chest X-ray is one")
    photometric = str(header.PhotometricInterpretation)
    if photometric not in {"MONOCHROME1", "MONOCHROME2", *_COLOURS}:
        raise BadImageError("it is a DICOM with an unsupported colour model")
    width, height, samples = int(header.Columns), int(header.Rows), int(header.SamplesPerPixel)
    if min(width, height) < 1 or samples != (3 if photometric in _COLOURS else 1):
        raise BadImageError(_DAMAGED)
    check_shape(width, height)
    value_bytes = _bytes_of(header, width * height * samples)
    if header.file_meta.TransferSyntaxUID.is_encapsulated:
        check_compressed(header, width, height, samples, value_bytes)
    for name in ("ModalityLUTSequence", "VOILUTSequence"):
        _check_tables(header, name)


def _bytes_of(header: Any, values: int) -> int:  # noqa: ANN401
    """Size of this many stored values. Raises: BadImageError for too much memory or unusual bits per value."""
    bits = int(header.BitsAllocated)
    if bits not in _VALUE_BITS:
        raise BadImageError(f"it is a DICOM with {bits} bits per value, which is not supported")
    in_colours = str(header.PhotometricInterpretation) in _COLOURS
    bytes_needed = values * (_COLOUR_BYTES if in_colours else 2 * max(1, bits // 8))
    if bytes_needed > DECODED_BYTES:
        raise BadImageError(
            f"it has {header.Columns} x {header.Rows} pixels, which need {in_words(bytes_needed)}; "
            f"at most {in_words(DECODED_BYTES)} are allowed"
        )
    return values * max(1, bits // 8)


def _check_tables(header: Any, name: str) -> None:  # noqa: ANN401
    """Checked before a table of gray values is converted. Raises: BadImageError for one that is too long."""
    if name not in header:
        return
    raw = getattr(header.get_item(name), "value", None)
    if isinstance(raw, bytes) and len(raw) > _TABLES_BYTES:
        raise BadImageError(_LONG_TABLE)
    for item in header[name].value[:1]:
        values = getattr(item.get_item("LUTData"), "value", None) if "LUTData" in item else None
        if isinstance(values, bytes) and len(values) > 2 * TABLE_VALUES:
            raise BadImageError(_LONG_TABLE)


def _shown(header: Any, stored: NDArray[Any]) -> Floats:  # noqa: ANN401
    """Displayed values of the stored ones, 0 to 1, before MONOCHROME1 is inverted.

    Source: DICOM PS3.3 C.11.1 (modality), C.11.2 (VOI).
    """
    from pydicom.pixels.processing import apply_modality_lut, apply_voi  # noqa: PLC0415

    values = np.asarray(apply_modality_lut(stored, header), np.float64)
    if header.get("VOILUTSequence"):
        bits = int(header.VOILUTSequence[0].LUTDescriptor[2])
        if bits not in _TABLE_BITS:
            raise BadImageError(f"its table of gray values has {bits} bits, which is not supported")
        table = apply_voi(np.rint(values).astype(np.int64), header)
        return np.clip(table / (2.0**bits - 1), 0, 1)
    if header.get("WindowCenter") is not None and header.get("WindowWidth") is not None:
        return _windowed(
            values,
            _first(header.WindowCenter),
            _first(header.WindowWidth),
            str(header.get("VOILUTFunction") or "LINEAR"),
        )
    low, high = _extent(header, stored)
    return np.clip((values - low) / (high - low), 0, 1)


def _drop_empty(header: Any) -> None:  # noqa: ANN401
    """Remove fields without a value, which anonymisation leaves behind, so that they count as absent."""
    for name in ("RescaleSlope", "RescaleIntercept", "WindowCenter", "WindowWidth"):
        value = header.get(name)
        if name in header and (value is None or value == ""):
            delattr(header, name)


def _first(value: Any) -> float:  # noqa: ANN401
    """The number, or the first of several alternatives."""
    return float(value[0] if hasattr(value, "__len__") and not isinstance(value, str) else value)


def _windowed(values: Floats, center: float, width: float, function: str) -> Floats:
    """Source: DICOM PS3.3 C.11.2.1.2 and C.11.2.1.3."""
    least = 1.0 if function == "LINEAR" else 0.0
    if not (np.isfinite(center) and np.isfinite(width) and width >= least and width > 0):
        raise BadImageError("its window is invalid")
    if function == "SIGMOID":
        return np.asarray(1.0 / (1.0 + np.exp(np.clip(-4.0 * (values - center) / width, -700, 700))))
    if function == "LINEAR_EXACT":
        return np.clip((values - center) / width + 0.5, 0, 1)
    if width == 1.0:
        return np.asarray(values > center - 0.5, np.float64)
    return np.clip((values - (center - 0.5)) / (width - 1.0) + 0.5, 0, 1)


def _extent(header: Any, stored: NDArray[Any]) -> tuple[float, float]:  # noqa: ANN401
    """Smallest and greatest value of the stored bits, after the modality table or slope."""
    from pydicom.pixels.processing import apply_modality_lut  # noqa: PLC0415

    bits = int(header.BitsStored)
    signed = int(header.PixelRepresentation) == 1
    ends = np.array([-(2 ** (bits - 1)), 2 ** (bits - 1) - 1] if signed else [0, 2**bits - 1]).astype(stored.dtype)
    if header.get("ModalityLUTSequence"):
        return 0.0, 2.0 ** int(header.ModalityLUTSequence[0].LUTDescriptor[2]) - 1
    low, high = sorted(np.asarray(apply_modality_lut(ends, header), np.float64).tolist())
    if not low < high:
        raise BadImageError("all its values are equal")
    return low, high
