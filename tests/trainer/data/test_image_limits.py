"""Small files that ask for gigabytes or minutes: each is a bad image by name, and none takes what it asks for."""

import io
import os
import resource
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
from PIL import Image

from trainer.data.codestream import CodestreamError, read_frame
from trainer.data.decode import BadImageError, open_gray
from trainer.limits import IMAGE_FILE_BYTES

pydicom = pytest.importorskip("pydicom")

MOST_MB = 1000
"""Of a process that reads them one after another, the interpreter and its libraries included."""

RAMP = (np.arange(64 * 64) % 251).astype(np.uint8).reshape(64, 64)


def chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width, height, *, depth=8, colour=0, extra=b""):
    """A black PNG of this size, made without holding it in memory."""
    row = bytes((width * {0: 1, 2: 3, 6: 4}[colour] * depth + 7) // 8 + 1)
    packer = zlib.compressobj(9)
    pixels = b"".join([packer.compress(row) for _ in range(height)] + [packer.flush()])
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + extra + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def coded(image, kind="JPEG", **options):
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def many_scans(side, scans):
    """A progressive JPEG whose last scan comes again and again."""
    content = coded(Image.new("L", (side, side)), progressive=True)
    last = content[content.rfind(b"\xff\xda") : -2]
    return content[:-2] + last * scans + b"\xff\xd9"


def dicom(path, pixels=RAMP, syntax="1.2.840.10008.1.2.1", frame=None, before=b"", **fields):
    """A DICOM file; its pixels are `frame` where they are compressed, and `before` lies before them."""
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.encaps import encapsulate
    from pydicom.uid import ExplicitVRLittleEndian, generate_uid

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.1.1"
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian if before else syntax
    ds = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.PixelRepresentation = 1, "MONOCHROME2", 0
    ds.Rows, ds.Columns = pixels.shape
    ds.BitsAllocated = ds.BitsStored = 8 * pixels.dtype.itemsize
    ds.HighBit = ds.BitsStored - 1
    ds.PixelData = pixels.tobytes() if frame is None else encapsulate([frame])
    if frame is not None:
        ds["PixelData"].VR, ds["PixelData"].is_undefined_length = "OB", True
    for name, value in fields.items():
        setattr(ds, name, value)
    ds.save_as(path, enforce_file_format=True)
    if before:
        content = path.read_bytes()
        at = content.find(struct.pack("<HH", 0x7FE0, 0x0010))
        path.write_bytes(content[:at] + before + content[at:])


def deflated(path, *pieces):
    """A deflated DICOM file, to whose data set these pieces are added."""
    dicom(path, syntax="1.2.840.10008.1.2.1.99")
    content = path.read_bytes()
    at = 144 + struct.unpack("<I", content[140:144])[0]
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = [packer.compress(piece) for piece in (zlib.decompress(content[at:], -15), *pieces)]
    path.write_bytes(content[:at] + b"".join([*packed, packer.flush()]))


EMPTY_ELEMENT = struct.pack("<HH2sH", 0x7FE1, 0x1010, b"LO", 0)
ITEM = struct.pack("<HHI", 0xFFFE, 0xE000, 0)
SEQUENCE = struct.pack("<HH2sHI", 0x7FE1, 0x1001, b"SQ", 0, 0xFFFFFFFF)
TABLE = struct.pack("<HH2sH3H", 0x0028, 0x3002, b"US", 6, 1, 0, 16)
RLE = struct.pack("<16I", 1, 64, *[0] * 14)
JPEG, J2K = "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.90"


def table(values_bytes):
    """A sequence of one VOI table, with so many values."""
    values = struct.pack("<HH2sHI", 0x0028, 0x3006, b"OW", 0, values_bytes) + bytes(values_bytes)
    item = struct.pack("<HHI", 0xFFFE, 0xE000, len(TABLE) + len(values)) + TABLE + values
    return struct.pack("<HH2sHI", 0x0028, 0x3010, b"SQ", 0, len(item)) + item


def sparse(path, start, size):
    with path.open("wb") as file:
        file.write(start)
        file.truncate(size)


def j2k(side, *, tile=None, block=None):
    """A JPEG 2000 picture whose header says this size, tiles and blocks: 2 to the power of `block` pixels a side, and 2."""
    content = bytearray(coded(Image.fromarray(RAMP), "JPEG2000", no_jp2=True))
    content[8:16] = struct.pack(">II", side, side)
    content[24:32] = struct.pack(">II", tile or side, tile or side)
    at = content.find(b"\xff\x52")
    if block is not None:
        content[at + 10 : at + 12] = bytes([block, block])
    return bytes(content)


def elsewhere(side, mode="L", **options):
    """A JPEG that says another size than it was made with."""
    content = bytearray(coded(Image.fromarray(RAMP).convert(mode), **options))
    at = max(content.find(b"\xff\xc0"), content.find(b"\xff\xc2"))
    content[at + 5 : at + 9] = struct.pack(">HH", side, side)
    return bytes(content)


HOSTILE = {
    "strip.png": (lambda path: path.write_bytes(png(2_000_000, 8)), "2000000 x 8 pixels, too narrow"),
    "wide.png": (lambda path: path.write_bytes(png(20_000, 4_001)), "20000 x 4001 pixels, too many"),
    "text.png": (
        lambda path: path.write_bytes(png(64, 64, extra=chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(100_000_000))))),
        "can't be decoded",
    ),
    "texts.png": (
        lambda path: path.write_bytes(
            png(64, 64, extra=chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(900_000))) * 150)
        ),
        "can't be decoded",
    ),
    "profile.png": (
        lambda path: path.write_bytes(png(64, 64, extra=chunk(b"iCCP", b"k\0\0" + zlib.compress(bytes(100_000_000))))),
        "can't be decoded",
    ),
    "long.png": (lambda path: sparse(path, b"\x89PNG\r\n\x1a\n", 5 << 30), "its file has 5120 MiB, at most 192 MiB"),
    "long.dcm": (lambda path: sparse(path, b"", 5 << 30), "its file has 5120 MiB, at most 192 MiB"),
    "scans.jpg": (lambda path: path.write_bytes(many_scans(800, 2000)), "a JPEG of 2,006 scans over 800 x 800 pixels"),
    "passes.jpg": (lambda path: path.write_bytes(many_scans(4_600, 90)), "a JPEG of 96 scans over 4600 x 4600"),
    "large.jpg": (lambda path: path.write_bytes(elsewhere(65_500)), "too many pixels"),
    "colours.jpg": (
        lambda path: path.write_bytes(elsewhere(7_600, mode="RGB", progressive=True)),
        "7600 x 7600 pixels, which need 550 MiB in mode RGB; at most 384 MiB",
    ),
    "bomb.dcm": (lambda path: deflated(path, *[bytes(1 << 20)] * 250), "unpacks to more than 192 MiB"),
    "elements.dcm": (lambda path: deflated(path, EMPTY_ELEMENT * 200_000), "with too many elements"),
    "items.dcm": (lambda path: deflated(path, SEQUENCE, ITEM * 1_000_000), "with too many elements"),
    "nested.dcm": (
        lambda path: deflated(path, (SEQUENCE + struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)) * 3000),
        "damaged DICOM",
    ),
    "strip.dcm": (lambda path: dicom(path, np.zeros((8, 60_000), np.uint8)), "60000 x 8 pixels, too narrow"),
    "table.dcm": (lambda path: dicom(path, before=table(20_000_000)), "more than 65,536 values"),
    "short-table.dcm": (lambda path: dicom(path, before=table(200_000)), "more than 65,536 values"),
    "bits.dcm": (lambda path: dicom(path, BitsAllocated=64, BitsStored=64), "64 bits per value"),
    "frames.dcm": (lambda path: dicom(path, NumberOfFrames="999999999"), "several images"),
    "size.dcm": (
        lambda path: dicom(path, syntax=JPEG, frame=elsewhere(200)),
        "says 64 x 64 pixels of 1 values, its picture 200 x 200 of 1",
    ),
    "components.dcm": (
        lambda path: dicom(path, syntax=JPEG, frame=coded(Image.new("RGB", (64, 64)))),
        "its picture 64 x 64 of 3",
    ),
    "large-j2k.dcm": (
        lambda path: dicom(path, syntax=J2K, frame=j2k(9_000)),
        "its picture 9000 x 9000",
    ),
    "blocks-j2k.dcm": (
        lambda path: dicom(path, np.zeros((3_000, 3_000), np.uint8), syntax=J2K, frame=j2k(3_000, block=0)),
        "more than 400,000 blocks",
    ),
    "tiles-j2k.dcm": (
        lambda path: dicom(path, np.zeros((2_000, 2_000), np.uint8), syntax=J2K, frame=j2k(2_000, tile=16)),
        "more than 400,000 blocks",
    ),
    "scans.dcm": (
        lambda path: dicom(path, np.zeros((800, 800), np.uint8), syntax=JPEG, frame=many_scans(800, 500)),
        "506 scans",
    ),
    "runs.dcm": (
        lambda path: dicom(path, syntax="1.2.840.10008.1.2.5", frame=RLE + b"\x81\0" * 400_000),
        "longer than the picture",
    ),
    "long-runs.dcm": (
        lambda path: dicom(path, syntax="1.2.840.10008.1.2.5", frame=RLE + b"\x81\0" * 2_000_000),
        "longer than the picture",
    ),
    "fragments.dcm": (
        lambda path: dicom(path, syntax=JPEG, frame=ITEM * 20_000),
        "more than 10,000 fragments",
    ),
    "movie.dcm": (
        lambda path: dicom(path, syntax="1.2.840.10008.1.2.4.100", frame=b"\0" * 1000),
        "compression is not supported by the installed packages",
    ),
}

