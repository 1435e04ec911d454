"""Published values and the images they belong to."""

import gzip

import pytest

from trainer.data.labels import FINDINGS
from trainer.evaluation.reference import published_list, references, split_of


def names(path):
    content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    return [line.split()[0] for line in content.decode().splitlines()]


@pytest.mark.parametrize(
    ("path", "split", "part"),
    [
        ("train_list.txt.gz", "random", "train"),
        ("val_list.txt.gz", "random", "val"),
        ("test_list.txt.gz", "random", "test"),
        ("official/train_val_list.txt", "official", "train"),
        ("official/val_names_11212.txt.gz", "official", "val"),
        ("official/test_list.txt", "official", "test"),
    ],
)
def test_published_lists_are_known_by_their_names(shared, path, split, part):
    """What stands beside a result depends on it; one name more or less is another test."""
    listed = names(shared / "data/nih-labels" / path)
    assert published_list(listed[::-1]) == (split, part)
    assert published_list([*listed[1:], "00000000_000.png"]) is None
    assert published_list(listed[1:]) is None
    assert split_of(listed) == (split if part == "test" else "other")


def test_published_values_cover_fourteen_findings_and_have_the_published_mean():
    """A slip in one of these numbers would be quoted."""
    for one in references(FINDINGS, split="other", part="test", images=1):
        assert 0.5 < one["mean"] < 1
        if one["auroc"]:
            assert tuple(one["auroc"]) == FINDINGS
            mean = sum(one["auroc"].values()) / 14
            assert one["mean"] == pytest.approx(mean, abs=0.00052)


@pytest.mark.parametrize(
    ("split", "part", "images", "comparable"),
    [
        ("random", "test", 22433, {"zoogzog", "arnoweng", "arnoweng, improved", "jrzech"}),
        ("official", "test", 25596, {"Wang 2017", "SwinCheX", "Medical-MAE, DenseNet-121", "EVA-X-B"}),
        ("random", "test", 22432, set()),
        ("random", "val", 11219, set()),
        ("official", "val", 25596, set()),
        ("other", "test", 22433, set()),
    ],
)
def test_published_values_are_comparable_on_the_same_images_only(split, part, images, comparable):
    """The same network loses 0.03 from one list to the other; CheXNet's own patients were never published."""
    found = references(FINDINGS, split=split, part=part, images=images)
    assert {one["name"] for one in found if one["comparable"]} == comparable
    assert "CheXNet" in {one["name"] for one in found}


def test_other_findings_have_no_published_values():
    """Those of a data set in folders are another task."""
    assert references(("NORMAL", "PNEUMONIA"), split="other", part="test", images=624) == []
