"""Published values and the images they belong to."""

import gzip
import re

import pytest

from trainer.data.labels import FINDINGS
from trainer.evaluation.reference import (
    KAGGLE,
    _parts_of_patients,
    part_of_list,
    published_list,
    references,
    split_of,
)


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
    """Those of another data set in folders are another task."""
    assert references(("COVID", "NORMAL"), split="other", part="test", images=624) == []
    assert references(("BACTERIA", "NORMAL", "VIRUS"), split=KAGGLE, part="test", images=624) == []


@pytest.mark.parametrize(
    ("split", "part", "images", "same"),
    [
        (KAGGLE, "test", 624, {"Kermany 2018"}),
        (KAGGLE, "test", 623, set()),
        (KAGGLE, "val", 624, set()),
        ("other", "test", 624, set()),
    ],
)
def test_accuracies_published_for_two_classes_are_comparable_on_the_kaggle_test_set_only(split, part, images, same):
    """The paper of 1, 2 and 4 GPUs tested on a split of its own."""
    found = references(("NORMAL", "PNEUMONIA"), split=split, part=part, images=images)
    assert {one["name"] for one in found if one["comparable"]} == same
    assert len(found) == 7


def test_values_published_for_two_classes_are_those_of_the_papers(shared):
    """A slip in one of these numbers would be quoted."""
    kermany, *six = references(("Normal", "Pneumonia"), split="other", part="test", images=1)
    assert (kermany["accuracy"], kermany["sensitivity"], kermany["specificity"]) == (0.928, 0.932, 0.901)
    assert kermany["auroc"] == {"Normal": 0.968, "Pneumonia": 0.968}
    table = (shared / "reference/systems/pneumonia-paper.txt").read_text().partition("Fig 27")[0]
    rows = [line.split("|") for line in table.splitlines() if re.match(r"\| [124] ", line)][-3:]
    published = [float(row[column].strip().rstrip("%")) / 100 for column in (3, 5) for row in rows]
    assert [one["accuracy"] for one in six] == pytest.approx(published)
    assert all(one["mean"] is None and one["note"].startswith("as published, not reproducible") for one in six)


def is_share(percent, total, digits):
    return any(f"{100 * k / total:.{digits}f}" == f"{percent:.{digits}f}" for k in range(total + 1))


def test_notes_say_which_published_values_are_no_share_of_their_images():
    """A reader who counts correct images cannot arrive at these."""
    kermany, *six = references(("NORMAL", "PNEUMONIA"), split="other", part="test", images=1)
    for one in six:
        assert ("no share of 624 images" in one["note"]) == (not is_share(100 * one["accuracy"], 624, 1))
    assert sum("no share" in one["note"] for one in six) == 2
    assert is_share(92.8, 624, 1)
    assert not is_share(93.2, 390, 1)
    assert not is_share(90.1, 234, 1)
    assert ".932 is no share of 390 images, and .901 none of 234" in kermany["note"]


def kaggle_names(scheme):
    """Names of 234 and 390 images as one of the two releases has them."""
    if scheme == "Kaggle":
        normal = [f"IM-{n:04d}-0001.jpeg" if n % 2 else f"NORMAL2-IM-{n:04d}-0001.jpeg" for n in range(1, 235)]
        ill = [f"person{n}_{('bacteria', 'virus')[n % 3 == 0]}_{n + 9}.jpeg" for n in range(1, 391)]
    else:
        normal = [f"NORMAL-{n + 1_000_000}-0001.jpeg" for n in range(234)]
        ill = [f"{('BACTERIA', 'VIRUS')[n % 3 == 0]}-{n + 2_000_000}-0001.jpeg" for n in range(390)]
    return [f"test/NORMAL/{name}" for name in normal] + [f"test/PNEUMONIA/{name}" for name in ill]


@pytest.mark.parametrize("scheme", ["Kaggle", "Mendeley"])
def test_kaggle_test_set_is_known_by_its_names_and_their_number(scheme):
    """Anything else in test/ is another test, whatever the folders are called."""
    names = kaggle_names(scheme)
    assert split_of(names[::-1]) == KAGGLE
    assert published_list(names) == (KAGGLE, "test")
    assert part_of_list(names) == []
    others = {
        "one less": names[1:],
        "one more": [*names, "test/NORMAL/IM-9999-0001.jpeg"],
        "another in place of one": [*names[1:], "test/PNEUMONIA/person999_virus_1.jpeg"],
        "a name of one's own": [*names[1:], "test/NORMAL/p1.jpeg"],
        "of train": [name.replace("test/", "train/") for name in names],
        "no folders": [name.rpartition("/")[2] for name in names],
        "classes mixed up": [name.replace("NORMAL/", "PNEUMONIA/") for name in names],
    }
    assert {what: split_of(each) for what, each in others.items()} == dict.fromkeys(others, "other")


def test_test_folder_of_the_sample_is_not_the_kaggle_test_set(shared):
    """Its images are of Kaggle's train/."""
    root = shared / "data/pneumonia-sample"
    names = [path.relative_to(root).as_posix() for path in (root / "test").rglob("*.jpeg")]
    assert len(names) == 100
    assert split_of(names) == "other"


def test_patients_of_the_lists_are_those_of_the_published_files(shared):
    """The file in the package is opaque: this is how it is made."""
    folder = shared / "data/nih-labels"
    official = {name[:8]: 0 for name in names(folder / "official/train_val_list.txt")}
    official |= {name[:8]: 1 for name in names(folder / "official/val_names_11212.txt.gz")}
    official |= {name[:8]: 2 for name in names(folder / "official/test_list.txt")}
    parts = {
        name[:8]: 3 * index + official[name[:8]]
        for index, part in enumerate(("train", "val", "test"))
        for name in names(folder / f"{part}_list.txt.gz")
    }
    assert [int(patient) for patient in sorted(parts)] == list(range(1, 30806))
    assert bytes(parts[patient] for patient in sorted(parts)) == _parts_of_patients()


def test_part_of_a_published_list_is_counted(shared):
    """One image less is another test set, and looks like the same."""
    listed = names(shared / "data/nih-labels/test_list.txt.gz")
    assert part_of_list(listed) == []
    (note,) = part_of_list(listed[1:])
    assert note.startswith("22,432 of 22,433 images of the published test list (70/10/20 split): not comparable")
    (note,) = part_of_list([f"images_001/{name}" for name in listed[:3000]])
    assert note.startswith("3,000 of 22,433 images of the published test list")
    (note,) = part_of_list([*listed[9:], "mine.png", "00000001_000.png"])
    assert note.startswith("22,424 of 22,433 images of the published test list (70/10/20 split), and 2 other images:")
    official = names(shared / "data/nih-labels/official/test_list.txt")
    (note,) = part_of_list(official[5:])
    assert note.startswith("25,591 of 25,596 images of the published test list (NIH's split)")
    assert part_of_list(listed[:50]) == []
    assert part_of_list(["00099999_000.png", "mine.png"] * 500) == []


@pytest.mark.parametrize(
    "name", ["IM-0115-0001.jpeg", "person1_virus_6.jpeg", "NORMAL-1003233-0001.jpeg", "BACTERIA-123-0001.jpeg"]
)
def test_names_of_the_pneumonia_set_are_no_part_of_a_published_list(name):
    """Their patients have names or numbers of their own."""
    assert part_of_list([f"test/NORMAL/{name}"]) == []