READ = """
import sys
from pathlib import Path
from trainer.data.decode import BadImageError, open_gray
for name in sys.argv[1:]:
    try:
        open_gray(Path(name))
    except BadImageError as problem:
        print(f"{Path(name).name}: {problem}")
    else:
        print(f"{Path(name).name}: read")
status = Path("/proc/self/status").read_text()
print(int(status.partition("VmHWM:")[2].split()[0]) // 1024)
"""


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    """What one process says of all of them, and the most memory it had in MB."""
    folder = tmp_path_factory.mktemp("hostile")
    for name, (write, _) in HOSTILE.items():
        write(folder / name)
    paths = [str(folder / name) for name in HOSTILE]
    done = subprocess.run([sys.executable, "-c", READ, *paths], capture_output=True, text=True, timeout=120, check=True)
    *lines, most_mb = done.stdout.splitlines()
    return dict(line.split(": ", 1) for line in lines), int(most_mb)


@pytest.mark.parametrize("name", HOSTILE)
def test_image_above_a_limit_is_a_bad_image_with_the_reason(answers, name):
    """The limit and the number are in the reason, which the run lists."""
    assert HOSTILE[name][1] in answers[0][name]


def test_image_above_a_limit_allocates_no_memory_for_its_pixels(answers):
    """A pod's limit is a few gigabytes for all its decoders together."""
    assert answers[1] < MOST_MB


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(coded(Image.fromarray(RAMP), progressive=True), id="progressive"),
        pytest.param(many_scans(64, 80), id="86 scans"),
        pytest.param(coded(Image.fromarray(RAMP), comment=b"\xff\xda" * 200), id="scans in a comment"),
        pytest.param(coded(Image.fromarray(RAMP), "PNG"), id="PNG"),
    ],
)
def test_usual_images_are_decoded(tmp_path, content):
    """A limit that is met in practice would lose images."""
    (tmp_path / "x.png").write_bytes(content)
    with Image.open(io.BytesIO(content)) as image:
        np.testing.assert_array_equal(np.asarray(open_gray(tmp_path / "x.png")), np.asarray(image))


