"""DICOM: the picture that a screen shows, and nothing of the header in any message."""

import logging
import sys

import numpy as np
import pytest
from PIL import Image

from trainer.data.decode import BadImageError, open_gray, open_xray
from trainer.data.locks import locked
from trainer.data.packs.building import build
from trainer.data.packs.records import Geometry
from trainer.data.packs.verify import open_pack
from trainer.errors import InputError

pydicom = pytest.importorskip("pydicom")

NAME = "Doe^Jane"
RAMP = np.arange(64 * 64, dtype=np.uint16).reshape(64, 64)
"""All values of 12 bits."""

WINDOW = {"WindowCenter": 2048, "WindowWidth": 1025}


def write(path, pixels=RAMP, bits=12, **fields):
    """A file as a station writes it, with these fields beside or in place of the usual."""
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, generate_uid

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.1.1"
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    ds.PatientName = NAME
    ds.PatientID = "MRN-4711"
    ds.SamplesPerPixel = 1
    ds.PhotometricInterpretation = "MONOCHROME2"
    ds.PixelRepresentation = 0
    if pixels is not None:
        ds.Rows, ds.Columns = pixels.shape[-2:] if pixels.ndim == 2 else pixels.shape[:2]
        ds.BitsAllocated = 8 * pixels.dtype.itemsize
        ds.BitsStored, ds.HighBit = bits, bits - 1
        ds.PixelData = pixels.tobytes()
    for name, value in fields.items():
        setattr(ds, name, value)
    ds.save_as(path, enforce_file_format=True)
    return path


def sequence(**fields):
    """A table of values, in a sequence of one item."""
    item = pydicom.Dataset()
    for name, value in fields.items():
        setattr(item, name, value)
    return pydicom.Sequence([item])


def gray(path):
    return np.asarray(open_gray(path)).astype(int)


@pytest.fixture
def dcm(tmp_path):
    """Writes a file; gives the gray that is read from it."""
    return lambda **fields: gray(write(tmp_path / "x.dcm", **fields))


def test_without_a_window_the_full_range_of_stored_bits_is_shown(dcm):
    """As of a 16-bit PNG: 12 bits of range become 8."""
    expected = np.floor(RAMP / 4095 * 255 + 0.5).astype(int)
    np.testing.assert_array_equal(dcm(), expected)
    assert (expected.min(), expected.max()) == (0, 255)


def test_monochrome1_is_inverted(dcm):
    """Its least value is white; shown as it is, lungs would be white."""
    np.testing.assert_array_equal(dcm(PhotometricInterpretation="MONOCHROME1"), 255 - np.floor(RAMP / 4095 * 255 + 0.5))
    windowed = dcm(PhotometricInterpretation="MONOCHROME1", **WINDOW)
    assert windowed[0, 0] == 255
    assert windowed[-1, -1] == 0


def test_a_window_is_applied_as_the_standard_says(dcm):
    """The formula of PS3.3 C.11.2.1.2, with its halves."""
    shown = dcm(**WINDOW).ravel()
    expected = np.clip((np.arange(4096) - 2047.5) / 1024 + 0.5, 0, 1) * 255
    np.testing.assert_allclose(shown, expected, atol=0.5001)
    assert shown[1535] == 0
    assert shown[2560] == 255
    np.testing.assert_array_equal(dcm(WindowCenter=[2048, 100], WindowWidth=[1025, 10]).ravel(), shown)


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        ("LINEAR_EXACT", lambda x: np.clip((x - 2048) / 1025 + 0.5, 0, 1)),
        ("SIGMOID", lambda x: 1 / (1 + np.exp(-4 * (x - 2048) / 1025))),
    ],
)
def test_windows_of_other_shapes_are_applied(dcm, function, expected):
    """Mammography and DX stations use them."""
    shown = dcm(**WINDOW, VOILUTFunction=function).ravel()
    np.testing.assert_allclose(shown, expected(np.arange(4096)) * 255, atol=0.5001)


