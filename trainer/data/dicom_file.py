"""Reader of the needed DICOM header fields, and checks of compressed pixels before decoding.

pydicom has no limits of its own on inflating a file, reading its elements and decoding; they are set here.
"""

import io
import zlib
from typing import Any, BinaryIO, Final

from trainer.data.bad_image import BadImageError, check_scans
from trainer.data.codestream import CodestreamError, read_frame
from trainer.limits import IMAGE_FILE_BYTES, in_words

READS: Final = 100_000
"""Reads while a file's elements are parsed, two or three per element. Files of public sets have about a hundred elements."""

FRAGMENTS: Final = 10_000
"""Fragments of compressed pixels; usually there is one."""

RUNS: Final = 10_000_000
"""Runs of a run-length encoded picture; they are decoded one by one."""

_FIELDS: Final = (
    *("SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration", "NumberOfFrames", "Rows", "Columns"),
    *("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "PixelData"),
    *("RescaleSlope", "RescaleIntercept", "ModalityLUTSequence"),
    *("WindowCenter", "WindowWidth", "VOILUTFunction", "VOILUTSequence"),
)
"""The only header fields that are read; none is patient data."""

_ITEM: Final = b"\xfe\xff\x00\xe0"
_UNPACKED_AT_ONCE: Final = 1 << 20


def read_header(file: BinaryIO) -> Any:  # noqa: ANN401 - pydicom's types need pydicom
    """The header fields needed to display the picture, and its pixels as stored.

    Raises: BadImageError for a file over a limit; pydicom's errors for a damaged one.
    """
    from pydicom import dcmread  # noqa: PLC0415 - optional, and slow to import

    bounded: Any = _Bounded(_inflated(file))
    return dcmread(bounded, specific_tags=list(_FIELDS))


class _Bounded(io.RawIOBase):
    """A file with bounded reads, in size and in number, while pydicom parses it."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__()
        self._file = file
        self._reads = 0

    def read(self, size: int | None = -1) -> bytes:
        self._reads += 1
        if self._reads > READS:
            raise BadImageError(f"it is a DICOM file with too many elements: it needs over {READS:,} reads")
        if size is None or size < 0:
            raise BadImageError("it is a deflated DICOM file whose header is damaged")
        return self._file.read(size)

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True


def _inflated(file: BinaryIO) -> Any:  # noqa: ANN401 - pydicom has types of its own
    """The file from its start, inflated if necessary. Raises: BadImageError where it inflates to too much."""
    from pydicom.filereader import read_dataset, read_preamble  # noqa: PLC0415
    from pydicom.filewriter import write_file_meta_info  # noqa: PLC0415
    from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian  # noqa: PLC0415

    bounded: Any = _Bounded(file)
    preamble: Any = read_preamble(bounded, force=False)
    meta: Any = read_dataset(
        bounded, is_implicit_VR=False, is_little_endian=True, stop_when=lambda tag, _vr, _length: tag >> 16 != 2
    )
    if meta.get("TransferSyntaxUID") != DeflatedExplicitVRLittleEndian:
        file.seek(0)
        return file
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    whole: Any = io.BytesIO()
    whole.write(preamble + b"DICM")
    write_file_meta_info(whole, meta, enforce_standard=False)
    _inflate(file, whole)
    whole.seek(0)
    return whole


def _inflate(file: BinaryIO, whole: io.BytesIO) -> None:
    """Inflate the rest of the file in bounded pieces."""
    unpacker = zlib.decompressobj(-zlib.MAX_WBITS)
    while not unpacker.eof and (packed := unpacker.unconsumed_tail or file.read(_UNPACKED_AT_ONCE)):
        whole.write(unpacker.decompress(packed, _UNPACKED_AT_ONCE))
        if whole.tell() > IMAGE_FILE_BYTES:
            raise BadImageError(f"it is a deflated DICOM file that unpacks to more than {in_words(IMAGE_FILE_BYTES)}")


def check_compressed(header: Any, width: int, height: int, samples: int, value_bytes: int) -> None:  # noqa: ANN401
    """Raises: BadImageError when decoding would cost more than a picture of this size may, as decoders trust their input.

    `value_bytes` is the size of the decoded values.
    """
    from pydicom import uid  # noqa: PLC0415
    from pydicom.encaps import get_frame  # noqa: PLC0415
    from pydicom.pixels.decoders.base import get_decoder  # noqa: PLC0415

    syntax = header.file_meta.TransferSyntaxUID
    streams = {*uid.JPEGTransferSyntaxes, *uid.JPEGLSTransferSyntaxes, *uid.JPEG2000TransferSyntaxes}
    if syntax not in {*streams, uid.RLELossless} or not get_decoder(syntax).is_available:
        raise BadImageError(UNREAD_COMPRESSION)
    if header.PixelData.count(_ITEM) > FRAGMENTS:
        raise BadImageError(f"its pixels have more than {FRAGMENTS:,} fragments")
    frame = get_frame(header.PixelData, 0, number_of_frames=1)
    if len(frame) > 2 * value_bytes + (1 << 20):
        raise BadImageError("its compressed pixels are longer than the picture")
    if syntax == uid.RLELossless:
        _check_runs(frame, 2 * value_bytes)
    else:
        _check_stream(frame, width, height, samples)


UNREAD_COMPRESSION: Final = "its compression is not supported by the installed packages (pylibjpeg supports more)"


def _check_stream(frame: bytes, width: int, height: int, samples: int) -> None:
    try:
        frame_header = read_frame(frame)
    except CodestreamError as problem:
        raise BadImageError(f"it is a damaged DICOM file: {problem}") from None
    if (frame_header.width, frame_header.height, frame_header.components) != (width, height, samples):
        raise BadImageError(
            f"it is a damaged DICOM file: its header says {width} x {height} pixels of {samples} values, "
            f"its picture {frame_header.width} x {frame_header.height} of {frame_header.components}"
        )
    check_scans(frame_header)


def _check_runs(frame: bytes, most_bytes: int) -> None:
    """Raises: BadImageError when the runs unpack to more than `most_bytes`. Source: DICOM PS3.5 G.3.1 (PackBits)."""
    at, unpacked, runs = 64, 0, 0
    while at < len(frame):
        head = frame[at]
        runs += 1
        if head > 128:
            unpacked, at = unpacked + 257 - head, at + 2
        elif head < 128:
            unpacked, at = unpacked + head + 1, at + head + 2
        else:
            at += 1
        if unpacked > most_bytes or runs > RUNS:
            raise BadImageError("its compressed pixels are longer than the picture")
