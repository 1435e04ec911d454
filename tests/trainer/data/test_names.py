"""Names of images with and without folders."""

import pytest

from trainer.data.names import Names, plain


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("a/b.png", "a/b.png"),
        ("a\\b.png", "a/b.png"),
        ("./a/b.png", "a/b.png"),
        ("/data/b.png", "data/b.png"),
        ("b.png", "b.png"),
    ],
)
def test_names_are_written_one_way(written, name):
    assert plain(written) == name


def test_image_is_found_under_more_fewer_and_other_folders():
    names = Names(["images_006/1.png", "2.png"])
    assert (
        names.find("1.png")
        == names.find("images_006/images/1.png")
        == names.find("elsewhere/1.png")
        == "images_006/1.png"
    )
    assert names.find("images/2.png") == "2.png"
    assert names.find("3.png") is None


def test_folders_decide_between_images_of_one_file_name():
    names = Names(["a/1.png", "b/1.png"])
    assert names.find("b/1.png") == names.find("images/b/1.png") == "b/1.png"
    assert names.find("1.png") is None
    assert names.find("c/1.png") is None