def test_window_applies_to_rescaled_values(dcm):
    """A slope left out moves the window off the picture."""
    shown = dcm(RescaleSlope="2", RescaleIntercept="-1000", WindowCenter=3096, WindowWidth=2049).ravel()
    expected = np.clip((np.arange(4096) * 2 - 1000 - 3095.5) / 2048 + 0.5, 0, 1) * 255
    np.testing.assert_allclose(shown, expected, atol=0.5001)


def test_rescaling_alone_changes_nothing(dcm):
    """The range moves with the values; a negative slope turns them around."""
    np.testing.assert_array_equal(dcm(RescaleSlope="2", RescaleIntercept="-1000"), dcm())
    np.testing.assert_array_equal(dcm(RescaleSlope="-1", RescaleIntercept="4095"), dcm()[::-1, ::-1])


def test_signed_values_are_read_as_such(dcm):
    """Half of the range is below zero."""
    signed = (RAMP.astype(np.int32) - 2048).astype(np.int16)
    np.testing.assert_array_equal(dcm(pixels=signed, PixelRepresentation=1), dcm())


def test_lookup_table_is_applied_instead_of_a_window(dcm):
    """Where a station gives both, the table is what its makers chose."""
    table = np.linspace(0, 1023, 4096).astype(np.uint16)[::-1]
    luts = sequence(LUTDescriptor=[4096, 0, 10], LUTData=table.astype("<u2").tobytes())
    np.testing.assert_allclose(dcm(VOILUTSequence=luts, **WINDOW).ravel(), table / 1023 * 255, atol=0.5001)


def test_colours_are_read_as_colours(tmp_path):
    """Of a photograph in DICOM's clothes."""
    red = np.zeros((64, 64, 3), np.uint8)
    red[..., 0] = 200
    colours = {"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB", "PlanarConfiguration": 0}
    path = write(tmp_path / "x.dcm", pixels=red, bits=8, **colours)
    assert gray(path)[0, 0] == np.asarray(Image.new("RGB", (1, 1), (200, 0, 0)).convert("L"))[0, 0]
    with pytest.raises(BadImageError, match="colour picture"):
        open_xray(path)


def test_dicom_file_without_suffix_is_recognised_by_its_magic(tmp_path):
    """Archives name them by numbers."""
    np.testing.assert_array_equal(gray(write(tmp_path / "IM0001")), gray(write(tmp_path / "x.dcm")))


@pytest.mark.parametrize("name", ["RescaleSlope", "RescaleIntercept", "WindowCenter", "WindowWidth"])
def test_field_without_a_value_is_treated_as_absent(dcm, name):
    """Programs that hide the patient leave such fields; the picture is whole."""
    usual = {"RescaleSlope": "1", "RescaleIntercept": "0", **WINDOW}
    del usual[name]
    np.testing.assert_array_equal(dcm(**usual, **{name: None}), dcm(**usual))


@pytest.mark.parametrize(("bits", "problem"), [(9, "table of gray values has 9 bits"), (12, None)])
def test_unsupported_lookup_table_is_not_reported_as_compression(dcm, bits, problem):
    """Who is told to install a package for it does so in vain."""
    luts = sequence(LUTDescriptor=[4096, 0, bits], LUTData=np.arange(4096).astype("<u2").tobytes())
    if problem is None:
        assert dcm(VOILUTSequence=luts).max() == 255
        return
    with pytest.raises(BadImageError, match=problem):
        dcm(VOILUTSequence=luts)


def broken_values(path):
    """A file whose header quotes the patient in fields that must be numbers."""
    write(path)
    content = path.read_bytes().replace(b"MONOCHROME2 ", b"DOE^JANE    ")
    path.write_bytes(content)


def unprintable_values(path):
    """The same in lower case, which a field of a code must not hold: the package warns of it and quotes it."""
    write(path)
    path.write_bytes(path.read_bytes().replace(b"MONOCHROME2 ", b"Doe^Jane    "))


def halved(path):
    write(path)
    path.write_bytes(path.read_bytes()[:4000])


