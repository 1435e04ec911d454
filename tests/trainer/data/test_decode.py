"""Reading one image: the same gray whatever the file, and what is no X-ray is refused."""

import numpy as np
import pytest
from PIL import Image

from trainer.data.decode import BadImageError, is_turned, open_gray, open_xray

RAMP = np.arange(64 * 64, dtype=np.uint16).reshape(64, 64)


def photo(size=(64, 64)):
    """A sky over a meadow."""
    picture = np.zeros((*size[::-1], 3), np.uint8)
    picture[: size[1] // 2] = (90, 140, 230)
    picture[size[1] // 2 :] = (40, 160, 60)
    return Image.fromarray(picture)


def gray_ramp():
    return Image.fromarray((RAMP // 16).astype(np.uint8))


@pytest.mark.parametrize("suffix", [".png", ".jpg", ""])
def test_png_and_jpeg_are_recognised_by_content(tmp_path, suffix):
    """Names lie: many a `.png` is a JPEG."""
    gray_ramp().save(tmp_path / f"x{suffix}", format="PNG")
    np.testing.assert_array_equal(np.asarray(open_gray(tmp_path / f"x{suffix}")), np.asarray(gray_ramp()))


def test_orientation_in_exif_is_ignored(tmp_path):
    """Training reads stored pixels: a turned image would be another one."""
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.asarray(gray_ramp())[:40]).save(tmp_path / "x.jpg", exif=exif)
    assert open_gray(tmp_path / "x.jpg").size == (64, 40)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "16 bits"])
@pytest.mark.parametrize(("orientation", "turned"), [(None, False), (1, False), (0, False), (3, True), (6, True)])
def test_orientation_that_is_ignored_is_known(tmp_path, kind, orientation, turned):
    """A viewer shows another image than the network sees, so a note names it."""
    exif = Image.Exif()
    if orientation is not None:
        exif[0x0112] = orientation
    image = Image.fromarray(np.asarray(gray_ramp()).astype(np.uint16)) if kind == "16 bits" else gray_ramp()
    image.save(tmp_path / "x", format="JPEG" if kind == "JPEG" else "PNG", exif=exif)
    assert is_turned(open_gray(tmp_path / "x")) is turned


def test_damaged_exif_is_no_orientation(tmp_path):
    """Nothing else reads it, and the pixels are whole."""
    gray_ramp().save(tmp_path / "x.jpg", exif=b"Exif\x00\x00MM\x00*\xff\xff\xff\xff broken")
    assert not is_turned(open_gray(tmp_path / "x.jpg"))


@pytest.mark.parametrize("kind", ["palette", "gray and alpha", "CMYK", "16 bits"])
def test_same_image_in_any_mode_is_decoded_alike(tmp_path, kind):
    """Archives hold all of these; the palette with shades of transparency must not be warned of."""
    path, gray = tmp_path / "x.png", gray_ramp()
    if kind == "palette":
        gray.convert("P").save(path, transparency=bytes(range(256)))
    elif kind == "gray and alpha":
        Image.merge("LA", [gray, gray]).save(path)
    elif kind == "CMYK":
        gray.convert("RGB").convert("CMYK").save(path, format="JPEG", quality=100)
    else:
        Image.fromarray(np.asarray(gray).astype(np.uint16) * 257).save(path)
    shown = np.asarray(open_xray(path)).astype(int)
    np.testing.assert_allclose(shown, np.asarray(gray), atol=2 if kind == "CMYK" else 0)


def test_other_formats_are_refused_whatever_their_suffix(tmp_path):
    """A moving GIF is no X-ray."""
    gray_ramp().save(tmp_path / "x.gif", save_all=True, append_images=[gray_ramp().rotate(90)])
    (tmp_path / "x.gif").rename(tmp_path / "x.png")
    with pytest.raises(BadImageError, match="it is not a PNG, JPEG or DICOM image"):
        open_xray(tmp_path / "x.png")


@pytest.mark.parametrize("content", [b"", b"hello", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", b"GIF89a"])
def test_file_that_is_no_image_is_refused_as_such(tmp_path, content):
    """A PostScript file would be run by another program."""
    (tmp_path / "x.png").write_bytes(content)
    with pytest.raises(BadImageError, match="it is not a PNG, JPEG or DICOM image"):
        open_gray(tmp_path / "x.png")


def test_truncated_image_is_refused(tmp_path):
    """Its lower part would be gray."""
    gray_ramp().save(tmp_path / "x.png")
    whole = (tmp_path / "x.png").read_bytes()
    (tmp_path / "x.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(BadImageError, match="it can't be decoded"):
        open_gray(tmp_path / "x.png")


@pytest.mark.parametrize("side", [9_600, 14_000])
def test_decompression_bomb_is_refused_before_it_is_decoded(tmp_path, side):
    """A few kilobytes can claim a gigabyte; the first size is one that Pillow only warns of."""
    Image.new("1", (side, side)).save(tmp_path / "x.png")
    assert (tmp_path / "x.png").stat().st_size < 100_000
    with pytest.raises(BadImageError, match="too many pixels"):
        open_gray(tmp_path / "x.png")


def test_missing_file_is_not_reported_as_a_damaged_image(tmp_path):
    """The disk's trouble ends a run, an image's is listed."""
    with pytest.raises(FileNotFoundError):
        open_gray(tmp_path / "x.png")


def test_colour_photo_is_refused(tmp_path):
    """A network answers whatever it is shown."""
    photo().save(tmp_path / "x.jpg")
    with pytest.raises(
        BadImageError, match=r"it is a colour picture \(100% of its pixels are not gray\), not an X-ray"
    ):
        open_xray(tmp_path / "x.jpg")
    assert open_gray(tmp_path / "x.jpg").mode == "L"  # a data set's images are what its maker says


@pytest.mark.parametrize(("size", "problem"), [((1, 1), "1 x 1 pixels"), ((200, 31), "200 x 31 pixels")])
def test_a_tiny_image_is_refused(tmp_path, size, problem):
    """Enlarged it would be interpolation alone."""
    Image.new("L", size, 128).save(tmp_path / "x.png")
    with pytest.raises(BadImageError, match=f"it has {problem}, at least 32"):
        open_xray(tmp_path / "x.png")


def test_image_with_an_extreme_aspect_ratio_is_refused(tmp_path):
    """Its short side made 256 pixels, the long one would fill all memory."""
    Image.new("1", (32, 2_000_000)).save(tmp_path / "x.png")
    for read in (open_xray, open_gray):  # of a data set too
        with pytest.raises(BadImageError, match="32 x 2000000 pixels, too narrow for an X-ray"):
            read(tmp_path / "x.png")


@pytest.mark.parametrize("row", [0, 31, 33, 63])
def test_an_image_whose_middle_row_has_one_shade_is_not_of_one_shade(tmp_path, row):
    image = Image.new("L", (64, 64), 9)
    image.putpixel((5, row), 10)
    image.save(tmp_path / "x.png")
    assert open_xray(tmp_path / "x.png").getpixel((5, row)) == 10


def test_an_image_of_one_shade_is_refused(tmp_path):
    """A failed export is black."""
    Image.new("RGB", (64, 64), (9, 9, 9)).save(tmp_path / "x.png")
    with pytest.raises(BadImageError, match="the same gray value"):
        open_xray(tmp_path / "x.png")


def test_x_ray_with_a_coloured_mark_is_accepted(tmp_path):
    """Stations burn in letters and arrows."""
    picture = np.repeat(np.asarray(gray_ramp())[:, :, None], 3, axis=2)
    picture[2:10, 2:10] = (255, 0, 0)
    Image.fromarray(picture).save(tmp_path / "x.png")
    assert open_xray(tmp_path / "x.png").size == (64, 64)


def test_real_x_rays_are_accepted(shared):
    """RGBA of equal channels and JPEG's rounding are in the public sets."""
    paths = sorted((shared / "data/nih-sample/full").iterdir())[::6]
    paths += [shared / "data/nih-sample/full/00002578_000.png"]
    paths += sorted((shared / "data/pneumonia-sample").rglob("*.jpeg"))[::20]
    for path in paths:
        np.testing.assert_array_equal(np.asarray(open_xray(path)), np.asarray(open_gray(path)))