@pytest.mark.parametrize("options", [{}, {"tile_size": (32, 32)}, {"precinct_size": (32, 32)}])
def test_jpeg_2000_in_dicom_is_read(tmp_path, options):
    """As stations write it."""
    frame = coded(Image.fromarray(RAMP), "JPEG2000", no_jp2=True, **options)
    dicom(tmp_path / "x.dcm", syntax=J2K, frame=frame)
    np.testing.assert_array_equal(np.asarray(open_gray(tmp_path / "x.dcm")), RAMP)


def test_deflated_and_run_length_encoded_files_are_read(tmp_path):
    """Limits are for what is larger than a picture."""
    from pydicom.uid import RLELossless

    deflated(tmp_path / "d.dcm")
    dicom(tmp_path / "r.dcm")
    ds = pydicom.dcmread(tmp_path / "r.dcm")
    ds.compress(RLELossless)
    ds.save_as(tmp_path / "r.dcm")
    for name in ("d.dcm", "r.dcm"):
        np.testing.assert_array_equal(np.asarray(open_gray(tmp_path / name)), RAMP)


def test_number_of_code_blocks_of_a_jpeg_2000_tile_is_limited(tmp_path):
    """A tile may have another style than the picture."""
    whole, small = j2k(3_000), j2k(3_000, block=0)
    at = small.find(b"\xff\x52")
    style = small[at : at + 2 + struct.unpack(">H", small[at + 2 : at + 4])[0]]
    part = whole.find(b"\xff\x90") + 12  # behind the tile-part's header
    assert read_frame(whole).width == 3_000
    with pytest.raises(CodestreamError, match="blocks"):
        read_frame(whole[:part] + style + whole[part:])


@pytest.mark.parametrize(
    "content", [b"", b"\xff\xd8", b"\xff\xd8\xff\xda\0\2", b"\xff\x4f\xff\x51\0", b"\xff\xd8\xff\xc0\0"]
)
def test_image_without_a_size_is_damaged(content):
    """A decoder might take one from elsewhere."""
    with pytest.raises(CodestreamError):
        read_frame(content)


def test_large_file_is_refused_by_its_size_alone(tmp_path):
    """Nothing of it is read: it may lie on a mount that is slow."""
    sparse(tmp_path / "x.png", b"\x89PNG\r\n\x1a\n", IMAGE_FILE_BYTES + 1)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(BadImageError, match="at most 192 MiB are read"):
        open_gray(tmp_path / "x.png")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000


@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
def test_image_that_is_no_regular_file_is_not_opened(tmp_path, kind):
    """Nobody ever writes to that pipe."""
    path = tmp_path / "x.dcm"
    {"pipe": os.mkfifo, "device": lambda path: path.symlink_to("/dev/zero"), "folder": os.mkdir}[kind](path)
    with pytest.raises(OSError, match="it is not a regular file"):
        open_gray(path)
