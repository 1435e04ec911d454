"""Captions below pictures: legible, whole, and inside their band."""

import numpy as np
import pytest
from matplotlib import get_data_path
from PIL import Image

from trainer.report import captions
from trainer.report.captions import LEAST_TEXT_PX, Entry, caption, text_px, with_caption, wrapped

LONG = "Diffuse_bilateral_reticulonodular_opacities_with_basal_predominance"
NAMES = [
    pytest.param(LONG, id="one long word"),
    pytest.param(LONG.replace("_", " "), id="many words"),
    pytest.param("W" * 300, id="wide letters"),
    pytest.param("Двусторонняя нижнедолевая полисегментарная пневмония", id="Cyrillic"),
    pytest.param("التهاب رئوي ثنائي الجانب متعدد الفصوص مع انصباب جنبي", id="Arabic"),
    pytest.param("\u80ba\u708e" * 30, id="no font has it"),
    pytest.param("e\u0301\u0323" * 60, id="marks"),
    pytest.param("", id="empty"),
]


def border(band):
    pixels = np.asarray(band.convert("L"))
    return np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("width", "px"), [(260, 13), (404, 13), (2056, 21), (6000, 62)])
def test_text_of_any_length_and_script_stays_inside_its_band(name, width, px):
    """It was cut at the picture's edge, or would have grown over the image."""
    sample = Image.new("RGB", (8 * px, px), "black")
    band = caption([Entry(name, is_title=True), Entry(name), Entry(name, sample=sample)], width, px)
    assert band.width == width
    assert (border(band) == 255).all()
    assert (np.asarray(band.convert("L")) < 80).any()


@pytest.mark.parametrize("name", NAMES)
def test_no_letter_of_a_long_name_is_lost(name):
    """Two findings may differ in the last word."""
    text, font = captions._readable(name, 13, is_bold=False)
    lines = wrapped(text, 100, font)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")
    assert all(font.getlength(line) <= 100 for line in lines)


def test_words_are_broken_only_where_they_are_too_long():
    """A reader looks for the name."""
    _, font = captions._readable("x", 13, is_bold=False)
    assert wrapped("Pleural Thickening and Mass", 120, font) == ["Pleural Thickening", "and Mass"]
    assert wrapped("and Pleural\N{NO-BREAK SPACE}0.5", 80, font) == ["and", "Pleural\N{NO-BREAK SPACE}0.5"]


def test_characters_that_no_font_has_are_shown_by_their_code(monkeypatch):
    """Boxes in their place would make all such names the same."""
    monkeypatch.setattr(captions, "_installed_fonts", tuple)
    text, _ = captions._readable("a\u80ba\u708e", 13, is_bold=True)
    assert text == r"a\u80ba\u708e"


def test_installed_font_is_used_for_characters_that_the_own_one_lacks(monkeypatch):
    """A hospital whose classes have names in its own script has a font for it."""
    other = f"{get_data_path()}/fonts/ttf/STIXGeneral.ttf"
    (char, *_) = sorted(captions._characters(other) - captions._characters(captions._own_fonts()[0]))
    monkeypatch.setattr(captions, "_installed_fonts", lambda: ("/no/such/font.ttf", other))
    text, font = captions._readable(f"x{chr(char)}", 13, is_bold=False)
    assert (text, font.path) == (f"x{chr(char)}", other)


def test_text_grows_with_the_picture_and_is_never_tiny():
    """From thumbnails to radiographs of three thousand pixels."""
    assert [text_px((side, side)) for side in (32, 200, 1024, 3000)] == [LEAST_TEXT_PX, LEAST_TEXT_PX, 21, 62]


@pytest.mark.parametrize(("size", "columns"), [((32, 320), 1), ((300, 200), 2), ((700, 90), 2)])
def test_picture_is_kept_above_its_caption(size, columns):
    """Pixel by pixel; a narrow one gets a wider caption, whose columns then stand one below the other."""
    picture = Image.effect_noise(size, 60)
    whole = with_caption(picture, [[Entry("one"), Entry("two")], [Entry(LONG)]][:columns], 13)
    np.testing.assert_array_equal(whole.crop((0, 0, *size)), picture)
    assert whole.mode == "L"
    assert whole.width == max(size[0], 20 * 13)
    beside = np.asarray(whole)[: size[1], size[0] :]
    assert (beside == 255).all()
    assert (border(whole.crop((0, size[1], *whole.size))) == 255).all()


def test_columns_stand_side_by_side_where_there_is_room():
    """The legend of a map is below the map."""
    columns = [[Entry("left")], [Entry("right")]]
    picture = Image.new("L", (600, 40))
    below = np.asarray(with_caption(picture, columns, 13))[40:]
    assert (below[:, :300] < 128).any()
    assert (below[:, 300:] < 128).any()
    narrow = np.asarray(with_caption(picture.crop((0, 0, 400, 40)), columns, 13))[40:]
    assert narrow.shape[0] > below.shape[0]


def test_captions_of_equal_pictures_are_equal():
    """Files are compared byte by byte."""
    entries = [Entry(LONG, is_title=True), Entry("x" * 99)]
    assert caption(entries, 300, 13).tobytes() == caption(entries, 300, 13).tobytes()


def test_text_without_end_takes_no_memory_without_end():
    """Names of findings come from the model's file, which may be anybody's."""
    assert caption([Entry("x" * 10_000_000)], 404, 13).height < 20_000
