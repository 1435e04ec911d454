"""Equal images in several splits."""

import numpy as np
import pytest
from PIL import Image

from tests.trainer.label_tables import table
from trainer.data.duplicates import in_several_splits, in_words
from trainer.data.packs.building import build
from trainer.data.packs.records import Geometry
from trainer.data.packs.verify import open_pack
from trainer.errors import TryAgainError


@pytest.fixture
def pack_of(tmp_path):
    """A pack of images with these gray values; names of the images end in their suffix."""

    def make(*values):
        names = [f"{number}.png" for number in range(len(values))]
        for name, value in zip(names, values, strict=True):
            Image.fromarray(np.full((16, 16), value, np.uint8)).save(tmp_path / name)
        geometry = Geometry(side=8, fit="crop")
        build(tmp_path / "pack", names, [tmp_path / name for name in names], geometry, progress=lambda _: None)
        return open_pack(tmp_path / "pack", names, geometry)

    return make


def rows_of(labels):
    return {split: labels.rows(split) for split in ("train", "val", "test")}


def test_equal_images_of_several_splits_are_found(pack_of):
    labels = table([0, 1, 2, 3, 4], [0, 1, 0, 1, 0], split=[0, 0, 1, 2, 2])
    groups = in_several_splits(pack_of(1, 2, 2, 1, 9), labels, rows_of(labels))
    assert groups == [{"image 0": "train", "image 3": "test"}, {"image 1": "train", "image 2": "val"}]
    assert in_words(groups) == (
        "4 images have the pixels of an image in another split, 1 of them in test, which makes its results too good; "
        "the first are image 0 (train) = image 3 (test)"
    )


def test_equal_images_of_one_split_are_no_problem(pack_of):
    labels = table([0, 1, 2], [0, 1, 0], split=[0, 0, 2])
    assert in_several_splits(pack_of(1, 1, 2), labels, rows_of(labels)) == []
    assert in_words([]) is None


def test_images_are_compared_by_their_records(pack_of):
    pack = pack_of(1, 2)
    pack.checksums_N[1] = pack.checksums_N[0]
    labels = table([0, 1], [0, 1], split=[0, 2])
    with pytest.raises(TryAgainError, match="record 1 has changed"):  # its record does not have that checksum
        in_several_splits(pack, labels, rows_of(labels))


def test_skipped_images_are_left_out(pack_of):
    labels = table([0, 1], [0, 1], split=[0, 2])
    assert in_several_splits(pack_of(1, 1), labels, rows_of(labels) | {"test": np.empty(0, np.int64)}) == []
