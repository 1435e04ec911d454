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
        ("//host/./a//b.png/", "host/a/b.png"),
        ("../b.png", "../b.png"),
        (".", "."),
        ("", "."),
    ],
)
def test_names_are_written_one_way(written, name):
    assert plain(written) == name


def test_image_is_found_under_more_and_fewer_folders():
    names = Names(["images_006/1.png", "2.png", "scans/a/3.png"])
    assert (
        names.find("1.png")
        == names.find("images_006/images/1.png")
        == names.find("elsewhere/1.png")
        == "images_006/1.png"
    )
    assert names.find("images/2.png") == "2.png"
    assert names.find("images/3.png") == names.find("set/scans/a/3.png") == "scans/a/3.png"
    assert names.find("4.png") is None


@pytest.mark.parametrize("name", ["p99/study1/v3.png", "images/p99/study1/v3.png", "study2/v3.png"])
def test_image_in_another_folder_is_another_image(name):
    """Another patient's image was taken without a word."""
    assert Names(["p3/study1/v3.png"]).find(name) is None
    assert Names(["p3/study1/v3.png"]).find("study1/v3.png") == "p3/study1/v3.png"


def test_name_in_the_form_of_nih_is_unique_without_its_folders():
    assert Names(["part_6/00011997_000.png"]).find("elsewhere/00011997_000.png") == "part_6/00011997_000.png"


def test_folders_decide_between_images_of_one_file_name():
    names = Names(["a/1.png", "b/1.png"])
    assert names.find("b/1.png") == names.find("images/b/1.png") == "b/1.png"
    assert names.find("1.png") is None
    assert names.find("c/1.png") is None


def test_names_of_many_folders_are_found_quickly():
    """CheXpert has three file names for 223,414 images; comparing each with all would take hours."""
    names = Names(f"train/patient{n:05d}/study{n % 3}/view1_frontal.jpg" for n in range(20_000))
    for n in range(20_000):
        found = names.find(f"/data/CheXpert-v1.0-small/train/patient{n:05d}/study{n % 3}/view1_frontal.jpg")
        assert found == f"train/patient{n:05d}/study{n % 3}/view1_frontal.jpg"
    assert names.find("patient00007/study1/view1_frontal.jpg") == "train/patient00007/study1/view1_frontal.jpg"
    assert names.find("patient00007/study2/view1_frontal.jpg") is None
    assert names.find("study2/view1_frontal.jpg") is None


@pytest.mark.parametrize("name", ["b/x.png", "a/b/x.png", "q/a/b/x.png", "c/x.png", "x.png", "z/b/x.png"])
def test_many_images_of_a_name_agree_as_few_do(name):
    """The number of images decides how they are looked up, and nothing else."""
    few = ["a/b/x.png", "a/c/x.png", "b/x.png", "x.png", "images_001/d/x.png"]
    many = [*few, *(f"{n}/y/x.png" for n in range(100))]
    assert [each for each in Names(many).agreeing(name) if each in few] == Names(few).agreeing(name)
