"""Gray range of 16-bit images."""

import numpy as np
import pytest
from PIL import Image

from trainer.data import gray_range
from trainer.data.image_files import image_files
from trainer.data.packs.records import Geometry
from trainer.errors import InputError
from trainer.runtime.console import Reporter

GEOMETRY = Geometry(side=32, fit="crop")


def write(path, greatest, *, mode="I;16"):
    ramp = np.linspace(0, greatest, 64 * 64).reshape(64, 64).round()
    Image.fromarray(ramp.astype(np.uint16 if mode == "I;16" else np.uint8)).save(path)


@pytest.mark.parametrize(
    ("requested", "greatest", "bits"),
    [
        (None, None, None),
        ("used", None, None),
        ("full", None, 16),
        ("12", None, 12),
        (None, 4096, 16),
        (None, 0, 16),
        ("full", 4095, 16),
        ("used", 4095, 12),
        ("used", 16383, 14),
        ("12", 1023, 12),
    ],
)
def test_bits_follow_request_and_greatest_value(requested, greatest, bits):
    assert gray_range.resolved(requested, greatest, "here") == bits


@pytest.mark.parametrize(("greatest", "bits"), [(4095, 12), (2048, 12), (1023, 10), (255, 8), (1, 1)])
def test_few_bits_without_a_request_are_refused_with_the_numbers(greatest, bits):
    with pytest.raises(
        InputError, match=f"they use {bits} of 16 bits .their greatest value is {greatest:,} of 65,535"
    ) as refused:
        gray_range.resolved(None, greatest, "`data`")
    assert f"--gray-range {bits} " in str(refused.value)


def test_model_without_a_gray_range_asks_once_16_bit_images_use_few(tmp_path):
    write(tmp_path / "a.png", 255, mode="L")
    assert gray_range.of_files(GEOMETRY, image_files([tmp_path]), None, Reporter(None)) == GEOMETRY
    write(tmp_path / "b.png", 4000)
    with pytest.raises(InputError, match="they use 12 of 16 bits"):
        gray_range.of_files(GEOMETRY, image_files([tmp_path]), None, Reporter(None))
    assert gray_range.of_files(GEOMETRY, image_files([tmp_path]), "used", Reporter(None)).bits == 12
    write(tmp_path / "c.png", 60000)
    assert gray_range.of_files(GEOMETRY, image_files([tmp_path]), None, Reporter(None)).bits == 16


def test_gray_range_of_the_model_is_taken(tmp_path):
    write(tmp_path / "b.png", 4000)
    trained = Geometry(side=32, fit="crop", gray_bits=16)
    assert gray_range.of_files(trained, image_files([tmp_path]), None, Reporter(None)) == trained
    assert gray_range.of_files(trained, image_files([tmp_path]), "full", Reporter(None)) == trained
    with pytest.raises(InputError, match="the model was trained with 16 bits"):
        gray_range.of_files(trained, image_files([tmp_path]), "12", Reporter(None))
