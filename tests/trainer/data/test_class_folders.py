"""Class folders: links, names, and files that are not read."""

import shutil

import pytest

from tests.trainer.data.test_layouts import write_folders
from trainer.data.layouts import read_labels
from trainer.errors import InputError

FILES = [
    f"{split}/{name}/{split}-{name}-{n}.png" for split in ("train", "val", "test") for name in "ab" for n in range(3)
]


@pytest.mark.parametrize(
    ("target", "notes"),
    [
        (".", []),
        ("..", []),
        ("../b", ["train/a/link (to train/b)"]),
        ("../../test/a", ["train/a/link (to test/a)"]),
    ],
)
def test_links_within_the_data_set_add_no_image(tmp_path, target, notes):
    """Ten images became 226, and a class stood under the other, with exit code 0."""
    write_folders(tmp_path, FILES)
    before = read_labels(tmp_path).table
    (tmp_path / "train/a/link").symlink_to(target)
    after = read_labels(tmp_path).table
    assert after.images == before.images
    assert after.labels_sha256() == before.labels_sha256()
    what = "links to folders that are read under their own names are not followed (1): "
    assert read_labels(tmp_path).unread_images() == [what + name for name in notes]


def test_folder_linked_into_two_classes_is_refused(tmp_path):
    write_folders(tmp_path / "set", FILES)
    write_folders(tmp_path, ["pool/p.png"])
    for name in "ab":
        (tmp_path / "set/train" / name / "pool").symlink_to(tmp_path / "pool")
    with pytest.raises(InputError, match="train/b/pool: the same directory as train/a/pool, which has another class"):
        read_labels(tmp_path / "set")


@pytest.mark.parametrize("name", ["train/b", "test/a"])
def test_class_that_is_a_link_to_another_is_refused(tmp_path, name):
    write_folders(tmp_path, FILES)
    shutil.rmtree(tmp_path / name)
    (tmp_path / name).symlink_to(tmp_path / "train/a")
    with pytest.raises(InputError, match=f"{name}: the same directory as train/a, which has another class or split"):
        read_labels(tmp_path)


def test_split_that_is_a_link_to_another_is_refused(tmp_path):
    write_folders(tmp_path, FILES)
    shutil.rmtree(tmp_path / "test")
    (tmp_path / "test").symlink_to("train")
    with pytest.raises(InputError, match="test/a: the same directory as train/a"):
        read_labels(tmp_path)


def test_images_outside_class_folders_and_other_splits_are_named(tmp_path):
    write_folders(tmp_path, [*FILES, "train/stray.png", "valid/a/1.png", "__MACOSX/train/x", "notes/x.txt"])
    assert read_labels(tmp_path).unread_images() == [
        "images in no class folder are not read (1): train/stray.png",
        "folders with class folders that are neither train/, val/ nor test/ are not read (1): valid/",
    ]


def test_class_of_files_with_another_suffix_is_refused_with_their_names(tmp_path):
    write_folders(tmp_path, [name for name in FILES if not name.startswith("train/b")])
    write_folders(tmp_path, [f"train/b/{n}.jfif" for n in range(2)])
    with pytest.raises(
        InputError, match=r"train/b/: no image, but files that look like images .*: train/b/0\.jfif, train/b/1\.jfif"
    ):
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
    assert source.unread_images() == [
        (
            "7 files look like images but are not read, as their names end in none of .png, .jpg, .jpeg, .dcm, .dicom: "
            "train/a/0.jfif, train/a/1.jfif, train/a/2.jfif, train/a/3.jfif, train/a/4.jfif and 2 more"
        )
    ]


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
