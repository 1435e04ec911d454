"""Objects of a bucket that are no files: the markers of folders, and names that no file can have."""

import boto3
import pytest

from trainer.errors import InputError
from trainer.storage import open_storage
from trainer.storage.object_names import check_names, unusable_names


def put(**objects):
    for key, content in objects.items():
        boto3.client("s3").put_object(Bucket="cxr", Key=key, Body=content)


MARKERS = [
    "data/",
    "data/images/",
    "data/images",
    "data/images/000/",
    "data/images_$folder$",
    "data//",
    "data/images//",
]


@pytest.mark.parametrize("marker", MARKERS)
@pytest.mark.parametrize("url", ["s3://cxr/data", "s3://cxr/data/"])
def test_folder_markers_are_not_listed(s3, url, marker):
    """Consoles, mounts and Hadoop write them; no user knows of them."""
    put(**{marker: b"", "data/images/000/a.png": b"1", "data/empty.txt": b""})
    assert open_storage(url).keys("") == ["empty.txt", "images/000/a.png"]
    assert open_storage(url).keys("images") == ["images/000/a.png"]
    assert open_storage(url).keys("images/") == ["images/000/a.png"]


@pytest.mark.parametrize("key", ["images/", "images", "images//", "//", "images/.", "images/..", "images_$folder$"])
def test_objects_with_content_are_listed_whatever_their_name(s3, key):
    """None of them disappears without a word: each is no file, or is one."""
    put(**{f"data/{key}": b"1", "data/images/a.png": b"1"})
    assert open_storage("s3://cxr/data").keys("") == sorted([key, "images/a.png"])


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("", "one of a folder"),
        ("images/", "one of a folder"),
        ("images//", "one of a folder"),
        ("/images/b.png", "empty part"),
        ("images//b.png", "empty part"),
        ("images", "need a folder of its name"),
        ("./b.png", "`.` in its name"),
        ("images/./b.png", "`.` in its name"),
        ("images/.", "`.` in its name"),
        ("../b.png", "outside"),
        ("images/../b.png", "outside"),
        ("images/..", "outside"),
        (f"images/{'b' * 220}.png", "too long"),
        (f"{'é' * 110}/b.png", "too long"),
    ],
)
def test_names_that_no_file_can_have_are_named_with_the_reason(key, words):
    assert [*unusable_names([key, "images/a.png"])] == [key]
    with pytest.raises(InputError, match="1 of 2 objects cannot be files") as refusal:
        check_names("s3://cxr/data", [key, "images/a.png"])
    assert f"`{key}`: " in str(refusal.value)
    assert words in str(refusal.value)


@pytest.mark.parametrize("key", ["images/A.png", "images/a.PNG", "a b\\c", "images.png", "a..b", "...", "é", "a\nb"])
def test_every_other_name_is_one_of_a_file(key):
    """Names that differ only in case are two files."""
    assert unusable_names([key, "images/a.png"]) == {}