def compressed(path):
    from pydicom.uid import JPEGLosslessSV1

    ds = pydicom.dcmread(write(path))
    ds.PixelData = pydicom.encaps.encapsulate([b"\xff\xd8Doe^Jane"])
    ds["PixelData"].is_undefined_length = True
    ds.file_meta.TransferSyntaxUID = JPEGLosslessSV1
    ds.save_as(path)


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (lambda path: write(path, pixels=None), "a DICOM file without pixels"),
        (lambda path: write(path, pixels=np.concatenate([RAMP, RAMP]), Rows=64, NumberOfFrames=2), "several images"),
        (lambda path: write(path, WindowCenter=1, WindowWidth=0), "its window is invalid"),
        (lambda path: write(path, Rows=30000, Columns=30000), "too many pixels"),
        (lambda path: write(path, PhotometricInterpretation="PALETTE COLOR"), "unsupported colour model"),
        (lambda path: path.write_bytes(b"Doe^Jane, no DICOM"), "it is not a DICOM file"),
        (broken_values, "unsupported colour model"),
        (unprintable_values, "unsupported colour model"),
        (halved, "damaged DICOM file"),
        (compressed, "compression is not supported by the installed packages"),
    ],
    ids=[
        "no pixels",
        "frames",
        "window",
        "bomb",
        "palette",
        "text",
        "name in a field",
        "name as a code",
        "halved",
        "compressed",
    ],
)
def test_unsupported_dicom_is_refused_without_quoting_its_header(tmp_path, capfd, caplog, spoil, problem):
    """Logs are read by more people than the pictures."""
    spoil(tmp_path / "x.dcm")
    with caplog.at_level(logging.DEBUG), pytest.raises(BadImageError, match=problem) as caught:
        open_gray(tmp_path / "x.dcm")
    assert caught.value.__cause__ is None
    said = "".join([str(caught.value), *capfd.readouterr(), caplog.text]).lower()
    assert "doe" not in said
    assert "4711" not in said


def test_irregular_but_readable_dicom_logs_nothing(tmp_path, capfd, caplog):
    """The package warns of a header's slips and quotes them, to whatever log the program has."""
    path = write(tmp_path / "x.dcm", SpecificCharacterSet="ISO_IR 100")
    path.write_bytes(path.read_bytes().replace(b"ISO_IR 100", b"Doe^Jane 1"))
    with caplog.at_level(logging.DEBUG):
        open_gray(path)
    assert not caplog.records
    assert "doe" not in "".join(capfd.readouterr()).lower()
    assert not logging.getLogger("pydicom").disabled


def test_missing_pydicom_is_named(tmp_path, monkeypatch):
    """It is an extra; a data set of DICOM files needs it before the first is decoded."""
    path = write(tmp_path / "x.dcm")
    monkeypatch.setitem(sys.modules, "pydicom", None)
    for read in (
        lambda: open_gray(path),
        lambda: build(tmp_path / "p", ["x"], [path], Geometry(side=64, fit="crop"), progress=lambda done: None),
    ):
        with pytest.raises(InputError, match="pydicom is missing") as caught:
            read()
        assert "chexnet-jobs[dicom]" in caught.value.hint


def test_a_data_set_of_dicom_files_is_packed(tmp_path):
    """One fast path for all data."""
    good, bad = write(tmp_path / "a.dcm", **WINDOW), write(tmp_path / "b.dcm", pixels=None)
    with locked(tmp_path / "p"):
        build(tmp_path / "p", ["a", "b"], [good, bad], Geometry(side=64, fit="crop"), progress=lambda done: None)
    opened = open_pack(tmp_path / "p", ["a", "b"], Geometry(side=64, fit="crop"))
    out = np.empty((1, 64, 64), np.uint8)
    opened.gather(np.array([0]), out)
    np.testing.assert_array_equal(out[0], gray(good))
    assert opened.index.unreadable == {"b": "it is a DICOM file without pixels"}
