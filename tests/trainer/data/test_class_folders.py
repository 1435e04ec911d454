"""Class folders: links, names, and files that are not read."""

import pytest

from tests.trainer.data.test_layouts import write_folders
from trainer.data.layouts import read_labels
from trainer.errors import InputError

FILES = [
    f"{split}/{name}/{split}-{name}-{n}.png" for split in ("train", "val", "test") for name in "ab" for n in range(3)
]


@pytest.mark.parametrize("target", [".", "..", "../b", "../../test/a"])
def test_links_within_the_data_set_add_no_image(tmp_path, target):
    """Ten images became 226, and a class stood under the other, with exit code 0."""
    write_folders(tmp_path, FILES)
    before = read_labels(tmp_path).table
    (tmp_path / "train/a/link").symlink_to(target)
    after = read_labels(tmp_path).table
    assert after.images == before.images
    assert after.labels_sha256() == before.labels_sha256()


def test_folder_linked_into_two_classes_is_refused(tmp_path):
    write_folders(tmp_path / "set", FILES)
    write_folders(tmp_path, ["pool/p.png"])
    for name in "ab":
        (tmp_path / "set/train" / name / "pool").symlink_to(tmp_path / "pool")
    with pytest.raises(InputError, match="train/b/pool: the same directory as train/a/pool, which has another class"):
        read_labels(tmp_path / "set")


def test_class_that_is_a_link_to_another_is_refused(tmp_path):
    write_folders(tmp_path, FILES)
    (tmp_path / "train/c").symlink_to("a")
    with pytest.raises(InputError, match="train/c/: no image"):
        read_labels(tmp_path)


def test_class_folder_may_be_a_link(tmp_path):
    write_folders(tmp_path, FILES)
    (tmp_path / "train/a").rename(tmp_path / "elsewhere")
    (tmp_path / "train/a").symlink_to("../elsewhere")
    assert len(read_labels(tmp_path).table) == len(FILES)


def test_files_that_look_like_images_are_named_with_their_number(tmp_path):
    write_folders(tmp_path, [*FILES, *(f"train/a/{n}.jfif" for n in range(6)), "train/a/notes.txt", "test/b/._x.png"])
    (tmp_path / "train/b/1.2.840").write_bytes(b"\0" * 128 + b"DICM")
    source = read_labels(tmp_path)
    assert len(source.table) == len(FILES)
    assert source.look_alikes_note() == (
        "7 files look like images but are not read, as their names end in none of .png, .jpg, .jpeg, .dcm, .dicom: "
        "train/a/0.jfif, train/a/1.jfif, train/a/2.jfif, train/a/3.jfif, train/a/4.jfif and 2 more"
    )


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("PNEUMONIA/person447_virus_921.jpeg", "PNEUMONIA/person447_virus_921_1.jpeg"),
        ("PNEUMONIA/BACTERIA-1008087-0001.jpeg", "PNEUMONIA/BACTERIA-1008087-0002.jpeg"),
        ("NORMAL/NORMAL-1003233-0001.jpeg", "NORMAL/NORMAL-1003233-0002.jpeg"),
    ],
)
def test_patient_of_the_pneumonia_set_in_two_splits_is_refused(tmp_path, train, test):
    files = [
        f"{split}/{name}/{split}{n}.png"
        for split in ("train", "test")
        for name in ("NORMAL", "PNEUMONIA")
        for n in "12"
    ]
    write_folders(tmp_path, [*files, f"train/{train}", f"test/{test}"])
    with pytest.raises(InputError, match="no patient may be in two splits, got 1"):
        read_labels(tmp_path)
