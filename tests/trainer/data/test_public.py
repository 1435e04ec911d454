"""The paediatric pneumonia set is recognised under the names of both of its releases."""

import pytest

from tests.trainer.data.test_layouts import write_folders
from trainer.data.layouts import read_labels
from trainer.data.public import public_name

KAGGLE = {
    "NORMAL": [
        "IM-0115-0001.jpeg",
        "NORMAL2-IM-0117-0001.jpeg",
        "NORMAL2-IM-0118-0001-0002.jpeg",
        "IM-0119-0001_1.jpeg",
    ],
    "PNEUMONIA": [
        "person447_virus_921.jpeg",
        "person448_virus_922_1.jpeg",
        "person1_bacteria_1.jpeg",
        "person2_bacteria_3.jpeg",
    ],
}
MENDELEY = {
    "NORMAL": [f"NORMAL-10032{n}-0001.jpeg" for n in (33, 41, 55, 67)],
    "PNEUMONIA": [
        "BACTERIA-1008087-0001.jpeg",
        "VIRUS-1008171-0001.jpeg",
        "BACTERIA-30629-0002.jpeg",
        "VIRUS-99-0001.jpeg",
    ],
}


def write(root, names, more=()):
    files = [f"{'test' if n % 2 else 'train'}/{label}/{name}" for label in names for n, name in enumerate(names[label])]
    return read_labels(write_folders(root, [*files, *more]), split="patients:60/20/20")


@pytest.mark.parametrize("names", [KAGGLE, MENDELEY])
def test_set_is_known_under_the_names_of_both_releases(tmp_path, names):
    assert public_name(write(tmp_path, names)) == "Kermany's paediatric pneumonia set"


@pytest.mark.parametrize(
    "name", ["train/NORMAL/x.jpeg", "train/PNEUMONIA/NORMAL-1-0001.jpeg", "train/NORMAL/IM-0001-0001_10.jpeg"]
)
def test_set_with_another_image_is_not(tmp_path, name):
    """An image of one's own among them must not be shown."""
    assert public_name(write(tmp_path, KAGGLE, [name])) is None
